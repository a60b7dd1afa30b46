use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{admit, annotate, label, leader, tpu_container, variable, worker};

/// A division of a group that a set may ask for.
#[derive(Clone, Copy, Debug)]
struct Layout {
    size: i32,
    /// Size of the subgroups and whether the leader is in none.
    subgroups: Option<(i32, bool)>,
    leader_requests_tpus: bool,
    containers: usize,
    multislice: bool,
}

fn layouts() -> impl Strategy<Value = Layout> {
    let divided = (1..=6_i32, 1..=5_i32, 0..3_u8).prop_map(|(part, parts, kind)| match kind {
        0 => (part * parts, Some((part, false))),
        1 => (part * parts + 1, Some((part, false))),
        _ => (part * parts + 1, Some((part, true))),
    });
    let whole = (1..=24_i32).prop_map(|size| (size, None));
    (prop_oneof![divided, whole], any::<bool>(), 1..4_usize, any::<bool>()).prop_map(
        |((size, subgroups), leader_requests_tpus, containers, multislice)| Layout {
            size,
            subgroups,
            leader_requests_tpus: leader_requests_tpus && !subgroups.is_some_and(|(_, excluded)| excluded),
            containers,
            multislice: multislice && subgroups.is_some(),
        },
    )
}

/// The pods of the group that request TPUs, as its templates make them.
fn pods(layout: Layout) -> Vec<Value> {
    let first = i32::from(!layout.leader_requests_tpus);
    let mut pods = Vec::new();
    for rank in first..layout.size {
        let mut pod = if rank == 0 { leader("set-1") } else { worker(&format!("set-1-{rank}")) };
        annotate(&mut pod, "size", &layout.size.to_string());
        if let Some((size, excluded)) = layout.subgroups {
            annotate(&mut pod, "subgroup-size", &size.to_string());
            annotate(&mut pod, "subgroup-policy-type", if excluded { "LeaderExcluded" } else { "LeaderWorker" });
        }
        if layout.leader_requests_tpus && rank > 0 {
            annotate(&mut pod, "leader-requests-tpus", "true");
        }
        if layout.multislice {
            pod["metadata"]["annotations"]["muster.dev/tpu-multislice"] = "subgroup".into();
        }
        pod["spec"]["containers"] = (0..layout.containers).map(|place| tpu_container(&format!("c{place}"))).collect();
        pods.push(pod);
    }
    pods
}

/// What one process knows, and what it is called.
struct Process {
    host: String,
    port: String,
    id: usize,
    hosts: String,
    addresses: String,
}

/// The processes of each slice: of each subgroup, or of the group.
fn slices(pods: &[Value]) -> BTreeMap<Option<&str>, Vec<Process>> {
    let mut slices: BTreeMap<Option<&str>, Vec<Process>> = BTreeMap::new();
    for pod in pods {
        for container in pod["spec"]["containers"].as_array().unwrap() {
            let text = |name| variable(container, name).unwrap().to_owned();
            slices.entry(label(pod, "subgroup-index")).or_default().push(Process {
                host: format!("{}.set", pod["metadata"]["name"].as_str().unwrap()),
                port: text("TPU_PROCESS_PORT"),
                id: text("TPU_WORKER_ID").parse().unwrap(),
                hosts: text("TPU_WORKER_HOSTNAMES"),
                addresses: text("TPU_PROCESS_ADDRESSES"),
            });
        }
    }
    slices
}

proptest! {
    #[test]
    fn the_processes_of_a_slice_agree_who_is_who(layout in layouts()) {
        let mut pods = pods(layout);
        for pod in &mut pods {
            admit(pod).unwrap();
        }
        for (index, slice) in slices(&pods) {
            let hosts: Vec<&str> = slice[0].hosts.split(',').collect();
            let addresses: Vec<&str> = slice[0].addresses.split(',').collect();
            prop_assert_eq!(hosts.len(), slice.len(), "subgroup {:?}", index);
            // Pods were admitted by rank, so ids that are unique and without gaps are these.
            let ids: Vec<usize> = slice.iter().map(|process| process.id).collect();
            prop_assert_eq!(ids, (0..slice.len()).collect::<Vec<_>>());
            for process in &slice {
                prop_assert_eq!(&process.hosts, &slice[0].hosts);
                prop_assert_eq!(&process.addresses, &slice[0].addresses);
                prop_assert_eq!(hosts[process.id], &process.host);
                prop_assert_eq!(addresses[process.id], format!("{}:{}", process.host, process.port));
            }
        }
    }

    #[test]
    fn the_slices_of_a_job_are_numbered_without_gaps(layout in layouts()) {
        prop_assume!(layout.multislice);
        let mut by_subgroup: BTreeMap<i32, (String, String, String)> = BTreeMap::new();
        for mut pod in pods(layout) {
            admit(&mut pod).unwrap();
            let container = &pod["spec"]["containers"][0];
            let text = |name| variable(container, name).unwrap().to_owned();
            let said = (text("MEGASCALE_SLICE_ID"), text("MEGASCALE_NUM_SLICES"), text("MEGASCALE_COORDINATOR_ADDRESS"));
            let first = by_subgroup.entry(label(&pod, "subgroup-index").unwrap().parse().unwrap()).or_insert(said.clone());
            prop_assert_eq!(first, &said);
        }
        let count = by_subgroup.len();
        for (place, (id, slices, _)) in by_subgroup.values().enumerate() {
            prop_assert_eq!((id, slices), (&place.to_string(), &count.to_string()));
        }
    }

    #[test]
    fn admitting_a_tpu_pod_twice_is_admitting_it_once(
        layout in layouts(),
        taken in proptest::sample::subsequence(vec!["TPU_WORKER_ID", "TPU_NAME", "TPU_PROCESS_PORT", "MEGASCALE_PORT", "A"], 0..=5),
    ) {
        for mut pod in pods(layout) {
            pod["spec"]["containers"][0]["env"] = taken.iter().map(|name| json!({"name": name, "value": "1"})).collect();
            let outcome = admit(&mut pod).unwrap();
            let once = pod.clone();
            prop_assert_eq!(admit(&mut pod).unwrap(), outcome);
            prop_assert_eq!(pod, once);
        }
    }
}
