//! What can be typed.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::{model::Day, settings::parse_duration};

/// Streams Microsoft Secure Score, one record per control, to the SIEM you already have.
#[derive(Debug, Parser)]
#[command(name = "secure-score-forwarder", version, max_term_width = 100)]
pub struct Args {
    /// The configuration [default: $SECURE_SCORE_FORWARDER_CONFIG, else /etc/secure-score-forwarder/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How much to log to standard error: error, warn, info, debug, trace
    #[arg(long, global = true, value_name = "LEVEL", value_parser = ["error", "warn", "info", "debug", "trace"])]
    pub(super) log: Option<String>,
    /// How to log [default: the journal's fields under systemd, else text]
    #[arg(long, global = true, value_enum, value_name = "FORMAT")]
    pub(super) log_format: Option<LogFormat>,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    /// One object a line
    Json,
    /// Fields, to systemd's journal
    Journal,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Ask, write a configuration, and prove that it works
    Init(Init),
    /// Poll every day and deliver, until told to stop
    Run,
    /// Tell the daemon to go on with the configuration as it is now; refused whole on a fault
    Reload,
    /// Poll all tenants, deliver everything, and exit
    Once,
    /// Print days straight from the API; no sink, no checkpoint
    Fetch(Fetch),
    /// Validate the configuration and the secrets, and say what a new sink would be sent
    Check(Check),
    /// Show how far everything has got
    Status(Status),
    /// Read days back from the API into the checkpoint
    Backfill(Backfill),
    /// Send days, or dead letters, to a sink once more
    Replay(Replay),
    /// History, changes and decisions of one tenant for people; of several, a line each
    Report(Report),
    /// What tenants want to keep, and what has drifted from it
    #[command(subcommand)]
    Baseline(Baseline),
    /// Care of the checkpoint
    #[command(subcommand)]
    State(State),
    /// Send one clearly marked test record to a sink, and wait for the proof that it arrived
    TestSink(TestSink),
    /// Sign in as a user, for credentials of kind = "user"
    Login(Login),
    /// Print the link by which an administrator grants what the app needs
    ConsentUrl(ConsentUrl),
    /// Take saved answers of either API into the checkpoint, as history
    Import(Import),
    /// Turn the original script's JSON configuration into one for this program
    ImportConfig(ImportConfig),
    /// Try everything against a simulated tenant: no account, no configuration
    Demo(Demo),
    /// Print a JSON Schema: of the record, or of the configuration
    Schema(Schema),
    /// Print the man page, or write one for every command
    Man(Man),
    /// Print completions for a shell
    Completions(Completions),
}

#[derive(Debug, clap::Args)]
pub(super) struct Init {
    /// Where the checkpoint is to be kept
    #[arg(long, value_name = "DIRECTORY", default_value = "/var/lib/secure-score-forwarder")]
    pub state_directory: PathBuf,
    /// Where the status page is to be
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9633")]
    pub listen: String,
    /// The Microsoft cloud: global, us-gov-high, us-gov-dod, or two URLs, of login and Graph, with a comma between
    #[arg(long, default_value = "global")]
    pub cloud: String,
    /// Write only, prove nothing
    #[arg(long)]
    pub offline: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Fetch {
    /// Days to print, newest first: 1 to 90
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=90))]
    pub days: i32,
    /// How to print them
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// The tenant to read [default: all]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    Table,
    /// One JSON list
    Json,
    /// One JSON record a line
    Jsonl,
    Csv,
    /// The snapshots as Microsoft sent them, one a line
    Raw,
}

#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// As JSON, for programs
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Backfill {
    /// Days to read back, today included: 1 to 90
    #[arg(long, value_parser = clap::value_parser!(i32).range(1..=90))]
    pub days: i32,
    /// The tenant to read [default: all]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Replay {
    /// The sink to send to
    #[arg(long, value_name = "NAME")]
    pub sink: String,
    /// The first day
    #[arg(long, value_name = "DAY", value_parser = day, required_unless_present = "rejected")]
    pub from: Option<Day>,
    /// The last day [default: today]
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub to: Option<Day>,
    /// The dead letters of this sink instead of days
    #[arg(long, conflicts_with_all = ["from", "to"])]
    pub rejected: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Report {
    /// The tenant [default: all, a line each if there are several]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// The first day [default: so many --days before the last]
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub from: Option<Day>,
    /// The last day [default: today]
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub to: Option<Day>,
    /// Days to look back
    #[arg(long, default_value_t = 365, conflicts_with = "from", value_parser = clap::value_parser!(i32).range(1..=36_500))]
    pub days: i32,
    /// What to write
    #[arg(long, value_enum, default_value_t = ReportFormat::Html)]
    pub format: ReportFormat,
    /// Where to write it [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ReportFormat {
    /// One page that needs nothing else
    Html,
    /// A line a day
    Csv,
    Markdown,
    Json,
}

#[derive(Debug, Subcommand)]
pub(super) enum Baseline {
    /// Take a day, or a file of targets, as what is to be kept from now on
    Set(BaselineSet),
    /// Print the targets
    Show(BaselineOf),
    /// Print what is below its target on the newest day
    Diff(BaselineDiff),
}

#[derive(Debug, clap::Args)]
pub(super) struct BaselineSet {
    /// The tenant [default: all]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// What to call it [default: the day, or the name of the file]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The day whose scores are the targets [default: the newest]
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub day: Option<Day>,
    /// A file with a control and its target on each line: `AdminMFAV2 100%`, or points: `AdminMFAV2 10`
    #[arg(long, value_name = "FILE", conflicts_with = "day")]
    pub file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct BaselineOf {
    /// The tenant [default: all]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct BaselineDiff {
    /// The tenant [default: all]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// End with 1 if anything is below its target
    #[arg(long)]
    pub exit_code: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum State {
    /// Read everything that is kept once, and say what is not as it was written
    Verify,
    /// Mend what can be repaired; set a database aside that cannot be used
    Repair(StateRepair),
    /// Write all of it into one file, also beside a running daemon
    Backup(StateBackup),
    /// Put a backup in the checkpoint's place, under an id of its own
    Restore(StateRestore),
    /// Let go of texts past `state.retention_days` that every sink has had
    Prune(StatePrune),
    /// Print the days that are kept as Microsoft sent them, one a line: `import` reads it
    Export(StateExport),
    /// Erase a tenant that is no longer configured, with a receipt
    Forget(StateForget),
}

#[derive(Debug, clap::Args)]
pub(super) struct StateRepair {
    /// Set the database aside, too, if part of it cannot be repaired: all but what Microsoft still has
    /// is lost to the new one
    #[arg(long)]
    pub set_aside: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct StateBackup {
    /// The file to write; it must not be there yet
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct StateRestore {
    /// A file that `state backup` wrote
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct StatePrune {
    /// Give what is free inside the file back to the disk; wants the daemon stopped
    #[arg(long)]
    pub compact: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct StateExport {
    /// The tenant [default: all]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// The first day
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub from: Option<Day>,
    /// The last day
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub to: Option<Day>,
}

#[derive(Debug, clap::Args)]
pub(super) struct StateForget {
    /// The tenant's GUID
    #[arg(long, value_name = "GUID")]
    pub tenant: String,
    /// Yes, erase it
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct TestSink {
    /// The sink to try
    #[arg(value_name = "NAME")]
    pub name: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// Ask the others too: sign in, read once, compare what is granted with what is needed, and try each sink without a record
    #[arg(long)]
    pub online: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Login {
    /// The shared credential to sign in for
    #[arg(long, value_name = "NAME", conflicts_with = "tenant")]
    pub credential: Option<String>,
    /// The tenant whose own credential it is
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
    /// With a code to type on another device, instead of a browser on this one
    #[arg(long)]
    pub device_code: bool,
    /// Keep the refresh token unsealed, where no `token_key` is configured
    #[arg(long)]
    pub plaintext: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ConsentUrl {
    /// The tenant to consent in [default: all]
    #[arg(long, value_name = "NAME")]
    pub tenant: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// Files of saved answers: pages, lists or single days, as JSON or JSON lines
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ImportConfig {
    /// The original script's ConfigForSecureScoreAPI.json
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where to write the configuration [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Where to write the app's secret, which never goes into the configuration
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// Keep the simulated tenant up, and print how to reach it
    #[arg(long)]
    pub serve: bool,
    /// The port for --serve; 0 takes any that is free
    #[arg(long, default_value_t = 0, requires = "serve")]
    pub port: u16,
    /// Tenants to simulate beside the first, for --serve
    #[arg(long, default_value_t = 0, requires = "serve", value_name = "N")]
    pub tenants: usize,
    /// How long each answer takes, for --serve: such as 50ms
    #[arg(long, default_value = "0s", requires = "serve", value_name = "TIME", value_parser = duration)]
    pub latency: std::time::Duration,
    /// The newest day that is told, for --serve [default: today]
    #[arg(long, requires = "serve", value_name = "DAY", value_parser = day)]
    pub today: Option<Day>,
    /// Where to write the report that it ends with
    #[arg(
        long,
        value_name = "FILE",
        default_value = "secure-score-demo.html",
        conflicts_with = "serve"
    )]
    pub report: PathBuf,
    /// Days of history to stream: 1 to 90
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(i32).range(1..=90), conflicts_with = "serve")]
    pub days: i32,
}

#[derive(Debug, clap::Args)]
pub(super) struct Man {
    /// Where to write a page for each command [default: the main one to standard output]
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Completions {
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Schema {
    /// Which schema
    #[arg(value_enum, default_value_t = SchemaOf::Record)]
    pub of: SchemaOf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SchemaOf {
    Record,
    Configuration,
}

impl From<ReportFormat> for crate::report::Format {
    fn from(format: ReportFormat) -> Self {
        match format {
            ReportFormat::Html => Self::Html,
            ReportFormat::Csv => Self::Csv,
            ReportFormat::Markdown => Self::Markdown,
            ReportFormat::Json => Self::Json,
        }
    }
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    parse_duration(text).ok_or_else(|| "a time is a number and ms, s, m or h".to_owned())
}

fn day(text: &str) -> Result<Day, String> {
    Day::parse(text).ok_or_else(|| "a day is written 2026-11-22".to_owned())
}

impl Args {
    pub(super) fn config_path(&self) -> PathBuf {
        self.config.clone().unwrap_or_else(super::default_config)
    }
}
