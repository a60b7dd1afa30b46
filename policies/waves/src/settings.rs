//! What can be set.

use muster_startup_sdk::LeaderState;
use muster_startup_sdk::duration::Duration;
use muster_startup_sdk::settings::{self, Fault};
use serde::Deserialize;

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    #[serde(rename = "size")]
    written: Written,
    /// What the workers of a wave have to be before the next wave.
    pub(crate) wait: Wait,
    /// How long they have to have been so.
    pub(crate) pause: Duration,
    /// What the leader has to be before the first wave.
    pub(crate) leader: LeaderState,
}

/// A size as it stands in the document.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "expected a number of workers such as 8, or a share of them such as \"25%\"")]
enum Written {
    Count(u32),
    Share(String),
}

/// How many workers a wave has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Count(u32),
    Percent(u32),
}

/// What a worker has to be before it does not hold up the next wave any more. Each includes the ones after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) enum Wait {
    Created,
    Running,
    Ready,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            written: Written::Share("25%".to_owned()),
            wait: Wait::Ready,
            pause: Duration::default(),
            leader: LeaderState::Ready,
        }
    }
}

impl Settings {
    /// How many workers a wave of a group with so many has: at least one.
    pub(crate) fn wave(&self, workers: u32) -> u32 {
        match self.written.size() {
            Ok(Size::Count(count)) => count.max(1),
            Ok(Size::Percent(percent)) => {
                let share = (u64::from(workers) * u64::from(percent)).div_ceil(100);
                u32::try_from(share).unwrap_or(u32::MAX).max(1)
            }
            // `parse` lets nobody through.
            Err(_) => workers.max(1),
        }
    }
}

impl Written {
    fn size(&self) -> Result<Size, Fault> {
        let fault = |written: &str| {
            let message =
                format!("{written} workers make no wave; give a number of at least 1, or a share from \"1%\" to \"100%\"");
            Fault::new("/size", message)
        };
        match self {
            Self::Count(0) => Err(fault("0")),
            Self::Count(count) => Ok(Size::Count(*count)),
            Self::Share(text) => {
                let percent = text.strip_suffix('%').and_then(|number| number.parse().ok());
                percent
                    .filter(|percent| (1..=100).contains(percent))
                    .map(Size::Percent)
                    .ok_or_else(|| fault(&format!("{text:?}")))
            }
        }
    }
}

/// The settings, or the first fault that they have.
pub(crate) fn parse(document: &str) -> Result<Settings, Fault> {
    let settings: Settings = settings::parse(document)?;
    settings.written.size()?;
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_settings_a_quarter_becomes_ready_at_a_time() {
        let settings = parse("{}").unwrap();
        assert_eq!((settings.wave(16), settings.wait, settings.leader), (4, Wait::Ready, LeaderState::Ready));
        assert_eq!(settings.pause.as_millis(), 0);
    }

    #[test]
    fn a_share_of_workers_is_rounded_up_and_never_nothing() {
        let settings = parse(r#"{"size":"30%"}"#).unwrap();
        assert_eq!([settings.wave(10), settings.wave(7), settings.wave(1), settings.wave(0)], [3, 3, 1, 1]);
    }

    #[test]
    fn a_number_of_workers_is_taken_as_it_is() {
        assert_eq!(parse(r#"{"size":8}"#).unwrap().wave(100), 8);
    }

    #[test]
    fn a_wave_of_nobody_is_a_fault() {
        for (document, written) in [
            (r#"{"size":0}"#, "0"),
            (r#"{"size":"0%"}"#, r#""0%""#),
            (r#"{"size":"101%"}"#, r#""101%""#),
            (r#"{"size":"8"}"#, r#""8""#),
        ] {
            let message =
                format!("{written} workers make no wave; give a number of at least 1, or a share from \"1%\" to \"100%\"");
            assert_eq!(parse(document).unwrap_err(), Fault::new("/size", message));
        }
    }

    #[test]
    fn a_size_of_another_kind_is_a_fault_that_says_what_is_right() {
        let expected = "expected a number of workers such as 8, or a share of them such as \"25%\"";
        assert_eq!(parse(r#"{"size":-1}"#).unwrap_err(), Fault::new("/size", expected));
    }

    #[test]
    fn a_pause_without_a_unit_is_a_fault() {
        assert_eq!(parse(r#"{"pause":"30"}"#).unwrap_err().path, "/pause");
    }
}
