//! Benchmarks the binary with many tenants. The simulated API runs in a separate process and takes
//! 50 ms for each response. Prints the cost of the forwarder and the load on the API. Also measures
//! what the daemon reads regularly from a checkpoint with many tenants.
//!
//! Run it with `cargo bench --profile dist --features object_store --bench many`.

#![allow(clippy::pedantic, clippy::unwrap_used, clippy::print_stdout)]

#[path = "shared/cost.rs"]
mod cost;

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
};

use cost::measure;
use secure_score_forwarder::{
    checkpoint::{
        Advance, Checkpoint, CursorMove, EntryFlags, Lane, NewEntry, OtherTenants, PollCommit,
        PollEnd, Position,
    },
    clock,
    compressed::CompressedText,
    model::{Day, DayFacts, Seq, SinkName, TenantId, UnixMillis},
    wire,
};

const BINARY: &str = env!("CARGO_BIN_EXE_secure-score-forwarder");
/// How often each response and each read is measured.
const RUNS: usize = 21;

fn main() {
    // `cargo test --benches` passes this argument. A benchmark has no tests, so nothing is run.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }

    let today = Day::of(clock::now());
    one_new_day(1_000, today);
    backfill(100, today);
    status_page(1_000, 30, today);
    regular_reads(10_000, 30, today);
}

/// Polls and delivers one new day of each tenant.
fn one_new_day(tenants: usize, today: Day) {
    let directory = tempfile::tempdir().unwrap();
    let port = {
        let api = Api::start(tenants - 1, 0, today.plus(-1));
        api.configure(directory.path(), 3);
        assert!(command(directory.path()).status().unwrap().success());
        api.port
    };

    let api = Api::start(tenants - 1, port, today);
    api.configure(directory.path(), 3);
    let before = summaries(directory.path());
    let cost = measure(command(directory.path()));

    let new = summaries(directory.path()) - before;
    assert_eq!(new, tenants, "the new day of every tenant must be delivered");
    println!("{tenants} tenants, one new day each: {cost}");
    println!("  the API counted {}", api.load());
}

/// Runs the first poll of each tenant, with 90 days of history.
fn backfill(tenants: usize, today: Day) {
    let directory = tempfile::tempdir().unwrap();
    let api = Api::start(tenants - 1, 0, today);
    api.configure(directory.path(), 90);

    let cost = measure(command(directory.path()));
    assert_eq!(summaries(directory.path()), tenants * 90);
    println!("{tenants} tenants, 90 days each: {cost}");
    println!("  the API counted {}", api.load());
}

/// Measures the response time of the status page and of the metrics.
fn status_page(tenants: usize, days: u32, today: Day) {
    let directory = tempfile::tempdir().unwrap();
    let api = Api::start(tenants - 1, 0, today);
    api.configure(directory.path(), days);
    let path = directory.path().join("config.toml");
    let config = fs_err::read_to_string(&path).unwrap();
    let config = config.replace("type = \"file\"", "type = \"file\"\nrecords = [\"summary\"]");
    fs_err::write(&path, format!("[admin]\nlisten = \"127.0.0.1:0\"\n{config}")).unwrap();
    assert!(command(directory.path()).status().unwrap().success());

    let daemon = Command::new(BINARY)
        .args(["run", "--log-format", "json", "--config"])
        .arg(&path)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut daemon = Daemon(daemon);
    let mut lines = BufReader::new(daemon.0.stderr.take().unwrap()).lines().map(Result::unwrap);
    let address = lines
        .find_map(|line| {
            let event: serde_json::Value = serde_json::from_str(&line).unwrap();
            event["address"].as_str().map(str::to_owned)
        })
        .unwrap();

    // The page is complete only after the daemon has read the state of every tenant.
    while get(&address, "/").1 < 10_000 {}
    for page in ["/", "/metrics"] {
        let mut times: Vec<(f64, usize)> = (0..RUNS).map(|_| get(&address, page)).collect();
        times.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (median, bytes) = times[times.len() / 2];
        println!(
            "{tenants} tenants, {days} days each: {page} {median:.1} ms ({:.1} to {:.1}), {} kB",
            times[0].0,
            times[times.len() - 1].0,
            bytes / 1_000
        );
    }

    let status = fs_err::read_to_string(format!("/proc/{}/status", daemon.0.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    println!("  resident memory of the daemon: {}", resident.trim());
}

/// Measures how long the checkpoint takes to find what a sink has not received, and the states of
/// the polls of all tenants. One of a hundred tenants has new entries.
fn regular_reads(tenants: usize, days: i32, today: Day) {
    let directory = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::open(directory.path()).unwrap();
    let ids: Vec<TenantId> = (0..tenants)
        .map(|number| TenantId::parse(&format!("{number:08x}-0000-4000-8000-00000000c0de")))
        .map(Result::unwrap)
        .collect();
    fill(&checkpoint, &ids, today.plus(1 - days), today);

    let start = Position { seq: Seq::FIRST, record_index: 0 };
    let end = Position { seq: Seq::new(u64::try_from(days).unwrap()).next(), record_index: 0 };
    let is_current = |(number, _): &(usize, &TenantId)| !number.is_multiple_of(100);
    let moves: Vec<CursorMove> = ids
        .iter()
        .enumerate()
        .filter(is_current)
        .map(|(_, tenant)| CursorMove { tenant: *tenant, from: start, to: end })
        .collect();
    let (sink, others) = (SinkName::new("siem"), OtherTenants::Deactivate);
    checkpoint.register_sink(&sink, &ids, others, today.plus(1 - days)).unwrap();
    let advance = Advance {
        sink: &sink,
        lane: Lane::Live,
        moves: &moves,
        mark: None,
        sent: 0,
        truncated: 0,
        dead_letters: &[],
        delivered_dead_letters: &[],
        now: UnixMillis::default(),
    };
    let _ = checkpoint.advance(&advance).unwrap();

    let pending = || checkpoint.pending(&sink).unwrap().len();
    let poll_states = || checkpoint.poll_states().unwrap().count();
    assert_eq!((pending(), poll_states()), (tenants - moves.len(), tenants));
    let reads: [(&str, &dyn Fn() -> usize); 2] =
        [("pending", &pending), ("poll_states", &poll_states)];
    for (name, read) in reads {
        let mut times: Vec<f64> = (0..RUNS).map(|_| milliseconds(read)).collect();
        times.sort_by(f64::total_cmp);
        println!(
            "{tenants} tenants, {days} days each: {name} {:.1} ms ({:.1} to {:.1})",
            times[RUNS / 2],
            times[0],
            times[RUNS - 1]
        );
    }
}

/// Commits one poll of each tenant with these days, which are nearly empty.
fn fill(checkpoint: &Checkpoint, tenants: &[TenantId], first: Day, last: Day) {
    let facts: Vec<DayFacts> = std::iter::successors(Some(first), |day| Some(day.plus(1)))
        .take_while(|day| *day <= last)
        .map(|day| {
            let json = format!(
                r#"{{"id":"x","createdDateTime":"{day}T00:00:00Z","currentScore":1,"controlScores":[{{"controlName":"c","score":1}}]}}"#
            );
            DayFacts::of(&wire::snapshot(&json).unwrap()).unwrap()
        })
        .collect();
    let body = CompressedText::compress("{}").unwrap();

    for tenant in tenants {
        let entries = facts.iter().map(|facts| NewEntry {
            snapshot_id: "x",
            revision: 1,
            facts,
            body: &body,
            observed_at: facts.day.start(),
            base: None,
            flags: EntryFlags::default(),
        });
        let commit = PollCommit {
            observed_at: last.start(),
            entries: entries.collect(),
            end: PollEnd::Complete,
            ..PollCommit::default()
        };
        let _ = checkpoint.commit_poll(*tenant, &commit).unwrap();
    }
}

/// The duration of `read` in milliseconds.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures wall-clock time")]
fn milliseconds(read: &dyn Fn() -> usize) -> f64 {
    let began = std::time::Instant::now();
    std::hint::black_box(read());
    began.elapsed().as_secs_f64() * 1_000.0
}

/// The time in milliseconds and the size in bytes of a response.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures wall-clock time")]
fn get(address: &str, path: &str) -> (f64, usize) {
    let began = std::time::Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    assert!(response.starts_with(b"HTTP/1.1 200"));

    (began.elapsed().as_secs_f64() * 1_000.0, response.len())
}

/// A daemon that is killed when the benchmark ends.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The simulated API, which is killed when the benchmark ends.
struct Api {
    child: Child,
    port: u16,
    /// What `demo --serve` prints: the URL, the tenants and the credentials.
    shown: serde_json::Value,
}

impl Api {
    /// Starts the API with this number of tenants in addition to the first.
    fn start(more: usize, port: u16, today: Day) -> Self {
        let mut child = Command::new(BINARY)
            .args(["demo", "--serve", "--latency", "50ms"])
            .args(["--tenants", &more.to_string(), "--port", &port.to_string()])
            .args(["--today", &today.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();

        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let shown: serde_json::Value = serde_json::from_str(&line).unwrap();
        let port =
            shown["graph_url"].as_str().unwrap().rsplit(':').next().unwrap().parse().unwrap();

        Self { child, port, shown }
    }

    /// Writes a configuration with all tenants and a file sink.
    fn configure(&self, directory: &Path, days: u32) {
        let d = directory.display();
        let url = self.shown["graph_url"].as_str().unwrap();
        let text = |key: &str| self.shown[key].as_str().unwrap();

        fs_err::write(directory.join("secret"), text("client_secret")).unwrap();
        let mut config = format!(
            "[state]\ndirectory = \"{d}/state\"\n[source]\nrequests_per_second = 200\n\
             [credentials.app]\nkind = \"client_secret\"\nclient_id = \"{}\"\nclient_secret = {{ file = \"{d}/secret\" }}\n\
             [[sinks]]\nname = \"local\"\ntype = \"file\"\npath = \"{d}/records.jsonl\"\n",
            text("client_id")
        );

        let more = self.shown["more_tenants"].as_array().unwrap().iter();
        for (index, id) in std::iter::once(&self.shown["tenant"]).chain(more).enumerate() {
            let _ = write!(
                config,
                "[[tenants]]\nname = \"t{index}\"\nid = {id}\ncredential = \"app\"\ninitial_backfill_days = {days}\n\
                 cloud = {{ login_url = \"{url}\", graph_url = \"{url}\" }}\n"
            );
        }
        fs_err::write(directory.join("config.toml"), config).unwrap();
    }

    /// The load that the API counted, such as the number of requests.
    fn load(&self) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .write_all(
                b"GET /simulation/load HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            )
            .unwrap();

        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response.rsplit("\r\n\r\n").next().unwrap().to_owned()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command `once` with the configuration in this directory.
fn command(directory: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("once").arg("--config").arg(directory.join("config.toml"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The number of summaries that the file sink has written.
fn summaries(directory: &Path) -> usize {
    let Ok(file) = fs_err::File::open(directory.join("records.jsonl")) else { return 0 };
    let lines = BufReader::new(file).lines();
    lines.filter(|line| line.as_ref().unwrap().contains("\"kind\":\"summary\"")).count()
}
