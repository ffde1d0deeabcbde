//! The arguments of `baseline`. The documentation comments are the help texts. Only `set` changes
//! the checkpoint.

use std::path::PathBuf;

use clap::Subcommand;

use super::day;
use crate::model::Day;

const BASELINE_EXAMPLES: &str = "Examples:
  secure-score-forwarder baseline set --tenant contoso --name 2026-q4
  secure-score-forwarder baseline diff --exit-code";

const SET_EXAMPLES: &str = "Examples:
  secure-score-forwarder baseline set --tenant contoso --day 2026-11-01 --name 2026-q4
  secure-score-forwarder baseline set --tenant contoso --file targets.txt";

const SHOW_EXAMPLES: &str = "Examples:
  secure-score-forwarder baseline show
  secure-score-forwarder baseline show --tenant contoso --json";

const DIFF_EXAMPLES: &str = "Examples:
  secure-score-forwarder baseline diff --tenant contoso
  secure-score-forwarder baseline diff --exit-code --json";

#[derive(Debug, Subcommand)]
#[command(after_help = BASELINE_EXAMPLES)]
pub(in crate::cli) enum BaselineCommand {
    /// Set the targets from a stored day or from a file
    Set(BaselineSet),
    /// Print the targets
    Show(BaselineOf),
    /// Print the controls that are below their targets on the newest day
    Diff(BaselineDiff),
}

#[derive(Debug, clap::Args)]
#[command(after_help = SET_EXAMPLES)]
pub(in crate::cli) struct BaselineSet {
    /// The name or the ID of a tenant, or `LABEL=VALUE`; `*` and `?` are wildcards. Can be repeated
    /// [default: all tenants]
    #[arg(long, value_name = "PATTERN")]
    pub tenant: Vec<String>,
    /// The name of the baseline [default: the day, or the name of the file]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The stored day whose scores become the targets [default: the newest]
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub day: Option<Day>,
    /// A file with one control and its target per line, in percent (`AdminMFAV2 100%`) or in points
    /// (`AdminMFAV2 10`) [default: the scores of a stored day]
    #[arg(long, value_name = "FILE", conflicts_with = "day")]
    pub file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = SHOW_EXAMPLES)]
pub(in crate::cli) struct BaselineOf {
    /// The name or the ID of a tenant, or `LABEL=VALUE`; `*` and `?` are wildcards. Can be repeated
    /// [default: all tenants]
    #[arg(long, value_name = "PATTERN")]
    pub tenant: Vec<String>,
    /// Print a JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = DIFF_EXAMPLES)]
pub(in crate::cli) struct BaselineDiff {
    /// The name or the ID of a tenant, or `LABEL=VALUE`; `*` and `?` are wildcards. Can be repeated
    /// [default: all tenants]
    #[arg(long, value_name = "PATTERN")]
    pub tenant: Vec<String>,
    /// Exit with code 1 if a control is below its target, and with code 2 if a tenant has no
    /// baseline or no stored day
    #[arg(long)]
    pub exit_code: bool,
    /// Print a JSON document instead of text
    #[arg(long)]
    pub json: bool,
}
