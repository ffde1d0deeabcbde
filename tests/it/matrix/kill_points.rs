//! The process is killed at a system call that writes, synchronizes, truncates, renames or removes:
//! at each one of its kind in turn, also while it recovers from the kill before. strace kills it.
//! Afterward, every record has arrived. A file contains it once, and a receiver has at most those
//! repeated that had arrived and were not acknowledged at a kill.

use std::collections::HashSet;

use super::lines::Lines;
use crate::support::{
    Workspace, counts, eventually,
    hec::{Hec, TOKEN},
    ids, without_observations,
};

const DAYS: usize = 2;
/// Only records that do not depend on the interruption.
const KINDS: &str = "records = [\"control\", \"summary\", \"change\"]";

/// System calls of one kind.
struct KillPoint {
    calls: &'static str,
    /// A kill is at every call of a thread whose number is a multiple of this.
    every: usize,
    /// The minimum number of kills.
    kills: usize,
}

const KILL_POINTS: [KillPoint; 8] = [
    KillPoint { calls: "write,writev", every: 2, kills: 3 },
    KillPoint { calls: "sendto,sendmsg", every: 1, kills: 1 },
    KillPoint { calls: "pwrite64", every: 6, kills: 8 },
    KillPoint { calls: "fsync", every: 1, kills: 5 },
    KillPoint { calls: "fdatasync", every: 1, kills: 1 },
    KillPoint { calls: "rename,renameat,renameat2", every: 1, kills: 1 },
    KillPoint { calls: "ftruncate", every: 1, kills: 1 },
    KillPoint { calls: "unlink,unlinkat", every: 1, kills: 1 },
];

/// Whether a server on this port has a connection that it has not closed yet.
fn has_connections(port: u16) -> bool {
    const LISTEN: &str = "0A";
    const TIME_WAIT: &str = "06";

    let end = format!(":{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns[1].ends_with(&end) && ![LISTEN, TIME_WAIT].contains(&columns[3])
    })
}

/// A workspace with a file and two receivers.
struct Trial {
    workspace: Workspace,
    lines: Lines,
    hec: Hec,
    file: std::path::PathBuf,
}

/// A sink whose receiver does not know what it has received before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RepeatingSink {
    Siem,
    Splunk,
}

impl RepeatingSink {
    const ALL: [Self; 2] = [Self::Siem, Self::Splunk];

    fn name(self) -> &'static str {
        match self {
            Self::Siem => "siem",
            Self::Splunk => "splunk",
        }
    }
}

impl Trial {
    fn new() -> Self {
        let (lines, hec) = (Lines::new(), Hec::new());
        let mut workspace = Workspace::new();
        workspace.extra = format!("initial_backfill_days = {DAYS}");
        let file = workspace.path("local.jsonl");
        workspace
            .sink("local", &format!("type = \"file\"\npath = \"{}\"\n{KINDS}", file.display()));
        let address =
            format!("address = \"tcp://127.0.0.1:{}\"\nframing = \"newline\"", lines.port);
        workspace
            .sink("siem", &format!("type = \"syslog\"\n{address}\nformat = \"json\"\n{KINDS}"));
        let token = workspace.secret("hec-secret", TOKEN);
        let keys = format!("url = \"{}\"\ntoken = {token}\nacknowledgement = false", hec.url);
        workspace.sink("splunk", &format!("type = \"splunk_hec\"\n{keys}\n{KINDS}"));
        Self { workspace, lines, hec, file }
    }

    /// The event IDs that a receiver has stored, in order.
    fn arrived(&self, sink: RepeatingSink) -> Vec<String> {
        match sink {
            RepeatingSink::Siem => self.lines.arrived(),
            RepeatingSink::Splunk => self.hec.ids(),
        }
    }

    fn wait_until_stored(&self) {
        let hec_port = self.hec.url.rsplit(':').next().unwrap().parse().unwrap();
        eventually("the receivers have stored everything", || {
            !has_connections(self.lines.port) && !has_connections(hec_port)
        });
    }

    /// The number of records that count as acknowledged.
    fn acknowledged(&self, sink: RepeatingSink) -> usize {
        let status = self.workspace.try_status().unwrap_or_default();
        let sinks = status["sinks"].as_array().cloned().unwrap_or_default();
        let found = sinks.iter().find(|found| found["name"] == sink.name());
        found.and_then(|found| found["sent"].as_u64()).unwrap_or(0) as usize
    }

    /// Kills the process at calls of one kind until it completes. Returns the number of kills and,
    /// for each receiver, how many records may be repeated.
    fn kill_repeatedly(&self, point: &KillPoint) -> (usize, [usize; 2]) {
        let mut repeatable = [0; 2];
        for kills in 0..400 {
            let run = self.workspace.once_killed_at(point.calls, (kills + 1) * point.every);
            if run.code == 0 {
                return (kills, repeatable);
            }
            assert_eq!(run.code, -1, "{}: {}", point.calls, run.stderr);

            self.wait_until_stored();
            for (sink, repeatable) in RepeatingSink::ALL.into_iter().zip(&mut repeatable) {
                let arrived = self.arrived(sink).into_iter().collect::<HashSet<_>>().len();
                let acknowledged = self.acknowledged(sink);
                assert!(acknowledged <= arrived, "{sink:?}: {acknowledged} of {arrived}");
                *repeatable += arrived - acknowledged;
            }
        }
        panic!("{}: no run has completed", point.calls);
    }

    fn assert_complete(&self, point: &KillPoint, repeatable: [usize; 2]) {
        let expected = without_observations(&self.file);
        let in_file = counts(ids(&expected));
        assert!(in_file.len() > 200 * DAYS, "{}: {}", point.calls, in_file.len());
        assert!(in_file.values().all(|count| *count == 1), "{}: the file", point.calls);

        for (sink, repeatable) in RepeatingSink::ALL.into_iter().zip(repeatable) {
            let arrived = self.arrived(sink);
            let distinct = counts(arrived.iter().map(String::as_str));
            let missing = in_file.keys().filter(|id| !distinct.contains_key(*id)).count();
            assert_eq!(missing, 0, "{}: {sink:?}", point.calls);
            assert_eq!(distinct.len(), in_file.len(), "{}: {sink:?}", point.calls);
            let repeated = arrived.len() - distinct.len();
            assert!(
                repeated <= repeatable,
                "{}: {sink:?} has {repeated} repeats, at most {repeatable} are allowed",
                point.calls
            );
        }
    }
}

#[test]
fn every_kind_of_call_can_be_the_last() {
    for point in &KILL_POINTS {
        let trial = Trial::new();
        let (kills, repeatable) = trial.kill_repeatedly(point);
        assert!(kills >= point.kills, "{}: {kills} kills", point.calls);
        trial.workspace.run_ok(&["once"]);
        trial.wait_until_stored();
        trial.assert_complete(point, repeatable);
    }
}
