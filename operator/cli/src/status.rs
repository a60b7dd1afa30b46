//! `muster status`: all sets as a table, or one set's groups and pods as a tree.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anstyle::Style;
use comfy_table::{Table, presets};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use muster_api::group_status::{GroupPhase, GroupStatus};
use muster_api::{LeaderWorkerSet, LeaderWorkerSetStatus};
use muster_core::observed::{Group, Observed};
use muster_core::pods;
use muster_core::record::Record;
use muster_core::status;
use serde::Serialize;

use crate::output::{BAD, FAINT, GOOD, STRONG, WAITING, styled};

/// One set in the table of all.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Overview {
    namespace: String,
    name: String,
    ready: i32,
    replicas: i32,
    updated: i32,
    size: i32,
    state: String,
}

impl Overview {
    pub(crate) fn of(set: &LeaderWorkerSet) -> Self {
        let status = set.status.clone().unwrap_or_default();
        Self {
            namespace: set.set_namespace().to_owned(),
            name: set.set_name().to_owned(),
            ready: status.ready_replicas,
            replicas: set.replicas(),
            updated: status.updated_replicas,
            size: set.size(),
            state: conditions(&status).join(", "),
        }
    }
}

/// Types of the conditions that are True, the newest last.
fn conditions(status: &LeaderWorkerSetStatus) -> Vec<String> {
    let mut held: Vec<_> = status.conditions.iter().filter(|condition| condition.status == "True").collect();
    held.sort_by_key(|condition| condition.last_transition_time.0);
    held.into_iter().map(|condition| condition.type_.clone()).collect()
}

pub(crate) fn table(sets: &[Overview]) -> String {
    if sets.is_empty() {
        return "no sets".to_owned();
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["NAMESPACE", "NAME", "READY", "UP-TO-DATE", "SIZE", "STATE"]);
    for set in sets {
        let ready = format!("{}/{}", set.ready, set.replicas);
        table.add_row([&set.namespace, &set.name, &ready, &set.updated.to_string(), &set.size.to_string(), &set.state]);
    }
    table.trim_fmt()
}

/// One set with all that belongs to it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tree {
    namespace: String,
    name: String,
    ready: i32,
    replicas: i32,
    size: i32,
    conditions: Vec<Told>,
    groups: Vec<Branch>,
}

/// A condition that is True.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    r#type: String,
    message: String,
}

/// One group.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Branch {
    index: u32,
    phase: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    restarts: i32,
    /// `key=value` of the domain, and who decided for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<String>,
    pods: Vec<Leaf>,
}

/// One pod.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Leaf {
    name: String,
    rank: u32,
    phase: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    restarts: u32,
    seconds_in_phase: u64,
    /// What the scheduler says about a pod that it can't place.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits: Option<String>,
}

impl Tree {
    pub(crate) fn of(set: &LeaderWorkerSet, observed: &Observed, now: Timestamp) -> Self {
        let status = set.status.clone().unwrap_or_default();
        let told: BTreeMap<u32, &GroupStatus> =
            status.groups.iter().filter_map(|group| Some((u32::try_from(group.index).ok()?, group))).collect();
        let held = status.conditions.iter().filter(|condition| condition.status == "True");
        Self {
            namespace: set.set_namespace().to_owned(),
            name: set.set_name().to_owned(),
            ready: status.ready_replicas,
            replicas: set.replicas(),
            size: set.size(),
            conditions: held
                .map(|condition| Told { r#type: condition.type_.clone(), message: condition.message.clone() })
                .collect(),
            groups: observed.groups(set).values().map(|group| branch(set, group, told.get(&group.index).copied(), now)).collect(),
        }
    }

    /// The tree as text for a terminal.
    pub(crate) fn render(&self) -> String {
        let mut text = format!(
            "{}  {} of {} groups ready, {} pods each\n",
            styled(STRONG, &format!("{}/{}", self.namespace, self.name)),
            self.ready,
            self.replicas,
            self.size
        );
        for condition in &self.conditions {
            let _ = writeln!(text, "{}", styled(FAINT, &format!("{}: {}", condition.r#type, condition.message)));
        }
        for (position, group) in self.groups.iter().enumerate() {
            let last = position + 1 == self.groups.len();
            group.render(if last { ("└─", "  ") } else { ("├─", "│ ") }, &mut text);
        }
        text
    }
}

fn branch(set: &LeaderWorkerSet, group: &Group<'_>, told: Option<&GroupStatus>, now: Timestamp) -> Branch {
    let phase = match told {
        Some(told) => format!("{:?}", told.phase),
        // A status lists 64 groups; of the others it says that they are no worse than those.
        None if status::is_ready(group, set) => format!("{:?}", GroupPhase::Ready),
        None => format!("{:?}", GroupPhase::Starting),
    };
    let record = group.leader.and_then(Record::of);
    let place = record.and_then(|record| Some(format!("{}={} ({})", record.level?, record.domain?, record.by)));
    Branch {
        index: group.index,
        phase,
        message: told.and_then(|told| told.message.clone()),
        restarts: told.map_or(0, |told| told.restarts),
        place,
        revision: group.leader.and_then(pods::revision).map(str::to_owned),
        pods: group.pods().map(|(rank, pod)| leaf(rank, pod, now)).collect(),
    }
}

fn leaf(rank: u32, pod: &Pod, now: Timestamp) -> Leaf {
    let view = pods::startup_view(pod, rank, now);
    let waits = pods::unschedulable(pod).map(|(_, message)| message.to_owned());
    let gated = pods::is_gated(pod).then(|| "waits for its group's place".to_owned());
    Leaf {
        name: pods::name(pod).to_owned(),
        rank,
        phase: format!("{:?}", view.phase),
        node: pods::node(pod).map(str::to_owned),
        restarts: view.restarts,
        seconds_in_phase: view.in_phase_ms / 1000,
        waits: gated.or(waits),
    }
}

impl Branch {
    fn render(&self, (fork, trunk): (&str, &str), text: &mut String) {
        let phase = styled(style_of(&self.phase), &format!("{:<12}", self.phase));
        let mut line = format!("{fork} group {:<3} {phase}", self.index);
        if let Some(place) = &self.place {
            let _ = write!(line, " {place}");
        }
        if self.restarts > 0 {
            let times = if self.restarts == 1 { "once".to_owned() } else { format!("{} times", self.restarts) };
            let _ = write!(line, " · started over {times}");
        }
        let _ = writeln!(text, "{line}");
        if let Some(message) = &self.message {
            let _ = writeln!(text, "{trunk}   {}", styled(WAITING, message));
        }
        for (position, pod) in self.pods.iter().enumerate() {
            let fork = if position + 1 == self.pods.len() { "└─" } else { "├─" };
            let phase = styled(style_of(&pod.phase), &format!("{:<12}", pod.phase));
            let node = pod.node.as_deref().unwrap_or("-");
            let _ = write!(text, "{trunk} {fork} {:<24} {phase} {:<6} {node}", pod.name, age(pod.seconds_in_phase));
            if pod.restarts > 0 {
                let _ = write!(text, " · {} restarts", pod.restarts);
            }
            if let Some(waits) = &pod.waits {
                let _ = write!(text, " · {}", styled(WAITING, waits));
            }
            text.push('\n');
        }
    }
}

fn style_of(phase: &str) -> Style {
    match phase {
        "Ready" | "Succeeded" => GOOD,
        "Failed" => BAD,
        "Terminating" => FAINT,
        _ => WAITING,
    }
}

/// `45s`, `12m`, `3h`, `6d`.
fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn pod(name: &str, rank: u32, change: impl FnOnce(&mut Value)) -> (String, std::sync::Arc<Pod>) {
        let mut raw = json!({
            "metadata": {
                "name": name, "namespace": "team", "creationTimestamp": "2026-11-25T11:00:00Z",
                "labels": {
                    "leaderworkerset.sigs.k8s.io/name": "serve",
                    "leaderworkerset.sigs.k8s.io/worker-index": rank.to_string(),
                    "leaderworkerset.sigs.k8s.io/template-revision-hash": "k1",
                },
                "annotations": { "leaderworkerset.sigs.k8s.io/size": "2" },
            },
            "spec": { "containers": [], "nodeName": "n1" },
            "status": {
                "phase": "Running",
                "conditions": [{ "type": "Ready", "status": "True", "lastTransitionTime": "2026-11-25T11:57:00Z" }],
            },
        });
        change(&mut raw);
        (name.to_owned(), std::sync::Arc::new(serde_json::from_value(raw).unwrap()))
    }

    fn set() -> LeaderWorkerSet {
        serde_json::from_value(json!({
            "apiVersion": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet",
            "metadata": { "name": "serve", "namespace": "team" },
            "spec": { "replicas": 2, "leaderWorkerTemplate": { "size": 2, "workerTemplate": {} } },
            "status": {
                "readyReplicas": 1,
                "conditions": [{
                    "type": "PlacementPending", "status": "True", "reason": "NoDomainFits", "message": "1 of 2 groups wait for placement",
                    "lastTransitionTime": "2026-11-25T11:59:00Z",
                }],
                "groups": [
                    { "index": 1, "phase": "Pending", "reason": "NoDomainFits", "message": "no pool has room", "restarts": 3 },
                    { "index": 0, "phase": "Ready", "restarts": 0 },
                ],
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_set_is_shown_with_its_groups_and_pods() {
        let place = json!({ "by": "node-pool", "level": "pool", "domain": "a", "reason": { "code": "Tightest", "message": "" } });
        let observed = Observed {
            pods: [
                pod("serve-0", 0, |pod| pod["metadata"]["annotations"]["muster.dev/placement"] = json!(place.to_string())),
                pod("serve-0-1", 1, |_| {}),
                pod("serve-1", 0, |pod| {
                    pod["spec"] = json!({ "containers": [], "schedulingGates": [{ "name": "muster.dev/placement" }] });
                    pod["status"] = json!({ "phase": "Pending" });
                }),
            ]
            .into(),
            ..Observed::default()
        };
        let now = "2026-11-25T12:00:00Z".parse().unwrap();
        let shown = anstream::adapter::strip_str(&Tree::of(&set(), &observed, now).render()).to_string();
        let expected = "\
team/serve  1 of 2 groups ready, 2 pods each
PlacementPending: 1 of 2 groups wait for placement
├─ group 0   Ready        pool=a (node-pool)
│  ├─ serve-0                  Ready        3m     n1
│  └─ serve-0-1                Ready        3m     n1
└─ group 1   Pending      · started over 3 times
     no pool has room
   └─ serve-1                  Pending      60m    - · waits for its group's place
";
        assert_eq!(shown, expected);
    }

    #[rstest]
    #[case(0, "0s")]
    #[case(119, "119s")]
    #[case(120, "2m")]
    #[case(7_200, "2h")]
    #[case(200_000, "2d")]
    fn an_age_has_one_unit(#[case] seconds: u64, #[case] expected: &str) {
        assert_eq!(age(seconds), expected);
    }
}
