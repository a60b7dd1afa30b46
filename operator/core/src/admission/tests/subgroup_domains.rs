//! Workers that their template's annotation sends to the domain of their subgroup.

use rstest::rstest;
use serde_json::{Value, json};

use super::{admit, annotate, worker};

/// A worker of a group of five with subgroups of two, whose template says this.
fn sent(name: &str, domains: &str) -> Value {
    let mut pod = worker(name);
    annotate(&mut pod, "size", "5");
    annotate(&mut pod, "subgroup-size", "2");
    pod["metadata"]["annotations"]["muster.dev/subgroup-domains"] = domains.into();
    pod
}

#[rstest]
#[case("set-1-1", "a")]
#[case("set-1-2", "a")]
#[case("set-1-3", "b")]
#[case("set-1-4", "b")]
fn a_worker_selects_the_domain_of_its_subgroup(#[case] name: &str, #[case] domain: &str) {
    let mut pod = sent(name, "example.com/rack=0:a,1:b");
    pod["spec"]["nodeSelector"] = json!({ "zone": "z" });
    admit(&mut pod).unwrap();
    let once = pod.clone();
    assert_eq!(pod["spec"]["nodeSelector"], json!({ "zone": "z", "example.com/rack": domain }));
    assert_eq!(pod["spec"].get("affinity"), None);
    admit(&mut pod).unwrap();
    assert_eq!(pod, once);
}

#[test]
fn the_rank_decides_and_not_a_label_that_the_template_has() {
    let mut pod = sent("set-1-4", "rack=0:a,1:b");
    pod["metadata"]["labels"]["leaderworkerset.sigs.k8s.io/subgroup-index"] = "0".into();
    admit(&mut pod).unwrap();
    assert_eq!(pod["spec"]["nodeSelector"], json!({ "rack": "b" }));
}

#[rstest]
#[case::no_form("rack", "\"rack\", which is not of the form KEY=0:DOMAIN,1:DOMAIN")]
#[case::no_such_subgroup("rack=0:a", "\"rack=0:a\", which names no domain for subgroup 1, which rank 3 is in")]
#[case::another_domain("zone=1:b", "\"zone=1:b\", which names zone=b for subgroup 1, and the pod selects zone=z already")]
fn an_annotation_that_can_not_be_followed_is_refused(#[case] domains: &str, #[case] why: &str) {
    let mut pod = sent("set-1-3", domains);
    pod["spec"]["nodeSelector"] = json!({ "zone": "z" });
    let expected = format!(
        "annotation muster.dev/subgroup-domains of pod set-1-3 is {why}: delete the worker StatefulSet, and it is made anew"
    );
    assert_eq!(admit(&mut pod).unwrap_err().to_string(), expected);
}
