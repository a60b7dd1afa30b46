//! `muster`, also installed as `kubectl-muster`: what a set does, why a group is where it is or waits, what the cluster looks like.
//!
//! ```text
//!  args ─► read (one set, or all that placement looks at) ─► status │ explain │ topology: plain values ─► output: text, JSON, YAML, SVG, HTML
//! ```
//! It reads with its user's rights and writes nothing. What it says about room comes from the operator's own index (`muster-core`).

mod args;
mod capture;
mod explain;
mod output;
mod picture;
mod policy;
mod read;
mod status;
mod topology;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::CommandFactory as _;
use k8s_openapi::jiff::Timestamp;

use crate::args::{Args, Command, Picture};
use crate::read::Reader;

/// How often `--watch` looks again.
const PULSE: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> ExitCode {
    match run(Args::read()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<()> {
    let before = args.corner;
    match args.command {
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Args::command(), "muster", &mut std::io::stdout());
            Ok(())
        }
        Command::Policy { command } => policy::run(*command, before).await,
        Command::Snapshot { kept, cluster } => {
            let reader = Reader::of_all(&cluster.or(before.cluster)).await?;
            capture::snapshot(&reader, &kept).await
        }
        Command::Status { set: None, all_namespaces, watch, output, corner } => {
            let corner = corner.or(before);
            let reader = if all_namespaces { Reader::of_all(&corner.cluster).await? } else { Reader::of(&corner).await? };
            follow(watch, async || {
                let overview: Vec<_> = reader.sets().await?.iter().map(status::Overview::of).collect();
                output::text(output, &overview, || status::table(&overview))
            })
            .await
        }
        Command::Status { set: Some(set), watch, output, corner, .. } => {
            let reader = Reader::of(&corner.or(before)).await?;
            follow(watch, async || {
                let (set, observed) = reader.set(&set).await?;
                let tree = status::Tree::of(&set, &observed, Timestamp::now());
                output::text(output, &tree, || tree.render())
            })
            .await
        }
        Command::Explain { set, group, output, corner } => {
            let reader = Reader::of(&corner.or(before)).await?;
            let world = reader.world().await?;
            let explained = explain::explain(&world, &reader.placement_policies().await, (reader.namespace(), &set), group)?;
            output::show(output, &explained, || explain::render(&explained))
        }
        Command::Topology { level, output, cluster } => {
            let reader = Reader::of_all(&cluster.or(before.cluster)).await?;
            let map = topology::Map::of(&reader.world().await?, level.as_deref())?;
            match output {
                Picture::Text => output::print(&map.render()),
                Picture::Json => output::print(&serde_json::to_string_pretty(&map)?),
                Picture::Yaml => output::print(&serde_norway::to_string(&map)?),
                Picture::Svg => output::print(&picture::svg(&map)),
                Picture::Html => output::print(&picture::html(&map)),
            }
            Ok(())
        }
    }
}

/// Shows something once, or again whenever it has changed until the user has seen enough.
async fn follow(watch: bool, look: impl AsyncFn() -> Result<String>) -> Result<()> {
    let mut shown = look().await?;
    if !watch {
        output::print(&shown);
        return Ok(());
    }
    output::redraw(&shown);
    loop {
        tokio::time::sleep(PULSE).await;
        // A cluster that doesn't answer for a moment is no reason to stop watching it.
        if let Ok(now) = look().await
            && now != shown
        {
            shown = now;
            output::redraw(&shown);
        }
    }
}
