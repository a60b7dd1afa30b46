//! Durations as people write them in Kubernetes: `500ms`, `90s`, `30m`, `24h`, `1h30m`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, de};

/// So many milliseconds, written as a number with a unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration {
    millis: u64,
}

/// Units by length, longest first. `ms` stands before `m`, which it begins with.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];

impl Duration {
    /// So many milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self { millis }
    }

    /// So many minutes.
    pub const fn minutes(minutes: u64) -> Self {
        Self { millis: minutes.saturating_mul(60_000) }
    }

    /// How many milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.millis
    }
}

/// What is wrong with a text that should be a duration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoDuration(String);

impl fmt::Display for NoDuration {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} is not a duration; one looks like 500ms, 90s, 30m or 1h30m", self.0)
    }
}

impl FromStr for Duration {
    type Err = NoDuration;

    fn from_str(text: &str) -> Result<Self, NoDuration> {
        let wrong = || NoDuration(text.to_owned());
        let (mut rest, mut millis) = (text, 0_u64);
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, tail) = rest.split_at(digits);
            let (unit, length) = UNITS.iter().find(|(unit, _)| tail.starts_with(unit)).ok_or_else(wrong)?;
            let number: u64 = number.parse().map_err(|_| wrong())?;
            millis = number.checked_mul(*length).and_then(|more| millis.checked_add(more)).ok_or_else(wrong)?;
            rest = &tail[unit.len()..];
        }
        Ok(Self { millis })
    }
}

impl fmt::Display for Duration {
    /// The longest unit of which it is a whole number.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole =
            [("h", 3_600_000), ("m", 60_000), ("s", 1000)].into_iter().find(|(_, length)| self.millis.is_multiple_of(*length));
        match whole {
            _ if self.millis == 0 => out.write_str("0s"),
            Some((unit, length)) => write!(out, "{}{unit}", self.millis / length),
            None => write!(out, "{}ms", self.millis),
        }
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_with_a_unit_is_a_duration() {
        let of = |text: &str| text.parse().map(Duration::as_millis);
        assert_eq!(of("500ms"), Ok(500));
        assert_eq!(of("90s"), Ok(90_000));
        assert_eq!(of("30m"), Ok(1_800_000));
        assert_eq!(of("1h30m"), Ok(5_400_000));
        assert_eq!(of("0s"), Ok(0));
    }

    #[test]
    fn what_is_no_duration_says_how_one_looks() {
        for text in ["", "30", "m", "1.5h", "-3s", "30 m", "99999999999999999999h"] {
            let error = text.parse::<Duration>().unwrap_err().to_string();
            assert_eq!(error, format!("{text:?} is not a duration; one looks like 500ms, 90s, 30m or 1h30m"));
        }
    }

    #[test]
    fn a_duration_is_written_in_the_longest_unit_that_fits() {
        let written = |millis| Duration::millis(millis).to_string();
        assert_eq!([written(0), written(1500), written(90_000), written(5_400_000)], ["0s", "1500ms", "90s", "90m"]);
        assert_eq!(Duration::minutes(120).to_string(), "2h");
    }
}
