//! Numbers that may be written as a percentage: `3`, or `25%` of something.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Which way a percentage that doesn't come out even goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    /// To the next whole number above, as for surge.
    Up,
    /// To the next whole number below, as for unavailability.
    Down,
}

/// A string that is no percentage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a number nor a percentage such as \"25%\"")]
pub struct NotAPercentage(
    /// The string.
    pub String,
);

/// The value itself when it is a number, else that percentage of `total`. A result beyond the range of `i32` is its nearest bound.
///
/// # Errors
/// When the value is a string that is no percentage.
pub fn scaled(value: &IntOrString, total: i32, rounding: Rounding) -> Result<i32, NotAPercentage> {
    match value {
        IntOrString::Int(number) => Ok(*number),
        IntOrString::String(text) => {
            let percent = percent(text).ok_or_else(|| NotAPercentage(text.clone()))?;
            let hundredths = i128::from(percent) * i128::from(total);
            let floor = hundredths.div_euclid(100);
            let even = hundredths.rem_euclid(100) == 0;
            let whole = if even || rounding == Rounding::Down { floor } else { floor + 1 };
            Ok(i32::try_from(whole).unwrap_or(if whole < 0 { i32::MIN } else { i32::MAX }))
        }
    }
}

/// The number before the percent sign; `None` when the text is anything but digits and that sign, or too long to be a number.
pub fn percent(text: &str) -> Option<i64> {
    let digits = text.strip_suffix('%')?;
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("25%", 7, 1, 2)]
    #[case("50%", 1, 0, 1)]
    #[case("100%", 7, 7, 7)]
    #[case("0%", 7, 0, 0)]
    #[case("33%", 100, 33, 33)]
    #[case("10%", 0, 0, 0)]
    #[case("300%", 2_147_483_647, 2_147_483_647, 2_147_483_647)]
    fn a_percentage_is_rounded_down_or_up(#[case] value: &str, #[case] total: i32, #[case] down: i32, #[case] up: i32) {
        let value = IntOrString::String(value.into());
        assert_eq!(scaled(&value, total, Rounding::Down), Ok(down));
        assert_eq!(scaled(&value, total, Rounding::Up), Ok(up));
    }

    #[test]
    fn a_number_is_taken_as_it_is() {
        assert_eq!(scaled(&IntOrString::Int(9), 3, Rounding::Down), Ok(9));
    }

    #[rstest]
    #[case("")]
    #[case("%")]
    #[case("5")]
    #[case("-5%")]
    #[case("5.5%")]
    #[case("99999999999999999999%")]
    fn anything_else_is_refused(#[case] value: &str) {
        let refused = scaled(&IntOrString::String(value.into()), 3, Rounding::Up);
        assert_eq!(refused, Err(NotAPercentage(value.into())));
    }
}
