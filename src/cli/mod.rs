//! The command line: one module per command, and the functions that the commands share. Data is
//! written to standard output, messages to standard error, and every command ends with an
//! [`ExitCode`]. Commands that write to the checkpoint send a request to the daemon if one is
//! running; see `crate::daemon`. Start reading at [`main`].

mod args;
mod backfill;
mod baseline;
mod browser;
mod caller;
mod check;
mod completions;
mod consent_url;
mod daemon_client;
mod dead_letters;
mod demo;
mod effective;
mod environment;
mod exit_code;
mod fetch;
mod findings;
mod host_checks;
mod identity;
mod import;
mod import_config;
mod init;
mod json;
mod known_controls;
mod login;
mod man;
mod once;
mod online;
mod output;
mod output_file;
mod poll;
mod poll_results;
mod reference;
mod reload;
mod replay;
mod report;
mod run;
mod schema;
mod selection;
mod service_user;
mod signals;
mod state;
mod status;
mod table;
mod test_sink;
mod version;

use std::{
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

pub use args::Args;
use args::Command;
use clap::Parser;
use daemon_client::lock_holder;
pub use exit_code::ExitCode;
use identity::Identity;
use json::Document;
use output::{print, print_data, print_explanation, print_json, print_message, snapshot_line};
use signals::ignore_file_size_signal;
use tracing_subscriber::filter::LevelFilter;

use crate::{
    checkpoint::CheckpointError,
    config::{ConfigError, Configuration},
    daemon::{BuildError, PossibleRename, RequestFailure, RunError},
    error::{Explanation, Hint, chain},
    files::{FileError, HostFault, receive_files},
    foreign_text::ForeignText,
    model::{SinkName, UnixMillis},
    source::SourceError,
    telemetry,
    text::{count, listed},
};

/// A failed command: its exit code, and the explanations that are printed.
#[derive(Debug)]
pub struct CommandFailure {
    code: ExitCode,
    /// One explanation per fault; at least one.
    explanations: Vec<Explanation>,
}

impl CommandFailure {
    fn new(code: ExitCode, explanation: impl Into<Explanation>) -> Self {
        Self { code, explanations: vec![explanation.into()] }
    }

    /// A failure that explains an error with its causes and its hint.
    fn from_error(code: ExitCode, error: &impl Hint) -> Self {
        Self::new(code, Explanation::of(error))
    }
}

impl fmt::Display for CommandFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, explanation) in self.explanations.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            f.write_str(&render(explanation))?;
        }
        Ok(())
    }
}

impl From<ConfigError> for CommandFailure {
    fn from(error: ConfigError) -> Self {
        Self { code: ExitCode::Usage, explanations: error.explanations() }
    }
}

impl From<CheckpointError> for CommandFailure {
    fn from(error: CheckpointError) -> Self {
        RequestFailure::from(error).into()
    }
}

impl From<RequestFailure> for CommandFailure {
    fn from(failure: RequestFailure) -> Self {
        Self::new(failure.kind.into(), failure.reason)
    }
}

impl From<BuildError> for CommandFailure {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Checkpoint(error) => error.into(),
            other => Self::from_error(ExitCode::Usage, &other),
        }
    }
}

impl From<RunError> for CommandFailure {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Checkpoint(error) => error.into(),
            other => Self::new(ExitCode::Incomplete, chain(&other)),
        }
    }
}

impl From<SourceError> for CommandFailure {
    fn from(error: SourceError) -> Self {
        Self::from_error(ExitCode::Usage, &error)
    }
}

impl From<FileError> for CommandFailure {
    fn from(error: FileError) -> Self {
        match error {
            // A fault of the host, such as too many open files, has its own exit code and hint.
            error @ FileError::Io { .. } => CheckpointError::from(error).into(),
            error => Self::from_error(ExitCode::Unusable, &error),
        }
    }
}

impl From<std::io::Error> for CommandFailure {
    fn from(error: std::io::Error) -> Self {
        // The reader of a pipe may close it early, as `head` does.
        let code = match error.kind() {
            std::io::ErrorKind::BrokenPipe => ExitCode::Done,
            _ => ExitCode::Incomplete,
        };
        Self::new(code, chain(&error))
    }
}

/// Runs the command that the arguments select, prints its failure, and returns the exit code.
/// Invalid arguments end the process with exit code 2.
pub fn main() -> ExitCode {
    restrict_process();
    ignore_file_size_signal();
    let args = Args::parse();
    receive_files();
    let _guard = start_logging(&args);

    match dispatch(args) {
        Ok(exit) => exit,
        Err(failure) if failure.code == ExitCode::Done => ExitCode::Done,
        Err(failure) => {
            print_message(&format!("error: {failure}"));
            failure.code
        }
    }
}

/// Runs a command as the user whose files it uses.
fn dispatch(args: Args) -> Result<ExitCode, CommandFailure> {
    let (config, command) = (args.config_path(), args.command);
    let has_output = command.output().is_some();
    // A message would appear in the middle of the command line that a shell completes.
    let is_silent = matches!(command, Command::Complete(_));

    let failure = match Identity::of(&config, &command) {
        Ok(Identity::Caller) => return execute(&config, command),
        Ok(Identity::Owner(owner)) if has_output => {
            return owner.run(|| execute(&config, command))?;
        }
        Ok(Identity::Owner(owner)) => owner.execute_again(),
        Err(_) if is_silent => return Ok(ExitCode::Done),
        Err(failure) => failure,
    };
    let has_document = std::env::args_os().any(|argument| argument == "--json");
    Document::from_flag(has_document).run(|| Err(failure))
}

fn execute(config: &Path, command: Command) -> Result<ExitCode, CommandFailure> {
    match command {
        Command::Init(args) => init::init(config, &args),
        Command::Run => run::run(config),
        Command::Reload(args) => reload::reload(config, args),
        Command::Once(args) => once::once(config, args),
        Command::Poll(args) => poll::poll(config, &args),
        Command::Fetch(args) => fetch::fetch(config, &args),
        Command::Check(args) => check::check(config, &args),
        Command::Login(args) => login::login(config, &args),
        Command::ConsentUrl(args) => consent_url::consent_url(config, &args),
        Command::Import(args) => import::import(config, &args),
        Command::ImportConfig(args) => import_config::import_config(&args),
        Command::Report(args) => report::report(config, &args),
        Command::Baseline(args) => baseline::baseline(config, &args),
        Command::Replay(args) => replay::replay(config, &args),
        Command::DeadLetters(args) => dead_letters::dead_letters(config, &args),
        Command::TestSink(args) => test_sink::test_sink(config, &args),
        Command::State(args) => state::state(config, &args),
        Command::Status(args) => status::status(config, &args),
        Command::Backfill(args) => backfill::backfill(config, &args),
        Command::Demo(args) => demo::demo(&args),
        Command::Schema(args) => schema::schema(args),
        Command::Man(args) => man::man(&args),
        Command::Reference(args) => reference::reference(&args),
        Command::Completions(args) => completions::completions(args),
        Command::Complete(args) => Ok(completions::complete(config, args)),
    }
}

/// Loads the configuration, verifies that all its secrets can be read, and prints its warnings.
fn load_with_secrets(path: &Path) -> Result<Configuration, CommandFailure> {
    let configuration = Configuration::load(path)?;
    configuration.check_secrets()?;
    for warning in configuration.warnings() {
        print_message(&format!("warning: {}", render(&warning)));
    }
    Ok(configuration)
}

/// Prints a warning for each new sink for which `renamed_from` may be missing.
fn print_possible_renames(renames: &[PossibleRename]) {
    for rename in renames {
        print_message(&format!("warning: {}", render(&rename.explanation())));
    }
}

/// What an option selects by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Selected {
    Tenant,
    Sink,
}

impl Selected {
    /// The word in messages.
    const fn noun(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Sink => "sink",
        }
    }
}

fn unknown_sink(configuration: &Configuration, name: &SinkName) -> CommandFailure {
    let known = configuration.sinks.iter().map(|sink| sink.name.as_str());
    unknown_name(Selected::Sink, name.as_str(), known)
}

fn unknown_tenant(configuration: &Configuration, name: &str) -> CommandFailure {
    let known = configuration.tenants.iter().map(|tenant| tenant.name.as_str());
    unknown_name(Selected::Tenant, name, known)
}

/// The number of configured names that a hint lists.
const MAX_LISTED_NAMES: usize = 12;

/// The hint lists the known names; without any, there is no hint.
fn unknown_name<'a>(
    what: Selected,
    name: &str,
    known: impl Iterator<Item = &'a str>,
) -> CommandFailure {
    let known: Vec<&str> = known.collect();
    let what = what.noun();
    let explanation = Explanation::new(format!("the configuration has no {what} `{name}`"));
    let explanation = if known.is_empty() {
        explanation
    } else {
        explanation.with_hint(format!("use one of: {}", listed(&known, MAX_LISTED_NAMES)))
    };
    CommandFailure::new(ExitCode::Usage, explanation)
}

/// Runs asynchronous work to completion. SIGINT cancels it with exit code 130. This is safe at any
/// time, because the next run repeats everything that was not committed or acknowledged.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, CommandFailure> {
    let runtime = runtime()?;
    runtime.block_on(async {
        tokio::select! {
            result = work => Ok(result),
            _ = tokio::signal::ctrl_c() => Err(CommandFailure::new(ExitCode::Interrupted, "interrupted; no data is lost")),
        }
    })
}

/// The number of threads that run asynchronous tasks. Calls that block run on other threads, so one
/// is enough for the work. The second runs the other tasks while a peer sends so fast that the HTTP
/// client does not stop reading; see `docs/contributing/decisions/0068-replies-have-a-budget.md`.
pub const WORKER_THREADS: usize = 2;
/// The number of threads that wait for SQLite and for files. All of them wait for the same disk,
/// and each has a stack, so more threads would use memory without being faster.
pub const MAX_BLOCKING_THREADS: usize = 8;
/// The time after which an idle thread ends, so that an idle daemon keeps no stacks for blocking
/// calls.
const THREAD_KEEP_ALIVE: Duration = Duration::from_secs(2);

/// The free descriptors that a runtime needs. If it cannot open some of them, tokio panics.
const RUNTIME_DESCRIPTORS: usize = 8;

/// Starts a runtime. Fails if the process has too few descriptors or threads.
fn runtime() -> Result<tokio::runtime::Runtime, CommandFailure> {
    let failure = |error: std::io::Error| {
        let message = format!("cannot start the asynchronous runtime: {error}");
        let hint = HostFault::of(&error).map(|fault| fault.remedy().to_owned());
        CommandFailure::new(ExitCode::Incomplete, Explanation { message, hint })
    };

    require_descriptors(RUNTIME_DESCRIPTORS).map_err(|error| failure(error.into()))?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_keep_alive(THREAD_KEEP_ALIVE)
        .enable_all()
        .build()
        .map_err(failure)
}

/// Fails if this process cannot open this number of descriptors.
fn require_descriptors(number: usize) -> Result<(), rustix::io::Errno> {
    let copies = (0..number).map(|_| rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 0));
    copies.collect::<Result<Vec<_>, _>>().map(drop)
}

/// Makes the files that this process creates readable only by its user, and disables core dumps.
fn restrict_process() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let _ = protect_memory();
}

/// Disables core dumps, which could contain a secret, and prevents other processes of the same user
/// from tracing this one. The kernel resets this when a thread changes its user.
fn protect_memory() -> Result<(), rustix::io::Errno> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};

    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

fn start_logging(args: &Args) -> telemetry::Guard {
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

/// A message and, on the next line, its hint. Each of them is one line, regardless of the foreign
/// text that it quotes.
fn render(explanation: &Explanation) -> String {
    let message = ForeignText::new(&explanation.message).escaped();
    match &explanation.hint {
        Some(hint) => format!("{message}\n  hint: {}", ForeignText::new(hint).escaped()),
        None => message.into_owned(),
    }
}

/// A time as RFC 3339 in UTC, to the second.
fn format_time(time: UnixMillis) -> String {
    format!("{:.0}", jiff::Timestamp::from(time))
}

/// `$SECURE_SCORE_FORWARDER_CONFIG`, else the default path.
fn default_config() -> PathBuf {
    std::env::var_os("SECURE_SCORE_FORWARDER_CONFIG")
        .map_or_else(|| PathBuf::from(crate::config::DEFAULT_PATH), PathBuf::from)
}
