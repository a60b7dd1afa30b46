//! Shapes of slices: `4x4`, `2x2x4`.

use std::fmt;
use std::str::FromStr;

/// Chips in two or three dimensions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topology(Vec<u32>);

/// What is wrong with a text that should be a topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoTopology(String);

impl fmt::Display for NoTopology {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} is not a TPU topology; one looks like 4x4 or 2x2x4", self.0)
    }
}

impl FromStr for Topology {
    type Err = NoTopology;

    fn from_str(text: &str) -> Result<Self, NoTopology> {
        let wrong = || NoTopology(text.to_owned());
        let side = |side: &str| match side.parse() {
            Ok(length) if length > 0 && side.bytes().all(|byte| byte.is_ascii_digit()) => Ok(length),
            _ => Err(wrong()),
        };
        let sides: Vec<u32> = text.split('x').map(side).collect::<Result<_, _>>()?;
        let chips = sides.iter().try_fold(1_u32, |product, side| product.checked_mul(*side));
        if matches!(sides.len(), 2 | 3) && chips.is_some() { Ok(Self(sides)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sides: Vec<_> = self.0.iter().map(u32::to_string).collect();
        out.write_str(&sides.join("x"))
    }
}

impl Topology {
    /// How many chips it has.
    pub(crate) fn chips(&self) -> u32 {
        self.0.iter().product()
    }

    /// How many hosts with so many chips each; none if that does not come out even.
    pub(crate) fn hosts(&self, chips: u32) -> Option<u32> {
        let even = chips > 0 && self.chips().is_multiple_of(chips);
        even.then(|| self.chips() / chips)
    }

    /// Two or three.
    pub(crate) fn dimensions(&self) -> usize {
        self.0.len()
    }

    /// Whether it is no longer than `other` on any side.
    pub(crate) fn fits_into(&self, other: &Self) -> bool {
        self.dimensions() == other.dimensions() && self.0.iter().zip(&other.0).all(|(side, room)| side <= room)
    }
}

/// What is known of a kind of TPU. The list ages: what is not in it is let through.
struct Kind {
    accelerator: &'static str,
    dimensions: usize,
    /// Three dimensions: most cubes of 4x4x4 in one slice.
    cubes: u32,
    /// Three dimensions: the sides need not ascend.
    any_order: bool,
    /// Three dimensions: there are machines with one chip.
    single_chip: bool,
}

const KINDS: [Kind; 6] = [
    Kind { accelerator: "tpu-v5-lite-podslice", dimensions: 2, cubes: 0, any_order: false, single_chip: false },
    Kind { accelerator: "tpu-v6e-slice", dimensions: 2, cubes: 0, any_order: false, single_chip: false },
    Kind { accelerator: "tpu-v4-podslice", dimensions: 3, cubes: 64, any_order: true, single_chip: false },
    Kind { accelerator: "tpu-v5p-slice", dimensions: 3, cubes: 140, any_order: false, single_chip: false },
    Kind { accelerator: "tpu7", dimensions: 3, cubes: 4, any_order: false, single_chip: true },
    Kind { accelerator: "tpu7x", dimensions: 3, cubes: 144, any_order: false, single_chip: true },
];

const FLAT: [[u32; 2]; 8] = [[1, 1], [2, 2], [2, 4], [4, 4], [4, 8], [8, 8], [8, 16], [16, 16]];
const SMALL: [[u32; 3]; 4] = [[2, 2, 1], [2, 2, 2], [2, 2, 4], [2, 4, 4]];

/// How many dimensions the accelerator's topologies have, if it is a known one.
pub(crate) fn dimensions_of(accelerator: &str) -> Option<usize> {
    kind(accelerator).map(|kind| kind.dimensions)
}

/// Whether the accelerator comes in that topology, as far as is known. True for accelerators that are not.
pub(crate) fn is_known(accelerator: &str, topology: &Topology) -> bool {
    let Some(kind) = kind(accelerator) else { return true };
    match topology.0.as_slice() {
        sides @ [_, _] => kind.dimensions == 2 && FLAT.iter().any(|known| known == sides),
        sides @ [_, _, _] => kind.dimensions == 3 && (SMALL.iter().any(|known| known == sides) || kind.has_cubes(sides)),
        _ => false,
    }
}

fn kind(accelerator: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.accelerator == accelerator)
}

impl Kind {
    fn has_cubes(&self, sides: &[u32]) -> bool {
        if sides == [1, 1, 1] {
            return self.single_chip;
        }
        let whole = sides.iter().all(|side| side.is_multiple_of(4));
        let cubes: u32 = sides.iter().map(|side| side / 4).product();
        whole && (self.any_order || sides.is_sorted()) && cubes <= self.cubes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Topology {
        text.parse().unwrap()
    }

    #[test]
    fn sides_are_two_or_three_positive_numbers() {
        assert_eq!((of("4x4").chips(), of("4x4").dimensions()), (16, 2));
        assert_eq!((of("2x2x4").chips(), of("2x2x4").dimensions()), (16, 3));
        for text in ["", "4", "4x", "x4", "4x0", "4x-4", "+4x4", "4X4", "2x2x2x2", "4 x 4", "65536x65536"] {
            let error = text.parse::<Topology>().unwrap_err().to_string();
            assert_eq!(error, format!("{text:?} is not a TPU topology; one looks like 4x4 or 2x2x4"));
        }
    }

    #[test]
    fn hosts_with_four_chips() {
        let table = [
            ("2x4", 2),
            ("4x4", 4),
            ("4x8", 8),
            ("8x8", 16),
            ("8x16", 32),
            ("16x16", 64),
            ("2x2x1", 1),
            ("2x2x2", 2),
            ("2x2x4", 4),
            ("2x4x4", 8),
            ("4x4x4", 16),
            ("4x4x8", 32),
            ("4x8x8", 64),
            ("8x8x8", 128),
            ("16x16x16", 1024),
            ("16x20x28", 2240),
            ("16x24x24", 2304),
        ];
        for (topology, hosts) in table {
            assert_eq!(of(topology).hosts(4), Some(hosts), "{topology}");
        }
    }

    #[test]
    fn hosts_depend_on_the_machine_and_have_to_come_out_even() {
        assert_eq!([of("2x4").hosts(8), of("2x4").hosts(4), of("1x1").hosts(1)], [Some(1), Some(2), Some(1)]);
        assert_eq!([of("2x2").hosts(8), of("4x4").hosts(3), of("4x4").hosts(0)], [None, None, None]);
    }

    #[test]
    fn known_topologies_by_accelerator() {
        let known = |accelerator: &str, topology: &str| is_known(accelerator, &of(topology));
        assert!(known("tpu-v5-lite-podslice", "16x16") && known("tpu-v6e-slice", "2x4"));
        assert!(!known("tpu-v6e-slice", "4x2") && !known("tpu-v6e-slice", "32x32") && !known("tpu-v6e-slice", "2x2x2"));
        assert!(known("tpu-v4-podslice", "8x4x4") && !known("tpu-v5p-slice", "8x4x4"), "only v4 takes any order");
        assert!(known("tpu-v4-podslice", "16x16x16") && !known("tpu-v4-podslice", "16x16x20"), "64 cubes");
        assert!(known("tpu-v5p-slice", "16x20x28") && !known("tpu-v5p-slice", "16x24x24"), "140 cubes");
        assert!(known("tpu7x", "16x24x24") && !known("tpu7", "4x8x12") && known("tpu7", "4x8x8"), "144 and 4 cubes");
        assert!(known("tpu7x", "1x1x1") && !known("tpu-v5p-slice", "1x1x1"), "single chips");
        assert!(known("tpu-v5p-slice", "2x2x1") && !known("tpu-v5p-slice", "2x2x3"));
        assert!(known("tpu-v99", "3x5x7"), "the list ages");
    }

    #[test]
    fn a_topology_fits_into_another_side_by_side() {
        assert!(of("2x4").fits_into(&of("4x4")) && !of("4x8").fits_into(&of("4x4")) && !of("2x4").fits_into(&of("4x4x4")));
    }
}
