//! The command line tool against a real cluster, as a person runs it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up must fail")]

use std::process::Command;

use muster_api::conditions::PLACEMENT_PENDING;
use muster_cluster::{Cluster, PATIENCE, eventually};
use muster_e2e::{Policy, Set, Site, await_condition, await_ready};
use serde_json::{Value, json};

/// What `muster` prints; an error is what it says instead.
async fn muster(site: &Site, args: &[&str]) -> Result<String, String> {
    let layout = Cluster::shared().await.plane().layout();
    let mut command = Command::new(layout.muster());
    command.args(["--namespace", site.name()]).args(args).env("KUBECONFIG", layout.kubeconfig());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8(output.stderr).unwrap())
    }
}

/// Two groups that have a pool each, and a third that has none.
async fn three_groups_on_two_pools() -> Site {
    let mut site = Site::new("tool").await.unwrap();
    for pool in ["a", "b"] {
        site.pool(pool, 2).await.unwrap();
    }
    let set = Set::new("serve").groups(2, 2).on(&site, 8).exclusive(site.key()).annotated("muster.dev/unplaceable", "Hold");
    site.apply(&set.manifest()).await.unwrap();
    await_ready(&site, "serve").await.unwrap();
    site.apply(&set.groups(3, 2).manifest()).await.unwrap();
    await_condition(&site, "serve", PLACEMENT_PENDING, "True").await.unwrap();
    site
}

#[tokio::test]
async fn a_person_sees_what_runs_what_waits_and_why() {
    let site = three_groups_on_two_pools().await;

    let all = muster(&site, &["status"]).await.unwrap();
    let row = all.lines().find(|line| line.contains("serve")).unwrap();
    assert!(row.contains("2/3") && row.contains(PLACEMENT_PENDING), "{all}");

    let tree = muster(&site, &["status", "serve"]).await.unwrap();
    assert!(tree.starts_with(&format!("{}/serve  2 of 3 groups ready, 2 pods each\n", site.name())), "{tree}");
    for line in [format!("├─ group 0   Ready        {}=", site.key()), "└─ group 2   Pending".to_owned(), "serve-1-1".to_owned()]
    {
        assert!(tree.contains(&line), "no {line:?} in\n{tree}");
    }

    let explained = muster(&site, &["explain", "serve", "2"]).await.unwrap();
    assert!(explained.starts_with("group 2 waiting:"), "{explained}");
    for domain in ["a", "b"] {
        let line = explained.lines().find(|line| line.trim_start().starts_with(&format!("{domain} "))).unwrap();
        assert!(line.contains(&format!("held by {}/serve group", site.name())), "{explained}");
    }
    let explained = muster(&site, &["explain", "serve", "0"]).await.unwrap();
    assert!(explained.contains("placed") && explained.contains("by exclusive"), "{explained}");

    let map = muster(&site, &["topology", "--level", site.key()]).await.unwrap();
    let lines: Vec<&str> = map.lines().collect();
    assert_eq!(lines[0], site.key());
    assert!(lines[1].starts_with("a  ") && lines[2].starts_with("b  "), "{map}");
    assert!(lines[1..3].iter().all(|line| line.contains(&format!("{}/serve-", site.name()))), "{map}");
}

#[tokio::test]
async fn what_a_policy_is_missing_for_is_explained_and_so_are_nodes_that_got_another_label() {
    let mut site = Site::new("tool").await.unwrap();
    site.pool("a", 2).await.unwrap();
    let set = Set::new("serve").groups(1, 2).on(&site, 8).exclusive(site.key());
    site.apply(&set.clone().manifest()).await.unwrap();
    await_ready(&site, "serve").await.unwrap();
    let cluster = Cluster::shared().await;
    let label = format!("{}=renamed", site.key());
    cluster.kubectl(&["label", "node", "--selector", &format!("{}=a", site.key()), "--overwrite", &label]).await.unwrap();
    let explained = muster(&site, &["explain", "serve"]).await.unwrap();
    assert!(explained.contains(&format!("has got the label {label}")), "{explained}");

    let other = Set::new("other").groups(1, 2).on(&site, 8).annotated("muster.dev/placement-policy", "tool-nobodys");
    site.apply(&other.manifest()).await.unwrap();
    await_condition(&site, "other", PLACEMENT_PENDING, "True").await.unwrap();
    eventually(PATIENCE, || async {
        let explained = muster(&site, &["explain", "other"]).await.unwrap();
        let said = "group 0 waiting: there is no PlacementPolicy \"tool-nobodys\"; create it";
        anyhow::ensure!(explained.starts_with(said), "{explained}");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_program_reads_the_same_as_json() {
    let site = three_groups_on_two_pools().await;
    let read = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let tree = read(muster(&site, &["status", "serve", "-o", "json"]).await.unwrap());
    assert_eq!((&tree["ready"], &tree["replicas"], &tree["groups"][2]["phase"]), (&2.into(), &3.into(), &"Pending".into()));
    let explained = read(muster(&site, &["explain", "serve", "2", "-o", "json"]).await.unwrap());
    assert_eq!(explained[0]["domains"].as_array().unwrap().len(), 2);
    let drawn = muster(&site, &["topology", "--level", site.key(), "-o", "html"]).await.unwrap();
    assert!(drawn.starts_with("<!doctype html>") && drawn.contains("serve-0-1"), "{drawn}");
}

#[tokio::test]
async fn what_is_not_there_is_said_with_the_remedy() {
    let site = Site::new("tool").await.unwrap();
    let said = muster(&site, &["status", "nothing"]).await.unwrap_err();
    let expected =
        format!("error: there is no LeaderWorkerSet \"nothing\" in namespace {:?}; `muster status -A` lists all\n", site.name());
    assert_eq!(said, expected);
    let said = muster(&site, &["topology", "--level", "example.com/nothing"]).await.unwrap_err();
    assert!(said.starts_with("error: no node has the label example.com/nothing"), "{said}");
}

#[tokio::test]
async fn a_question_is_recorded_and_asked_again_without_the_cluster() {
    let site = three_groups_on_two_pools().await;
    let folder = tempfile::TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();

    // As the operator sees it: the two pools are held, and group 2 waits.
    muster(&site, &["policy", "record", "serve", "-o", &path("waiting.yaml")]).await.unwrap();
    let report: Value = serde_json::from_str(
        &muster(&site, &["policy", "run", "native", "-s", &path("waiting.yaml"), "-o", "json"]).await.unwrap(),
    )
    .unwrap();
    assert_eq!(report["decisions"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!((&report["decisions"][0]["id"], &report["decisions"][0]["decision"]), (&2.into(), &"hold".into()), "{report}");

    // As if none had its place: two get a pool, and the third does not.
    muster(&site, &["policy", "record", "serve", "--all", "-o", &path("all.yaml")]).await.unwrap();
    let report: Value =
        serde_json::from_str(&muster(&site, &["policy", "run", "native", "-s", &path("all.yaml"), "-o", "json"]).await.unwrap())
            .unwrap();
    let decisions: Vec<&str> =
        report["decisions"].as_array().unwrap().iter().map(|decided| decided["decision"].as_str().unwrap()).collect();
    assert_eq!(decisions, ["within", "within", "hold"], "{report}");
}

#[tokio::test]
async fn a_question_to_a_chain_is_recorded_with_the_whole_chain() {
    let mut site = Site::new("chained").await.unwrap();
    for pool in ["a", "b"] {
        site.pool(pool, 2).await.unwrap();
    }
    let names = ["first", "second"].map(|name| format!("{}-{name}", site.name()));
    let levels = json!({ "levels": [{ "key": site.key(), "mode": "Required" }] });
    let specs = [
        json!({ "source": { "builtIn": "sticky-avoid" }, "settings": { "keys": [site.key()] } }),
        json!({ "source": { "builtIn": "topology-pack" }, "settings": levels }),
    ];
    let mut policies = Vec::new();
    for (name, spec) in names.iter().zip(&specs) {
        policies.push(Policy::named(&site, name, spec).await.unwrap());
    }
    for policy in &policies {
        policy.await_ready("True").await.unwrap();
    }
    let chain = names.join(",");
    let set = Set::new("serve").groups(2, 2).on(&site, 8).annotated("muster.dev/placement-policy", &chain);
    site.apply(&set.manifest()).await.unwrap();
    await_ready(&site, "serve").await.unwrap();

    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("all.yaml").to_string_lossy().into_owned();
    muster(&site, &["policy", "record", "serve", "--all", "-o", &file]).await.unwrap();
    let recorded: Value = serde_norway::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let expected = json!([{ "underTest": true }, { "builtIn": "topology-pack", "settings": levels }]);
    let links = recorded["chain"].as_array().unwrap().iter().map(|link| match link.as_str() {
        Some("underTest") => json!({ "underTest": true }),
        _ => link.clone(),
    });
    assert_eq!(Value::Array(links.collect()), expected, "{recorded}");
    let args = ["policy", "replay", "-p", "builtin:sticky-avoid", &file, "-o", "json"];
    let replayed = muster(&site, &args).await.unwrap();
    assert!(replayed.contains("topology-pack"), "{replayed}");
}

#[tokio::test]
async fn a_snapshot_keeps_the_shape_and_no_name() {
    let site = three_groups_on_two_pools().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_string_lossy().into_owned();
    muster(&site, &["snapshot", "--anonymise", "--level", site.key(), "-o", &path]).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    // The key of the level names the site; nothing else does.
    let told = text.replace(site.key(), "KEY");
    assert!(!told.contains("serve") && !told.contains(site.name()), "{told}");
    let args =
        ["policy", "simulate", "--cluster", &path, "--exclusive", site.key(), "--hours", "1", "--seeds", "1", "-o", "json"];
    let outcomes: Value = serde_json::from_str(&muster(&site, &args).await.unwrap()).unwrap();
    assert_eq!(outcomes[0]["policy"], "native", "{outcomes}");
}
