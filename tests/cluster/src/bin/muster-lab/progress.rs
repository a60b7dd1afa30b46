//! Progress of the sets of an example, group by group: a table that is redrawn on a terminal, a line per change elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use comfy_table::{Table, presets::NOTHING};
use indicatif::{ProgressBar, ProgressStyle};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, Client, ResourceExt};
use muster_cluster::{POOL, is_ready};
use serde_json::Value;
use tokio::time::sleep;

/// How often the picture is taken.
const INTERVAL: Duration = Duration::from_millis(250);
const SET_LABEL: &str = "leaderworkerset.sigs.k8s.io/name";
const GROUP_LABEL: &str = "leaderworkerset.sigs.k8s.io/group-index";
const RANK_LABEL: &str = "leaderworkerset.sigs.k8s.io/worker-index";

/// One group as the table shows it.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    group: String,
    leader: String,
    domain: String,
    ready: usize,
    size: usize,
}

/// Shows the sets of every namespace until all groups are ready.
///
/// # Errors
/// When they aren't after `patience`: names the groups and what the sets' conditions say.
pub(crate) async fn until_ready(client: &Client, folder: &Path, patience: Duration) -> Result<()> {
    let started = Instant::now();
    let mut display = Display::new();
    loop {
        let sets = sets(client).await?;
        let rows = rows(client, &sets).await?;
        let waiting: Vec<&Row> = rows.iter().filter(|row| row.ready < row.size).collect();
        display.show(&rows, started.elapsed());
        if waiting.is_empty() && !sets.is_empty() && sets.iter().all(is_available) {
            display.finish(&rows);
            return Ok(());
        }
        if started.elapsed() > patience {
            display.finish(&rows);
            if sets.is_empty() {
                bail!("there is no LeaderWorkerSet; {} should have made one", folder.display());
            }
            let waiting: Vec<&str> = waiting.iter().map(|row| row.group.as_str()).collect();
            bail!("not ready after {} s: {}.\n{}", patience.as_secs(), waiting.join(", "), explanations(&sets));
        }
        sleep(INTERVAL).await;
    }
}

async fn sets(client: &Client) -> Result<Vec<DynamicObject>> {
    let kind = GroupVersionKind::gvk("leaderworkerset.x-k8s.io", "v1", "LeaderWorkerSet");
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
    Ok(api.list(&ListParams::default()).await.context("listing LeaderWorkerSets")?.items)
}

async fn rows(client: &Client, sets: &[DynamicObject]) -> Result<Vec<Row>> {
    let params = ListParams::default().labels(SET_LABEL);
    let pods = Api::<Pod>::all(client.clone()).list(&params).await.context("listing pods")?.items;
    let pools: BTreeMap<String, String> = Api::<Node>::all(client.clone())
        .list_metadata(&ListParams::default())
        .await
        .context("listing nodes")?
        .into_iter()
        .filter_map(|node| Some((node.name_any(), node.labels().get(POOL)?.clone())))
        .collect();
    let rows = sets.iter().flat_map(|set| {
        let groups = number(set, "/spec/replicas", 1);
        let size = number(set, "/spec/leaderWorkerTemplate/size", 1);
        let (pods, pools) = (&pods, &pools);
        (0..groups).map(move |index| row(set, index, size, pods, pools))
    });
    Ok(rows.collect())
}

fn row(set: &DynamicObject, index: usize, size: usize, pods: &[Pod], pools: &BTreeMap<String, String>) -> Row {
    let label = |pod: &Pod, key: &str, value: &str| pod.labels().get(key).is_some_and(|found| found == value);
    let mine = |pod: &&Pod| {
        pod.namespace() == set.namespace()
            && label(pod, SET_LABEL, &set.name_any())
            && label(pod, GROUP_LABEL, &index.to_string())
    };
    let group: Vec<&Pod> = pods.iter().filter(mine).collect();
    let node = |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let domains: BTreeSet<&str> = group.iter().filter_map(|pod| pools.get(&node(pod)?)).map(String::as_str).collect();
    let leader = group.iter().find(|pod| label(pod, RANK_LABEL, "0"));
    Row {
        group: format!("{}-{index}", set.name_any()),
        leader: leader.map_or("not created", |pod| phase(pod)).to_owned(),
        domain: if domains.is_empty() { "–".to_owned() } else { domains.into_iter().collect::<Vec<_>>().join(" + ") },
        ready: group.iter().filter(|pod| is_ready(pod)).count(),
        size,
    }
}

fn phase(pod: &Pod) -> &'static str {
    let gated = pod.spec.as_ref().and_then(|spec| spec.scheduling_gates.as_ref()).is_some_and(|gates| !gates.is_empty());
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    match phase {
        _ if is_ready(pod) => "ready",
        _ if gated => "waits for a place",
        Some("Running") => "running",
        Some("Failed") => "failed",
        Some("Succeeded") => "ended",
        _ => "pending",
    }
}

fn number(set: &DynamicObject, pointer: &str, default: usize) -> usize {
    let value = set.data.pointer(pointer).and_then(Value::as_u64);
    value.and_then(|value| usize::try_from(value).ok()).unwrap_or(default)
}

fn conditions(set: &DynamicObject) -> impl Iterator<Item = &Value> {
    set.data.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten()
}

fn is_available(set: &DynamicObject) -> bool {
    conditions(set).any(|condition| condition["type"] == "Available" && condition["status"] == "True")
}

/// The sets' conditions, one a line.
fn explanations(sets: &[DynamicObject]) -> String {
    let lines = sets.iter().flat_map(|set| {
        conditions(set).map(move |condition| {
            let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
            format!("  {} {}={} {}: {}", set.name_any(), text("type"), text("status"), text("reason"), text("message"))
        })
    });
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        "  The sets have no conditions: the operator has not looked at them.".to_owned()
    } else {
        lines.join("\n")
    }
}

/// Where progress goes: a redrawn table, or a line for each group that changed.
enum Display {
    Terminal(ProgressBar),
    Lines(Vec<Row>),
}

impl Display {
    fn new() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines(Vec::new());
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Self::Terminal(bar)
    }

    fn show(&mut self, rows: &[Row], elapsed: Duration) {
        match self {
            Self::Terminal(bar) => bar.set_message(format!("{}\n{:.0} s", table(rows), elapsed.as_secs_f32())),
            Self::Lines(shown) => {
                for row in rows.iter().filter(|row| !shown.contains(row)) {
                    println!(
                        "{:>5.1} s  {}: leader {}, domain {}, {}/{} ready",
                        elapsed.as_secs_f32(),
                        row.group,
                        row.leader,
                        row.domain,
                        row.ready,
                        row.size
                    );
                }
                *shown = rows.to_vec();
            }
        }
    }

    fn finish(&self, rows: &[Row]) {
        if let Self::Terminal(bar) = self {
            bar.finish_and_clear();
        }
        println!("\n{}", table(rows));
    }
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_header(["GROUP", "LEADER", "DOMAIN", "READY"]);
    for row in rows {
        table.add_row([&row.group, &row.leader, &row.domain, &format!("{}/{}", row.ready, row.size)]);
    }
    table.to_string()
}
