//! The command line.

use clap::{Parser, Subcommand, ValueEnum};

use crate::capture::Kept;
use crate::policy::args::PolicyCommand;

/// What sets do, why groups are where they are, what the cluster looks like.
#[derive(Debug, Parser)]
#[command(name = "muster", version)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) cluster: Cluster,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which cluster, and which corner of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Cluster {
    /// Namespace; that of the kubeconfig's context by default.
    #[arg(short, long, global = true, help_heading = "Cluster")]
    pub(crate) namespace: Option<String>,
    /// Context of the kubeconfig; its current one by default.
    #[arg(long, global = true, help_heading = "Cluster")]
    pub(crate) context: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A set's groups and pods as a tree; without a name, all sets.
    Status {
        /// Name of a LeaderWorkerSet.
        set: Option<String>,
        /// Sets of all namespaces.
        #[arg(short = 'A', long)]
        all_namespaces: bool,
        /// Go on and show what changes.
        #[arg(short, long)]
        watch: bool,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Why the groups of a set are where they are, or wait: every domain and its reason.
    Explain {
        /// Name of a LeaderWorkerSet.
        set: String,
        /// Only this group.
        group: Option<u32>,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Domains and the groups in them, as a picture.
    Topology {
        /// Key of the node label that makes the domains; by default the one that most groups were placed by.
        #[arg(short, long)]
        level: Option<String>,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Picture,
    },
    /// The cluster's shape (nodes, what is used, what sets hold) as a scenario file, for tests and simulations.
    Snapshot {
        #[command(flatten)]
        kept: Kept,
    },
    /// Write, try and measure policies, with the operator's own code.
    Policy {
        #[command(subcommand)]
        command: Box<PolicyCommand>,
    },
    /// Completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Text for people, the rest for machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    #[default]
    Text,
    Json,
    Yaml,
}

/// Also as a drawing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Picture {
    #[default]
    Text,
    Json,
    Yaml,
    Svg,
    /// One file, without anything from elsewhere.
    Html,
}
