//! Many tenants, against a simulated API in a process of its own that takes 50 ms for each answer.
//! `cargo bench --bench many`. Prints what the forwarder needed, and what the API saw of it.

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
use secure_score_forwarder::{clock, model::Day};

const BINARY: &str = env!("CARGO_BIN_EXE_secure-score-forwarder");

fn main() {
    // `cargo test --benches` passes this: the figures are not a test.
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    let today = Day::of(clock::now());
    one_new_day(1_000, today);
    backfill(100, today);
    status_page(1_000, 30, today);
}

/// Each of so many tenants has one new day.
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
    assert_eq!(new, tenants, "every tenant's new day was delivered");
    println!("{tenants} tenants, one new day each: {cost}");
    println!("  the API saw {}", api.load());
}

/// The first start of so many tenants, with all their history.
fn backfill(tenants: usize, today: Day) {
    let directory = tempfile::tempdir().unwrap();
    let api = Api::start(tenants - 1, 0, today);
    api.configure(directory.path(), 90);
    let cost = measure(command(directory.path()));
    assert_eq!(summaries(directory.path()), tenants * 90);
    println!("{tenants} tenants, ninety days each: {cost}");
    println!("  the API saw {}", api.load());
}

/// What an operator and Prometheus wait for, of so many tenants with so many days each.
fn status_page(tenants: usize, days: u32, today: Day) {
    let directory = tempfile::tempdir().unwrap();
    let api = Api::start(tenants - 1, 0, today);
    api.configure(directory.path(), days);
    let path = directory.path().join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let config = config.replace("type = \"file\"", "type = \"file\"\nrecords = [\"summary\"]");
    std::fs::write(&path, format!("[admin]\nlisten = \"127.0.0.1:0\"\n{config}")).unwrap();
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
    // The first answer waits for what is shown of each tenant.
    while get(&address, "/").1 < 10_000 {}
    for page in ["/", "/metrics"] {
        let mut took: Vec<(f64, usize)> = (0..21).map(|_| get(&address, page)).collect();
        took.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (median, bytes) = took[took.len() / 2];
        println!(
            "{tenants} tenants, {days} days each: {page} {median:.1} ms ({:.1} to {:.1}), {} kB",
            took[0].0,
            took[took.len() - 1].0,
            bytes / 1_000
        );
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.0.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    println!("  the daemon has {} resident", resident.trim());
}

/// Milliseconds and bytes of an answer.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn get(address: &str, path: &str) -> (f64, usize) {
    let began = std::time::Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    (began.elapsed().as_secs_f64() * 1_000.0, answer.len())
}

/// Ends with the benchmark.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Api {
    child: Child,
    port: u16,
    shown: serde_json::Value,
}

impl Api {
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

    fn configure(&self, directory: &Path, days: u32) {
        let d = directory.display();
        let url = self.shown["graph_url"].as_str().unwrap();
        let text = |key: &str| self.shown[key].as_str().unwrap();
        std::fs::write(directory.join("secret"), text("client_secret")).unwrap();
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
        std::fs::write(directory.join("config.toml"), config).unwrap();
    }

    fn load(&self) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .write_all(
                b"GET /simulation/load HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            )
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.rsplit("\r\n\r\n").next().unwrap().to_owned()
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(directory: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.arg("once").arg("--config").arg(directory.join("config.toml"));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn summaries(directory: &Path) -> usize {
    let Ok(file) = std::fs::File::open(directory.join("records.jsonl")) else { return 0 };
    let lines = BufReader::new(file).lines();
    lines.filter(|line| line.as_ref().unwrap().contains("\"kind\":\"summary\"")).count()
}
