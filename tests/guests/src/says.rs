//! Answers laid out in memory as the canonical ABI has them.

use std::fmt::Write as _;

/// What a guest says about every unit that it is asked about.
#[derive(Clone, Debug)]
pub enum Says {
    /// Inside one of these domains: level and domain.
    Within(Vec<(u32, u32)>),
    /// The scheduler should favour these domains.
    Preferred(Vec<(u32, u32)>),
    /// So many pods each, in that level and domain.
    Parts(Vec<(u32, u32, u32)>),
    /// A node for every pod.
    Pinned(Vec<u32>),
    /// The scheduler decides.
    Unconstrained,
    /// Ask again after so many milliseconds.
    Hold(u32),
    /// Never.
    Refuse,
}

/// Something that pods get.
#[derive(Clone, Copy, Debug)]
pub enum Gives<'a> {
    /// Any taint with this key is tolerated.
    Toleration(&'a str),
    /// A node label, a pod's label, an annotation, a variable: key and value.
    NodeSelector(&'a str, &'a str),
    /// See above.
    Label(&'a str, &'a str),
    /// See above.
    Annotation(&'a str, &'a str),
    /// See above.
    Env(&'a str, &'a str),
    /// A scheduler's name.
    Scheduler(&'a str),
}

/// Bytes of one call's answer (a unit's number is written over the first four), and of an effect.
pub(crate) const ANSWER_BYTES: u32 = 48;
const EFFECT_BYTES: u32 = 28;

/// A piece of memory that is filled from its start.
pub(crate) struct Memory {
    base: u32,
    bytes: Vec<u8>,
}

impl Memory {
    pub(crate) fn at(base: u32) -> Self {
        Self { base, bytes: Vec::new() }
    }

    /// The data segment.
    pub(crate) fn segment(&self) -> String {
        let mut text = String::new();
        for byte in &self.bytes {
            let _ = write!(text, "\\{byte:02x}");
        }
        format!("(data (i32.const {}) \"{text}\")", self.base)
    }

    /// Puts bytes down and says where and how many elements: what a list is.
    fn list(&mut self, elements: usize, bytes: &[u8]) -> [u8; 8] {
        while !self.bytes.len().is_multiple_of(8) {
            self.bytes.push(0);
        }
        let at = self.base + u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes.extend_from_slice(bytes);
        let count = u32::try_from(elements).unwrap_or(u32::MAX);
        let mut list = [0; 8];
        list[..4].copy_from_slice(&at.to_le_bytes());
        list[4..].copy_from_slice(&count.to_le_bytes());
        list
    }

    fn numbers(&mut self, elements: usize, numbers: impl IntoIterator<Item = u32>) -> [u8; 8] {
        let bytes: Vec<u8> = numbers.into_iter().flat_map(u32::to_le_bytes).collect();
        self.list(elements, &bytes)
    }

    fn text(&mut self, text: &str) -> [u8; 8] {
        self.list(text.len(), text.as_bytes())
    }

    /// A list of effects.
    pub(crate) fn effects(&mut self, effects: &[Gives<'_>]) -> [u8; 8] {
        let mut bytes = Vec::new();
        for effect in effects {
            let (case, payload) = match effect {
                // No value, no effect of the taint.
                Gives::Toleration(key) => (0, self.text(key).to_vec()),
                Gives::NodeSelector(key, value) => (1, self.entry(key, value)),
                Gives::Label(key, value) => (2, self.entry(key, value)),
                Gives::Annotation(key, value) => (3, self.entry(key, value)),
                Gives::Env(key, value) => (4, self.entry(key, value)),
                Gives::Scheduler(name) => (5, self.text(name).to_vec()),
            };
            let start = bytes.len();
            bytes.extend_from_slice(&u32::to_le_bytes(case));
            bytes.extend(payload);
            bytes.resize(start + EFFECT_BYTES as usize, 0);
        }
        self.list(effects.len(), &bytes)
    }

    fn entry(&mut self, key: &str, value: &str) -> Vec<u8> {
        [self.text(key), self.text(value)].concat()
    }

    /// An answer, but for the number of its unit and its reason; returns its bytes.
    pub(crate) fn answer(&mut self, says: &Says, avoid: &[u32], effects: &[Gives<'_>]) -> Vec<u8> {
        let pairs = |places: &[(u32, u32)]| places.iter().flat_map(|(level, domain)| [*level, *domain]).collect::<Vec<_>>();
        let (case, payload) = match says {
            Says::Within(places) => (0, self.numbers(places.len(), pairs(places))),
            Says::Preferred(places) => (1, self.numbers(places.len(), pairs(places))),
            Says::Parts(parts) => (2, self.numbers(parts.len(), parts.iter().flat_map(|(pods, at, of)| [*pods, *at, *of]))),
            Says::Pinned(nodes) => (3, self.numbers(nodes.len(), nodes.iter().copied())),
            Says::Unconstrained => (4, [0; 8]),
            Says::Hold(millis) => (5, u64::from(*millis).to_le_bytes()),
            Says::Refuse => (6, [0; 8]),
        };
        let (avoid, effects) = (self.numbers(avoid.len(), avoid.iter().copied()), self.effects(effects));
        let mut bytes = [u32::to_le_bytes(0), u32::to_le_bytes(case)].concat();
        bytes.extend([payload, avoid, effects].concat());
        bytes
    }
}
