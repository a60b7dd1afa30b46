//! What can be set.

use std::fmt;

use muster_placement_sdk::pack::{self, derived_from};
use muster_placement_sdk::settings::{self, Fault};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

use crate::presets::{self, PRESETS};

/// The host gives a policy 16 levels; one is left for the set's exclusive placement.
const MAX_LEVELS: usize = 15;

/// Settings that have no fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// The widest first.
    pub(crate) levels: Vec<Level>,
    pub(crate) fit: Fit,
    /// Whether the last segment may be smaller than the others.
    pub(crate) last_partial: bool,
}

/// A level of the topology.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Level {
    pub(crate) key: String,
    #[serde(default)]
    pub(crate) mode: Mode,
    /// How many pods go inside one domain together; none for those of the level before, or the whole group.
    pub(crate) segment: Option<Segment>,
}

/// What happens if there is no domain with room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub(crate) enum Mode {
    /// The group waits.
    Required,
    /// The next wider level is tried.
    #[default]
    Preferred,
}

/// Pods with consecutive ranks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segment {
    /// So many.
    Pods(u32),
    /// Those of one subgroup.
    Subgroup,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fit {
    #[default]
    Best,
    Least,
    Balanced,
    PackBusy,
}

impl From<Fit> for pack::Fit {
    fn from(fit: Fit) -> Self {
        match fit {
            Fit::Best => Self::Best,
            Fit::Least => Self::Least,
            Fit::Balanced => Self::Balanced,
            Fit::PackBusy => Self::PackBusy,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Document {
    preset: Option<String>,
    levels: Vec<Level>,
    fit: Fit,
    last_partial: bool,
}

impl<'de> Deserialize<'de> for Segment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = Segment;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number of pods, at least 1, or `Subgroup`")
            }

            fn visit_u64<E: Error>(self, pods: u64) -> Result<Segment, E> {
                let known = u32::try_from(pods).ok().filter(|pods| *pods > 0);
                known.map(Segment::Pods).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Unsigned(pods), &self))
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Segment, E> {
                if word == "Subgroup" {
                    Ok(Segment::Subgroup)
                } else {
                    Err(E::invalid_value(serde::de::Unexpected::Str(word), &self))
                }
            }
        }
        deserializer.deserialize_any(Word)
    }
}

/// The settings, or every fault that they have.
pub(crate) fn parse(document: &str) -> Result<Settings, Vec<Fault>> {
    let document: Document = settings::parse(document).map_err(|fault| vec![fault])?;
    let mut faults = faults(&document.levels);
    let levels = match &document.preset {
        None if document.levels.is_empty() => {
            faults.push(Fault::new("", format!("name a preset ({}) or levels", names())));
            Vec::new()
        }
        None => document.levels,
        Some(name) => match presets::levels(name) {
            None => {
                faults.push(Fault::new("/preset", format!("there is no preset {name:?}, only {}", names())));
                Vec::new()
            }
            Some(keys) => {
                let strange = document.levels.iter().enumerate().filter(|(_, level)| !keys.contains(&level.key.as_str()));
                faults.extend(strange.map(|(position, level)| {
                    let message = format!("{:?} is not a level of the preset {name}, which has {}", level.key, keys.join(", "));
                    Fault::new(format!("/levels/{position}/key"), message)
                }));
                let own = |key: &str| document.levels.iter().find(|level| level.key == key).cloned();
                let level = |key: &&str| {
                    own(key).unwrap_or_else(|| Level { key: (*key).to_owned(), mode: Mode::Preferred, segment: None })
                };
                keys.iter().map(level).collect()
            }
        },
    };
    if faults.is_empty() {
        faults = segment_faults(&levels);
        faults.extend(derived_faults(&levels));
    }
    if faults.is_empty() { Ok(Settings { levels, fit: document.fit, last_partial: document.last_partial }) } else { Err(faults) }
}

/// Label keys that the host must index.
pub(crate) fn label_keys(levels: &[Level]) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for level in levels {
        let key = derived_from(&level.key).unwrap_or(&level.key);
        if !keys.iter().any(|known| known == key) {
            keys.push(key.to_owned());
        }
    }
    keys
}

fn names() -> String {
    PRESETS.map(|(name, _)| name).join(", ")
}

fn faults(levels: &[Level]) -> Vec<Fault> {
    let mut faults = Vec::new();
    if levels.len() > MAX_LEVELS {
        faults.push(Fault::new("/levels", format!("{} levels, and at most {MAX_LEVELS} are possible", levels.len())));
    }
    for (position, level) in levels.iter().enumerate() {
        let path = format!("/levels/{position}/key");
        let key = &level.key;
        let real = derived_from(key).unwrap_or(key);
        if real.is_empty() || !real.bytes().all(|byte| byte.is_ascii_graphic()) || real.starts_with("derived:") {
            let message = format!("{key:?} is no label key such as topology.kubernetes.io/zone, nor derived:KEY#prefix");
            faults.push(Fault::new(path, message));
        } else if let Some(first) = levels.iter().position(|other| other.key == *key).filter(|first| *first < position) {
            faults.push(Fault::new(path, format!("{key:?} is named at /levels/{first} already")));
        }
    }
    faults
}

/// A derived level must be followed by the one that it is derived from.
fn derived_faults(levels: &[Level]) -> Vec<Fault> {
    let fault = |(position, level): (usize, &Level)| {
        let real = derived_from(&level.key).filter(|real| levels.get(position + 1).is_none_or(|next| next.key != *real))?;
        let message =
            format!("the next level must be {real}: pods can only be given places in what {} is derived from", level.key);
        Some(Fault::new(format!("/levels/{position}/key"), message))
    };
    levels.iter().enumerate().filter_map(fault).collect()
}

/// Segments of a nearer level must divide those of a wider one.
fn segment_faults(levels: &[Level]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut wider: Option<u32> = None;
    for (position, level) in levels.iter().enumerate() {
        let Some(Segment::Pods(pods)) = level.segment else { continue };
        if let Some(wider) = wider.filter(|wider| wider % pods != 0) {
            let message = format!("segments of {pods} pods don't divide the wider level's segments of {wider}");
            faults.push(Fault::new(format!("/levels/{position}/segment"), message));
        }
        wider = Some(pods);
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(document: &str) -> Vec<(String, String)> {
        parse(document).unwrap_err().into_iter().map(|fault| (fault.path, fault.message)).collect()
    }

    #[test]
    fn a_preset_names_levels_that_are_preferred() {
        let settings = parse(r#"{"preset":"oci-rdma"}"#).unwrap();
        assert_eq!(settings.levels[2].key, "oci.oraclecloud.com/rdma.local_block_id");
        assert!(settings.levels.iter().all(|level| level.mode == Mode::Preferred && level.segment.is_none()));
        assert_eq!((settings.fit, settings.last_partial), (Fit::Best, false));
    }

    #[test]
    fn levels_beside_a_preset_change_its_levels() {
        let document = r#"{"preset":"topograph","levels":[{"key":"fabric.topograph.run/tier-1","mode":"Required","segment":8}]}"#;
        let levels = parse(document).unwrap().levels;
        assert_eq!(
            (levels[0].mode, levels[1].mode, levels[1].segment),
            (Mode::Preferred, Mode::Required, Some(Segment::Pods(8)))
        );
        assert_eq!(levels.len(), 4);
    }

    #[test]
    fn every_preset_is_good_by_itself_and_leaves_a_level_for_exclusive_placement() {
        for (name, _) in PRESETS {
            let settings = parse(&format!(r#"{{"preset":"{name}"}}"#)).unwrap();
            assert!(label_keys(&settings.levels).len() <= MAX_LEVELS, "{name}");
        }
    }

    #[test]
    fn neither_preset_nor_levels_is_a_fault() {
        let faults = faults_of("{}");
        assert_eq!(faults[0].0, "");
        assert!(faults[0].1.starts_with("name a preset (gke-gpu, gke-gpu-legacy,"), "{faults:?}");
    }

    #[test]
    fn an_unknown_preset_and_a_level_that_a_preset_does_not_have_are_faults() {
        assert_eq!(faults_of(r#"{"preset":"gke"}"#)[0].0, "/preset");
        let faults = faults_of(r#"{"preset":"gke-tpu","levels":[{"key":"rack"}]}"#);
        assert_eq!(faults[0].0, "/levels/0/key");
        assert!(faults[0].1.starts_with("\"rack\" is not a level of the preset gke-tpu"), "{faults:?}");
    }

    #[test]
    fn inner_segments_must_divide_outer_ones() {
        let document = r#"{"levels":[{"key":"block","segment":32},{"key":"rack","segment":12}]}"#;
        let message = "segments of 12 pods don't divide the wider level's segments of 32".to_owned();
        assert_eq!(faults_of(document), [("/levels/1/segment".to_owned(), message)]);
    }

    #[test]
    fn a_segment_is_a_number_or_subgroup() {
        let levels = parse(r#"{"levels":[{"key":"rack","segment":"Subgroup"}]}"#).unwrap().levels;
        assert_eq!(levels[0].segment, Some(Segment::Subgroup));
        let faults = faults_of(r#"{"levels":[{"key":"rack","segment":0}]}"#);
        let message = "invalid value: integer `0`, expected a number of pods, at least 1, or `Subgroup`".to_owned();
        assert_eq!(faults, [("/levels/0/segment".to_owned(), message)]);
    }

    #[test]
    fn a_derived_level_needs_its_own_key_after_it() {
        let faults = faults_of(r#"{"levels":[{"key":"derived:nvidia.com/gpu.clique#prefix"}]}"#);
        assert_eq!(faults[0].0, "/levels/0/key");
        assert!(faults[0].1.starts_with("the next level must be nvidia.com/gpu.clique"), "{faults:?}");
    }

    #[test]
    fn bad_and_repeated_keys_and_unknown_fields_are_faults() {
        let paths: Vec<_> =
            faults_of(r#"{"levels":[{"key":""},{"key":"a"},{"key":"a"}]}"#).into_iter().map(|fault| fault.0).collect();
        assert_eq!(paths, ["/levels/0/key", "/levels/2/key"]);
        assert_eq!(faults_of(r#"{"levels":[{"key":"a","modus":"Required"}]}"#)[0].0, "/levels/0/modus");
    }
}
