//! What every sink has to keep, whatever its protocol: the same clauses for all of them, against a
//! receiver with a bad line in front. A new sink is a `Receiver` and a line at the end.

mod receivers;

use std::{collections::HashSet, path::PathBuf, process::Command};

use secure_score_forwarder::sink::KINDS;

use crate::support::{Process, Workspace, counts, eventually, ids, line::Line, records};

/// More than one batch of most sinks.
const DAYS: usize = 8;

/// A receiver as the clauses see it.
pub trait Receiver {
    /// The sink's section; what else it needs goes into the workspace.
    fn section(&self, workspace: &mut Workspace) -> String;
    /// The event ids that it has taken for good, in their order.
    fn arrived(&self) -> Vec<String>;
    /// What stands in front of it, if it is reached by a connection.
    fn line(&self) -> Option<&Line> {
        None
    }
    /// Bytes on their way so far, in both directions.
    fn bytes(&self) -> usize {
        self.line().map_or(0, Line::bytes)
    }
    /// It cannot be reached from now on.
    fn down(&self) {
        self.line().unwrap().down();
    }
    fn up(&self) {
        self.line().unwrap().up();
    }
    /// It refuses every record of this control from now on.
    fn refuse(&self, _control: &'static str) {
        unreachable!("such a receiver refuses nothing");
    }
    /// It takes no request larger than this from now on.
    fn limit(&self, _octets: usize) {
        unreachable!("such a receiver has no limit");
    }
    /// What a process needs beside the configuration.
    fn prepare(&self, _command: &mut Command) {}
}

pub struct Sink {
    /// The row of the documented guarantees that is tested here.
    row: &'static str,
    /// Of [`KINDS`].
    kind: &'static str,
    receiver: fn() -> Box<dyn Receiver>,
    /// Whether records arrive in the order of the log.
    ordered: bool,
    /// Whether it promises nothing.
    lossy: bool,
    /// Records that may come twice, at most: when this process is killed, and when a connection is.
    killed: usize,
    cut: usize,
}

/// A sink under test beside a file, which is the truth about what is to arrive.
struct Trial {
    sink: Sink,
    receiver: Box<dyn Receiver>,
    workspace: Workspace,
    truth: PathBuf,
}

impl Trial {
    fn new(sink: Sink) -> Self {
        let mut workspace = Workspace::new();
        workspace.extra = format!("initial_backfill_days = {DAYS}");
        let receiver = (sink.receiver)();
        let mut trial = Self { sink, receiver, truth: workspace.path("truth.jsonl"), workspace };
        trial.configure("");
        trial
    }

    /// A few records a second.
    fn slow_down(&mut self) {
        self.workspace.replace_sinks();
        self.configure("max_rate = 200");
    }

    fn configure(&mut self, more: &str) {
        let section = self.receiver.section(&mut self.workspace);
        let kind = self.sink.kind;
        self.workspace.sink("tried", &format!("type = \"{kind}\"\n{section}\n{more}"));
        self.truth = self.workspace.file_sink("truth");
    }

    fn spawn(&self, args: &[&str]) -> Process {
        let mut command = self.workspace.command(args);
        self.receiver.prepare(&mut command);
        Process::of(command)
    }

    /// To the end, with as many attempts as a bad line may need.
    fn once(&self) {
        for _ in 0..6 {
            let run = self.spawn(&["once"]).end();
            if run.code == 0 {
                return;
            }
            assert_eq!(run.code, 1, "{}", run.stderr);
        }
        panic!("never done: {}", self.state());
    }

    fn state(&self) -> serde_json::Value {
        let status = self.workspace.try_status().unwrap_or_default();
        let sinks = status["sinks"].as_array().cloned().unwrap_or_default();
        sinks.into_iter().find(|sink| sink["name"] == "tried").unwrap_or_default()
    }

    fn sent(&self) -> u64 {
        self.state()["sent"].as_u64().unwrap_or(0)
    }

    fn distinct(&self) -> usize {
        self.receiver.arrived().iter().collect::<HashSet<_>>().len()
    }

    fn expected(&self) -> Vec<String> {
        ids(&records(&self.truth)).map(str::to_owned).collect()
    }

    /// All has arrived, in order, and at most so many more than once.
    fn assert_all(&self, repeats: usize) {
        self.assert_arrived(&self.expected(), repeats);
    }

    fn assert_arrived(&self, expected: &[String], repeats: usize) {
        assert!(!expected.is_empty());
        let enough = if self.sink.lossy { expected.len() / 10 } else { expected.len() };
        eventually("all has arrived", || self.distinct() >= enough);
        let arrived = self.receiver.arrived();
        let mut seen = HashSet::new();
        let mut firsts: Vec<&String> = arrived.iter().filter(|id| seen.insert(*id)).collect();
        let came = |id: &&String| !self.sink.lossy || arrived.contains(id);
        let mut wanted: Vec<&String> = expected.iter().filter(came).collect();
        // What was lost at first and came with a repeat comes late.
        let filled_up = self.sink.lossy && arrived.len() > firsts.len();
        if !self.sink.ordered || filled_up {
            firsts.sort();
            wanted.sort();
        }
        assert!(firsts == wanted, "{} of {}, or not in order", firsts.len(), wanted.len());
        let again = arrived.len() - firsts.len();
        assert!(again <= repeats, "{again} records more than once, where {repeats} may be");
    }
}

/// `check --online` says whether a record would find a receiver, and sends none.
fn greeting(sink: Sink) {
    let trial = Trial::new(sink);
    let said = || {
        let run = trial.spawn(&["check", "--online"]).end();
        let line = run.stdout.lines().find_map(|line| line.strip_prefix("sink tried: "));
        (run.code, line.unwrap_or_else(|| panic!("{}{}", run.stdout, run.stderr)).to_owned())
    };
    let (code, there) = said();
    assert_eq!(code, 0, "{there}");
    assert_eq!(trial.receiver.arrived(), Vec::<String>::new());
    if trial.sink.lossy {
        return;
    }
    trial.receiver.down();
    let (code, away) = said();
    assert_eq!(code, 1, "{away}");
    assert_ne!(there, away);
    trial.receiver.up();
    assert_eq!(said(), (0, there));
}

/// Everything arrives once, and in the order of the log.
fn order(sink: Sink) {
    let trial = Trial::new(sink);
    trial.once();
    trial.assert_all(0);
    assert_eq!(trial.sent(), trial.expected().len() as u64);
}

/// Killed in every phase: nothing counts as sent that has not arrived, and nothing is lost.
fn restart(sink: Sink) {
    let mut trial = Trial::new(sink);
    if trial.receiver.line().is_none() {
        // What a local receiver takes at once would be through before anybody looks.
        trial.slow_down();
    }
    let mut kills = 0;
    for bytes in [1, 3 << 10, 20 << 10, 100 << 10, 400 << 10, 1 << 20] {
        let before = trial.receiver.bytes();
        let mut process = trial.spawn(&["once"]);
        while process.is_running() && trial.receiver.bytes() < before + bytes {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        kills += usize::from(process.is_running());
        process.kill();
        let sent = if trial.sink.lossy { 0 } else { trial.sent() as usize };
        eventually("what counts as sent has arrived", || trial.distinct() >= sent);
    }
    assert!(kills >= 3, "{kills}");
    trial.once();
    trial.assert_all(trial.sink.killed * kills);
}

/// Out of reach, then back.
fn outage(sink: Sink) {
    let trial = Trial::new(sink);
    trial.receiver.down();
    let daemon = trial.spawn(&["run"]);
    eventually("somebody hears of it", || trial.state()["last_error"].is_string());
    assert_eq!(trial.sent(), 0);
    assert!(trial.state()["backlog_days"].as_u64().unwrap() > 0);
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
    trial.receiver.up();
    trial.once();
    trial.assert_all(0);
}

/// Connections that end in the middle.
fn cut(sink: Sink) {
    let trial = Trial::new(sink);
    let line = trial.receiver.line().unwrap();
    let cuts = [40 << 10, 300 << 10, 5_000, 1 << 20];
    line.cut(&cuts);
    trial.once();
    trial.assert_all(trial.sink.cut * cuts.len());
}

/// Nothing breaks, and nothing comes twice, because a receiver takes its time.
fn slowness(sink: Sink) {
    let trial = Trial::new(sink);
    let line = trial.receiver.line().unwrap();
    line.slow(true);
    trial.once();
    line.slow(false);
    trial.assert_all(0);
}

/// A receiver that was heard of no more has given no acknowledgement, whatever it took.
fn acknowledgement(sink: Sink) {
    let trial = Trial::new(sink);
    let line = trial.receiver.line().unwrap();
    line.mute(true);
    let before = line.muted();
    let daemon = trial.spawn(&["run"]);
    eventually("answers are lost", || line.muted() >= before + 2);
    assert_eq!(trial.sent(), 0);
    daemon.kill();
    assert_eq!(trial.sent(), 0);
    line.mute(false);
    trial.once();
    trial.assert_all(trial.sink.killed + 3 * trial.sink.cut);
}

/// Records that the receiver will not have are dead letters, and stop no other.
fn poison(sink: Sink) {
    let trial = Trial::new(sink);
    trial.receiver.refuse("OneAdmin");
    trial.once();
    let (noticed, truth): (Vec<_>, Vec<_>) =
        records(&trial.truth).into_iter().partition(|record| record["kind"] == "quality");
    assert_eq!(noticed.len(), 1, "the other sinks are told of it, this one is not: {noticed:?}");
    let (refused, wanted): (Vec<_>, Vec<_>) =
        truth.into_iter().partition(|record| record["control"]["id"] == "OneAdmin");
    assert_eq!(refused.len(), DAYS);
    assert_eq!(trial.state()["dead_letters"], DAYS);
    let wanted: Vec<String> = ids(&wanted).map(str::to_owned).collect();
    trial.assert_arrived(&wanted, trial.sink.cut * DAYS);
}

/// A receiver that wants smaller batches gets them.
fn oversize(sink: Sink) {
    let trial = Trial::new(sink);
    trial.receiver.limit(100 << 10);
    trial.once();
    trial.assert_all(0);
    assert_eq!(trial.state()["dead_letters"], 0);
}

/// Told to stop in the middle, and started with another configuration: no record is lost, and none
/// repeated but what the daemon says it had to leave.
fn reload(sink: Sink) {
    let mut trial = Trial::new(sink);
    let before = trial.receiver.bytes();
    let daemon = trial.spawn(&["run"]);
    eventually("something is on its way", || trial.receiver.bytes() > before);
    daemon.signal("TERM");
    let stopped = daemon.end();
    assert_eq!(stopped.code, 0, "{}", stopped.stderr);
    let left = stopped.stderr.contains("stopped before all acknowledgements had arrived");
    let other = trial.workspace.file_sink("other");
    trial.once();
    trial.assert_all(if left { trial.sink.killed } else { 0 });
    assert_eq!(counts(ids(&records(&other))), counts(ids(&records(&trial.truth))));
}

macro_rules! contract {
    ($($(#[$cfg:meta])? $sink:ident: $($clause:ident)*;)*) => {
        $($(#[$cfg])? mod $sink {
            $(#[test]
            fn $clause() {
                super::$clause(super::receivers::$sink());
            })*
        })*

        /// Rows and kinds of all that keep the contract.
        fn parties() -> Vec<(&'static str, &'static str)> {
            let mut parties = Vec::new();
            $($(#[$cfg])? {
                let sink = receivers::$sink();
                parties.push((sink.row, sink.kind));
            })*
            parties
        }
    };
}

// Each with the clauses that its protocol can break: a file has no connection to be cut, plain TCP no
// answer to be lost, and a receiver that takes bytes as they come refuses none.
contract! {
    file: greeting order restart outage reload;
    stdout: order restart reload;
    syslog_tcp: greeting order restart outage cut slowness reload;
    syslog_tls: greeting order restart outage cut slowness acknowledgement reload;
    syslog_relp: greeting order restart outage cut slowness acknowledgement reload;
    syslog_relps: greeting order restart outage cut slowness acknowledgement reload;
    syslog_udp: greeting order restart reload;
    syslog_unix: greeting order restart outage reload;
    hec: greeting order restart outage cut slowness acknowledgement poison oversize reload;
    hec_acknowledged: greeting order restart outage cut slowness acknowledgement poison oversize reload;
    hec_collector: greeting order restart outage cut slowness acknowledgement reload;
    hec_collector_acknowledged: greeting order restart outage cut slowness acknowledgement reload;
    kafka: greeting order restart outage cut slowness acknowledgement reload;
    kafka_at_least_once: greeting order restart outage cut slowness acknowledgement reload;
    elasticsearch: greeting order restart outage cut slowness acknowledgement poison oversize reload;
    http: greeting order restart outage cut slowness acknowledgement poison oversize reload;
    sentinel: greeting order restart outage cut slowness acknowledgement poison oversize reload;
    otlp: greeting order restart outage cut slowness acknowledgement poison oversize reload;
    #[cfg(feature = "object_store")]
    s3: greeting order restart outage cut slowness acknowledgement reload;
    #[cfg(feature = "object_store")]
    azure_blob: greeting order restart outage cut slowness acknowledgement reload;
}

/// Every kind of sink, and every row of the documented guarantees.
#[test]
fn nobody_is_left_out() {
    let parties = parties();
    let kinds: HashSet<&str> = parties.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds, KINDS.iter().map(|kind| kind.name).collect());
    let page = include_str!("../../../docs/explanation/delivery.md");
    let (_, table) = page.split_once("| sink | acknowledgement |").unwrap();
    let rows: HashSet<&str> = table
        .lines()
        .skip(2)
        .map_while(|line| line.strip_prefix("| ")?.split(" | ").next())
        .collect();
    assert_eq!(parties.iter().map(|(row, _)| *row).collect::<HashSet<_>>(), rows);
}
