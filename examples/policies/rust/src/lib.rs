//! Placement policy `small-pools-first`: groups go to the smallest pool of nodes that has room for them, so that the large ones
//! stay free for the groups that need them.

wit_bindgen::generate!({ world: "placement-policy", path: "../../../wit" });

use exports::muster::policy::lifecycle::{Descriptor, Guest as Lifecycle, Preparation};
use exports::muster::policy::placement::{Answer, Decision, Guest as Placement, Location, Request, Unit};
use muster::policy::cluster::Snapshot;
use muster::policy::types::{Demand, Failure, Reason, SettingsError};

/// What the column says of a node that is in no pool, and of pods that are in no domain.
const NONE: u32 = u32::MAX;
/// The operator's index names no more domains than these.
const MAX_DOMAINS: u32 = 1024;

#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// The node label whose values are the pools.
    pool: String,
    /// What makes a pool large: so much of this resource on its nodes, whoever uses it.
    resource: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { pool: "cloud.google.com/gke-nodepool".to_owned(), resource: "nvidia.com/gpu".to_owned() }
    }
}

fn parse(document: &str) -> Result<Settings, SettingsError> {
    serde_json::from_str(document).map_err(|error| SettingsError { path: String::new(), message: error.to_string() })
}

struct SmallPoolsFirst;

impl Lifecycle for SmallPoolsFirst {
    fn describe() -> Descriptor {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Descriptor { name: "small-pools-first".to_owned(), version, settings_schema: String::new() }
    }

    fn validate_settings(document: String) -> Vec<SettingsError> {
        parse(&document).err().into_iter().collect()
    }

    fn prepare(document: String) -> Preparation {
        let levels = parse(&document).map(|settings| vec![settings.pool]).unwrap_or_default();
        Preparation { levels, effects: Vec::new(), peers: None }
    }
}

impl Placement for SmallPoolsFirst {
    fn place(document: String, view: &Snapshot, request: Request) -> Result<Vec<Answer>, Failure> {
        let settings = parse(&document).map_err(|fault| Failure::Settings(vec![fault]))?;
        let level = request.exclusive.unwrap_or(0);
        let sizes = sizes(&view.node_domains(level), &view.node_capacity(&settings.resource), view.domain_count(level));
        let mut given = Given::default();
        let mut answer = |unit: &Unit| {
            let pool = choose(unit, view, level, request.exclusive.is_some(), &sizes, &mut given);
            answer(unit, view, level, pool, &sizes, &settings)
        };
        Ok(request.units.iter().map(&mut answer).collect())
    }
}

/// What this call gave away already. The snapshot does not change while it runs, so the policy counts for itself.
#[derive(Default)]
struct Given {
    pools: Vec<u32>,
    /// All pods that were put into the last of them.
    pods: Vec<Demand>,
}

impl Given {
    fn add(&mut self, pool: u32, pods: &[Demand]) -> u32 {
        self.pools.push(pool);
        self.pods = pods.to_vec();
        pool
    }
}

/// How much of the resource each pool has.
fn sizes(pools: &[u32], capacities: &[u64], count: u32) -> Vec<u64> {
    let mut sizes = vec![0; count as usize];
    for (&pool, &capacity) in pools.iter().zip(capacities) {
        if let Some(size) = sizes.get_mut(pool as usize) {
            *size += capacity;
        }
    }
    sizes
}

/// The smallest pool with room for a unit beside what was given away.
fn choose(unit: &Unit, view: &Snapshot, level: u32, exclusive: bool, sizes: &[u64], given: &mut Given) -> Option<u32> {
    let current = unit.current.as_ref().and_then(|current| current.domains.get(level as usize).copied());
    if let Some(pool) = current.filter(|&pool| pool != NONE) {
        // New pods join those that run already.
        return Some(given.add(pool, &unit.pods));
    }
    if let (Some(&last), false) = (given.pools.last(), exclusive) {
        // Is there still room where the unit before this one went, for both of them?
        let together = [given.pods.as_slice(), unit.pods.as_slice()].concat();
        if view.best_domains(level, &together, false, MAX_DOMAINS).contains(&last) {
            given.pods = together;
            return Some(last);
        }
    }
    let best = view.best_domains(level, &unit.pods, exclusive, MAX_DOMAINS);
    let free = best.into_iter().filter(|pool| !given.pools.contains(pool));
    // Of pools of one size the first is taken: the one with the least left over.
    free.min_by_key(|&pool| sizes.get(pool as usize).copied().unwrap_or(u64::MAX)).map(|pool| given.add(pool, &unit.pods))
}

fn answer(unit: &Unit, view: &Snapshot, level: u32, pool: Option<u32>, sizes: &[u64], settings: &Settings) -> Answer {
    let pods: u32 = unit.pods.iter().map(|demand| demand.pods).sum();
    let (decision, code, message) = match pool {
        Some(pool) => {
            let (name, size) = (view.domain_name(level, pool), sizes.get(pool as usize).copied().unwrap_or_default());
            let message = format!("{name} is the smallest with room for {pods} pods: it has {size} {}", settings.resource);
            (Decision::Within(vec![Location { level, domain: pool }]), "SmallestPool", message)
        }
        None => (Decision::Hold(30_000), "NoRoom", format!("no {} has room for {pods} pods", settings.pool)),
    };
    Answer { unit: unit.id, decision, avoid: Vec::new(), effects: Vec::new(), reason: Reason { code: code.to_owned(), message } }
}

export!(SmallPoolsFirst);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_as_large_as_its_nodes_together_and_nodes_in_no_pool_count_nowhere() {
        assert_eq!(sizes(&[0, 1, 1, NONE], &[8, 4, 4, 8], 3), [8, 8, 0]);
    }
}
