//! The contract suite: the same clauses for every sink, against a receiver behind a faulty proxy.
//! To add a sink, implement [`Receiver`] and add a line to the list at the end of this file.

mod false_replies;
mod receivers;

use std::{collections::HashSet, path::PathBuf, process::Command};

use false_replies::believes_no_false_reply;
use secure_score_forwarder::sink::KINDS;

use crate::support::{
    Process, Run, Workspace, counts, eventually, faulty_proxy::FaultyProxy, hostile::Attack, ids,
    limits::ObservedDaemon, records,
};

/// The number of days to send: more than one batch of most sinks.
const DAYS: usize = 8;

/// A receiver, with the operations that the clauses need.
pub trait Receiver {
    /// The keys of the sink's section. Anything else that it needs, such as a credential, is added
    /// to the workspace.
    fn section(&self, workspace: &mut Workspace) -> String;
    /// The event IDs that the receiver has stored, in order.
    fn arrived(&self) -> Vec<String>;
    /// The proxy in front of the receiver, if it is reached over a connection.
    fn proxy(&self) -> Option<&FaultyProxy> {
        None
    }
    /// Bytes sent so far, in both directions.
    fn bytes(&self) -> usize {
        self.proxy().map_or(0, FaultyProxy::bytes)
    }
    /// Makes the receiver unreachable.
    fn down(&self) {
        self.proxy().unwrap().down();
    }
    /// Makes the receiver reachable again.
    fn up(&self) {
        self.proxy().unwrap().up();
    }
    /// Makes the receiver reject every record of this control.
    fn reject(&self, _control: &'static str) {
        unreachable!("this receiver cannot reject records");
    }
    /// Makes the receiver reject requests that are larger than this.
    fn limit(&self, _bytes: usize) {
        unreachable!("this receiver has no limit");
    }
    /// What a hostile server in the place of this receiver sends. Nothing of it is an
    /// acknowledgement.
    fn floods(&self) -> &'static [Attack] {
        unreachable!("the sink reads nothing from this receiver");
    }
    /// What a server in the place of this receiver replies to a request, without having stored
    /// anything.
    fn false_replies(&self) -> Vec<Attack> {
        unreachable!("this receiver is not reached over HTTP");
    }
    /// Changes a command before it runs, for example its standard output.
    fn prepare(&self, _command: &mut Command) {}
}

/// A sink under test, and what the documentation guarantees for it.
pub struct SinkCase {
    /// The row of the documented guarantees that this case tests.
    row: &'static str,
    /// The name in [`KINDS`].
    kind: &'static str,
    receiver: fn() -> Box<dyn Receiver>,
    /// Whether records arrive in the order of the log.
    ordered: bool,
    /// Whether records can be lost.
    lossy: bool,
    /// The maximum number of repeated records each time the process is killed.
    repeats_per_kill: usize,
    /// The maximum number of repeated records each time a connection is cut.
    repeats_per_cut: usize,
}

/// A sink under test, next to a file sink whose content is the expected result.
struct Trial {
    case: SinkCase,
    receiver: Box<dyn Receiver>,
    workspace: Workspace,
    reference: PathBuf,
}

impl Trial {
    fn new(case: SinkCase) -> Self {
        let mut workspace = Workspace::new();
        workspace.extra = format!("initial_backfill_days = {DAYS}");
        let receiver = (case.receiver)();
        let reference = workspace.path("reference.jsonl");
        let mut trial = Self { case, receiver, reference, workspace };
        trial.configure("");
        trial
    }

    /// Limits the sink to 200 records per second.
    fn slow_down(&mut self) {
        self.workspace.clear_sinks();
        self.configure("max_rate = 200");
    }

    fn configure(&mut self, more: &str) {
        let section = self.receiver.section(&mut self.workspace);
        let kind = self.case.kind;
        self.workspace.sink("tested", &format!("type = \"{kind}\"\n{section}\n{more}"));
        self.reference = self.workspace.file_sink("reference");
    }

    fn spawn(&self, args: &[&str]) -> Process {
        let mut command = self.workspace.command(args);
        self.receiver.prepare(&mut command);
        Process::of(command)
    }

    /// Runs `once` until everything is sent, with as many attempts as a faulty connection may need.
    fn once(&self) {
        self.once_until(|run| run.code == 0);
    }

    /// Runs `once` until a run ends as expected; every other run must be incomplete.
    fn once_until(&self, is_expected: impl Fn(&Run) -> bool) {
        for _ in 0..6 {
            let run = self.spawn(&["once"]).end();
            if is_expected(&run) {
                return;
            }
            assert_eq!(run.code, 1, "{}", run.stderr);
        }
        panic!("incomplete after 6 runs: {}", self.status());
    }

    /// The status of the sink under test.
    fn status(&self) -> serde_json::Value {
        let status = self.workspace.try_status().unwrap_or_default();
        let sinks = status["sinks"].as_array().cloned().unwrap_or_default();
        sinks.into_iter().find(|sink| sink["name"] == "tested").unwrap_or_default()
    }

    fn sent(&self) -> u64 {
        self.status()["sent"].as_u64().unwrap_or(0)
    }

    fn distinct(&self) -> usize {
        self.receiver.arrived().iter().collect::<HashSet<_>>().len()
    }

    fn expected(&self) -> Vec<String> {
        ids(&records(&self.reference)).map(str::to_owned).collect()
    }

    /// Asserts that all records have arrived in order, with at most this many repeats.
    fn assert_all(&self, repeats: usize) {
        self.assert_arrived(&self.expected(), repeats);
    }

    fn assert_arrived(&self, expected: &[String], repeats: usize) {
        assert!(!expected.is_empty());
        let enough = if self.case.lossy { expected.len() / 10 } else { expected.len() };
        eventually("all records have arrived", || self.distinct() >= enough);

        let arrived = self.receiver.arrived();
        let mut seen = HashSet::new();
        let mut distinct: Vec<&String> = arrived.iter().filter(|id| seen.insert(*id)).collect();
        let is_required = |id: &&String| !self.case.lossy || arrived.contains(id);
        let mut required: Vec<&String> = expected.iter().filter(is_required).collect();

        // A record that was lost at first and arrived with a repeat is out of order.
        let is_reordered = self.case.lossy && arrived.len() > distinct.len();
        if !self.case.ordered || is_reordered {
            distinct.sort();
            required.sort();
        }
        let (found, count) = (distinct.len(), required.len());
        assert!(distinct == required, "{found} of {count} records, or not in order");

        let repeated = arrived.len() - distinct.len();
        assert!(repeated <= repeats, "{repeated} repeated records, at most {repeats} are allowed");
    }
}

/// `check --online` reports whether the receiver is reachable, and sends no record.
fn probes_without_records(case: SinkCase) {
    let trial = Trial::new(case);
    let check = || {
        let run = trial.spawn(&["check", "--online"]).end();
        let line = run.stdout.lines().find_map(|line| line.strip_prefix("sink `tested`: "));
        (run.code, line.unwrap_or_else(|| panic!("{}{}", run.stdout, run.stderr)).to_owned())
    };

    let (code, reachable) = check();
    assert_eq!(code, 0, "{reachable}");
    assert_eq!(trial.receiver.arrived(), Vec::<String>::new());
    if trial.case.lossy {
        return;
    }

    trial.receiver.down();
    let (code, unreachable) = check();
    assert_eq!(code, 1, "{unreachable}");
    assert_ne!(reachable, unreachable);

    trial.receiver.up();
    assert_eq!(check(), (0, reachable));
}

/// Without faults, every record arrives once and in the order of the log.
fn delivers_once_in_order(case: SinkCase) {
    let trial = Trial::new(case);
    trial.once();
    trial.assert_all(0);
    assert_eq!(trial.sent(), trial.expected().len() as u64);
}

/// If the process is killed in any phase, only records that have arrived count as sent, and no
/// record is lost.
fn survives_kills_in_any_phase(case: SinkCase) {
    let mut trial = Trial::new(case);
    if trial.receiver.proxy().is_none() {
        // A local receiver is so fast that everything would be sent before the first kill.
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

        let sent = if trial.case.lossy { 0 } else { trial.sent() as usize };
        eventually("every record that counts as sent has arrived", || trial.distinct() >= sent);
    }

    assert!(kills >= 3, "{kills}");
    trial.once();
    trial.assert_all(trial.case.repeats_per_kill * kills);
}

/// While the receiver is unreachable, nothing counts as sent; afterward, everything arrives.
fn survives_an_outage(case: SinkCase) {
    let trial = Trial::new(case);
    trial.receiver.down();
    let daemon = trial.spawn(&["run"]);
    eventually("the failure is reported", || trial.status()["error"]["message"].is_string());
    assert_eq!(trial.sent(), 0);
    assert!(trial.status()["backlog_entries"].as_u64().unwrap() > 0);
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);

    trial.receiver.up();
    trial.once();
    trial.assert_all(0);
}

/// Connections that are cut in the middle lose no record.
fn survives_cut_connections(case: SinkCase) {
    let trial = Trial::new(case);
    let proxy = trial.receiver.proxy().unwrap();
    let cuts = [40 << 10, 300 << 10, 5_000, 1 << 20];
    proxy.cut(&cuts);
    trial.once();
    trial.assert_all(trial.case.repeats_per_cut * cuts.len());
}

/// A slow receiver causes neither failures nor repeats.
fn tolerates_a_slow_receiver(case: SinkCase) {
    let trial = Trial::new(case);
    let proxy = trial.receiver.proxy().unwrap();
    proxy.slow(true);
    trial.once();
    proxy.slow(false);
    trial.assert_all(0);
}

/// A receiver that sends without end neither fills the memory nor delays a health check, and
/// nothing is lost: everything arrives when the receiver behaves again.
fn survives_a_flood(case: SinkCase) {
    let mut trial = Trial::new(case);
    let floods = trial.receiver.floods();
    for flood in floods {
        let proxy = trial.receiver.proxy().unwrap();
        proxy.attack(Some(*flood));
        let before = proxy.attacks();
        let daemon = ObservedDaemon::start(&mut trial.workspace);
        eventually("a flood has ended", || proxy.attacks() > before);

        let message = || trial.status()["error"]["message"].as_str().map(str::to_owned);
        eventually("the failure is reported", || message().is_some());
        let message = message().unwrap();
        assert!(message.len() < 1_000, "{message}");
        assert_eq!(trial.sent(), 0, "{message}");
        daemon.end();
        proxy.attack(None);
    }

    trial.once();
    trial.assert_all(trial.case.repeats_per_kill * floods.len());
}

/// Without an acknowledgement, nothing counts as sent, even if the receiver has stored the records.
fn counts_only_acknowledged_records(case: SinkCase) {
    let trial = Trial::new(case);
    let proxy = trial.receiver.proxy().unwrap();
    proxy.mute(true);
    let before = proxy.muted();
    let daemon = trial.spawn(&["run"]);
    eventually("responses are dropped", || proxy.muted() >= before + 2);
    assert_eq!(trial.sent(), 0);
    daemon.kill();
    assert_eq!(trial.sent(), 0);

    proxy.mute(false);
    trial.once();
    trial.assert_all(trial.case.repeats_per_kill + 3 * trial.case.repeats_per_cut);
}

/// Records that the receiver rejects become dead letters, and all others arrive.
fn isolates_rejected_records(case: SinkCase) {
    let trial = Trial::new(case);
    trial.receiver.reject("OneAdmin");
    // Dead letters make a run incomplete, although everything else is delivered.
    trial.once_until(|run| run.code == 1 && trial.workspace.is_delivered());

    let (observations, others): (Vec<_>, Vec<_>) =
        records(&trial.reference).into_iter().partition(|record| record["kind"] == "quality");
    let count = observations.len();
    assert_eq!(count, 1, "the other sinks receive one observation: {observations:?}");

    let (rejected, accepted): (Vec<_>, Vec<_>) =
        others.into_iter().partition(|record| record["control"]["id"] == "OneAdmin");
    assert_eq!(rejected.len(), DAYS);
    assert_eq!(trial.status()["dead_letters"], DAYS);
    let accepted: Vec<String> = ids(&accepted).map(str::to_owned).collect();
    trial.assert_arrived(&accepted, trial.case.repeats_per_cut * DAYS);
}

/// A batch that is too large for the receiver is split.
fn splits_large_batches(case: SinkCase) {
    let trial = Trial::new(case);
    trial.receiver.limit(100 << 10);
    trial.once();
    trial.assert_all(0);
    assert_eq!(trial.status()["dead_letters"], 0);
}

/// After a stop during delivery and a start with another configuration, no record is lost. Records
/// are repeated only if the daemon reported that it had stopped before all acknowledgements
/// arrived.
fn survives_a_stop(case: SinkCase) {
    let mut trial = Trial::new(case);
    let before = trial.receiver.bytes();
    let daemon = trial.spawn(&["run"]);
    eventually("the first bytes are sent", || trial.receiver.bytes() > before);
    let began = std::time::Instant::now();
    daemon.signal("TERM");
    let stopped = daemon.end();
    assert_eq!(stopped.code, 0, "{}", stopped.stderr);
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "{:?}", began.elapsed());
    let message = "stopped before all acknowledgements had arrived";
    let is_unacknowledged = stopped.stderr.contains(message);

    let added = trial.workspace.file_sink("added");
    trial.once();
    trial.assert_all(if is_unacknowledged { trial.case.repeats_per_kill } else { 0 });
    assert_eq!(counts(ids(&records(&added))), counts(ids(&records(&trial.reference))));
}

macro_rules! contract {
    ($($(#[$cfg:meta])? $sink:ident: $($clause:ident)*;)*) => {
        $($(#[$cfg])? mod $sink {
            $(#[test]
            fn $clause() {
                super::$clause(super::receivers::$sink());
            })*
        })*

        /// The rows and kinds of all sinks in the list.
        fn tested_rows_and_kinds() -> Vec<(&'static str, &'static str)> {
            let mut tested = Vec::new();
            $($(#[$cfg])? {
                let case = receivers::$sink();
                tested.push((case.row, case.kind));
            })*
            tested
        }
    };
}

// Each sink is listed with the clauses that apply to its protocol: a file has no connection that
// could be cut, plain TCP has no responses that could be dropped, the receiver of a byte stream
// cannot reject records, and nothing is read from a UDP or Unix socket that could be flooded.
contract! {
    file: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_a_stop;
    stdout: delivers_once_in_order survives_kills_in_any_phase survives_a_stop;
    syslog_tcp: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_cut_connections tolerates_a_slow_receiver survives_a_flood
        survives_a_stop;
    syslog_tls: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_cut_connections tolerates_a_slow_receiver
        counts_only_acknowledged_records survives_a_flood survives_a_stop;
    syslog_relp: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_cut_connections tolerates_a_slow_receiver
        counts_only_acknowledged_records survives_a_flood survives_a_stop;
    syslog_relps: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_cut_connections tolerates_a_slow_receiver
        counts_only_acknowledged_records survives_a_flood survives_a_stop;
    syslog_udp: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_a_stop;
    syslog_unix: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_a_stop;
    hec: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_cut_connections tolerates_a_slow_receiver
        counts_only_acknowledged_records isolates_rejected_records splits_large_batches
        believes_no_false_reply survives_a_flood survives_a_stop;
    hec_acknowledged: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_cut_connections tolerates_a_slow_receiver
        counts_only_acknowledged_records isolates_rejected_records splits_large_batches
        believes_no_false_reply survives_a_flood survives_a_stop;
    hec_collector: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_cut_connections tolerates_a_slow_receiver
        counts_only_acknowledged_records survives_a_flood survives_a_stop;
    hec_collector_acknowledged: probes_without_records delivers_once_in_order
        survives_kills_in_any_phase survives_an_outage survives_cut_connections
        tolerates_a_slow_receiver counts_only_acknowledged_records survives_a_flood survives_a_stop;
    kafka: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_cut_connections tolerates_a_slow_receiver
        counts_only_acknowledged_records survives_a_flood survives_a_stop;
    kafka_at_least_once: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_cut_connections tolerates_a_slow_receiver
        counts_only_acknowledged_records survives_a_flood survives_a_stop;
    elasticsearch: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_cut_connections tolerates_a_slow_receiver
        counts_only_acknowledged_records isolates_rejected_records splits_large_batches
        believes_no_false_reply survives_a_flood survives_a_stop;
    http: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_cut_connections tolerates_a_slow_receiver
        counts_only_acknowledged_records isolates_rejected_records splits_large_batches
        believes_no_false_reply survives_a_flood survives_a_stop;
    chat_teams: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_cut_connections tolerates_a_slow_receiver
        counts_only_acknowledged_records believes_no_false_reply survives_a_flood survives_a_stop;
    chat_slack: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_cut_connections tolerates_a_slow_receiver
        counts_only_acknowledged_records believes_no_false_reply survives_a_flood survives_a_stop;
    chat_template: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_cut_connections counts_only_acknowledged_records
        isolates_rejected_records believes_no_false_reply survives_a_flood survives_a_stop;
    #[cfg(feature = "email")]
    email: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_cut_connections tolerates_a_slow_receiver
        counts_only_acknowledged_records survives_a_flood survives_a_stop;
    sentinel: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_cut_connections tolerates_a_slow_receiver
        counts_only_acknowledged_records isolates_rejected_records splits_large_batches
        believes_no_false_reply survives_a_flood survives_a_stop;
    otlp: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_cut_connections tolerates_a_slow_receiver
        counts_only_acknowledged_records isolates_rejected_records splits_large_batches
        believes_no_false_reply survives_a_flood survives_a_stop;
    #[cfg(feature = "object_store")]
    s3: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_cut_connections tolerates_a_slow_receiver
        counts_only_acknowledged_records believes_no_false_reply survives_a_flood survives_a_stop;
    #[cfg(feature = "object_store")]
    azure_blob: probes_without_records delivers_once_in_order survives_kills_in_any_phase
        survives_an_outage survives_cut_connections tolerates_a_slow_receiver
        counts_only_acknowledged_records believes_no_false_reply survives_a_flood survives_a_stop;
}

/// Every kind of sink and every row of the documented guarantees is tested.
#[test]
fn covers_every_kind_and_guarantee() {
    let tested = tested_rows_and_kinds();
    let kinds: HashSet<&str> = tested.iter().map(|(_, kind)| *kind).collect();
    assert_eq!(kinds, KINDS.iter().map(|kind| kind.name).collect());

    let page = include_str!("../../../docs/reference/delivery-guarantees.md");
    let (_, table) = page.split_once("| sink | acknowledgement |").unwrap();
    let rows: HashSet<&str> = table
        .lines()
        .skip(2)
        .map_while(|line| line.strip_prefix("| ")?.split(" | ").next())
        .collect();
    assert_eq!(tested.iter().map(|(row, _)| *row).collect::<HashSet<_>>(), rows);
}
