//! The arguments of the command line. The help texts, the man pages, the shell completions and the
//! command reference are generated from the documentation comments here, so they are written for
//! operators. Nothing in this module reads a file or the environment, except the default path of
//! the configuration.

mod baseline;
mod delivery;
mod program;
mod report;
mod state;
#[cfg(test)]
mod tests;
mod touched;

use std::path::PathBuf;

use clap::{
    Parser, Subcommand, ValueEnum,
    builder::{StringValueParser, TypedValueParser},
};

pub(super) use self::baseline::{BaselineCommand, BaselineDiff, BaselineOf, BaselineSet};
pub(super) use self::delivery::{
    DeadLetters, DeadLettersDiscard, DeadLettersList, DeadLettersRetry, DeadLettersShow, Once,
    Poll, Replay, TestSink,
};
pub(super) use self::program::{
    Complete, Completions, Demo, Man, Names, Reference, Schema, SchemaOf,
};
pub(super) use self::report::ReportArgs;
pub(super) use self::state::{
    StateBackup, StateCommand, StateExport, StateForget, StatePrune, StateRepair, StateRestore,
    StateVerify,
};
pub(super) use self::touched::Touched;
use crate::{
    model::{DAYS_AT_SOURCE, Day, SinkName},
    settings::parse_duration,
};

/// The heading of the options that every command accepts.
const GLOBAL_OPTIONS: &str = "Global options";

const EXAMPLES: &str = "Examples:
  secure-score-forwarder init
  secure-score-forwarder check --online";

const RUN_EXAMPLES: &str = "Examples:
  secure-score-forwarder run
  secure-score-forwarder run --log debug --log-format json";

const INIT_EXAMPLES: &str = "Examples:
  secure-score-forwarder init
  secure-score-forwarder init --cloud us-gov-high --offline";

const RELOAD_EXAMPLES: &str = "Examples:
  secure-score-forwarder reload
  secure-score-forwarder reload --allow-removals";

const FETCH_EXAMPLES: &str = "Examples:
  secure-score-forwarder fetch --tenant contoso
  secure-score-forwarder fetch --days 7 --output jsonl";

const STATUS_EXAMPLES: &str = "Examples:
  secure-score-forwarder status --failing
  secure-score-forwarder status --tenant 'c-1*' --sort age --limit 50";

const BACKFILL_EXAMPLES: &str = "Examples:
  secure-score-forwarder backfill --days 90
  secure-score-forwarder backfill --days 30 --tenant contoso";

const CHECK_EXAMPLES: &str = "Examples:
  secure-score-forwarder check --online
  secure-score-forwarder check --strict --json";

const LOGIN_EXAMPLES: &str = "Examples:
  secure-score-forwarder login
  secure-score-forwarder login --credential partner --device-code";

const CONSENT_URL_EXAMPLES: &str = "Examples:
  secure-score-forwarder consent-url
  secure-score-forwarder consent-url --tenant contoso";

const IMPORT_EXAMPLES: &str = "Examples:
  secure-score-forwarder import contoso.jsonl
  secure-score-forwarder import page-1.json page-2.json";

const IMPORT_CONFIG_EXAMPLES: &str = "Examples:
  secure-score-forwarder import-config ConfigForSecureScoreAPI.json
  secure-score-forwarder import-config ConfigForSecureScoreAPI.json --write config.toml";

/// Forwards Microsoft Secure Score to your SIEM: one record per control and day
#[derive(Debug, Parser)]
#[command(
    name = "secure-score-forwarder",
    version,
    long_version = super::version::long(),
    max_term_width = 100,
    after_help = EXAMPLES
)]
pub struct Args {
    /// The configuration file [default: $SECURE_SCORE_FORWARDER_CONFIG, else
    /// /etc/secure-score-forwarder/config.toml]
    #[arg(long, global = true, value_name = "FILE", help_heading = GLOBAL_OPTIONS)]
    config: Option<PathBuf>,
    /// The least severe level that is logged [default: info for `run`, else error]
    #[arg(long, global = true, value_name = "LEVEL", value_parser = ["error", "warn", "info", "debug", "trace"], help_heading = GLOBAL_OPTIONS)]
    pub(super) log: Option<String>,
    /// The format of the log [default: journal under systemd, else text]
    #[arg(long, global = true, value_enum, value_name = "FORMAT", help_heading = GLOBAL_OPTIONS)]
    pub(super) log_format: Option<LogFormat>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// One line per event
    Text,
    /// One JSON object per line
    Json,
    /// Structured fields, sent to the systemd journal
    Journal,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a configuration interactively, and test it
    Init(Init),
    /// Run the daemon: poll on schedule and deliver records until stopped
    #[command(after_help = RUN_EXAMPLES)]
    Run,
    /// Reload the configuration and print what has changed; an invalid one is rejected and nothing
    /// changes
    Reload(Reload),
    /// Poll all tenants, deliver all records, and exit
    Once(Once),
    /// Request that the daemon poll tenants now
    Poll(Poll),
    /// Print days from the API, without using a sink or a checkpoint
    Fetch(Fetch),
    /// Validate the configuration, the secrets and the state directory
    Check(Check),
    /// Show the state of tenants and sinks
    Status(StatusArgs),
    /// Read older days from the API into the checkpoint
    Backfill(Backfill),
    /// Resend stored days to a sink
    Replay(Replay),
    /// List, show, retry and discard the records that a receiver rejected
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Write a report on one tenant (history, changes, decisions), or an overview of all tenants
    Report(ReportArgs),
    /// Set, print and compare the targets that tenants must not fall below
    #[command(subcommand)]
    Baseline(BaselineCommand),
    /// Maintain the checkpoint
    #[command(subcommand)]
    State(StateCommand),
    /// Send one marked test record to a sink, and wait for its acknowledgement
    TestSink(TestSink),
    /// Sign in as a user, for a credential with kind = "user"
    Login(LoginArgs),
    /// Print the link that an administrator opens to grant the required permission
    ConsentUrl(ConsentUrl),
    /// Import saved responses of the current or the original API into the checkpoint, as history
    Import(Import),
    /// Convert the JSON configuration of the original script
    ImportConfig(ImportConfig),
    /// Run the whole pipeline against a simulated tenant, without an account or a configuration
    Demo(Demo),
    /// Print the JSON Schema of a record or of the configuration
    Schema(Schema),
    /// Print the man page, or write one page per command
    Man(Man),
    /// Write the pages of the reference documentation
    #[command(hide = true)]
    Reference(Reference),
    /// Print the completion script for a shell
    Completions(Completions),
    /// Print the names of the tenants or sinks, one per line, for the completion scripts
    #[command(hide = true)]
    Complete(Complete),
}

#[derive(Debug, clap::Args)]
#[command(after_help = INIT_EXAMPLES)]
pub(super) struct Init {
    /// The directory in which the checkpoint is stored
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/secure-score-forwarder")]
    pub state_directory: PathBuf,
    /// The address on which the status page is served
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9633")]
    pub listen: String,
    /// The Microsoft cloud: global, us-gov-high, us-gov-dod, or `LOGIN_URL,GRAPH_URL`
    #[arg(long, default_value = "global")]
    pub cloud: String,
    /// Write the configuration without testing it
    #[arg(long)]
    pub offline: bool,
}

#[derive(Clone, Copy, Debug, clap::Args)]
#[command(after_help = RELOAD_EXAMPLES)]
pub(super) struct Reload {
    /// Permit the removal of more than 20% of the tenants, if there are at least ten
    #[arg(long)]
    pub allow_removals: bool,
    /// Print the changes as a JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = FETCH_EXAMPLES)]
pub(super) struct Fetch {
    /// The number of days to print, counting back from today: 1 to 90
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=i64::from(DAYS_AT_SOURCE)))]
    pub days: i32,
    /// The output format
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// The name or the ID of a tenant, or `LABEL=VALUE`; `*` and `?` are wildcards. Can be repeated
    /// [default: all tenants]
    #[arg(long, value_name = "PATTERN")]
    pub tenant: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// A table for a terminal
    Table,
    /// One JSON array of records
    Json,
    /// One JSON record per line
    Jsonl,
    /// Comma-separated values with a header
    Csv,
    /// The snapshots as Microsoft sent them, one per line
    Raw,
}

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub(super) struct StatusArgs {
    /// Show only tenants with this name or ID, or `LABEL=VALUE`; `*` and `?` are wildcards. Can be
    /// repeated [default: all tenants]
    #[arg(long, value_name = "PATTERN")]
    pub tenant: Vec<String>,
    /// Show only sinks whose names match; `*` and `?` are wildcards. Can be repeated [default: all
    /// sinks]
    #[arg(long, value_name = "PATTERN")]
    pub sink: Vec<String>,
    /// Show only tenants and sinks that need attention
    #[arg(long)]
    pub failing: bool,
    /// The order of the tenants
    #[arg(long, value_enum, default_value_t = StatusSort::Severity)]
    pub sort: StatusSort,
    /// The maximum number of tenants in the table; JSON contains all
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// Print JSON instead of tables
    #[arg(long)]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum StatusSort {
    /// Failing tenants first, then in the order of the configuration
    Severity,
    /// By name
    Name,
    /// The tenant with the oldest data first
    Age,
}

#[derive(Debug, clap::Args)]
#[command(after_help = BACKFILL_EXAMPLES)]
pub(super) struct Backfill {
    /// The number of days to read, including today: 1 to 90; at least the newest 3 are read
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=i64::from(DAYS_AT_SOURCE)))]
    pub days: i32,
    /// The name or the ID of a tenant, or `LABEL=VALUE`; `*` and `?` are wildcards. Can be repeated
    /// [default: all tenants]
    #[arg(long, value_name = "PATTERN")]
    pub tenant: Vec<String>,
}

#[derive(Debug, Default, clap::Args)]
#[command(after_help = CHECK_EXAMPLES)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent option")]
pub(super) struct Check {
    /// Also sign in, read one snapshot, compare the granted permissions with the required ones, and
    /// contact each receiver without sending a record
    #[arg(long)]
    pub online: bool,
    /// Exit with code 2 if there are warnings
    #[arg(long)]
    pub strict: bool,
    /// Also print the value of every key, and where it is set; secrets are not read
    #[arg(long)]
    pub show_effective: bool,
    /// Print a JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = LOGIN_EXAMPLES)]
pub(super) struct LoginArgs {
    /// The name of the shared credential [default: the only credential with kind = "user"]
    #[arg(long, value_name = "NAME", conflicts_with = "tenant")]
    pub credential: Option<String>,
    /// The tenant whose section contains the credential: its name or its ID, or `LABEL=VALUE`; `*`
    /// and `?` are wildcards, and must match only one tenant [default: the only credential with
    /// kind = "user"]
    #[arg(long, value_name = "PATTERN")]
    pub tenant: Option<String>,
    /// Sign in on another device with a code, instead of in a browser on this host
    #[arg(long)]
    pub device_code: bool,
    /// Store the refresh token unencrypted if no `token_key` is configured
    #[arg(long)]
    pub plaintext: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = CONSENT_URL_EXAMPLES)]
pub(super) struct ConsentUrl {
    /// The name or the ID of a tenant, or `LABEL=VALUE`; `*` and `?` are wildcards. Can be repeated
    /// [default: all tenants]
    #[arg(long, value_name = "PATTERN")]
    pub tenant: Vec<String>,
    /// The page that the browser shows after consent; the application must have it as a redirect
    /// URI. The registration scripts register the default
    #[arg(long, value_name = "URI", default_value = super::consent_url::REDIRECT_URI)]
    pub redirect_uri: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = IMPORT_EXAMPLES)]
pub(super) struct Import {
    /// Files with saved responses: pages, arrays or single days, as JSON or JSON Lines
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = IMPORT_CONFIG_EXAMPLES)]
pub(super) struct ImportConfig {
    /// The `ConfigForSecureScoreAPI.json` file of the original script
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The file to which the configuration is written [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// The file to which the application's secret is written; the configuration never contains the
    /// secret [default: the secret is not written]
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
}

impl Args {
    /// The path in `--config`, else in `$SECURE_SCORE_FORWARDER_CONFIG`, else the default path.
    pub(super) fn config_path(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(super::default_config)
    }
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    parse_duration(text).ok_or_else(|| {
        "expected a number with a unit (ms, s, m, h or d), such as `50ms`".to_owned()
    })
}

fn day(text: &str) -> Result<Day, String> {
    Day::parse(text).ok_or_else(|| "expected a date such as `2026-11-22`".to_owned())
}

/// The parser of the name of a sink. It accepts any text: the command states which sinks exist.
fn sink_name() -> impl TypedValueParser<Value = SinkName> {
    StringValueParser::new().map(|name| SinkName::new(&name))
}
