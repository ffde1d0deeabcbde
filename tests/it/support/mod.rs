//! Support for all tests: a scratch directory with a configuration, the simulated tenant, and the
//! binary as a process. The output of every process is searched for secrets: see [`CANARY`].

pub mod broker;
pub mod browser;
pub mod disk;
pub mod endpoint;
pub mod entra;
pub mod false_replies;
pub mod faults;
pub mod faulty_proxy;
pub mod hec;
pub mod hostile;
pub mod limits;
#[cfg(feature = "object_store")]
pub mod objects;
pub mod old_broker;
pub mod provider;
mod records;
pub mod registration;
pub mod rsyslog;
pub mod servers;
#[cfg(feature = "email")]
pub mod smtp;
#[cfg(feature = "object_store")]
pub mod store_replies;
pub mod syslog_ng;
pub mod terminal;

use std::{
    fmt::Write as _,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU16, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use secure_score_forwarder::{
    clock,
    model::Day,
    source::simulated::{Simulation, start},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub use self::records::{
    counts, ids, records, records_of_kinds, scores, sorted_ids, summaries, without_observations,
};

/// A part of every secret that the tests use. It must not occur in any output.
pub const CANARY: &str = "CANARY-5ecr3t";
pub const TENANT: &str = "3f5c1d2e-0000-4000-8000-00000000c0de";
/// A second tenant of the simulated API.
pub const OTHER: &str = "aaaaaaaa-0000-4000-8000-00000000c0de";

/// A scratch directory with the configuration, secrets and the state directory.
pub struct Workspace {
    directory: TempDir,
    url: String,
    sinks: String,
    /// The name and the ID of each tenant.
    pub tenants: Vec<(&'static str, &'static str)>,
    /// Additional keys of every tenant.
    pub extra: String,
    /// Replaces the section `[tenants.credential]`.
    pub credential: Option<String>,
    /// Additional sections before the tenants. Keys at its beginning belong to `[state]`.
    pub head: String,
    /// Replaces the whole generated configuration.
    pub literal: Option<String>,
    // Keeps the simulated tenant running.
    _runtime: Option<Runtime>,
}

impl Workspace {
    /// A workspace with a new simulated API.
    pub fn new() -> Self {
        let runtime = runtime();
        let simulation = simulation();
        let (address, serving) = runtime.block_on(start(simulation, 0)).unwrap();
        runtime.spawn(serving);
        let mut workspace = Self::against(&format!("http://{address}"));
        workspace._runtime = Some(runtime);
        workspace
    }

    /// A workspace for the API at a URL.
    pub fn against(url: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path().join("secret"), &format!("{CANARY}-client\n"));
        Self {
            directory,
            url: url.to_owned(),
            sinks: String::new(),
            tenants: vec![("contoso", TENANT)],
            extra: String::new(),
            credential: None,
            head: String::new(),
            literal: None,
            _runtime: None,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Adds a sink with this name and the remaining keys of its section.
    pub fn sink(&mut self, name: &str, section: &str) -> &mut Self {
        let _ = write!(self.sinks, "\n[[sinks]]\nname = \"{name}\"\n{section}\n");
        self
    }

    /// Removes all sinks from the configuration.
    pub fn clear_sinks(&mut self) -> &mut Self {
        self.sinks.clear();
        self
    }

    /// Adds a file sink. Returns the path of its file.
    pub fn file_sink(&mut self, name: &str) -> PathBuf {
        let path = self.path(&format!("{name}.jsonl"));
        self.sink(name, &format!("type = \"file\"\npath = \"{}\"", path.display()));
        path
    }

    /// Writes a secret to a file. Returns the reference for the configuration.
    pub fn secret(&self, name: &str, text: &str) -> String {
        write(self.path(name), text);
        format!("{{ file = \"{}\" }}", self.path(name).display())
    }

    /// Adds a credential with which a sink signs in to Entra. Returns the keys of the sink.
    pub fn entra_credential(&mut self, login_url: &str) -> String {
        let secret = self.secret("sink-secret", &format!("{CANARY}-sink"));
        self.head = format!(
            "[credentials.siem]\nkind = \"client_secret\"\nclient_id = \"99999999-2222-4333-8444-555555555555\"\nclient_secret = {secret}\n"
        );
        format!(
            "credential = \"siem\"\nentra_tenant = \"siem.example\"\nlogin_url = \"{login_url}\""
        )
    }

    pub fn configuration(&self) -> String {
        if let Some(literal) = &self.literal {
            return literal.clone();
        }
        let state = self.state().display().to_string();
        let mut text = format!("[state]\ndirectory = \"{state}\"\n{}", self.head);
        let secret = format!(
            "[tenants.credential]\nkind = \"client_secret\"\n\
             client_id = \"11111111-2222-4333-8444-555555555555\"\n\
             client_secret = {{ file = \"{}\" }}",
            self.path("secret").display()
        );
        let credential = self.credential.as_ref().unwrap_or(&secret);

        if !self.head.is_empty() {
            text.push('\n');
        }
        for (name, id) in &self.tenants {
            let _ = write!(
                text,
                "\n[[tenants]]\nname = \"{name}\"\nid = \"{id}\"\n\
                 cloud = {{ login_url = \"{url}\", graph_url = \"{url}\" }}\n{extra}\n\
                 {credential}\n",
                url = self.url,
                extra = self.extra,
            );
        }
        text + &self.sinks
    }

    /// Writes the configuration atomically, because a daemon may be reading it.
    pub fn write_configuration(&self) {
        let (path, new) = (self.path("config.toml"), self.path("config.toml.new"));
        write(&new, &self.configuration());
        std::fs::rename(new, path).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        self.write_configuration();
        let mut command = Command::new(env!("CARGO_BIN_EXE_secure-score-forwarder"));
        command.args(args).arg("--config").arg(self.path("config.toml"));
        command
            .env_remove("RUNTIME_DIRECTORY")
            .env_remove("CREDENTIALS_DIRECTORY")
            .env_remove("NOTIFY_SOCKET")
            .env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A command that another program runs, such as `strace`, whose options are complete.
    pub fn command_under(&self, mut tool: Command, args: &[&str]) -> Command {
        let plain = self.command(args);
        tool.arg(plain.get_program()).args(plain.get_args());
        tool.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        tool
    }

    /// Runs `once`, and kills it at this call of a kind, if a thread makes so many of them.
    pub fn once_killed_at(&self, calls: &str, number: impl std::fmt::Display) -> Run {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e"]);
        strace.arg(format!("inject={calls}:signal=SIGKILL:when={number}"));
        Run::of(self.command_under(strace, &["once"]).output().unwrap())
    }

    /// Runs a command and waits until it ends.
    pub fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command(args).output().unwrap())
    }

    /// Runs a command and asserts that it succeeds.
    pub fn run_ok(&self, args: &[&str]) -> Run {
        let run = self.run(args);
        assert_eq!(run.code, 0, "{args:?}\n{}{}", run.stdout, run.stderr);
        run
    }

    /// The validator of the JSON Schema of records that `schema` prints.
    pub fn record_validator(&self) -> jsonschema::Validator {
        let schema = serde_json::from_str(&self.run_ok(&["schema"]).stdout).unwrap();
        jsonschema::validator_for(&schema).unwrap()
    }

    pub fn spawn(&self, args: &[&str]) -> Process {
        Process::of(self.command(args))
    }

    pub fn status(&self) -> serde_json::Value {
        self.try_status().unwrap()
    }

    /// Whether every sink has acknowledged all entries; `false` if there is no sink.
    pub fn is_delivered(&self) -> bool {
        self.try_status().is_some_and(|status| {
            let sinks = status["sinks"].as_array().unwrap();
            !sinks.is_empty() && sinks.iter().all(|sink| sink["backlog_entries"] == 0)
        })
    }

    /// The status, or `None` if there is no checkpoint yet.
    pub fn try_status(&self) -> Option<serde_json::Value> {
        let document = serde_json::from_str(&self.run(&["status", "--json"]).stdout).ok();
        document.filter(|document: &serde_json::Value| document["errors"].is_null())
    }
}

impl Drop for Workspace {
    /// Asserts that no file contains a secret, except files with `secret` in their names.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let mut directories = vec![self.directory.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if path.is_dir() {
                    directories.push(path);
                } else if !name.contains("secret") && path.is_file() {
                    let content = std::fs::read(&path).unwrap();
                    assert!(!contains(&content, CANARY), "{} contains a secret", path.display());
                }
            }
        }
    }
}

/// A process that has ended.
#[derive(Debug)]
pub struct Run {
    /// The exit code, or -1 if a signal ended the process.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn of(output: Output) -> Self {
        let run = Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        assert!(
            !run.stdout.contains(CANARY) && !run.stderr.contains(CANARY),
            "a secret was printed:\n{}{}",
            run.stdout,
            run.stderr
        );
        run
    }
}

/// A running process. It is killed on drop.
pub struct Process(Option<Child>);

impl Process {
    pub fn of(mut command: Command) -> Self {
        Self(Some(command.spawn().unwrap()))
    }

    pub fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    pub fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args(["-s", name, &self.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub fn is_running(&mut self) -> bool {
        self.0.as_mut().unwrap().try_wait().unwrap().is_none()
    }

    /// Waits until the process ends.
    pub fn end(mut self) -> Run {
        Run::of(self.0.take().unwrap().wait_with_output().unwrap())
    }

    pub fn kill(mut self) -> Run {
        let mut child = self.0.take().unwrap();
        child.kill().unwrap();
        Run::of(child.wait_with_output().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = self.0.as_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The simulated tenants, with the secret of the tests.
pub fn simulation() -> Simulation {
    avoid_midnight();
    Simulation {
        tenants: vec![TENANT.to_owned(), OTHER.to_owned()],
        client_secret: format!("{CANARY}-client"),
        // Fixed, so that the day does not change during a test.
        today: Some(Day::of(clock::now())),
        ..Simulation::contoso()
    }
}

/// In the last two minutes of a UTC day, waits for the next day, because the program uses the wall
/// clock.
fn avoid_midnight() {
    const DAY: u64 = 24 * 60 * 60;
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let left = DAY - now % DAY;
    if left <= 120 {
        std::thread::sleep(Duration::from_secs(left));
    }
}

/// A directory that `tests/run --all` fills: the value of an environment variable, or a folder in
/// the user's cache directory.
pub fn cache(variable: &str, name: &str) -> PathBuf {
    let default = || {
        let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
            || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"),
            PathBuf::from,
        );
        cache.join("secure-score-forwarder").join(name)
    };
    let folder = std::env::var_os(variable).map_or_else(default, PathBuf::from);
    assert!(
        folder.join(".complete").exists(),
        "{name} is missing in {}: run `tests/run --all` to download it",
        folder.display()
    );
    folder
}

pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Waits until a condition holds. Panics with its description `what` after five minutes.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        let waited = start.elapsed();
        assert!(waited < Duration::from_mins(5), "timed out: {what}");
        // A condition can be expensive to check, so it is checked less often the longer it takes.
        std::thread::sleep((waited / 10).clamp(Duration::from_millis(20), Duration::from_secs(1)));
    }
}

/// Whether a process on this host listens on a TCP port. To connect would disturb some servers:
/// rsyslog can stop reading after a peer has disconnected during the TLS handshake.
pub fn is_listening(port: u16) -> bool {
    const LISTEN: &str = "0A";

    let address_end = format!(":{port:04X}");
    let is_match = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        let local = columns.next().unwrap_or_default();
        local.ends_with(&address_end) && columns.nth(1) == Some(LISTEN)
    };
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .any(|table| std::fs::read_to_string(table).unwrap_or_default().lines().any(is_match))
}

/// A free port that no other test of this process receives. It is outside the range from which the
/// system assigns ephemeral ports.
pub fn free_port() -> u16 {
    const FIRST: u16 = 20_000;
    const PORTS: u16 = 12_000;
    static NEXT: OnceLock<AtomicU16> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU16::new(fastrand::u16(..PORTS)));
    loop {
        let port = FIRST + next.fetch_add(1, SeqCst) % PORTS;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Writes a file. Only this user can read it if its name contains `secret`, because `check` reports
/// secrets that other users can read.
pub fn write(path: impl AsRef<Path>, text: &str) {
    use std::os::unix::fs::PermissionsExt;

    std::fs::write(&path, text).unwrap();
    let name = path.as_ref().file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.contains("secret") {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// Removes a browser's profile. Helper processes may write to it for a moment after the browser has
/// ended.
pub fn remove_profile(profile: &Path) {
    eventually("the browser's profile is gone", || {
        let _ = std::fs::remove_dir_all(profile);
        !profile.exists()
    });
}

pub fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
}
