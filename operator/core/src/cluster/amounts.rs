//! Exact arithmetic on Kubernetes resource quantities.
//!
//! Amounts are whole numbers in the unit the scheduler counts in: thousandths for `cpu`, one for everything else, rounded up
//! as the scheduler rounds. No crate in our dependency tree parses quantities against this version of the API types.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::resource::Name;

/// Name of the resource that counts pods; every pod needs one of it.
pub const PODS: &str = "pods";

/// A quantity that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("resource {resource}: {value:?} is not a Kubernetes quantity; write for example 500m, 8 or 16Gi")]
pub struct QuantityError {
    /// The resource's name.
    pub resource: String,
    /// The text that could not be read.
    pub value: String,
}

/// How much of each resource, by name. Resources that are not named are zero.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Amounts(Vec<(Name, i64)>);

impl Amounts {
    /// Reads a resource list.
    pub fn parse(list: &BTreeMap<String, Quantity>) -> Result<Self, QuantityError> {
        let mut amounts = Vec::with_capacity(list.len());
        for (resource, quantity) in list {
            let amount = parse_quantity(resource, &quantity.0)
                .ok_or_else(|| QuantityError { resource: resource.clone(), value: quantity.0.clone() })?;
            if amount != 0 {
                amounts.push((Name::of(resource), amount));
            }
        }
        Ok(Self(amounts))
    }

    /// How much of one resource.
    pub fn get(&self, resource: &str) -> i64 {
        self.search(resource).map_or(0, |position| self.0[position].1)
    }

    /// Replaces one amount; zero is the same as absent.
    pub fn set(&mut self, resource: &str, amount: i64) {
        match self.search(resource) {
            Ok(position) if amount == 0 => drop(self.0.remove(position)),
            Ok(position) => self.0[position].1 = amount,
            Err(_) if amount == 0 => {}
            Err(position) => self.0.insert(position, (Name::of(resource), amount)),
        }
    }

    fn search(&self, resource: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(name, _)| name.as_str().cmp(resource))
    }

    /// Adds `times` times the other.
    pub fn add(&mut self, other: &Self, times: i64) {
        self.merge(other, |own, amount| own.saturating_add(amount.saturating_mul(times)));
    }

    /// Raises every amount to at least the other's.
    pub fn raise_to(&mut self, other: &Self) {
        self.merge(other, i64::max);
    }

    /// Replaces every amount that `other` has one for.
    fn merge(&mut self, other: &Self, merged: impl Fn(i64, i64) -> i64) {
        if self.0.is_empty() {
            self.0.reserve_exact(other.0.len());
        }
        let mut at = 0;
        for (name, amount) in &other.0 {
            let place = loop {
                match self.0.get(at).map(|(own, _)| own.cmp(name)) {
                    Some(Ordering::Less) => at += 1,
                    Some(Ordering::Equal) => break Some(at),
                    Some(Ordering::Greater) | None => break None,
                }
            };
            match place {
                Some(at) => self.0[at].1 = merged(self.0[at].1, *amount),
                None => self.0.insert(at, (name.clone(), merged(0, *amount))),
            }
        }
        self.0.retain(|(_, amount)| *amount != 0);
    }

    /// True if every amount is zero.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Name and amount, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// How many times this much fits into what `of` offers when each of `taken` is taken; 0 if this is nothing.
    pub(crate) fn times_in(&self, of: &Self, taken: [Option<&Self>; 3]) -> i64 {
        let mut of = Reader(&of.0);
        let mut taken = taken.map(|taken| Reader(taken.map_or(&[], |taken| &taken.0)));
        let times = self.0.iter().filter(|(_, amount)| *amount > 0).map(|(name, amount)| {
            let taken = taken.iter_mut().fold(0_i64, |sum, taken| sum.saturating_add(taken.amount(name)));
            of.amount(name).saturating_sub(taken).max(0) / amount
        });
        times.min().unwrap_or(0)
    }

    /// How many fewer of `other` fit beside this, wherever this fits: no more than its hungriest resource takes from them.
    pub(crate) fn costs_at_most(&self, other: &Self) -> u32 {
        let each = self.beside(other).map(|(needed, amount)| needed / amount + i64::from(needed % amount > 0));
        u32::try_from(each.max().unwrap_or(0)).unwrap_or(u32::MAX)
    }

    /// How many fewer of `other` fit beside this, wherever this fits: no less than its most modest resource takes from them. On
    /// a node with room for both one resource is the first that is used up, and it is no more modest than that.
    pub(crate) fn costs_at_least(&self, other: &Self) -> u32 {
        let each = self.beside(other).map(|(needed, amount)| needed / amount);
        u32::try_from(each.min().unwrap_or(0)).unwrap_or(u32::MAX)
    }

    /// How much there is here of everything that `other` has some of, and how much the other has.
    fn beside(&self, other: &Self) -> impl Iterator<Item = (i64, i64)> {
        let mut own = Reader(&self.0);
        other.0.iter().filter(|(_, amount)| *amount > 0).map(move |(name, amount)| (own.amount(name).max(0), *amount))
    }
}

/// Reads amounts by names that only ascend.
struct Reader<'a>(&'a [(Name, i64)]);

impl Reader<'_> {
    fn amount(&mut self, name: &Name) -> i64 {
        while let Some(((own, amount), rest)) = self.0.split_first() {
            match own.cmp(name) {
                Ordering::Less => self.0 = rest,
                Ordering::Equal => return *amount,
                Ordering::Greater => return 0,
            }
        }
        0
    }
}

impl fmt::Display for Amounts {
    /// As a person would write it, without the pod that every pod is: `{cpu: 500m, nvidia.com/gpu: 8}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (place, (name, amount)) in self.iter().filter(|(name, _)| *name != PODS).enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            match (name, amount) {
                ("cpu", amount) if amount % 1000 != 0 => write!(f, "{separator}{name}: {amount}m")?,
                ("cpu", amount) => write!(f, "{separator}{name}: {}", amount / 1000)?,
                (name, amount) => write!(f, "{separator}{name}: {}", with_binary_suffix(amount))?,
            }
        }
        f.write_str("}")
    }
}

fn with_binary_suffix(amount: i64) -> String {
    for (suffix, shift) in [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10)] {
        let unit = 1_i64 << shift;
        if amount >= unit && amount % unit == 0 {
            return format!("{}{suffix}", amount / unit);
        }
    }
    amount.to_string()
}

const NANO: i128 = 1_000_000_000;

/// The amount in the scheduler's unit for this resource, or `None` if the text is not a quantity.
fn parse_quantity(resource: &str, text: &str) -> Option<i64> {
    let nanos = nanos(text)?;
    let unit = if resource == "cpu" { NANO / 1000 } else { NANO };
    let (whole, rest) = (nanos.div_euclid(unit), nanos.rem_euclid(unit));
    let rounded = whole + i128::from(rest > 0);
    Some(i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX }))
}

/// `<sign><digits>[.<digits>]<suffix or exponent>` in thousand-millionths, rounded up.
pub(crate) fn nanos(text: &str) -> Option<i128> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (base, exponent) = scale(suffix)?;
    let mut numerator = digits.checked_mul(NANO)?.checked_mul(base)?;
    let mut denominator = 1_i128;
    let exponent = exponent - i32::try_from(fraction.len()).ok()?;
    let power = 10_i128.checked_pow(exponent.unsigned_abs());
    if exponent >= 0 {
        numerator = numerator.checked_mul(power?)?;
    } else {
        denominator = power.unwrap_or(i128::MAX);
    }
    if text.starts_with('-') {
        return Some(-(numerator / denominator));
    }
    Some(numerator / denominator + i128::from(numerator % denominator != 0))
}

/// Factor and power of ten that a suffix stands for.
fn scale(suffix: &str) -> Option<(i128, i32)> {
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        exponent => (1, exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::cores("cpu", "2", Some(2000))]
    #[case::half_a_core("cpu", "0.5", Some(500))]
    #[case::millicores("cpu", "250m", Some(250))]
    #[case::a_bit_of_a_millicore_counts_as_one("cpu", "1n", Some(1))]
    #[case::binary("memory", "16Gi", Some(17_179_869_184))]
    #[case::binary_fraction("memory", "1.5Ki", Some(1536))]
    #[case::decimal("memory", "2G", Some(2_000_000_000))]
    #[case::exa_is_not_an_exponent("memory", "1E", Some(1_000_000_000_000_000_000))]
    #[case::exponent("memory", "12e3", Some(12_000))]
    #[case::capital_exponent("memory", "12E3", Some(12_000))]
    #[case::negative_exponent("memory", "1500e-3", Some(2))]
    #[case::millibytes_round_up("memory", "1001m", Some(2))]
    #[case::devices("nvidia.com/gpu", "8", Some(8))]
    #[case::signed("nvidia.com/gpu", "+8", Some(8))]
    #[case::negative("nvidia.com/gpu", "-8", Some(-8))]
    #[case::leading_point("cpu", ".5", Some(500))]
    #[case::beyond_64_bits_saturates("memory", "16Ei", Some(i64::MAX))]
    #[case::nothing("cpu", "", None)]
    #[case::words("cpu", "lots", None)]
    #[case::two_points("cpu", "1.2.3", None)]
    #[case::unknown_suffix("memory", "1Qi", None)]
    #[case::no_number("memory", "Gi", None)]
    fn a_quantity_reads_as_the_scheduler_counts_it(#[case] resource: &str, #[case] text: &str, #[case] want: Option<i64>) {
        assert_eq!(parse_quantity(resource, text), want);
    }

    #[test]
    fn amounts_print_as_a_person_writes_them() {
        let mut amounts = Amounts::default();
        amounts.set("cpu", 1500);
        amounts.set("memory", 16 << 30);
        amounts.set("nvidia.com/gpu", 8);
        amounts.set(PODS, 1);
        assert_eq!(amounts.to_string(), "{cpu: 1500m, memory: 16Gi, nvidia.com/gpu: 8}");
    }
}
