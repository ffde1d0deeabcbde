//! The arguments of the command line. The help texts, the man pages, the shell completions and the
//! command reference are generated from the documentation comments here, so they are written for
//! operators. Nothing in this module reads a file or the environment, except the default path of
//! the configuration.

mod delivery;
mod report;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

pub(super) use self::delivery::{
    DeadLetters, DeadLettersDiscard, DeadLettersList, DeadLettersRetry, DeadLettersShow, Once,
    Poll, Replay, StateVerify, TestSink,
};
pub(super) use self::report::Report;
use crate::{model::Day, settings::parse_duration};

/// Forwards Microsoft Secure Score to your SIEM: one record per control and day
#[derive(Debug, Parser)]
#[command(name = "secure-score-forwarder", version, max_term_width = 100)]
pub struct Args {
    /// The configuration file [default: $SECURE_SCORE_FORWARDER_CONFIG, else /etc/secure-score-forwarder/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The least severe level that is logged [default: info for `run`, else error]
    #[arg(long, global = true, value_name = "LEVEL", value_parser = ["error", "warn", "info", "debug", "trace"])]
    pub(super) log: Option<String>,
    /// The format of the log [default: journal under systemd, else text]
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
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
    Run,
    /// Reload the configuration and print what has changed; an invalid one is rejected and nothing changes
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
    Status(Status),
    /// Read older days from the API into the checkpoint
    Backfill(Backfill),
    /// Resend stored days to a sink
    Replay(Replay),
    /// List, show, retry and discard the records that a receiver rejected
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Write a report on one tenant (history, changes, decisions), or an overview of all tenants
    Report(Report),
    /// Set, print and compare the targets that tenants must not fall below
    #[command(subcommand)]
    Baseline(Baseline),
    /// Maintain the checkpoint
    #[command(subcommand)]
    State(State),
    /// Send one marked test record to a sink, and wait for its acknowledgement
    TestSink(TestSink),
    /// Sign in as a user, for a credential with kind = "user"
    Login(Login),
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
}

#[derive(Debug, clap::Args)]
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
pub(super) struct Reload {
    /// Permit the removal of more than 20 % of the tenants, if there are at least ten
    #[arg(long)]
    pub allow_removals: bool,
    /// Print the changes as a JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Fetch {
    /// The number of days to print, counting back from today: 1 to 90
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=90))]
    pub days: i32,
    /// The output format
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// The name of the tenant to read [default: all tenants]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
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

#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// Show only tenants whose names match; `*` and `?` are wildcards. Can be repeated
    #[arg(long, value_name = "PATTERN")]
    pub tenant: Vec<String>,
    /// Show only sinks whose names match; `*` and `?` are wildcards. Can be repeated
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
pub(super) struct Backfill {
    /// The number of days to read, including today: 1 to 90
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=90))]
    pub days: i32,
    /// The name of the tenant to read [default: all tenants]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Baseline {
    /// Set the targets from a stored day or from a file
    Set(BaselineSet),
    /// Print the targets
    Show(BaselineOf),
    /// Print the controls that are below their targets on the newest day
    Diff(BaselineDiff),
}

#[derive(Debug, clap::Args)]
pub(super) struct BaselineSet {
    /// The name of the tenant [default: all tenants]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// The name of the baseline [default: the day, or the name of the file]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The stored day whose scores become the targets [default: the newest]
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub day: Option<Day>,
    /// A file with one control and its target per line, in percent (`AdminMFAV2 100%`) or in points (`AdminMFAV2 10`)
    #[arg(long, value_name = "FILE", conflicts_with = "day")]
    pub file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct BaselineOf {
    /// The name of the tenant [default: all tenants]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Print a JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct BaselineDiff {
    /// The name of the tenant [default: all tenants]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Exit with code 1 if a control is below its target, and with code 2 if a tenant has no baseline or no stored day
    #[arg(long)]
    pub exit_code: bool,
    /// Print a JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum State {
    /// Read all stored data, and report any damage
    Verify(StateVerify),
    /// Repair damaged data, and rename a database that cannot be used
    Repair(StateRepair),
    /// Write a backup to a file, even while the daemon is running
    Backup(StateBackup),
    /// Replace the checkpoint with a backup; the restored checkpoint gets a new ID
    Restore(StateRestore),
    /// Prune the bodies of days that are older than `state.retention_days` and delivered to every sink
    Prune(StatePrune),
    /// Print the stored days as Microsoft sent them, one per line, for `import`
    Export(StateExport),
    /// Erase the data of a tenant that is no longer configured, and print a receipt
    Forget(StateForget),
}

#[derive(Debug, clap::Args)]
pub(super) struct StateRepair {
    /// If some damage cannot be repaired, rename the database; the next start creates a new one, and reads
    /// the days that Microsoft still keeps
    #[arg(long)]
    pub set_aside: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct StateBackup {
    /// The file to write; an existing file is not overwritten
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct StateRestore {
    /// A file written by `state backup`
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct StatePrune {
    /// Return the free space in the database file to the file system; the daemon must be stopped
    #[arg(long)]
    pub compact: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct StateExport {
    /// The name of the tenant [default: all tenants]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// The first day [default: the oldest]
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub from: Option<Day>,
    /// The last day [default: the newest]
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub to: Option<Day>,
}

#[derive(Debug, clap::Args)]
pub(super) struct StateForget {
    /// The GUID of the tenant
    #[arg(long, value_name = "GUID")]
    pub tenant: String,
    /// Confirm the erasure, which cannot be undone
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, Default, clap::Args)]
pub(super) struct Check {
    /// Also sign in, read one snapshot, compare the granted permissions with the required ones, and contact each receiver without sending a record
    #[arg(long)]
    pub online: bool,
    /// Exit with code 2 if there are warnings
    #[arg(long)]
    pub strict: bool,
    /// Print a JSON document instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Login {
    /// The name of the shared credential
    #[arg(long, value_name = "NAME", conflicts_with = "tenant")]
    pub credential: Option<String>,
    /// The name of the tenant, for a credential that is configured in the section of the tenant
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// Sign in on another device with a code, instead of in a browser on this host
    #[arg(long)]
    pub device_code: bool,
    /// Store the refresh token unencrypted if no `token_key` is configured
    #[arg(long)]
    pub plaintext: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ConsentUrl {
    /// The name of the tenant to print the link for [default: all tenants]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// The page that the browser shows after consent; the application must have it as a redirect URI. The registration scripts register the default
    #[arg(long, value_name = "URI", default_value = super::consent_url::REDIRECT_URI)]
    pub redirect_uri: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// Files with saved responses: pages, arrays or single days, as JSON or JSON Lines
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ImportConfig {
    /// The `ConfigForSecureScoreAPI.json` file of the original script
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The file to which the configuration is written [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// The file to which the application's secret is written; the configuration never contains the secret
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// Serve the simulated tenant until interrupted, and print its URLs and credentials
    #[arg(long)]
    pub serve: bool,
    /// The port for --serve; 0 selects a free port
    #[arg(long, default_value_t = 0, requires = "serve")]
    pub port: u16,
    /// The number of additional tenants to simulate, for --serve
    #[arg(long, default_value_t = 0, requires = "serve", value_name = "N")]
    pub tenants: usize,
    /// The delay of each response, for --serve, such as 50ms
    #[arg(long, default_value = "0s", requires = "serve", value_name = "TIME", value_parser = duration)]
    pub latency: std::time::Duration,
    /// The newest day that is served, for --serve [default: today]
    #[arg(long, requires = "serve", value_name = "DAY", value_parser = day)]
    pub today: Option<Day>,
    /// The file to which the report is written
    #[arg(
        long,
        value_name = "FILE",
        default_value = "secure-score-demo.html",
        conflicts_with = "serve"
    )]
    pub report: PathBuf,
    /// The number of days to read: 1 to 90
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(i32).range(1..=90), conflicts_with = "serve")]
    pub days: i32,
}

#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// The directory to which one page per command is written [default: only the main page, to standard output]
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Reference {
    /// The directory to which the pages are written
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: PathBuf,
}

#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Completions {
    /// The shell for which the script is printed
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Schema {
    /// The schema to print
    #[arg(value_enum, default_value_t = SchemaOf::Record)]
    pub of: SchemaOf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SchemaOf {
    /// A record in the canonical JSON
    Record,
    /// The configuration file
    Configuration,
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
