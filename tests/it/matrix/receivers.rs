//! Receivers whose connection is lost silently, whose certificates change, or which are slow.

use std::{
    collections::HashSet,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use super::lines::Lines;
use crate::support::{
    Process, Workspace, endpoint::Endpoint, eventually, ids, records, rsyslog::write_pki, summaries,
};

/// The replay window of the sinks, in records. It can contain the records of two batches.
const REPLAY: usize = 100;

/// A daemon with a syslog sink and a file that has the expected records.
struct Delivery {
    workspace: Workspace,
    file: PathBuf,
    daemon: Process,
}

impl Delivery {
    /// Starts a daemon that delivers three days, as many as each poll reads.
    fn start(mut workspace: Workspace, section: &str) -> Self {
        workspace.extra = "initial_backfill_days = 3".to_owned();
        let keys =
            format!("framing = \"newline\"\nformat = \"json\"\nreplay_on_reconnect = {REPLAY}");
        let kinds = "records = [\"control\", \"summary\"]";
        workspace.sink("siem", &format!("type = \"syslog\"\n{section}\n{keys}\n{kinds}"));
        let file = workspace.path("local.jsonl");
        let path = file.display();
        workspace.sink("local", &format!("type = \"file\"\npath = \"{path}\"\n{kinds}"));
        let daemon = workspace.spawn(&["run"]);
        let delivery = Self { workspace, file, daemon };
        delivery.wait_until_delivered(3);
        delivery
    }

    fn backfill(&self, days: usize) {
        self.workspace.run_ok(&["backfill", "--days", &days.to_string()]);
    }

    fn wait_until_delivered(&self, days: usize) {
        eventually(&format!("{days} days are acknowledged"), || {
            summaries(&self.file) == days && self.workspace.is_delivered()
        });
    }

    /// The failure of the syslog sink; empty if there is none.
    fn failure(&self) -> String {
        let status = self.workspace.try_status().unwrap_or_default();
        let sinks = status["sinks"].as_array().cloned().unwrap_or_default();
        let siem = sinks.iter().find(|sink| sink["name"] == "siem");
        let message = siem.and_then(|sink| sink["error"]["message"].as_str());
        message.unwrap_or_default().to_owned()
    }

    /// Stops the daemon, delivers what is left, and asserts that everything has arrived with at
    /// most these repeats.
    fn end(self, lines: &Lines, repeats: usize) {
        let Self { workspace, file, daemon } = self;
        daemon.signal("TERM");
        assert_eq!(daemon.end().code, 0);
        // A parked sink would be tried again after minutes.
        workspace.run_ok(&["once"]);
        let expected: HashSet<String> = ids(&records(&file)).map(str::to_owned).collect();

        eventually("every record has arrived", || {
            lines.arrived().into_iter().collect::<HashSet<_>>().len() >= expected.len()
        });
        let arrived = lines.arrived();
        assert_eq!(arrived.iter().cloned().collect::<HashSet<_>>(), expected);
        let repeated = arrived.len() - expected.len();
        assert!(repeated <= repeats, "{repeated} records were repeated, at most {repeats}");
    }
}

/// A server with new certificates: sessions that exist continue, and each new session uses the
/// files as they are then, without a restart or a reload.
#[test]
fn certificates_are_read_again_for_each_session() {
    let workspace = Workspace::new();
    let (pki, other) = (workspace.path("pki"), workspace.path("other"));
    for directory in [&pki, &other] {
        std::fs::create_dir(directory).unwrap();
        write_pki(directory);
    }
    let lines = Lines::with_tls(&pki);
    let file = |name: &str| pki.join(name).display().to_string();
    let section = format!(
        "address = \"tls://127.0.0.1:{}\"\nserver_name = \"server.test\"\nca_file = \"{}\"\nclient_certificate = \"{}\"\nclient_key = \"{}\"",
        lines.port,
        file("ca.pem"),
        file("client.pem"),
        file("client.key"),
    );
    let delivery = Delivery::start(workspace, &section);
    assert_eq!(lines.sessions(), 1);

    // All certificates are replaced, which does not affect the session.
    write_pki(&pki);
    lines.set_certificates(&pki);
    delivery.backfill(4);
    delivery.wait_until_delivered(4);
    assert_eq!(lines.sessions(), 1);

    lines.close_sessions();
    delivery.backfill(5);
    delivery.wait_until_delivered(5);
    assert_eq!(lines.sessions(), 2);

    // The server is the first to change: nothing is delivered to it until the files have changed.
    let before = lines.arrived().len();
    lines.set_certificates(&other);
    lines.close_sessions();
    delivery.backfill(6);
    eventually("the failure is reported", || delivery.failure().contains("TLS"));
    assert_eq!(lines.arrived().len(), before);
    for name in ["ca.pem", "client.pem", "client.key"] {
        std::fs::copy(other.join(name), pki.join(name)).unwrap();
    }
    delivery.end(&lines, 2 * 2 * REPLAY);
}

/// A firewall that drops all packets to a port of this host without a response.
struct Firewall {
    port: u16,
}

impl Firewall {
    fn drop_packets_to(port: u16) -> Self {
        change_rule("-I", port);
        Self { port }
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        change_rule("-D", self.port);
    }
}

fn change_rule(action: &str, port: u16) {
    let port = port.to_string();
    let rule = ["INPUT", "-i", "lo", "-p", "tcp", "--dport", &port, "-j", "DROP"];
    let changed = Command::new("iptables").args(["-w", action]).args(rule).status();
    assert!(changed.unwrap().success(), "iptables {action} {rule:?}");
}

/// Packets are dropped silently: the connection counts as lost within a minute, and its last
/// records are sent again over the next one.
#[test]
fn a_silent_firewall_is_noticed_within_a_minute() {
    const MAX_TIME: Duration = Duration::from_mins(1);

    let lines = Lines::new();
    let section = format!("address = \"tcp://127.0.0.1:{}\"", lines.port);
    let delivery = Delivery::start(Workspace::new(), &section);
    let before = lines.arrived().len();

    let firewall = Firewall::drop_packets_to(lines.port);
    let began = Instant::now();
    delivery.backfill(4);
    eventually("the failure is reported", || !delivery.failure().is_empty());
    assert!(began.elapsed() < MAX_TIME, "{:?}", began.elapsed());
    assert_eq!(lines.arrived().len(), before);
    let status = delivery.workspace.status();
    let siem = status["sinks"].as_array().unwrap().iter().find(|sink| sink["name"] == "siem");
    assert_eq!(siem.unwrap()["sent"], before, "nothing counts as sent: {status}");

    drop(firewall);
    delivery.wait_until_delivered(4);
    delivery.end(&lines, 2 * REPLAY);
}

/// A receiver that accepts one record per second delays no other sink, and loses nothing.
#[test]
fn a_slow_receiver_delays_no_other_sink() {
    const DAYS: usize = 5;

    let (endpoint, is_slow) = (Endpoint::new(""), Arc::new(AtomicBool::new(true)));
    let arrived = Arc::<Mutex<Vec<String>>>::default();
    let (shared, slow) = (Arc::clone(&arrived), Arc::clone(&is_slow));
    endpoint.rule(move |request| {
        if slow.load(SeqCst) {
            std::thread::sleep(Duration::from_secs(1));
        }
        let records: Vec<serde_json::Value> =
            serde_json::from_slice(&request.body).unwrap_or_default();
        shared.lock().unwrap().extend(ids(&records).map(str::to_owned));
        Some((200, String::new()))
    });

    let mut workspace = Workspace::new();
    workspace.extra = format!("initial_backfill_days = {DAYS}");
    let kinds = "records = [\"control\", \"summary\"]";
    let slow = format!("type = \"http\"\nurl = \"{}\"\nbatch_records = 1\n{kinds}", endpoint.url);
    workspace.sink("slow", &slow);
    let file = workspace.path("local.jsonl");
    workspace.sink("local", &format!("type = \"file\"\npath = \"{}\"\n{kinds}", file.display()));

    let daemon = workspace.spawn(&["run"]);
    // Only then does a command not compete with the daemon for the lock.
    eventually("the other sink has the first days", || summaries(&file) == DAYS);
    let began = Instant::now();
    workspace.run_ok(&["backfill", "--days", &(DAYS + 2).to_string()]);
    eventually("the other sink has all days", || summaries(&file) == DAYS + 2);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    eventually("the slow receiver has a record", || !arrived.lock().unwrap().is_empty());
    let total = records(&file).len();
    let by_slow = arrived.lock().unwrap().len();
    assert!(by_slow > 0 && by_slow < total / 10, "{by_slow} of {total}");
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);

    is_slow.store(false, SeqCst);
    // The daemon may have stopped before the response to one request.
    workspace.clear_sinks();
    workspace.sink("slow", &slow.replace("batch_records = 1\n", ""));
    workspace.sink("local", &format!("type = \"file\"\npath = \"{}\"\n{kinds}", file.display()));
    workspace.run_ok(&["once"]);
    let arrived = arrived.lock().unwrap();
    let distinct: HashSet<&String> = arrived.iter().collect();
    assert_eq!(distinct.len(), total);
    assert!(arrived.len() <= total + 1, "{} of {total}", arrived.len());
}
