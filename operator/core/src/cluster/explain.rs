//! Why a group fits nowhere: a verdict per domain, and one sentence for a condition.

use std::fmt::Write as _;

use super::packing::Claims;
use super::shape::Exclusion;
use super::snapshot::Snapshot;
use crate::placement::{Demand, DomainId, LevelId, Place};
use crate::text::truncated;

/// Longest message in bytes that [`Explanation::summary`] makes.
pub const SUMMARY_LIMIT: usize = 1024;

/// What a domain has for a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All pods fit.
    Fits {
        /// Pods of the most numerous shape that would still fit afterwards.
        leftover: u32,
    },
    /// Some pods find no room.
    NotEnoughSlots {
        /// Pods of the group that fit.
        have: u32,
        /// Pods of the group.
        need: u32,
    },
    /// Another group has it.
    Held {
        /// For example `default/vllm group 0`.
        by: String,
    },
    /// No node of the domain is for such pods, whatever room it has.
    NoEligibleNodes {
        /// Nodes with a taint that the pods don't tolerate.
        tainted: u32,
        /// Nodes that are not ready.
        unready: u32,
        /// Cordoned nodes.
        unschedulable: u32,
        /// Nodes that the pods' selectors or affinity don't match.
        filtered: u32,
        /// Nodes that the decision keeps away from.
        avoided: u32,
    },
}

/// One domain's verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainReport {
    /// The domain's label value.
    pub domain: String,
    /// What it has.
    pub verdict: Verdict,
}

/// Every domain's verdict on one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The level's label key.
    pub level: String,
    /// The group, for example `2 pods: 1 × {nvidia.com/gpu: 8}, 1 × {cpu: 4}`.
    pub pods: String,
    /// By domain name.
    pub domains: Vec<DomainReport>,
    /// Nodes without the label: in no domain.
    pub unlabelled: u32,
}

impl Snapshot {
    /// What every domain of `level` has for these pods together; with `exclusive` a domain must have no other group, else it
    /// must not be another group's own.
    pub fn explain(&self, level: LevelId, pods: &[Demand], exclusive: bool) -> Explanation {
        let table = self.level(level);
        let domains = (0..self.domain_count(level)).map(|domain| {
            let place = Place { level, domain: DomainId(domain) };
            let name = self.domain_name(level, place.domain).unwrap_or_default();
            DomainReport { domain: name.to_owned(), verdict: self.verdict(place, pods, exclusive) }
        });
        Explanation {
            level: table.map(|table| table.key.clone()).unwrap_or_default(),
            pods: self.describe(pods),
            domains: domains.collect(),
            unlabelled: table.map_or(0, |table| table.unlabelled),
        }
    }

    fn verdict(&self, place: Place, pods: &[Demand], exclusive: bool) -> Verdict {
        let holder = if exclusive { self.holder(place) } else { self.kept_by(place) };
        if let Some(by) = holder {
            return Verdict::Held { by: by.to_owned() };
        }
        let packing = self.pack(place, pods, &Claims::new());
        if packing.is_complete() {
            return Verdict::Fits { leftover: packing.leftover };
        }
        self.exclusions(place, pods).unwrap_or(Verdict::NotEnoughSlots { have: packing.placed, need: packing.wanted })
    }

    /// The group that has every node of the domain for itself.
    pub(crate) fn kept_by(&self, place: Place) -> Option<&str> {
        let rows = self.rows(place);
        let first = self.exclusive_holder(*rows.first()?)?;
        rows.iter().all(|row| self.exclusive_holder(*row).is_some()).then_some(first)
    }

    /// Counts why nodes are excluded, for a shape that no node of the domain is for.
    fn exclusions(&self, place: Place, pods: &[Demand]) -> Option<Verdict> {
        pods.iter().filter(|demand| demand.pods > 0).find_map(|demand| {
            let shape = self.view().shapes.get(demand.shape.0 as usize)?;
            let (mut tainted, mut unready, mut unschedulable, mut filtered, mut avoided) = (0, 0, 0, 0, 0);
            for row in self.rows(place) {
                match self.nodes()[*row as usize].excludes(shape)? {
                    Exclusion::Tainted => tainted += 1,
                    Exclusion::Unready => unready += 1,
                    Exclusion::Unschedulable => unschedulable += 1,
                    Exclusion::Filtered => filtered += 1,
                    Exclusion::Avoided => avoided += 1,
                }
            }
            Some(Verdict::NoEligibleNodes { tainted, unready, unschedulable, filtered, avoided })
        })
    }

    fn describe(&self, pods: &[Demand]) -> String {
        let total: u32 = pods.iter().map(|demand| demand.pods).sum();
        // Leader and workers are separate demands; told apart only where they ask for different things.
        let mut parts: Vec<(u32, String)> = Vec::new();
        for demand in pods.iter().filter(|demand| demand.pods > 0) {
            let Some(shape) = self.view().shapes.get(demand.shape.0 as usize) else { continue };
            let requests = shape.requests().to_string();
            match parts.iter_mut().find(|(_, known)| *known == requests) {
                Some((pods, _)) => *pods += demand.pods,
                None => parts.push((demand.pods, requests)),
            }
        }
        let parts: Vec<_> = parts.into_iter().map(|(pods, requests)| format!("{pods} × {requests}")).collect();
        format!("{total} {}: {}", plural(total, "pod", "pods"), parts.join(", "))
    }
}

impl Explanation {
    /// One sentence with numbers for a condition message, at most [`SUMMARY_LIMIT`] bytes:
    /// `no domain of rack fits the group (2 pods: 2 × {nvidia.com/gpu: 8}): a: held by ns/set group 0; b: room for 1 of 2 pods`.
    pub fn summary(&self) -> String {
        let mut text = format!("no domain of {} fits the group ({})", self.level, self.pods);
        text = truncated(&text, SUMMARY_LIMIT / 2);
        let tail = self.tail();
        let mut separator = ": ";
        for (told, report) in self.domains.iter().enumerate() {
            let part = format!("{separator}{}: {}", report.domain, report.verdict);
            let more = format!("{separator}{} more", self.domains.len() - told);
            if text.len() + part.len() + more.len() + tail.len() > SUMMARY_LIMIT {
                text.push_str(&more);
                break;
            }
            text.push_str(&part);
            separator = "; ";
        }
        text.push_str(if self.domains.is_empty() { tail.replacen("; ", ": ", 1) } else { tail }.as_str());
        text
    }

    fn tail(&self) -> String {
        let mut tail = String::new();
        if self.unlabelled > 0 {
            let have = plural(self.unlabelled, "node has", "nodes have");
            // Writing to a String does not fail.
            let _ = write!(tail, "; {} {have} no label {}", self.unlabelled, self.level);
            tail = truncated(&tail, SUMMARY_LIMIT / 4);
        }
        tail
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fits { leftover } => write!(f, "fits with room for {leftover} more"),
            Self::NotEnoughSlots { have, need } => write!(f, "room for {have} of {need} {}", plural(*need, "pod", "pods")),
            Self::Held { by } => write!(f, "held by {by}"),
            Self::NoEligibleNodes { tainted, unready, unschedulable, filtered, avoided } => {
                let counts = [
                    (tainted, "tainted"),
                    (unready, "not ready"),
                    (unschedulable, "cordoned"),
                    (filtered, "excluded by the pods' node selector or affinity"),
                    (avoided, "avoided after a failed attempt"),
                ];
                let told: Vec<_> = counts.iter().filter(|(n, _)| **n > 0).map(|(n, what)| format!("{n} {what}")).collect();
                write!(f, "no eligible node ({})", told.join(", "))
            }
        }
    }
}

fn plural(count: u32, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}
