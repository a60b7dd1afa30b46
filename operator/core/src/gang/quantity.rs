//! Quantities written as Kubernetes writes them, so that what others compare as text is the same text.

use crate::cluster::amounts::nanos;

/// How a quantity is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// `1500m`, `2`, `4k`.
    #[default]
    Decimal,
    /// `16Gi`.
    Binary,
    /// `12e3`.
    Exponent,
}

impl Format {
    /// The format of a quantity's text; `None` for zero, whose format doesn't count in a sum.
    pub fn of(text: &str) -> Option<Self> {
        if nanos(text)? == 0 {
            return None;
        }
        let digits = text.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-'));
        Some(match digits {
            suffix if suffix.ends_with('i') => Self::Binary,
            // A lone `E` is the suffix for 10^18.
            suffix if suffix.len() > 1 && suffix.starts_with(['e', 'E']) => Self::Exponent,
            _ => Self::Decimal,
        })
    }
}

/// An amount (thousandths of a core for `cpu`, one of anything else) in Kubernetes' canonical form: the largest unit that leaves
/// no fraction.
pub fn canonical(resource: &str, amount: i64, format: Format) -> String {
    let milli = resource == "cpu";
    match format {
        // Kubernetes writes small binary numbers as decimal ones.
        Format::Binary if !milli && amount.abs() >= 1024 => binary(amount),
        Format::Decimal | Format::Binary => decimal(amount, milli, |exponent| DECIMAL[exponent].to_owned()),
        Format::Exponent => decimal(amount, milli, |exponent| match exponent {
            0 => "e-3".to_owned(),
            1 => String::new(),
            other => format!("e{}", (other - 1) * 3),
        }),
    }
}

/// Suffixes by powers of a thousand, thousandths first.
const DECIMAL: [&str; 8] = ["m", "", "k", "M", "G", "T", "P", "E"];

fn decimal(amount: i64, milli: bool, suffix: impl Fn(usize) -> String) -> String {
    let (mut number, mut exponent) = (amount, usize::from(!milli));
    if number == 0 {
        return "0".to_owned();
    }
    while number % 1000 == 0 && exponent + 1 < DECIMAL.len() {
        number /= 1000;
        exponent += 1;
    }
    format!("{number}{}", suffix(exponent))
}

fn binary(amount: i64) -> String {
    let (mut number, mut exponent) = (amount, 0);
    const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    while number % 1024 == 0 && exponent + 1 < SUFFIXES.len() {
        number /= 1024;
        exponent += 1;
    }
    format!("{number}{}", SUFFIXES[exponent])
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // The expected texts are what k8s.io/apimachinery's resource.Quantity prints.
    #[rstest]
    #[case("cpu", 1500, Format::Decimal, "1500m")]
    #[case("cpu", 2000, Format::Decimal, "2")]
    #[case("cpu", 12_000, Format::Decimal, "12")]
    #[case("cpu", 4_000_000, Format::Decimal, "4k")]
    #[case("cpu", 1500, Format::Exponent, "1500e-3")]
    #[case("nvidia.com/gpu", 8, Format::Decimal, "8")]
    #[case("nvidia.com/gpu", 32, Format::Decimal, "32")]
    #[case("nvidia.com/gpu", 0, Format::Decimal, "0")]
    #[case("memory", 17_179_869_184, Format::Binary, "16Gi")]
    #[case("memory", 1536, Format::Binary, "1536")]
    #[case("memory", 1000, Format::Binary, "1k")]
    #[case("memory", 3 << 29, Format::Binary, "1536Mi")]
    #[case("memory", 2_000_000_000, Format::Decimal, "2G")]
    #[case("memory", 128_974_848, Format::Decimal, "128974848")]
    #[case("memory", 12_000, Format::Exponent, "12e3")]
    #[case("memory", 12, Format::Exponent, "12")]
    fn an_amount_is_written_as_kubernetes_writes_it(
        #[case] resource: &str,
        #[case] amount: i64,
        #[case] format: Format,
        #[case] text: &str,
    ) {
        assert_eq!(canonical(resource, amount, format), text);
    }

    #[rstest]
    #[case("500m", Some(Format::Decimal))]
    #[case("8", Some(Format::Decimal))]
    #[case("16Gi", Some(Format::Binary))]
    #[case("1.5Ki", Some(Format::Binary))]
    #[case("2E", Some(Format::Decimal))]
    #[case("12e3", Some(Format::Exponent))]
    #[case("12E3", Some(Format::Exponent))]
    #[case("0", None)]
    #[case("0Gi", None)]
    fn a_text_has_a_format_unless_it_is_zero(#[case] text: &str, #[case] format: Option<Format>) {
        assert_eq!(Format::of(text), format);
    }
}
