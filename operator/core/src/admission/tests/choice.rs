use std::collections::BTreeMap;

use rstest::rstest;

use crate::admission::{Choice, Defaults, choose};

const PLACEMENT: &str = "muster.dev/placement-policy";
const STARTUP: &str = "muster.dev/startup-policy";
const EXCLUSIVE: &str = "leaderworkerset.sigs.k8s.io/exclusive-topology";
const QUEUE: &str = "kueue.x-k8s.io/queue-name";

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn defaults(placement: &str, startup: &str) -> Defaults {
    let name = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Defaults { placement: name(placement), startup: name(startup) }
}

#[rstest]
#[case::nothing_is_said_anywhere(&[], &[], "", None, false)]
#[case::the_default_of_the_operator(&[], &[], "cluster", Some("cluster"), true)]
#[case::the_namespace_beats_the_default(&[], &[(PLACEMENT, "team")], "cluster", Some("team"), true)]
#[case::the_set_beats_the_namespace(&[(PLACEMENT, "mine")], &[(PLACEMENT, "team")], "cluster", Some("mine"), true)]
#[case::the_set_opts_out(&[(PLACEMENT, "none")], &[(PLACEMENT, "team")], "cluster", None, false)]
#[case::an_empty_annotation_opts_out_too(&[(PLACEMENT, "")], &[(PLACEMENT, "team")], "cluster", None, false)]
#[case::the_namespace_opts_out(&[], &[(PLACEMENT, "none")], "cluster", None, false)]
#[case::the_set_opts_in_again(&[(PLACEMENT, "mine")], &[(PLACEMENT, "none")], "", Some("mine"), true)]
#[case::a_default_of_none_is_no_policy(&[], &[], "none", None, false)]
fn the_nearest_word_on_placement_decides(
    #[case] set: &[(&str, &str)],
    #[case] namespace: &[(&str, &str)],
    #[case] default: &str,
    #[case] placement: Option<&str>,
    #[case] gated: bool,
) {
    let choice = choose(&map(set), &map(&[]), &map(namespace), &defaults(default, ""));
    let first = choice.placement.first().map(String::as_str);
    assert_eq!((first, choice.gated), (placement, gated));
}

#[test]
fn the_startup_policy_is_chosen_by_itself_and_gates_nothing() {
    let choice = choose(&map(&[(STARTUP, "waves")]), &map(&[]), &map(&[]), &defaults("", "leader-ready"));
    assert_eq!(choice, Choice { startup: Some("waves".into()), ..Choice::default() });
    let choice = choose(&map(&[]), &map(&[]), &map(&[(STARTUP, "none")]), &defaults("", "leader-ready"));
    assert_eq!(choice, Choice::default());
}

#[test]
fn exclusivity_gates_without_any_policy_even_when_policies_are_opted_out() {
    let set = map(&[(EXCLUSIVE, "cloud.google.com/gke-nodepool"), (PLACEMENT, "none")]);
    let choice = choose(&set, &map(&[]), &map(&[]), &defaults("cluster", ""));
    let expected = Choice { exclusive: Some("cloud.google.com/gke-nodepool".into()), gated: true, ..Choice::default() };
    assert_eq!(choice, expected);
}

#[test]
fn a_namespace_cannot_make_its_sets_exclusive() {
    assert_eq!(choose(&map(&[]), &map(&[]), &map(&[(EXCLUSIVE, "rack")]), &Defaults::default()), Choice::default());
}

#[test]
fn a_set_of_kueue_is_never_placed_but_may_have_a_startup_policy() {
    let set = map(&[(EXCLUSIVE, "rack"), (PLACEMENT, "mine"), (STARTUP, "waves")]);
    let choice = choose(&set, &map(&[(QUEUE, "research")]), &map(&[]), &defaults("cluster", ""));
    let expected = Choice { startup: Some("waves".into()), exclusive: Some("rack".into()), ..Choice::default() };
    assert_eq!(choice, expected);
}

#[test]
fn exclusive_subgroups_gate_by_themselves_but_not_for_kueue() {
    let set = map(&[("leaderworkerset.sigs.k8s.io/subgroup-exclusive-topology", "rack")]);
    let expected = Choice { subgroup_exclusive: Some("rack".into()), gated: true, ..Choice::default() };
    assert_eq!(choose(&set, &map(&[]), &map(&[]), &Defaults::default()), expected);
    let queued = choose(&set, &map(&[(QUEUE, "research")]), &map(&[]), &Defaults::default());
    assert_eq!(queued, Choice::default());
}

#[test]
fn several_placement_policies_are_asked_in_the_order_in_which_they_are_named() {
    let annotations = [("muster.dev/placement-policy".to_owned(), "spread, topology-pack,,spread".to_owned())].into();
    let choice = choose(&annotations, &BTreeMap::new(), &BTreeMap::new(), &Defaults::default());
    assert_eq!(choice.placement, ["spread", "topology-pack"]);
}
