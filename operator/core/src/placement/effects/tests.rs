use rstest::rstest;

use super::*;

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

fn label(key: &str, value: &str) -> Effect {
    Effect::Label(key.to_owned(), value.to_owned())
}

fn env(name: &str) -> Effect {
    Effect::Env(name.to_owned(), "1".to_owned())
}

fn tolerates(key: &str) -> Effect {
    Effect::Toleration { key: key.to_owned(), value: None, effect: Some("NoSchedule".to_owned()) }
}

fn refusal(effects: &[Effect]) -> String {
    Effects::check(effects, Stage::Preparation).unwrap_err().to_string()
}

#[test]
fn effects_are_sorted_by_kind() {
    let selector = Effect::NodeSelector("topology.kubernetes.io/zone".to_owned(), "a".to_owned());
    let effects = [tolerates("google.com/tpu"), selector, label("example.com/tier", "gold"), env("SLICE")];
    let sorted = Effects::check(&effects, Stage::Preparation).unwrap();
    assert_eq!(sorted.tolerations[0].key.as_deref(), Some("google.com/tpu"));
    assert_eq!(sorted.tolerations[0].operator.as_deref(), Some("Exists"));
    assert_eq!(sorted.node_selector, [pair("topology.kubernetes.io/zone", "a")].into());
    assert_eq!(sorted.labels, [pair("example.com/tier", "gold")].into());
    assert_eq!(sorted.all_annotations(), [pair("env.muster.dev/SLICE", "1")].into());
}

#[rstest]
#[case::of_kubernetes(label("app.kubernetes.io/name", "x"), "label app.kubernetes.io/name: keys of kubernetes.io are not")]
#[case::of_the_api(
    label("leaderworkerset.sigs.k8s.io/name", "x"),
    "label leaderworkerset.sigs.k8s.io/name: keys of k8s.io are not"
)]
#[case::of_muster(label("muster.dev/x", "x"), "label muster.dev/x: keys of muster.dev are not")]
#[case::no_key(label("a b", "x"), "label a b: the key is not one that Kubernetes takes")]
#[case::no_value(label("a", "x y"), "label a: the value \"x y\" is no label value")]
#[case::not_ready(tolerates("node.kubernetes.io/not-ready"), "toleration node.kubernetes.io/not-ready: Kubernetes taints nodes")]
#[case::every_taint(tolerates(""), "toleration : the key is not one that Kubernetes takes")]
#[case::own_variable(env("LWS_LEADER_ADDRESS"), "env LWS_LEADER_ADDRESS: variables that begin with LWS_ are the operator's")]
#[case::no_name(env("A-B"), "env A-B: the name must have at most 63 letters")]
#[case::no_scheduler(Effect::SchedulerName("A B".to_owned()), "scheduler-name A B: a scheduler's name is a DNS subdomain")]
fn what_is_not_a_policys_business_is_refused_with_the_reason(#[case] effect: Effect, #[case] expected: &str) {
    let refusal = refusal(&[effect]);
    assert!(refusal.starts_with(&format!("effect {expected}")), "{refusal}");
}

#[test]
fn domains_that_only_look_like_kubernetes_are_free() {
    let effects = [label("kueue.x-k8s.io/tier", "x"), label("my-muster.dev/tier", "x")];
    assert!(Effects::check(&effects, Stage::Preparation).is_ok());
}

#[test]
fn one_key_has_one_value() {
    assert_eq!(refusal(&[label("a", "1"), label("a", "2")]), "effect label a: it is \"1\" already in the same list");
    assert!(Effects::check(&[label("a", "1"), label("a", "1")], Stage::Preparation).is_ok());
}

#[test]
fn an_answer_can_set_only_variables_that_were_prepared() {
    let prepared = Effects::check(&[env("SLICE")], Stage::Preparation).unwrap();
    assert!(Effects::check(&[env("SLICE")], Stage::Answer(&prepared)).is_ok());
    let refusal = Effects::check(&[env("OTHER")], Stage::Answer(&prepared)).unwrap_err().to_string();
    assert_eq!(
        refusal,
        "effect env OTHER: a container that exists takes no new variable: name it in `prepare` with a first value"
    );
}

#[test]
fn an_answer_cannot_change_the_scheduler() {
    let effects = [Effect::SchedulerName("mine".to_owned())];
    assert!(Effects::check(&effects, Stage::Preparation).is_ok());
    assert!(Effects::check(&effects, Stage::Answer(&Effects::default())).is_err());
}

#[test]
fn there_is_an_end_to_effects() {
    let many: Vec<_> = (0..33).map(|number| label(&format!("a{number}"), "x")).collect();
    assert_eq!(refusal(&many), "effect list: 33 effects, and at most 32 are possible");
}

#[test]
fn an_answers_values_win_over_prepared_ones() {
    let before = Effects::check(&[env("SLICE"), label("a", "1")], Stage::Preparation).unwrap();
    let answer = Effects { env: [pair("SLICE", "7")].into(), ..Effects::default() };
    let both = before.and(&answer);
    assert_eq!((both.env, both.labels), ([pair("SLICE", "7")].into(), [pair("a", "1")].into()));
}
