//! What policies cost: calls of placement and startup policies, and loading them.

use std::num::NonZeroUsize;

use anyhow::{Context, Result, ensure};
use muster_core::cluster::{Index, Snapshot};
use muster_core::placement::check::{Checked, Checker};
use muster_core::placement::{Answer, Request, native};
use muster_core::startup;
use muster_policy_host::{CacheOptions, Engine, EngineOptions, Limits, PlacementComponent, built_in};
use serde_json::{Value, json};

use crate::fleet::{self, BLOCK, Fleet, RACK};
use crate::guests::{self, Columns};
use crate::measure::{Effort, Times, times};
use crate::table::Line;

/// Calls of placement policies over 10,000 nodes in 600 racks, each with a fresh instance, and the check of its answers.
pub(crate) fn placement(effort: Effort, engine: &Engine, lines: &mut Vec<Line>) -> Result<()> {
    let fleet = Fleet { nodes: effort.size(10_000, 120), racks: effort.size(600, 12) };
    let mut index = fleet.index();
    let snapshot = index.snapshot(fleet::view());
    let of = format!("{} nodes, {} racks", fleet.nodes, fleet.racks);
    let targets =
        [(Columns::Domains, 1, 200.0), (Columns::Domains, 50, 500.0), (Columns::Nodes, 1, 350.0), (Columns::Nodes, 50, 650.0)];
    for (columns, units, target) in targets {
        let units = effort.size(units, units.min(8));
        let request = fleet::request(units);
        let component = engine.load_placement(&guests::component(columns), Limits::default(), &Value::Null)?;
        let (asked, twin) = (ask(&component, &snapshot, &request)?, guests::twin(columns, &snapshot, &request));
        ensure!(asked == twin, "the component and its twin differ: {:?} and {:?}", asked.first(), twin.first());
        let what = format!("call: {} columns, {units} {}", name(columns), plural(units));
        let native = native_times(effort, &snapshot, &request, |view, request| guests::twin(columns, view, request));
        let called = call_times(effort, &component, &snapshot, &request);
        lines.push(Line::new(&what, &of, called).within(target).beside("native twin", native));
        let called = on_new_views(effort, &component, &mut index, &request);
        lines.push(Line::new(format!("{what}, on a new view"), &of, called).within(target));
    }
    let shipped = [
        ("exclusive", json!({})),
        ("topology-pack", json!({ "levels": [{ "key": BLOCK }, { "key": RACK, "mode": "Required" }] })),
    ];
    for (policy, settings) in shipped {
        let bytes = built_in(policy).with_context(|| format!("{policy} is not embedded; run `cargo xtask policies`"))?;
        let component = engine.load_placement(bytes, Limits::default(), &settings)?;
        for (units, target) in [(1, 200.0), (50, 500.0)] {
            let units = effort.size(units, units.min(8));
            let request = fleet::request(units);
            ask(&component, &snapshot, &request)?;
            let native = native_times(effort, &snapshot, &request, native::place);
            let called = call_times(effort, &component, &snapshot, &request);
            let what = format!("call: built-in {policy}, {units} {}", plural(units));
            lines.push(Line::new(what, &of, called).within(target).beside("native rule", native));
        }
    }
    Ok(())
}

fn name(columns: Columns) -> &'static str {
    match columns {
        Columns::Domains => "domain",
        Columns::Nodes => "node",
    }
}

fn plural(units: u32) -> &'static str {
    if units == 1 { "group" } else { "groups" }
}

/// Answers that pass the check, all of them.
fn ask(component: &PlacementComponent, snapshot: &Snapshot, request: &Request) -> Result<Vec<Answer>> {
    let answers = component.place(snapshot, request).result?;
    let good = checked(snapshot, request, &answers);
    ensure!(good == request.units.len(), "{}: {good} of {} answers pass the check", component.name(), request.units.len());
    Ok(answers)
}

fn checked(snapshot: &Snapshot, request: &Request, answers: &[Answer]) -> usize {
    let mut checker = Checker::new(snapshot, request);
    answers.iter().filter(|answer| matches!(checker.apply(answer), Ok(Checked::Assigned(_)))).count()
}

fn called(component: &PlacementComponent, snapshot: &Snapshot, request: &Request) -> usize {
    component.place(snapshot, request).result.map_or(0, |answers| checked(snapshot, request, &answers))
}

fn call_times(effort: Effort, component: &PlacementComponent, snapshot: &Snapshot, request: &Request) -> Times {
    times(effort.size(500, 4), &mut (), |()| (), |(), ()| called(component, snapshot, request))
}

/// Columns that a view makes when they are first read are made in these calls.
fn on_new_views(effort: Effort, component: &PlacementComponent, index: &mut Index, request: &Request) -> Times {
    let fresh = |index: &mut Index| {
        // Something that no rack of the answers notices, so that every call has the same answers.
        index.hold(fleet::holding(0, RACK, "rack-gone".to_owned(), false, Vec::new()));
        index.release(&fleet::group_id(0));
        index.snapshot(fleet::view())
    };
    times(effort.size(200, 4), index, fresh, |_, snapshot| called(component, &snapshot, request))
}

fn native_times(
    effort: Effort,
    snapshot: &Snapshot,
    request: &Request,
    place: impl Fn(&Snapshot, &Request) -> Vec<Answer>,
) -> Times {
    times(effort.size(500, 4), &mut (), |()| (), |(), ()| checked(snapshot, request, &place(snapshot, request)))
}

/// Calls of startup policies.
pub(crate) fn startup(effort: Effort, engine: &Engine, lines: &mut Vec<Line>) -> Result<()> {
    use muster_api::leader_worker_set::StartupPolicyType;
    for (policy, settings) in [("leader-ready", json!({})), ("waves", json!({ "size": 2 }))] {
        let bytes = built_in(policy).with_context(|| format!("{policy} is not embedded; run `cargo xtask policies`"))?;
        let component = engine.load_startup(bytes, Limits::default(), &settings)?;
        for (groups, target) in [(1, Some(80.0)), (50, None)] {
            let request = starting(groups);
            let steps = component.next(&request).result?;
            ensure!(steps.len() == groups as usize, "{policy} answers for {} of {groups} groups", steps.len());
            let native =
                times(effort.size(500, 4), &mut (), |()| (), |(), ()| startup::native(StartupPolicyType::LeaderReady, &request));
            let called = times(effort.size(500, 4), &mut (), |()| (), |(), ()| component.next(&request));
            let line = Line::new(format!("startup call: built-in {policy}"), format!("{groups} {}", plural(groups)), called);
            let line = line.beside("native rule", native);
            lines.push(Line { target, ..line });
        }
    }
    Ok(())
}

/// Groups in the middle of starting.
fn starting(count: u32) -> startup::Request {
    use startup::{Group, Phase, Pod};
    let group = |index| {
        let pods = (0..4).map(|rank| Pod { rank, phase: Phase::Running, in_phase_ms: 1000, restarts: 0 }).collect();
        Group { index, size: fleet::GROUP, pods, age_ms: 5000, recreations: 0, placed: true }
    };
    let groups = (0..count).map(group).collect();
    startup::Request { owner: "ml/train".to_owned(), labels: [].into(), replicas: count, unplaced: 0, groups }
}

/// Loading policies: from the cache of compiled code, and without.
pub(crate) fn loading(effort: Effort, lines: &mut Vec<Line>) -> Result<()> {
    let folder = tempfile::tempdir().context("making a folder for compiled code")?;
    let options = |cache| EngineOptions { max_concurrent_calls: NonZeroUsize::MIN, cache, ..EngineOptions::default() };
    let warm = Engine::new(options(Some(CacheOptions { folder: folder.path().to_owned(), max_bytes: 1 << 30 })))?;
    let cold = Engine::new(options(None))?;
    for (policy, settings) in [("exclusive", json!({})), ("topology-pack", json!({ "levels": [{ "key": RACK }] }))] {
        let bytes = built_in(policy).with_context(|| format!("{policy} is not embedded; run `cargo xtask policies`"))?;
        let size = format!("{} KiB", bytes.len() >> 10);
        warm.load_placement(bytes, Limits::default(), &settings)?;
        let load = |engine: &Engine| engine.load_placement(bytes, Limits::default(), &settings).is_ok();
        let loaded = times(effort.size(100, 2), &mut (), |()| (), |(), ()| load(&warm));
        let compiled = times(effort.size(3, 1), &mut (), |()| (), |(), ()| load(&cold));
        lines.push(
            Line::new(format!("load: built-in {policy}, compiled before"), &size, loaded)
                .within(5000.0)
                .beside("compiling", compiled),
        );
        lines.push(Line::new(format!("load: built-in {policy}, compiled now"), &size, compiled));
    }
    Ok(())
}
