//! The command line: one file a command. Data goes to standard output, messages to standard error.

mod args;
mod backfill;
mod baseline;
mod check;
mod consent_url;
mod demo;
mod fetch;
mod import;
mod import_config;
mod init;
mod login;
mod man;
mod once;
mod online;
mod reload;
mod replay;
mod report;
mod run;
mod schema;
mod state;
mod status;
mod test_sink;

use std::{
    fmt,
    io::Write,
    path::{Path, PathBuf},
};

pub use args::Args;
use args::Command;
use clap::Parser;
use tracing_subscriber::filter::LevelFilter;

use crate::{
    checkpoint::{Checkpoint, CheckpointError, Holder},
    config::{ConfigError, Configuration},
    daemon::{BuildError, RunError},
    error::{Explanation, Hint, chain},
    source::SourceError,
    telemetry,
};

/// How a command ends. The numbers are part of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Done = 0,
    /// Something is still missing, and stays queued.
    Incomplete = 1,
    /// The configuration or the command line is wrong.
    Usage = 2,
    /// The checkpoint is unusable.
    Unusable = 3,
    Interrupted = 130,
}

/// A command that failed: how it ends, and what is printed.
#[derive(Debug)]
pub struct Failed {
    exit: Exit,
    /// One for each fault; at least one.
    explanations: Vec<Explanation>,
}

impl Failed {
    fn new(exit: Exit, explanation: impl Into<Explanation>) -> Self {
        Self { exit, explanations: vec![explanation.into()] }
    }

    /// An error with its causes and its hint.
    fn of(exit: Exit, error: &impl Hint) -> Self {
        Self::new(exit, Explanation::of(error))
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, explanation) in self.explanations.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            f.write_str(&rendered(explanation))?;
        }
        Ok(())
    }
}

impl From<ConfigError> for Failed {
    fn from(error: ConfigError) -> Self {
        Self { exit: Exit::Usage, explanations: error.explanations() }
    }
}

impl From<CheckpointError> for Failed {
    fn from(error: CheckpointError) -> Self {
        let exit = match &error {
            CheckpointError::SinkExists(..) | CheckpointError::NoBackup(..) => Exit::Usage,
            error if error.is_unusable() => Exit::Unusable,
            _ => Exit::Incomplete,
        };
        Self::of(exit, &error)
    }
}

impl From<BuildError> for Failed {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Checkpoint(error) => error.into(),
            other => Self::of(Exit::Usage, &other),
        }
    }
}

impl From<RunError> for Failed {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Checkpoint(error) => error.into(),
            other => Self::new(Exit::Incomplete, chain(&other)),
        }
    }
}

impl From<SourceError> for Failed {
    fn from(error: SourceError) -> Self {
        Self::of(Exit::Usage, &error)
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        // A reader that closes the pipe early is not a failure of the command.
        let exit = match error.kind() {
            std::io::ErrorKind::BrokenPipe => Exit::Done,
            _ => Exit::Incomplete,
        };
        Self::new(exit, chain(&error))
    }
}

/// Runs a command and says how it ended.
pub fn main() -> Exit {
    let args = Args::parse();
    harden();
    let _logs = begin_logs(&args);
    match dispatch(args) {
        Ok(exit) => exit,
        Err(failed) if failed.exit == Exit::Done => Exit::Done,
        Err(failed) => {
            say(&format!("error: {failed}"));
            failed.exit
        }
    }
}

fn dispatch(args: Args) -> Result<Exit, Failed> {
    let config = args.config_path();
    match args.command {
        Command::Init(args) => init::init(&config, &args),
        Command::Run => run::run(&config),
        Command::Reload => reload::reload(&config),
        Command::Once => once::once(&config),
        Command::Fetch(fetch) => fetch::fetch(&config, &fetch),
        Command::Check(check) => check::check(&config, &check),
        Command::Login(login) => login::login(&config, &login),
        Command::ConsentUrl(consent) => consent_url::consent_url(&config, &consent),
        Command::Import(import) => import::import(&config, &import),
        Command::ImportConfig(import) => import_config::import_config(&import),
        Command::Report(args) => report::report(&config, &args),
        Command::Baseline(args) => baseline::baseline(&config, &args),
        Command::Replay(args) => replay::replay(&config, &args),
        Command::TestSink(args) => test_sink::test_sink(&config, &args),
        Command::State(args) => state::state(&config, &args),
        Command::Status(status) => status::status(&config, &status),
        Command::Backfill(backfill) => backfill::backfill(&config, &backfill),
        Command::Demo(demo) => demo::demo(&demo),
        Command::Schema(what) => schema::schema(what),
        Command::Man(args) => man::man(&args),
        Command::Completions(args) => man::completions(args),
    }
}

/// A configuration whose secrets can all be read.
fn load(path: &Path) -> Result<Configuration, Failed> {
    let configuration = Configuration::load(path)?;
    configuration.check_secrets()?;
    for warning in configuration.warnings() {
        say(&format!("warning: {warning}"));
    }
    Ok(configuration)
}

fn no_sink(configuration: &Configuration, name: &str) -> Failed {
    no_such("sink", name, configuration.sinks.iter().map(|sink| sink.name.as_str()))
}

fn no_tenant(configuration: &Configuration, name: &str) -> Failed {
    no_such("tenant", name, configuration.tenants.iter().map(|tenant| tenant.name.as_str()))
}

/// Names that help to find the right one.
const NAMED: usize = 12;

fn no_such<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Failed {
    let mut known: Vec<&str> = known.collect();
    let more = known.len().saturating_sub(NAMED);
    known.truncate(NAMED);
    let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let explanation = Explanation::new(format!("the configuration has no {what} `{name}`"));
    let hint = format!("use one of: {}{and_more}", known.join(", "));
    Failed::new(Exit::Usage, explanation.with_hint(hint))
}

/// Who holds the checkpoint, if anybody does. A daemon says where it can be talked to a moment after
/// it has taken the checkpoint.
#[expect(clippy::disallowed_methods, reason = "no runtime is up that could be blocked")]
fn holder_of(directory: &Path) -> Option<Holder> {
    for _ in 0..20 {
        let holder = Checkpoint::holder(directory)?;
        if holder.socket.is_some() {
            return Some(holder);
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    Checkpoint::holder(directory)
}

/// Where the daemon that holds a checkpoint can be talked to.
fn socket_of(holder: &Holder) -> Result<&Path, Failed> {
    holder.socket.as_deref().ok_or_else(|| {
        Failed::new(
            Exit::Unusable,
            format!("process {} holds the checkpoint and takes no commands", holder.pid),
        )
    })
}

/// The runtime of every command that talks to anybody. An interrupt ends it with 130.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failed> {
    let runtime = runtime()?;
    runtime.block_on(async {
        tokio::select! {
            result = work => Ok(result),
            _ = tokio::signal::ctrl_c() => Err(Failed::new(Exit::Interrupted, "interrupted; nothing is lost".to_owned())),
        }
    })
}

/// One worker: what waits for the disk gets a thread of its own while it waits. They are few, for
/// all wait for the same disk, and each has a stack.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(8)
        .thread_keep_alive(std::time::Duration::from_secs(2))
        .enable_all()
        .build()
}

/// Writes to a checkpoint are its owner's: root becomes the owner of the state directory, so that
/// no file is left that the daemon could not open.
fn act_as_owner(directory: &Path) -> Result<(), Failed> {
    use std::os::unix::{fs::MetadataExt, process::CommandExt};
    let Ok(metadata) = std::fs::metadata(directory) else { return Ok(()) };
    if !rustix::process::geteuid().is_root() || metadata.uid() == 0 {
        return Ok(());
    }
    let program = std::env::current_exe()?;
    let error = std::process::Command::new(program)
        .args(std::env::args_os().skip(1))
        .uid(metadata.uid())
        .gid(metadata.gid())
        .exec();
    Err(Failed::new(
        Exit::Incomplete,
        format!("cannot act as the owner of `{}`: {error}", directory.display()),
    ))
}

/// No other user reads what we write, and no core file holds a secret.
fn harden() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

fn begin_logs(args: &Args) -> telemetry::Guard {
    let default = if matches!(args.command, Command::Run) { "info" } else { "error" };
    let level = args.log.as_deref().unwrap_or(default).parse().unwrap_or(LevelFilter::INFO);
    let style = match args.log_format {
        Some(args::LogFormat::Text) => telemetry::LogStyle::Text,
        Some(args::LogFormat::Json) => telemetry::LogStyle::Json,
        Some(args::LogFormat::Journal) => telemetry::LogStyle::Journal,
        None => telemetry::default_style(),
    };
    telemetry::init(level, style)
}

/// A message and, on a line of its own, its hint.
fn rendered(explanation: &Explanation) -> String {
    match &explanation.hint {
        Some(hint) => format!("{}\n  hint: {hint}", explanation.message),
        None => explanation.message.clone(),
    }
}

/// A message and its hint where there is one line for both, such as in a table.
fn on_one_line(explanation: &Explanation) -> String {
    match &explanation.hint {
        Some(hint) => format!("{}; {hint}", explanation.message),
        None => explanation.message.clone(),
    }
}

/// A message for people, with its hint.
fn say_explained(explanation: &Explanation) {
    say(&rendered(explanation));
}

/// A message for people.
fn say(message: &str) {
    let _ = writeln!(std::io::stderr(), "{message}");
}

/// Data, to standard output.
fn print(data: &str) -> Result<(), Failed> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(data.as_bytes())?;
    Ok(stdout.flush()?)
}

/// `1 record`, `2 records`.
fn count(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn as_megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// An instant for people: UTC, to the second.
fn instant(ms: i64) -> String {
    jiff::Timestamp::from_second(ms.div_euclid(1_000))
        .map_or_else(|_| ms.to_string(), |time| time.to_string())
}

fn default_config() -> PathBuf {
    std::env::var_os("SECURE_SCORE_FORWARDER_CONFIG")
        .map_or_else(|| PathBuf::from(crate::config::DEFAULT_PATH), PathBuf::from)
}
