//! Why a group fits nowhere: a verdict per domain, and one sentence for a condition.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::ledger::SubgroupId;
use super::packing::Claims;
use super::seating::{Seating, Shortage};
use super::shape::Exclusion;
use super::snapshot::Snapshot;
use crate::placement::{Demand, DomainId, LevelId, Place, Unit};
use crate::text::truncated;

/// Longest message in bytes that [`Explanation::summary`] makes.
pub const SUMMARY_LIMIT: usize = 1024;

/// Most domains inside another that a verdict tells of.
const TOLD_INSIDE: usize = 4;

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
    /// All pods fit, but not with each subgroup in a domain of its own.
    TooFewDomains {
        /// What is missing.
        shortage: Shortage,
        /// Label key of the subgroups' level.
        level: String,
        /// What the domains inside have for a subgroup that finds none.
        inside: Vec<DomainReport>,
    },
    /// Another group, or another subgroup, has it.
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
    /// For a question about domains of subgroups: what is missing. `pods` and the verdicts are about a subgroup that finds no domain.
    pub shortage: Option<Shortage>,
}

/// Subgroups that must not share domains.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Apart<'a> {
    pub(crate) unit: &'a Unit,
    /// The level of the domains that they don't share.
    pub(crate) level: LevelId,
    /// Domains that subgroups of other units of the request have.
    pub(crate) taken: &'a BTreeMap<DomainId, SubgroupId>,
}

impl Snapshot {
    /// What every domain of `level` has for these pods together; with `exclusive` a domain must have no other group, else it
    /// must not be another group's own.
    pub fn explain(&self, level: LevelId, pods: &[Demand], exclusive: bool) -> Explanation {
        self.explain_each(level, pods, |place| self.verdict(place, pods, exclusive))
    }

    /// The same for a unit whose subgroups must not share domains inside.
    pub(crate) fn explain_with_subgroups(&self, level: LevelId, exclusive: bool, apart: &Apart<'_>) -> Explanation {
        let pods = &apart.unit.pods;
        self.explain_each(level, pods, |place| match self.verdict(place, pods, exclusive) {
            fits @ Verdict::Fits { .. } => self.subgroups_verdict(place, apart).unwrap_or(fits),
            verdict => verdict,
        })
    }

    /// What the domains of the subgroups' own level have for a unit whose subgroups must not share any, wherever they are.
    pub(crate) fn explain_subgroups(&self, apart: &Apart<'_>) -> Explanation {
        let claims = Claims::new();
        let found = self.seating(apart, &claims).find(apart.unit, None);
        let missing = self.missing(apart, found.as_ref().err());
        let explanation =
            self.explain_each(apart.level, &missing, |place| self.verdict_for_subgroup(place, apart, found.as_ref().err()));
        Explanation { shortage: found.err(), ..explanation }
    }

    fn explain_each(&self, level: LevelId, pods: &[Demand], verdict: impl Fn(Place) -> Verdict) -> Explanation {
        let table = self.level(level);
        let domains = (0..self.domain_count(level)).map(|domain| {
            let place = Place { level, domain: DomainId(domain) };
            let name = self.domain_name(level, place.domain).unwrap_or_default();
            DomainReport { domain: name.to_owned(), verdict: verdict(place) }
        });
        Explanation {
            level: table.map(|table| table.key.clone()).unwrap_or_default(),
            pods: self.describe(pods),
            domains: domains.collect(),
            unlabelled: table.map_or(0, |table| table.unlabelled),
            shortage: None,
        }
    }

    fn seating<'a>(&'a self, apart: &Apart<'a>, claims: &'a Claims) -> Seating<'a> {
        Seating { snapshot: self, level: apart.level, claims, taken: apart.taken }
    }

    /// Why the subgroups don't fit a domain that is large enough for all pods together; `None` if they do.
    fn subgroups_verdict(&self, place: Place, apart: &Apart<'_>) -> Option<Verdict> {
        let claims = Claims::new();
        let rows = self.rows(place);
        let seating = self.seating(apart, &claims);
        let shortage = seating.find(apart.unit, Some(rows)).err()?;
        let inside = seating.candidates(Some(rows)).into_iter().map(|domain| DomainReport {
            domain: self.domain_name(apart.level, domain).unwrap_or_default().to_owned(),
            verdict: self.verdict_for_subgroup(Place { level: apart.level, domain }, apart, Some(&shortage)),
        });
        let inside = inside.collect();
        let level = self.level(apart.level).map(|table| table.key.clone()).unwrap_or_default();
        Some(Verdict::TooFewDomains { shortage, level, inside })
    }

    /// The pods that a shortage is about.
    fn missing(&self, apart: &Apart<'_>, shortage: Option<&Shortage>) -> Vec<Demand> {
        match shortage {
            Some(Shortage::Subgroup { position, .. }) => {
                apart.unit.subgroups.get(*position).map(|subgroup| subgroup.pods.clone()).unwrap_or_default()
            }
            Some(Shortage::Leader) | None => apart.unit.rest(),
        }
    }

    fn verdict_for_subgroup(&self, place: Place, apart: &Apart<'_>, shortage: Option<&Shortage>) -> Verdict {
        let pods = self.missing(apart, shortage);
        if let Some(Shortage::Subgroup { position, .. }) = shortage
            && let Some(subgroup) = apart.unit.subgroups.get(*position)
        {
            if let Some(by) = apart.taken.get(&place.domain).filter(|taken| **taken != subgroup.id) {
                return Verdict::Held { by: by.to_string() };
            }
            if let Some(by) = self.kept_from(place, &subgroup.id) {
                return Verdict::Held { by: by.to_owned() };
            }
        }
        self.verdict(place, &pods, false)
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
        rows.iter().all(|row| self.is_kept(*row)).then_some(first)
    }

    /// Counts why nodes are excluded, for a shape that no node of the domain is for.
    fn exclusions(&self, place: Place, pods: &[Demand]) -> Option<Verdict> {
        pods.iter().filter(|demand| demand.pods > 0).find_map(|demand| {
            let shape = self.view().shapes.get(demand.shape.0 as usize)?;
            let (mut tainted, mut unready, mut unschedulable, mut filtered, mut avoided) = (0, 0, 0, 0, 0);
            for row in self.rows(place) {
                match self.nodes()[*row].excludes(shape)? {
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
    /// Whether there is a place after all.
    pub fn fits(&self) -> bool {
        self.fitting().is_some()
    }

    /// A domain that has room; for subgroups, where the first of them could be.
    pub fn fitting(&self) -> Option<&DomainReport> {
        let mut domains = self.domains.iter().filter(|_| self.shortage.is_none());
        domains.find(|report| matches!(report.verdict, Verdict::Fits { .. }))
    }

    /// One sentence with numbers for a condition message, at most [`SUMMARY_LIMIT`] bytes:
    /// `no domain of rack fits the group (2 pods: 2 × {nvidia.com/gpu: 8}): a: held by ns/set group 0; b: room for 1 of 2 pods`.
    pub fn summary(&self) -> String {
        let mut text = truncated(&self.headline(), SUMMARY_LIMIT / 2);
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

    fn headline(&self) -> String {
        let Self { level, pods, .. } = self;
        match &self.shortage {
            None => format!("no domain of {level} fits the group ({pods})"),
            Some(Shortage::Subgroup { found, wanted, .. }) => {
                let find = plural(*found, "finds", "find");
                format!("{found} of the group's {wanted} subgroups {find} a domain of {level} of its own (the next has {pods})")
            }
            Some(Shortage::Leader) => {
                format!("the group's subgroups find domains of {level}, and no node is left for its leader ({pods})")
            }
        }
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
            Self::TooFewDomains { shortage, level, inside } => {
                let told: Vec<_> = inside.iter().take(TOLD_INSIDE).map(|at| format!("{}: {}", at.domain, at.verdict)).collect();
                let more = inside.len().saturating_sub(TOLD_INSIDE);
                let more = if more > 0 { format!("; {more} more") } else { String::new() };
                write!(f, "{} ({}{more})", shortage.in_words(level), told.join("; "))
            }
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
