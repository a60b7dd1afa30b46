//! Reconciling one set, in five steps.

mod advise;
mod apply;
mod consult;
mod observe;
mod restore;
mod revision;

use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt as _;
use kube::runtime::controller::{self, Action, Config, Controller};
use muster_api::conditions::event;
use muster_api::{LeaderWorkerSet, defaults, validate};
use muster_core::admission::{Choice, choose};
use muster_core::decide;
use muster_core::plan::{Note, Plan};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::caches::{Caches, SetRef};
use crate::context::Context;

/// Why a reconcile did not get to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A write failed.
    #[error("{what}: {source}")]
    Write {
        /// The write, as the plan names it.
        what: String,
        /// The API server's answer.
        source: kube::Error,
    },
}

/// One reconcile: observe → validate → advise → decide → apply (writes, then status).
async fn reconcile(set: Arc<LeaderWorkerSet>, cx: Arc<Context>) -> Result<Action, Error> {
    let began = Instant::now();
    let now = cx.now();
    let observed = observe::observe(&cx.caches, &set);
    let mut notes = Vec::new();
    let plan = match validated(&set) {
        Err(faults) => Plan { notes: vec![Note::warning(event::INVALID_SPEC, "Validate", faults)], ..Plan::default() },
        Ok(set) => {
            let choice = chosen(&cx, &set);
            let advised = advise::advise(&cx, &set, &observed, &choice, now).await;
            notes = advised.notes;
            decide(&set, &observed, &choice, &advised.advice, now)
        }
    };
    tracing::debug!(set = %SetRef::from_obj(&*set), %plan, "decided");
    let applied = apply::apply(&cx, &set, &plan).await;
    // What policies did is so whatever becomes of the plan.
    for note in &notes {
        apply::publish(&cx, &set, note).await;
    }
    cx.metrics.reconcile(if applied.is_ok() { "done" } else { "failed" }, began.elapsed());
    applied?;
    cx.failures.clear(&SetRef::from_obj(&*set));
    Ok(plan.requeue.map_or_else(Action::await_change, Action::requeue))
}

/// The set with defaults filled in, or what to tell its owner. Admission refuses such sets; one that slipped past it (stored
/// before, or while the webhook was away) is left as it stands.
fn validated(set: &LeaderWorkerSet) -> Result<LeaderWorkerSet, String> {
    let mut complete = set.clone();
    defaults::default_set(&mut complete);
    // What is forbidden only to change, or only to create, is no fault of a set that exists.
    let verdict = validate::validate_update(&complete, &complete);
    if verdict.errors.is_empty() {
        return Ok(complete);
    }
    let faults: Vec<String> = verdict.errors.iter().map(ToString::to_string).collect();
    Err(format!("Nothing is changed for this set until its spec is corrected: {}", faults.join("; ")))
}

fn chosen(cx: &Context, set: &LeaderWorkerSet) -> Choice {
    let none = Default::default();
    let annotations = set.metadata.annotations.as_ref().unwrap_or(&none);
    let labels = set.metadata.labels.as_ref().unwrap_or(&none);
    choose(annotations, labels, &cx.caches.namespace_annotations(set.set_namespace()), &cx.config.defaults())
}

/// Reconciles sets until the process ends. Before the first decision the ledger knows what every set holds.
pub(crate) async fn run(cx: Context, due: mpsc::UnboundedReceiver<SetRef>) {
    for set in cx.caches.sets.state() {
        if let Ok(complete) = validated(&set) {
            let observed = observe::observe(&cx.caches, &complete);
            let choice = chosen(&cx, &complete);
            advise::enter_holdings(&cx, &complete, &observed, &choice);
            advise::enter_claims(&cx, &complete, &observed, &choice);
        }
        cx.caches.make_due(SetRef::from_obj(&*set));
    }
    tokio::spawn(wake_waiting(cx.clone()));
    let store = cx.caches.sets.clone();
    let concurrency = cx.config.concurrency;
    let memory = cx.clone();
    Controller::for_stream(futures::stream::pending(), store)
        .with_config(Config::default().concurrency(concurrency))
        .reconcile_on(UnboundedReceiverStream::new(due))
        .run(reconcile, after_failure, Arc::new(cx))
        .for_each(|outcome| {
            match outcome {
                Err(controller::Error::ObjectNotFound(gone)) => forget(&memory, &gone.into_kind_unchecked(())),
                Err(error) => tracing::debug!(%error, "reconcile ended early"),
                Ok(_) => {}
            }
            std::future::ready(())
        })
        .await;
}

/// The set is gone, and with it everything this process remembers of it.
fn forget(cx: &Context, gone: &SetRef) {
    cx.applied.forget(gone);
    cx.failures.clear(gone);
    cx.waiting.update(gone, &std::collections::HashSet::new(), Vec::new(), cx.now());
}

#[expect(clippy::needless_pass_by_value, reason = "the controller calls it with these types")]
fn after_failure(set: Arc<LeaderWorkerSet>, error: &Error, cx: Arc<Context>) -> Action {
    let set = SetRef::from_obj(&*set);
    let delay = cx.failures.back_off(&set);
    tracing::warn!(%set, %error, ?delay, "reconcile failed, trying again");
    Action::requeue(delay)
}

/// Brings the sets that wait for room back whenever the cluster has changed, at most five times a second.
async fn wake_waiting(cx: Context) {
    let mut moves = cx.caches.index_moves();
    while moves.changed().await.is_ok() {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        moves.borrow_and_update();
        let caches: &Caches = &cx.caches;
        cx.waiting.sets().into_iter().for_each(|set| caches.make_due(set));
    }
}
