//! Every label, annotation, variable, object name and hash of the contract.
//!
//! Schedulers, queues, autoscalers and scripts read these, so they are upstream's to the byte; the last section is Muster's own.

mod revision;

pub use revision::{revision_hash, revision_name, revision_patch};

use sha1::{Digest, Sha1};

use crate::leader_worker_set::SubdomainPolicy;

/// Labels of upstream's contract.
pub mod label {
    /// Name of the set; on everything that belongs to it. Admission selects by it.
    pub const SET_NAME: &str = "leaderworkerset.sigs.k8s.io/name";
    /// Index of the group, decimal.
    pub const GROUP_INDEX: &str = "leaderworkerset.sigs.k8s.io/group-index";
    /// Rank of the pod in its group, decimal; `0` is the leader.
    pub const WORKER_INDEX: &str = "leaderworkerset.sigs.k8s.io/worker-index";
    /// Key of the group; see [`super::group_key`].
    pub const GROUP_KEY: &str = "leaderworkerset.sigs.k8s.io/group-key";
    /// Key of the revision; see [`super::revision_hash`].
    pub const REVISION: &str = "leaderworkerset.sigs.k8s.io/template-revision-hash";
    /// Index of the subgroup in its group, decimal.
    pub const SUBGROUP_INDEX: &str = "leaderworkerset.sigs.k8s.io/subgroup-index";
    /// Key of the subgroup; see [`super::subgroup_key`].
    pub const SUBGROUP_KEY: &str = "leaderworkerset.sigs.k8s.io/subgroup-key";
    /// Kueue's queue. Muster never places a set that carries it.
    pub const KUEUE_QUEUE: &str = "kueue.x-k8s.io/queue-name";
}

/// Annotations of templates in which Kueue reads where pods are to go.
pub mod kueue {
    /// What all of them begin with.
    pub const PREFIX: &str = "kueue.x-k8s.io/podset-";
    /// All pods go into one domain of this node label.
    pub const REQUIRED_TOPOLOGY: &str = "kueue.x-k8s.io/podset-required-topology";
    /// Templates with the same name go into one domain together.
    pub const GROUP_NAME: &str = "kueue.x-k8s.io/podset-group-name";
    /// So many pods with consecutive indices go into one domain of this node label.
    pub const SLICE_REQUIRED_TOPOLOGY: &str = "kueue.x-k8s.io/podset-slice-required-topology";
    /// How many those are.
    pub const SLICE_SIZE: &str = "kueue.x-k8s.io/podset-slice-size";
    /// Any of these makes Kueue choose the nodes.
    pub const TOPOLOGY: [&str; 4] = [
        REQUIRED_TOPOLOGY,
        SLICE_REQUIRED_TOPOLOGY,
        "kueue.x-k8s.io/podset-preferred-topology",
        "kueue.x-k8s.io/podset-unconstrained-topology",
    ];
}

/// Annotations of upstream's contract and of Muster.
pub mod annotation {
    /// On a set: the node label whose domains each hold one group at most.
    pub const EXCLUSIVE_TOPOLOGY: &str = "leaderworkerset.sigs.k8s.io/exclusive-topology";
    /// On a set: the node label whose domains each hold one subgroup at most.
    pub const SUBGROUP_EXCLUSIVE_TOPOLOGY: &str = "leaderworkerset.sigs.k8s.io/subgroup-exclusive-topology";
    /// On pods: size of the group, decimal.
    pub const SIZE: &str = "leaderworkerset.sigs.k8s.io/size";
    /// On the leader StatefulSet: the set's replicas when it was last applied, decimal.
    pub const REPLICAS: &str = "leaderworkerset.sigs.k8s.io/replicas";
    /// On workers: name of their leader pod.
    pub const LEADER_NAME: &str = "leaderworkerset.sigs.k8s.io/leader-name";
    /// On pods: size of the subgroup, decimal.
    pub const SUBGROUP_SIZE: &str = "leaderworkerset.sigs.k8s.io/subgroup-size";
    /// On pods: whether the leader belongs to a subgroup.
    pub const SUBGROUP_POLICY_TYPE: &str = "leaderworkerset.sigs.k8s.io/subgroup-policy-type";
    /// On leaders: `UniquePerReplica`; absent when the subdomain is shared.
    pub const SUBDOMAIN_POLICY: &str = "leaderworkerset.sigs.k8s.io/subdomainPolicy";
    /// On a set, by presence: restart groups only once they have been running.
    pub const RECREATE_AFTER_START: &str = "leaderworkerset.sigs.k8s.io/experimental-recreate-group-after-start";
    /// On workers: `true` when their leader asks for TPUs.
    pub const LEADER_REQUESTS_TPUS: &str = "leaderworkerset.sigs.k8s.io/leader-requests-tpus";
    /// On pods: name of the PodGroup that Volcano schedules them with.
    pub const POD_GROUP: &str = "scheduling.k8s.io/group-name";
    /// On a set: Volcano's queue for its PodGroups.
    pub const VOLCANO_QUEUE: &str = "scheduling.volcano.sh/queue-name";
    /// Prefix of what Volcano reads from a PodGroup's annotations; the set's are copied there.
    pub const VOLCANO_PREFIX: &str = "volcano.sh/";

    /// On a set or its namespace: name of the [`crate::PlacementPolicy`] that says where groups go.
    pub const PLACEMENT_POLICY: &str = "muster.dev/placement-policy";
    /// On a set or its namespace: name of the [`crate::StartupPolicy`] that says when members start.
    pub const STARTUP_POLICY: &str = "muster.dev/startup-policy";
    /// On a set in a queue of Kueue's: `true` when Kueue is to be asked for the domains that the set wants.
    pub const KUEUE_TOPOLOGY: &str = "muster.dev/kueue-topology";
    /// On a set: what becomes of a group that fits nowhere; see [`super::Unplaceable`].
    pub const UNPLACEABLE: &str = "muster.dev/unplaceable";
    /// On a set: how many revisions to keep beside those in use; [`REVISION_HISTORY_DEFAULT`] without it.
    pub const REVISION_HISTORY_LIMIT: &str = "muster.dev/revision-history-limit";
    /// Revisions that are kept beside those in use, as a Deployment keeps them.
    pub const REVISION_HISTORY_DEFAULT: usize = 10;
    /// On a set: the revision to go back to, by its number or key, or `previous`. The operator carries it out and takes it off.
    pub const UNDO_TO: &str = "muster.dev/undo-to";
    /// On a set and its revisions: why the template was changed, for people; the annotation that `kubectl rollout history` shows.
    pub const CHANGE_CAUSE: &str = "kubernetes.io/change-cause";
    /// On a set: how often in a row a group may start over before it has failed, decimal; without limit when absent.
    pub const MAX_GROUP_RESTARTS: &str = "muster.dev/max-group-restarts";
    /// On a pod template (leader's and workers'): what a slice of a multi-slice TPU job is.
    ///
    /// - `subgroup`: each subgroup of a group. The TPU containers get `MEGASCALE_SLICE_ID`, `MEGASCALE_NUM_SLICES`,
    ///   `MEGASCALE_COORDINATOR_ADDRESS` and `MEGASCALE_PORT`. Every group is one job.
    /// - `group`: each group. `MEGASCALE_NUM_SLICES` is left to the template, because a pod doesn't know the number of its
    ///   set's groups. The set is one job.
    ///
    /// A variable that the template sets itself keeps its value.
    pub const TPU_MULTISLICE: &str = "muster.dev/tpu-multislice";
    /// On pods: the placement decision that they carry out.
    pub const PLACEMENT: &str = "muster.dev/placement";
    /// On workers, from the template of their StatefulSet: the domain that each subgroup of the group has for itself.
    pub const SUBGROUP_DOMAINS: &str = "muster.dev/subgroup-domains";
    /// On a leader pod: what it got from its placement policy when it was created, for its workers to get too.
    pub const EFFECTS: &str = "muster.dev/effects";
    /// In a worker StatefulSet's template: what admission does to each worker by its rank.
    pub const INSTRUCTIONS: &str = "muster.dev/instructions";

    /// On pods: the value of an environment variable that a placement policy sets; containers read it from here.
    pub fn env(name: &str) -> String {
        format!("env.muster.dev/{name}")
    }

    /// On a leader pod: the workers its group had when it was complete, so that a replaced one is noticed.
    pub const MEMBERS: &str = "muster.dev/members";
    /// On a group's worker StatefulSet: hash of the spec that Muster made it with, so that a later edit is told from another rendering.
    pub const MADE_AS: &str = "muster.dev/made-as";
    /// On the leader StatefulSet: which groups have started over, how often and when.
    pub const RESTARTS: &str = "muster.dev/restarts";
}

/// Environment variables that every container of a set has, in this order and before all others.
pub mod env {
    /// DNS name of the group's leader; see [`super::leader_address`].
    pub const LEADER_ADDRESS: &str = "LWS_LEADER_ADDRESS";
    /// Pods in the group, leader included.
    pub const GROUP_SIZE: &str = "LWS_GROUP_SIZE";
    /// Rank of the pod in its group.
    pub const WORKER_INDEX: &str = "LWS_WORKER_INDEX";
    /// DNS names of the pods that share a TPU slice, by TPU worker id, separated by commas.
    pub const TPU_WORKER_HOSTNAMES: &str = "TPU_WORKER_HOSTNAMES";
    /// Position of the pod in its TPU slice.
    pub const TPU_WORKER_ID: &str = "TPU_WORKER_ID";
    /// Name of the TPU slice: the leader pod's.
    pub const TPU_NAME: &str = "TPU_NAME";
    /// Addresses with port of the processes that share a TPU slice.
    pub const TPU_PROCESS_ADDRESSES: &str = "TPU_PROCESS_ADDRESSES";
    /// Port of this pod's process.
    pub const TPU_PROCESS_PORT: &str = "TPU_PROCESS_PORT";
}

/// Scheduling gate of a leader whose group has no place yet.
pub const PLACEMENT_GATE: &str = "muster.dev/placement";

/// What becomes of a group that fits nowhere: the values of [`annotation::UNPLACEABLE`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unplaceable {
    /// Its leader is released to the scheduler, so that a cluster autoscaler sees a pending pod and may add a domain.
    #[default]
    Scheduler,
    /// Its leader keeps the gate until a place is free.
    Hold,
}

impl Unplaceable {
    /// Every value as the annotation spells it.
    pub const VALUES: [&'static str; 2] = ["Scheduler", "Hold"];

    /// Reads the annotation's value; `None` when it is neither.
    pub fn parse(value: &str) -> Option<Self> {
        match value {
            "Scheduler" => Some(Self::Scheduler),
            "Hold" => Some(Self::Hold),
            _ => None,
        }
    }
}

/// Name of the StatefulSet of all leaders.
pub fn leader_stateful_set(set: &str) -> String {
    set.to_owned()
}

/// Name of the leader pod of a group.
pub fn leader_pod(set: &str, group: i32) -> String {
    format!("{set}-{group}")
}

/// Name of the StatefulSet of one group's workers; the same as its leader pod's.
pub fn worker_stateful_set(set: &str, group: i32) -> String {
    leader_pod(set, group)
}

/// Name of a worker pod; ranks of workers begin with 1.
pub fn worker_pod(set: &str, group: i32, rank: i32) -> String {
    format!("{set}-{group}-{rank}")
}

/// Name of a group's PodGroup at one revision, as Volcano's users know it.
pub fn pod_group(set: &str, group: &str, revision: &str) -> String {
    format!("{set}-{group}-{revision}")
}

/// Name of a group's PodGroup of the API server's own kind: [`pod_group`] and the `incarnation` of its leader.
///
/// Such a PodGroup stays for as long as a pod names it and can't be changed, so a group that starts over needs another name.
pub fn own_pod_group(set: &str, group: &str, revision: &str, incarnation: &str) -> String {
    format!("{}-{incarnation}", pod_group(set, group, revision))
}

/// Name of the headless service, and so the subdomain, of a group's pods.
pub fn subdomain(set: &str, group: i32, policy: SubdomainPolicy) -> String {
    match policy {
        SubdomainPolicy::Shared => set.to_owned(),
        SubdomainPolicy::UniquePerReplica => leader_pod(set, group),
    }
}

/// Splits a pod's name into that of the StatefulSet that made it and its ordinal. `None` when no StatefulSet could have made it.
///
/// ```
/// assert_eq!(muster_api::names::parent_and_ordinal("a-b-3"), Some(("a-b", 3)));
/// ```
pub fn parent_and_ordinal(pod: &str) -> Option<(&str, i32)> {
    let (parent, ordinal) = pod.rsplit_once('-')?;
    let digits = !ordinal.is_empty() && ordinal.bytes().all(|byte| byte.is_ascii_digit());
    (digits && !parent.is_empty()).then_some(())?;
    Some((parent, ordinal.parse().ok()?))
}

/// Key of a group: SHA-1 of `namespace/leader pod`, in hexadecimal.
pub fn group_key(namespace: &str, leader_pod: &str) -> String {
    hex_sha1(&format!("{namespace}/{leader_pod}"))
}

/// Key of a subgroup: SHA-1 of `leader pod/subgroup index`, in hexadecimal. Without the namespace, as upstream has it.
pub fn subgroup_key(leader_pod: &str, subgroup: i32) -> String {
    hex_sha1(&format!("{leader_pod}/{subgroup}"))
}

/// DNS name of a group's leader, without the cluster's domain.
pub fn leader_address(set: &str, group: i32, subdomain: &str, namespace: &str) -> String {
    format!("{set}-{group}.{subdomain}.{namespace}")
}

/// Label selector of a set's leaders, for a HorizontalPodAutoscaler.
pub fn hpa_pod_selector(set: &str) -> String {
    format!("{}={set},{}=0", label::SET_NAME, label::WORKER_INDEX)
}

fn hex_sha1(text: &str) -> String {
    use std::fmt::Write as _;
    Sha1::digest(text.as_bytes()).iter().fold(String::with_capacity(40), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("a-b-3", Some(("a-b", 3)))]
    #[case("vllm-0", Some(("vllm", 0)))]
    #[case("vllm-1-12", Some(("vllm-1", 12)))]
    #[case("vllm", None)]
    #[case("vllm-", None)]
    #[case("-3", None)]
    #[case("vllm-x", None)]
    #[case("vllm-+3", None)]
    #[case("vllm-99999999999", None)]
    #[case("", None)]
    fn a_pod_name_is_its_parent_and_an_ordinal(#[case] pod: &str, #[case] expected: Option<(&str, i32)>) {
        assert_eq!(parent_and_ordinal(pod), expected);
    }

    // The keys below were computed with crypto/sha1 of Go.
    #[test]
    fn a_group_key_is_the_sha1_of_namespace_and_leader() {
        assert_eq!(group_key("default", "vllm-0"), "3026934fa959105a39223221cf76941a46fb01bb");
        assert_eq!(group_key("serving", "a-b-3"), "8baa69ed8af6faf9e353c93fa2b131d166383fb8");
    }

    #[test]
    fn a_subgroup_key_is_the_sha1_of_leader_and_index() {
        assert_eq!(subgroup_key("vllm-0", 0), "a23c711838ab00e7644bc03268335cc986e67808");
        assert_eq!(subgroup_key("vllm-0", 1), "62866e51f8a7c12df529b43019ed2214f730383f");
    }

    #[test]
    fn objects_are_named_as_upstream_names_them() {
        assert_eq!(leader_stateful_set("vllm"), "vllm");
        assert_eq!(leader_pod("vllm", 1), "vllm-1");
        assert_eq!(worker_stateful_set("vllm", 1), "vllm-1");
        assert_eq!(worker_pod("vllm", 1, 3), "vllm-1-3");
        assert_eq!(subdomain("vllm", 1, SubdomainPolicy::Shared), "vllm");
        assert_eq!(subdomain("vllm", 1, SubdomainPolicy::UniquePerReplica), "vllm-1");
        assert_eq!(leader_address("vllm", 1, "vllm", "serving"), "vllm-1.vllm.serving");
        assert_eq!(pod_group("vllm", "1", "6f8d4c9b7"), "vllm-1-6f8d4c9b7");
        assert_eq!(own_pod_group("vllm", "1", "6f8d4c9b7", "0a1b2c3d"), "vllm-1-6f8d4c9b7-0a1b2c3d");
        let selector = "leaderworkerset.sigs.k8s.io/name=vllm,leaderworkerset.sigs.k8s.io/worker-index=0";
        assert_eq!(hpa_pod_selector("vllm"), selector);
    }
}
