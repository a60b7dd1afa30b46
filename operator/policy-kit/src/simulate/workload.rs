//! What happens, whoever places: drawn once from a seed.

use fastrand::Rng;

/// How a workload is drawn. Times in seconds.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Equal seeds draw equal workloads.
    pub seed: u64,
    /// How long it goes on.
    pub horizon: f64,
    /// Mean time between two sets.
    pub arrival: f64,
    /// Mean time that a group runs.
    pub runtime: f64,
    /// Pods of a group; each set draws one of these.
    pub sizes: Vec<u32>,
    /// Most groups of a set.
    pub groups: u32,
    /// Accelerators that a pod asks for.
    pub accelerators: u32,
    /// Mean time between two failures of one node; never if 0.
    pub failure: f64,
    /// Mean time until a failed node is back.
    pub repair: f64,
    /// The level at which every set is exclusive, if they are.
    pub exclusive: Option<String>,
}

impl Default for Plan {
    /// Twelve hours on a cluster that is asked for about as much as it has.
    fn default() -> Self {
        Self {
            seed: 0,
            horizon: 12.0 * 3600.0,
            arrival: 600.0,
            runtime: 3600.0,
            sizes: vec![1, 2, 4, 8],
            groups: 4,
            accelerators: 8,
            failure: 72.0 * 3600.0,
            repair: 1800.0,
            exclusive: None,
        }
    }
}

/// A set that arrives.
#[derive(Debug, Clone, PartialEq)]
pub struct Arrival {
    /// When.
    pub at: f64,
    /// Pods of each of its groups.
    pub size: u32,
    /// How long each of its groups runs, one for each.
    pub runtimes: Vec<f64>,
}

/// A node that fails.
#[derive(Debug, Clone, PartialEq)]
pub struct Outage {
    /// Which, by its position among the names.
    pub node: usize,
    /// When.
    pub from: f64,
    /// When it is back.
    pub until: f64,
}

/// Everything that happens.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Sets, by time.
    pub arrivals: Vec<Arrival>,
    /// Failures, by node and time.
    pub outages: Vec<Outage>,
}

impl Workload {
    /// Draws a workload for a cluster of so many nodes.
    pub fn draw(plan: &Plan, nodes: usize) -> Self {
        let mut random = Rng::with_seed(plan.seed);
        let mut arrivals = Vec::new();
        let mut at = 0.0;
        while !plan.sizes.is_empty() {
            at += exponential(&mut random, plan.arrival);
            if at >= plan.horizon {
                break;
            }
            let size = plan.sizes[random.usize(..plan.sizes.len())];
            let groups = random.u32(1..=plan.groups.max(1));
            let runtimes = (0..groups).map(|_| exponential(&mut random, plan.runtime).max(60.0)).collect();
            arrivals.push(Arrival { at, size, runtimes });
        }
        let mut outages = Vec::new();
        for node in 0..nodes {
            // Each node has its own dice, so that more sets don't make other nodes fail.
            let mut random = Rng::with_seed(plan.seed ^ (node as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let mut from = 0.0;
            if plan.failure <= 0.0 {
                continue;
            }
            loop {
                from += exponential(&mut random, plan.failure);
                if from >= plan.horizon {
                    break;
                }
                let until = from + exponential(&mut random, plan.repair).max(60.0);
                outages.push(Outage { node, from, until });
                from = until;
            }
        }
        Self { arrivals, outages }
    }
}

/// A time from an exponential distribution with this mean.
fn exponential(random: &mut Rng, mean: f64) -> f64 {
    -mean * (1.0 - random.f64()).ln()
}
