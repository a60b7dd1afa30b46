//! What answers do to pods: ranked domains, parts, pins, avoided nodes, preferences, effects, and several policies in a chain.

use k8s_openapi::api::core::v1::{NodeAffinity, Pod};
use muster_e2e::{Policy, Set, Site, await_ready, decider, domains, pods};
use muster_guests::{Gives, Guest, Says, saying};
use serde_json::{Value, json};

use crate::support::{node_pool, store};

const CHOICE: &str = "muster.dev/placement-policy";

/// Pools `a` and `b` of two nodes.
async fn site(prefix: &str) -> Site {
    let mut site = Site::new(prefix).await.unwrap();
    site.pool("a", 2).await.unwrap();
    site.pool("b", 2).await.unwrap();
    site
}

/// A policy of this name that says the same about every group.
async fn policy(site: &Site, name: &str, says: &Says, avoid: &[u32], effects: &[Gives<'_>], gives: &[Gives<'_>]) -> Policy {
    let (place, functions) = saying(says, avoid, effects);
    let guest = Guest { place: &place, functions: &functions, level: site.key(), gives, ..Guest::default() };
    let source = store(site, name, guest.component()).await.unwrap();
    let policy = Policy::named(site, name, &json!({ "source": source, "onFailure": "Hold" })).await.unwrap();
    policy.await_ready("True").await.unwrap();
    policy
}

fn affinity(pod: &Pod) -> NodeAffinity {
    pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref()?.node_affinity.clone()).unwrap_or_default()
}

fn name(site: &Site, what: &str) -> String {
    format!("{}-{what}", site.name())
}

#[tokio::test]
async fn the_parts_of_a_group_go_where_the_policy_splits_them() {
    let site = site("parts").await;
    let policy = policy(&site, &name(&site, "p"), &Says::Parts(vec![(1, 0, 1), (2, 0, 0)]), &[], &[], &[]).await;
    let set = Set::new("split").groups(1, 3).on(&site, 8).annotated(CHOICE, &policy.name);
    site.apply(&set.manifest()).await.unwrap();
    await_ready(&site, "split").await.unwrap();
    let selected: Vec<_> = pods(&site, "split")
        .await
        .unwrap()
        .into_values()
        .map(|pod| pod.spec.unwrap().node_selector.unwrap()[site.key()].clone())
        .collect();
    assert_eq!(selected, ["b", "a", "a"]);
    assert_eq!(decider(&site, "split-0").await.unwrap(), policy.name);
}

#[tokio::test]
async fn every_pod_goes_to_the_node_that_it_is_pinned_to() {
    let site = site("pins").await;
    // Nodes are numbered over the whole cluster, which other tests share, so the policy's numbers are of its own making: too large.
    let nobody = policy(&site, &name(&site, "none"), &Says::Pinned(vec![900_000, 900_001]), &[], &[], &[]).await;
    let set = Set::new("pinned").groups(1, 2).on(&site, 8).annotated(CHOICE, &nobody.name);
    site.apply(&set.manifest()).await.unwrap();
    let pending = muster_e2e::await_condition(&site, "pinned", "PlacementPending", "True").await.unwrap();
    assert!(pending.message.contains("there is no node 900000"), "{}", pending.message);
}

#[tokio::test]
async fn a_preferred_domain_is_a_wish_to_the_scheduler_of_every_pod() {
    let site = site("wish").await;
    let policy = policy(&site, &name(&site, "p"), &Says::Preferred(vec![(0, 1)]), &[], &[], &[]).await;
    let set = Set::new("wish").groups(1, 2).on(&site, 8).annotated(CHOICE, &policy.name);
    site.apply(&set.manifest()).await.unwrap();
    await_ready(&site, "wish").await.unwrap();
    assert_eq!(domains(&site, "wish", site.key()).await.unwrap()["0"], ["b".to_owned()].into());
    for pod in pods(&site, "wish").await.unwrap().values() {
        let preferred = affinity(pod).preferred_during_scheduling_ignored_during_execution.unwrap();
        assert_eq!(preferred.len(), 1);
        let expression = &preferred[0].preference.match_expressions.as_ref().unwrap()[0];
        assert_eq!(
            (preferred[0].weight, expression.key.as_str(), expression.values.clone()),
            (100, site.key(), Some(vec!["b".into()]))
        );
    }
}

#[tokio::test]
async fn effects_reach_leader_and_workers_before_and_with_the_answer() {
    let site = site("effects").await;
    let prepared =
        [Gives::Toleration("example.com/reserved"), Gives::Env("SLICE", "none"), Gives::Label("example.com/tier", "gold")];
    let answered = [Gives::Env("SLICE", "s7"), Gives::Annotation("example.com/why", "because")];
    let policy = policy(&site, &name(&site, "p"), &Says::Within(vec![(0, 0)]), &[], &answered, &prepared).await;
    let set = Set::new("given").groups(1, 2).on(&site, 8).annotated(CHOICE, &policy.name);
    site.apply(&set.manifest()).await.unwrap();
    await_ready(&site, "given").await.unwrap();
    for (name, pod) in pods(&site, "given").await.unwrap() {
        let annotations = pod.metadata.annotations.clone().unwrap_or_default();
        assert_eq!(annotations["env.muster.dev/SLICE"], "s7", "{name}");
        assert_eq!(annotations["example.com/why"], "because", "{name}");
        assert!(!annotations.contains_key("muster.dev/instructions"), "{name}");
        assert_eq!(pod.metadata.labels.as_ref().unwrap()["example.com/tier"], "gold", "{name}");
        let spec = serde_json::to_value(pod.spec.unwrap()).unwrap();
        let tolerates = |toleration: &Value| toleration["key"] == "example.com/reserved" && toleration["operator"] == "Exists";
        assert!(spec["tolerations"].as_array().unwrap().iter().any(tolerates), "{name}");
        let reads = "metadata.annotations['env.muster.dev/SLICE']";
        let slice = |variable: &Value| variable["name"] == "SLICE" && variable["valueFrom"]["fieldRef"]["fieldPath"] == reads;
        assert!(spec["containers"][0]["env"].as_array().unwrap().iter().any(slice), "{name}: {spec}");
    }
    let template = site.api::<k8s_openapi::api::apps::v1::StatefulSet>().get("given").await.unwrap();
    assert!(!serde_json::to_string(&template.spec).unwrap().contains("example.com/tier"));
}

#[tokio::test]
async fn a_second_policy_chooses_inside_what_the_first_left_open() {
    let site = site("chain").await;
    // By itself node-pool takes the first pool; the first policy of the chain leaves it only the second.
    let first =
        policy(&site, &name(&site, "first"), &Says::Within(vec![(0, 1)]), &[], &[Gives::Label("example.com/by", "first")], &[])
            .await;
    let second = Policy::named(&site, &name(&site, "second"), &node_pool(site.key())).await.unwrap();
    second.await_ready("True").await.unwrap();
    let set = Set::new("chain").groups(1, 2).on(&site, 8).annotated(CHOICE, &format!("{}, {}", first.name, second.name));
    site.apply(&set.manifest()).await.unwrap();
    await_ready(&site, "chain").await.unwrap();
    assert_eq!(domains(&site, "chain", site.key()).await.unwrap()["0"], ["b".to_owned()].into());
    assert_eq!(decider(&site, "chain-0").await.unwrap(), second.name);
    for (name, pod) in pods(&site, "chain").await.unwrap() {
        assert_eq!(pod.metadata.labels.unwrap()["example.com/by"], "first", "{name}");
    }
}

#[tokio::test]
async fn an_exclusive_set_whose_policy_leaves_the_choice_open_is_placed_by_the_native_rule_inside_it() {
    let site = site("open").await;
    let policy =
        policy(&site, &name(&site, "p"), &Says::Unconstrained, &[], &[Gives::Label("example.com/by", "first")], &[]).await;
    let set = Set::new("open").groups(2, 2).on(&site, 8).exclusive(site.key()).annotated(CHOICE, &policy.name);
    site.apply(&set.manifest()).await.unwrap();
    await_ready(&site, "open").await.unwrap();
    let domains = domains(&site, "open", site.key()).await.unwrap();
    assert_eq!((&domains["0"], &domains["1"]), (&["a".to_owned()].into(), &["b".to_owned()].into()));
    assert_eq!(decider(&site, "open-0").await.unwrap(), "exclusive");
}
