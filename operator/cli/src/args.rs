//! The command line.

use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand, ValueEnum, ValueHint};

use crate::capture::Kept;
use crate::policy::args::PolicyCommand;

/// What sets do, why groups are where they are, what the cluster looks like.
#[derive(Debug, Parser)]
#[command(name = "muster", version)]
pub(crate) struct Args {
    /// As written before the command, which is kubectl's habit.
    #[command(flatten)]
    pub(crate) corner: Corner,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which cluster. Not a global flag: of the commands, only those have it that ask a cluster.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Cluster {
    /// Context of the kubeconfig; its current one by default.
    #[arg(long)]
    pub(crate) context: Option<String>,
    /// File of the kubeconfig; by default what KUBECONFIG names, else ~/.kube/config.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// Which cluster, and which corner of it.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Corner {
    /// Namespace; that of the kubeconfig's context by default.
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    #[command(flatten)]
    pub(crate) cluster: Cluster,
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
        #[command(flatten)]
        corner: Corner,
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
        #[command(flatten)]
        corner: Corner,
    },
    /// Domains and the groups in them, as a picture.
    Topology {
        /// Key of the node label that makes the domains; by default the one that most groups were placed by.
        #[arg(short, long)]
        level: Option<String>,
        /// How to print it.
        #[arg(short, long, value_enum, default_value_t)]
        output: Picture,
        #[command(flatten)]
        cluster: Cluster,
    },
    /// The cluster's shape (nodes, what is used, what sets hold) as a scenario file, for tests and simulations.
    Snapshot {
        #[command(flatten)]
        kept: Kept,
        #[command(flatten)]
        cluster: Cluster,
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

impl Corner {
    /// What these flags leave open, as those before the command say it.
    pub(crate) fn or(self, before: Corner) -> Self {
        Self { namespace: self.namespace.or(before.namespace), cluster: self.cluster.or(before.cluster) }
    }
}

impl Cluster {
    /// What these flags leave open, as those before the command say it.
    pub(crate) fn or(self, before: Cluster) -> Self {
        Self { context: self.context.or(before.context), kubeconfig: self.kubeconfig.or(before.kubeconfig) }
    }
}

impl Args {
    /// The command line; who gets it wrong is told and the program ends.
    pub(crate) fn read() -> Self {
        Self::try_parse().map_err(advised).unwrap_or_else(|error| error.exit())
    }
}

/// Who names a file where a format is meant is told how a file is named.
fn advised(mut error: clap::Error) -> clap::Error {
    let is_output = matches!(error.get(ContextKind::InvalidArg), Some(ContextValue::String(arg)) if arg.starts_with("--output"));
    if error.kind() == ErrorKind::InvalidValue && is_output {
        let tip = "`--output` says how to print; `muster policy pull` writes the component to `--file`, `muster policy build` to `--out`, \
                   and everything else to a file by `> FILE`";
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(args: &[&str]) -> Option<String> {
        let args = Args::try_parse_from(args).unwrap();
        let Command::Status { corner, .. } = args.command else { panic!("{args:?}") };
        corner.or(args.corner).namespace
    }

    #[test]
    fn a_namespace_is_said_before_or_after_the_command_and_the_latter_counts() {
        assert_eq!(namespace(&["muster", "status", "-n", "ml"]).as_deref(), Some("ml"));
        assert_eq!(namespace(&["muster", "-n", "ml", "status"]).as_deref(), Some("ml"));
        assert_eq!(namespace(&["muster", "-n", "old", "status", "--namespace=ml"]).as_deref(), Some("ml"));
        assert_eq!(namespace(&["muster", "status"]), None);
    }

    #[rstest::rstest]
    #[case::status(&["status"], true, true)]
    #[case::explain(&["explain"], true, true)]
    #[case::record(&["policy", "record"], true, true)]
    #[case::topology(&["topology"], false, true)]
    #[case::snapshot(&["snapshot"], false, true)]
    #[case::check(&["policy", "check"], false, false)]
    #[case::pull(&["policy", "pull"], false, false)]
    #[case::completions(&["completions"], false, false)]
    fn flags_of_a_cluster_are_shown_only_where_one_is_asked(#[case] command: &[&str], #[case] in_one: bool, #[case] asked: bool) {
        let args: Vec<&str> = ["muster"].iter().chain(command).chain(&["--help"]).copied().collect();
        let help = Args::try_parse_from(args).unwrap_err().to_string();
        assert_eq!((help.contains("--namespace"), help.contains("--context")), (in_one, asked), "{help}");
    }

    #[test]
    fn a_file_where_a_format_is_meant_is_answered_with_the_flag_for_files() {
        let error =
            Args::try_parse_from(["muster", "policy", "pull", "r.example/p:1", "-o", "x.wasm"]).map_err(advised).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("`muster policy pull` writes the component to `--file`"), "{said}");
        let other = Args::try_parse_from(["muster", "policy", "new", "x", "--lang", "zig"]).map_err(advised).unwrap_err();
        assert!(!other.to_string().contains("--file"), "{other}");
    }
}
