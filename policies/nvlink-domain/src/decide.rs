//! From a request to answers.

use muster_placement_sdk::pack::{Division, Fit, Found, Pack, Step, WHOLE, Want, answer_all, count, first_used};
use muster_placement_sdk::{Answer, Cluster, Decision, Failure, NO_DOMAIN, Request, Unit};

use crate::settings::Settings;

/// The host asks again sooner if the cluster changes.
const RETRY_MS: u32 = 30_000;

/// Answers for every unit, in the order of the request.
pub(crate) fn place<C: Cluster>(settings: &Settings, cluster: &C, request: &Request) -> Result<Vec<Answer>, Failure> {
    let Some(key) = first_used(cluster, &settings.keys) else {
        let keys = settings.keys.join(", ");
        return Err(Failure::Unsupported(format!("no node says which NVLink partition it is in: looked for {keys}")));
    };
    let near = settings.near.iter().filter(|near| *near != key).map(|near| Step { key: near.clone(), optional: true });
    let steps: Vec<Step> = near.chain([Step { key: key.clone(), optional: false }]).collect();
    let mut pack = Pack::new(cluster, &steps, request.exclusive).map_err(Failure::Unsupported)?;
    let rung_of = |position: usize| pack.chain.rung_of.get(position).copied().flatten();
    let Some(partition) = rung_of(steps.len() - 1) else { return Err(Failure::Unsupported(format!("no node carries {key}"))) };
    let near = (steps.len() > 1).then(|| rung_of(0)).flatten();
    if settings.exclusive {
        pack.keep_apart(partition);
    }
    let gpus = if settings.whole_nodes { most_in_a_node(settings, cluster, &pack, partition) } else { 0 };
    let mut decider = Decider { settings, cluster, pack, partition, near, gpus };
    Ok(answer_all(&request.units, |unit, stay| decider.answer(unit, stay)))
}

/// The most accelerators that a node of any partition has.
fn most_in_a_node<C: Cluster>(settings: &Settings, cluster: &C, pack: &Pack<'_, C>, partition: usize) -> u64 {
    let Some(level) = pack.chain.rungs[partition].level else { return 0 };
    let nodes = cluster.node_domains(level).into_iter().zip(cluster.node_capacity(&settings.resource));
    nodes.filter(|(domain, _)| *domain != NO_DOMAIN).map(|(_, gpus)| gpus).max().unwrap_or(0)
}

struct Decider<'a, C> {
    settings: &'a Settings,
    cluster: &'a C,
    pack: Pack<'a, C>,
    partition: usize,
    /// The rung whose domains slices should share.
    near: Option<usize>,
    /// What a pod must take of a node.
    gpus: u64,
}

/// How a unit is cut.
enum Cut {
    /// Not at all.
    Whole,
    /// Into slices of so many pods.
    Slices(u32),
    /// Into as few slices as hold it, which differ by one pod.
    Uneven,
}

impl<C: Cluster> Decider<'_, C> {
    fn answer(&mut self, unit: &Unit, stay: bool) -> Option<Answer> {
        if let Some(why) = self.part_of_a_node(unit) {
            return Some(Answer::new(unit, Decision::Refuse, "PartOfNode", why));
        }
        let division = Division::of(unit);
        let leader_apart = division.is_some_and(|division| division.leader_apart);
        let pods = unit.size() - u32::from(leader_apart);
        let cut = match self.cut(pods, division) {
            Ok(cut) => cut,
            Err(why) => return Some(Answer::new(unit, Decision::Refuse, "UnevenSlices", why)),
        };
        if !matches!(cut, Cut::Whole) && self.pack.alone().iter().any(|rung| *rung >= self.partition) {
            let message = format!(
                "needs {pods} nodes and gets at most {} of one {}, and its set asks for a domain of its own that is no wider",
                self.settings.max_per_domain, self.pack.chain.rungs[self.partition].key
            );
            return Some(Answer::new(unit, Decision::Refuse, "LargerThanDomain", message));
        }
        let Some(found) = self.find(unit, &cut, leader_apart, stay) else {
            return (!stay).then(|| self.hold(unit, &cut, pods));
        };
        let place = self.pack.in_words(&found);
        let (code, message) = match (stay, found.places.len()) {
            (true, _) => ("Kept", format!("stays in {place}")),
            (false, 1) => ("OneDomain", format!("{place} has room and the least left over")),
            (false, _) => ("Slices", place),
        };
        Some(Answer::new(unit, self.pack.decision(&found)?, code, message))
    }

    /// Into how many slices the unit is cut: as few as hold it, of equal size, and of whole subgroups if that is possible.
    fn cut(&self, pods: u32, division: Option<Division>) -> Result<Cut, String> {
        let most = self.settings.max_per_domain;
        if pods <= most {
            return Ok(Cut::Whole);
        }
        let fewest = pods.div_ceil(most);
        if let Some(subgroup) =
            division.map(|division| division.pods).filter(|subgroup| *subgroup <= most && pods.is_multiple_of(*subgroup))
        {
            let subgroups = pods / subgroup;
            let slices = (fewest..=subgroups).find(|slices| subgroups.is_multiple_of(*slices)).unwrap_or(subgroups);
            return Ok(Cut::Slices(pods / slices));
        }
        match pods % fewest {
            0 => Ok(Cut::Slices(pods / fewest)),
            _ if self.settings.allow_uneven => Ok(Cut::Uneven),
            _ => Err(format!(
                "{pods} pods are no {fewest} equal slices of at most {most}; use a size that {fewest} divides, or set allowUneven"
            )),
        }
    }

    fn find(&mut self, unit: &Unit, cut: &Cut, leader_apart: bool, stay: bool) -> Option<Found> {
        let (block, fit) = match cut {
            Cut::Whole => (WHOLE, Fit::Best),
            Cut::Slices(pods) => (*pods, Fit::Best),
            Cut::Uneven => (1, Fit::Balanced),
        };
        let mut blocks = vec![0; self.pack.chain.rungs.len()];
        blocks[self.partition] = block;
        let want = Want { leader_apart, most: self.settings.max_per_domain, ..Want::new(unit, blocks, fit) };
        if let Some(near) = self.near {
            let mut together = want.clone();
            together.blocks[near] = WHOLE;
            if let Some(found) = self.pack.place(&together, stay) {
                return Some(found);
            }
        }
        self.pack.place(&want, stay)
    }

    fn hold(&mut self, unit: &Unit, cut: &Cut, pods: u32) -> Answer {
        let (slices, size) = match cut {
            Cut::Whole => {
                let shortage = self.pack.shortage(self.partition.max(self.pack.alone().iter().copied().max().unwrap_or(0)), unit);
                return Answer::new(unit, Decision::Hold(RETRY_MS), shortage.code(), shortage.message);
            }
            Cut::Slices(size) => (pods / size, *size),
            Cut::Uneven => (pods.div_ceil(self.settings.max_per_domain), pods / pods.div_ceil(self.settings.max_per_domain)),
        };
        let key = self.pack.chain.rungs[self.partition].key.clone();
        let left = self.pack.left(self.partition, unit).to_vec();
        let open = (0..).zip(&left).filter(|(domain, _)| self.pack.is_open(self.partition, *domain));
        let roomy = open.filter(|(_, left)| left.workers >= size).count();
        let message = format!(
            "needs {slices} {key}s with room for {} each; {roomy} have that, and smaller ones would leave slices of unequal size",
            count(size, "pod")
        );
        Answer::new(unit, Decision::Hold(RETRY_MS), "SlicesDoNotFit", message)
    }

    /// Why the unit's pods are not whole nodes. Pods that ask for no accelerator at all (they may claim some) are not looked at.
    fn part_of_a_node(&self, unit: &Unit) -> Option<String> {
        let asked = unit.pods.iter().filter(|demand| demand.pods > 0).filter_map(|demand| {
            let requests = self.cluster.describe_shape(demand.shape).requests;
            requests.iter().find(|quantity| quantity.resource == self.settings.resource).map(|quantity| quantity.amount)
        });
        let least = asked.filter(|gpus| *gpus > 0).min().filter(|gpus| *gpus < self.gpus)?;
        let (resource, gpus) = (&self.settings.resource, self.gpus);
        Some(format!(
            "a pod asks for {least} of the {gpus} {resource} of a node, and only one pod of a node can use the NVLink network; \
             ask for {gpus}, or set wholeNodes to false"
        ))
    }
}
