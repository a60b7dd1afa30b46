//! The small texts of scenario files: `8 x gpu8 @ z1/r1`, `2 x [1 leader, 7 workers]`, `ml/other 0 @ rack=r1`, `10m`.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Serialize, Serializer};

/// A value that may be written as one text or in full.
///
/// An untagged enum would do, if its errors said which field of the long form is wrong.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Brief<T>(pub T);

impl<T: Serialize> Serialize for Brief<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de> + FromStr<Err = String>> Deserialize<'de> for Brief<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de> + FromStr<Err = String>> Visitor<'de> for Either<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or an object")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(Either(PhantomData)).map(Self)
    }
}

/// One value or a list of them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Some1<T> {
    /// Just this.
    One(T),
    /// These, in order.
    Many(Vec<T>),
}

impl<'de> Deserialize<'de> for Some1<String> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Some1<String>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Some1::One(text.to_owned()))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(Some1::Many(texts))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// `N x REST`; without the count it is 1.
pub(crate) fn counted(text: &str) -> Result<(u32, &str), String> {
    let text = text.trim();
    let Some((count, rest)) = text.split_once(" x ") else { return Ok((1, text)) };
    let count =
        count.trim().parse().map_err(|_| format!("{:?} is no number in {text:?}: write for example 8 x gpu8", count.trim()))?;
    Ok((count, rest.trim()))
}

/// `REST @ PLACE`; the place may be missing.
pub(crate) fn placed(text: &str) -> (&str, Option<&str>) {
    match text.split_once('@') {
        Some((rest, place)) => (rest.trim(), Some(place.trim())),
        None => (text.trim(), None),
    }
}

/// `[1 leader, 7 workers]`, with or without brackets: counts and names, in order.
pub(crate) fn demands(text: &str) -> Result<Vec<(u32, String)>, String> {
    let inner = text.trim();
    let inner = inner.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(inner);
    let each = inner.split(',').map(|part| {
        let wrong = || format!("{:?} is no number of pods: write for example [1 leader, 7 workers]", part.trim());
        let (count, shape) = part.trim().split_once(char::is_whitespace).ok_or_else(wrong)?;
        Ok((count.parse().map_err(|_| wrong())?, shape.trim().to_owned()))
    });
    each.collect()
}

/// `ml/train 0`: a group of a set.
pub(crate) fn group(text: &str) -> Result<(String, String, u32), String> {
    let wrong = || format!("{text:?} names no group: write NAMESPACE/SET INDEX, such as ml/train 0");
    let (owner, index) = text.trim().rsplit_once(' ').ok_or_else(wrong)?;
    let (namespace, set) = owner.trim().split_once('/').ok_or_else(wrong)?;
    Ok((namespace.to_owned(), set.to_owned(), index.parse().map_err(|_| wrong())?))
}

/// `30s`, `10m`, `500ms`, in milliseconds.
pub(crate) fn millis(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no duration: write for example 500ms, 30s, 10m or 2h");
    let duration: k8s_openapi::jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    u64::try_from(duration.as_millis()).map_err(|_| wrong())
}

/// `key=value:Effect`, `key:Effect`, `key=value` or `key`: a taint or a toleration.
pub(crate) fn taint(text: &str) -> (String, Option<String>, Option<String>) {
    let (rest, effect) = match text.trim().rsplit_once(':') {
        Some((rest, effect)) => (rest, Some(effect.to_owned())),
        None => (text.trim(), None),
    };
    match rest.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned()), effect),
        None => (rest.to_owned(), None, effect),
    }
}

/// Names of resources that are written often.
pub(crate) fn resource(name: &str) -> &str {
    match name {
        "gpu" => "nvidia.com/gpu",
        "tpu" => "google.com/tpu",
        name => name,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn counts_places_and_pods_are_read_out_of_one_line() {
        let (count, rest) = counted("8 x gpu8 @ z1/r1").unwrap();
        assert_eq!((count, placed(rest)), (8, ("gpu8", Some("z1/r1"))));
        assert_eq!(counted("gpu8"), Ok((1, "gpu8")));
        assert_eq!(demands("[1 leader, 7 workers]"), Ok(vec![(1, "leader".to_owned()), (7, "workers".to_owned())]));
        assert_eq!(group("ml/train 12"), Ok(("ml".to_owned(), "train".to_owned(), 12)));
    }

    #[rstest]
    #[case(counted("eight x gpu8").map(|_| ()), "\"eight\" is no number in \"eight x gpu8\": write for example 8 x gpu8")]
    #[case(demands("[leader]").map(|_| ()), "\"leader\" is no number of pods: write for example [1 leader, 7 workers]")]
    #[case(group("train 0").map(|_| ()), "\"train 0\" names no group: write NAMESPACE/SET INDEX, such as ml/train 0")]
    #[case(millis("soon").map(|_| ()), "\"soon\" is no duration: write for example 500ms, 30s, 10m or 2h")]
    fn what_is_wrong_is_said_with_an_example(#[case] result: Result<(), String>, #[case] message: &str) {
        assert_eq!(result.unwrap_err(), message);
    }

    #[rstest]
    #[case("500ms", 500)]
    #[case("30s", 30_000)]
    #[case("10m", 600_000)]
    #[case("2h", 7_200_000)]
    fn durations_are_milliseconds(#[case] text: &str, #[case] millis: u64) {
        assert_eq!(super::millis(text), Ok(millis));
    }

    #[test]
    fn a_taint_has_a_key_and_perhaps_a_value_and_an_effect() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(taint("gpu=h100:NoSchedule"), ("gpu".to_owned(), text("h100"), text("NoSchedule")));
        assert_eq!(taint("gpu:NoExecute"), ("gpu".to_owned(), None, text("NoExecute")));
        assert_eq!(taint("gpu"), ("gpu".to_owned(), None, None));
    }
}
