//! Durations and amounts of memory as people write them.

use std::time::Duration;

use crate::field::FieldError;

const DEADLINE: &str = "spec.limits.deadline";
const MEMORY: &str = "spec.limits.memory";
const MAX_MEMORY: u64 = 256 << 20;
/// One page of WebAssembly memory: an instance with less has none at all.
const MIN_MEMORY: u64 = 64 << 10;

/// Reads a deadline; 50 ms when there is none.
pub(super) fn deadline(text: Option<&str>) -> Result<Duration, FieldError> {
    let Some(text) = text else { return Ok(Duration::from_millis(50)) };
    let detail = "must be a duration from 1ms to 500ms, such as \"50ms\"";
    let micros = [("ms", 1_000), ("us", 1), ("µs", 1), ("s", 1_000_000)]
        .into_iter()
        .find_map(|(unit, factor)| amount(text.strip_suffix(unit)?, factor));
    micros
        .filter(|micros| (1_000..=500_000).contains(micros))
        .map(Duration::from_micros)
        .ok_or_else(|| FieldError::invalid(DEADLINE, text, detail))
}

/// Reads an amount of memory in bytes; 64 MiB when there is none.
pub(super) fn memory(text: Option<&str>) -> Result<u64, FieldError> {
    let Some(text) = text else { return Ok(64 << 20) };
    let detail = "must be an amount of memory from 64Ki to 256Mi, such as \"64Mi\"";
    let units =
        [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000), ("", 1)];
    units
        .into_iter()
        .find_map(|(unit, factor)| amount(text.strip_suffix(unit)?, factor))
        .filter(|bytes| (MIN_MEMORY..=MAX_MEMORY).contains(bytes))
        .ok_or_else(|| FieldError::invalid(MEMORY, text, detail))
}

/// A number with an optional decimal fraction, times a factor, rounded down.
fn amount(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| (1..=9).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let scale = 10_u64.pow(u32::try_from(fraction.len()).ok()?);
    let whole: u64 = whole.parse().ok()?;
    let fraction: u64 = fraction.parse().ok()?;
    Some(whole.checked_mul(factor)? + fraction.checked_mul(factor)? / scale)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(None, 50_000)]
    #[case(Some("1ms"), 1_000)]
    #[case(Some("500ms"), 500_000)]
    #[case(Some("0.25s"), 250_000)]
    #[case(Some("1.5ms"), 1_500)]
    #[case(Some("2000us"), 2_000)]
    fn a_deadline_is_read_in_the_units_people_use(#[case] text: Option<&str>, #[case] micros: u64) {
        assert_eq!(deadline(text), Ok(Duration::from_micros(micros)));
    }

    #[rstest]
    #[case("0ms")]
    #[case("501ms")]
    #[case("999us")]
    #[case("1s")]
    #[case("50")]
    #[case("fast")]
    #[case("-5ms")]
    #[case("")]
    #[case("99999999999999999999ms")]
    fn a_deadline_out_of_bounds_names_the_bounds(#[case] text: &str) {
        let error = deadline(Some(text)).unwrap_err().to_string();
        let expected =
            format!("spec.limits.deadline: Invalid value: \"{text}\": must be a duration from 1ms to 500ms, such as \"50ms\"");
        assert_eq!(error, expected);
    }

    #[rstest]
    #[case(None, 67_108_864)]
    #[case(Some("64Ki"), 65_536)]
    #[case(Some("256Mi"), 268_435_456)]
    #[case(Some("0.25Gi"), 268_435_456)]
    #[case(Some("1M"), 1_000_000)]
    #[case(Some("1048576"), 1_048_576)]
    fn memory_is_read_as_kubernetes_writes_it(#[case] text: Option<&str>, #[case] bytes: u64) {
        assert_eq!(memory(text), Ok(bytes));
    }

    #[rstest]
    #[case("257Mi")]
    #[case("1Gi")]
    #[case("1Ki")]
    #[case("64MB")]
    #[case("")]
    #[case("999999999G")]
    fn memory_out_of_bounds_names_the_bounds(#[case] text: &str) {
        let error = memory(Some(text)).unwrap_err().to_string();
        let expected = format!(
            "spec.limits.memory: Invalid value: \"{text}\": must be an amount of memory from 64Ki to 256Mi, such as \"64Mi\""
        );
        assert_eq!(error, expected);
    }
}
