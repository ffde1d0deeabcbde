//! Benchmarks the binary with one tenant: time, memory and disk. The simulated tenant runs in a
//! separate process. Prints the minimum, median and maximum of each figure.
//!
//! Run it with `cargo bench --profile dist --features object_store --bench process`.

#![allow(clippy::pedantic, clippy::unwrap_used, clippy::print_stdout)]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use secure_score_forwarder::{
    checkpoint::{CatalogMember, Checkpoint, EntryFlags, NewEntry, PollCommit, PollEnd},
    compressed::CompressedText,
    model::{Day, DayFacts, TenantId},
    source::simulated::{self, Richness},
    wire,
};

const TENANT: &str = "3f5c1d2e-0000-4000-8000-00000000c0de";
const BINARY: &str = env!("CARGO_BIN_EXE_secure-score-forwarder");
/// The number of runs of `once` whose time is measured.
const RUNS: usize = 7;

fn main() {
    // `cargo test --benches` passes this argument. A benchmark has no tests, so nothing is run.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }

    let api = Api::start();

    let (first, again): (Vec<f64>, Vec<f64>) = (0..RUNS).map(|_| once_twice(&api)).unzip();
    show("once, 90 days to a file (s)", &first, 3);
    show("once, nothing new (ms)", &again.iter().map(|s| s * 1_000.0).collect::<Vec<_>>(), 0);

    let idle: Vec<(f64, f64)> = (0..3).map(|_| idle_memory(&api)).collect();
    show(
        "daemon, resident after the backfill (MiB)",
        &idle.iter().map(|(rss, _)| *rss).collect::<Vec<_>>(),
        1,
    );
    show(
        "daemon, peak resident memory (MiB)",
        &idle.iter().map(|(_, peak)| *peak).collect::<Vec<_>>(),
        1,
    );

    show("checkpoint, a year of one tenant (MB)", &[tenant_year()], 2);
}

/// The process of the simulated tenant, which is killed when the benchmark ends.
struct Api {
    child: Child,
    url: String,
    secret: String,
}

impl Api {
    fn start() -> Self {
        let mut child = Command::new(BINARY)
            .args(["demo", "--serve"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();

        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let shown: serde_json::Value = serde_json::from_str(&line).unwrap();
        let text = |key: &str| shown[key].as_str().unwrap().to_owned();
        Self { child, url: text("graph_url"), secret: text("client_secret") }
    }

    /// Writes a configuration with the tenant and a file sink.
    fn configure(&self, directory: &Path) {
        let d = directory.display();
        let url = &self.url;
        fs_err::write(directory.join("secret"), &self.secret).unwrap();
        let text = format!(
            "[state]\ndirectory = \"{d}/state\"\n[[tenants]]\nname = \"contoso\"\nid = \"{TENANT}\"\n\
             cloud = {{ login_url = \"{url}\", graph_url = \"{url}\" }}\n[tenants.credential]\nkind = \"client_secret\"\n\
             client_id = \"11111111-2222-4333-8444-555555555555\"\nclient_secret = {{ file = \"{d}/secret\" }}\n\
             [[sinks]]\nname = \"local\"\ntype = \"file\"\npath = \"{d}/records.jsonl\"\n"
        );
        fs_err::write(directory.join("config.toml"), text).unwrap();
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command with the configuration in this directory.
fn command(directory: &Path, name: &str) -> Command {
    let mut command = Command::new(BINARY);
    command
        .arg(name)
        .arg("--config")
        .arg(directory.join("config.toml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// The duration in seconds of a first `once`, and of a second one without new data.
fn once_twice(api: &Api) -> (f64, f64) {
    let directory = tempfile::tempdir().unwrap();
    api.configure(directory.path());
    let run = || {
        let began = now();
        assert!(command(directory.path(), "once").status().unwrap().success());
        began.elapsed().as_secs_f64()
    };
    let seconds = (run(), run());

    let records =
        fs_err::read_to_string(directory.path().join("records.jsonl")).unwrap().lines().count();
    assert!(records > 20_000, "{records}");
    seconds
}

/// The resident memory in MiB of a daemon that has delivered 90 days and is idle, and its peak.
fn idle_memory(api: &Api) -> (f64, f64) {
    let directory = tempfile::tempdir().unwrap();
    api.configure(directory.path());
    let mut daemon = command(directory.path(), "run").spawn().unwrap();
    let status =
        |daemon: &Child| fs_err::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
    let mib = |status: &str, key: &str| -> f64 {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1_024.0
    };

    let began = now();
    let is_done = || {
        fs_err::read_to_string(directory.path().join("records.jsonl"))
            .is_ok_and(|t| t.matches("\"kind\":\"summary\"").count() == 90)
    };
    while !is_done() {
        assert!(began.elapsed() < Duration::from_secs(60));
        pause(100);
    }
    // The allocator returns memory to the system a few seconds later.
    pause(15_000);
    let status = status(&daemon);
    let memory = (mib(&status, "VmRSS"), mib(&status, "VmHWM"));

    assert!(Command::new("kill").arg(daemon.id().to_string()).status().unwrap().success());
    daemon.wait().unwrap();
    memory
}

/// The size in megabytes of a checkpoint after 365 daily polls, each of which added a day with
/// Microsoft's texts.
fn tenant_year() -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let tenant = TenantId::parse(TENANT).unwrap();
    let profiles: Vec<_> = simulated::profiles_json(TENANT)
        .iter()
        .map(|json| wire::split_profile(json).unwrap())
        .collect();

    {
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        let first = Day::parse("2026-01-01").unwrap();
        for number in 0..365 {
            let day = first.plus(number);
            let body = simulated::snapshot_json(TENANT, day, Richness::Rich);
            let facts = DayFacts::of(&wire::snapshot(&body).unwrap()).unwrap();
            let id = format!("{TENANT}_{day}");

            let entry = NewEntry {
                snapshot_id: &id,
                revision: 1,
                facts: &facts,
                body: &CompressedText::compress(&body).unwrap(),
                observed_at: day.start(),
                base: None,
                flags: EntryFlags::default(),
            };

            let commit = PollCommit {
                observed_at: day.start(),
                entries: vec![entry],
                catalog: profiles
                    .iter()
                    .map(|p| CatalogMember { shared: &p.shared, decisions: &p.decisions })
                    .collect(),
                end: PollEnd::Complete,
                ..PollCommit::default()
            };
            let _ = checkpoint.commit_poll(tenant, &commit).unwrap();
        }
    }

    let size = fs_err::metadata(directory.path().join("checkpoint.db")).unwrap().len();
    f64::from(u32::try_from(size).unwrap()) / 1e6
}

/// Prints the minimum, median and maximum.
fn show(what: &str, figures: &[f64], decimals: usize) {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (min, median, max) = (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    println!("{what:45} min {min:8.decimals$}  median {median:8.decimals$}  max {max:8.decimals$}");
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures wall-clock time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "a benchmark waits until a process is idle")]
fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}
