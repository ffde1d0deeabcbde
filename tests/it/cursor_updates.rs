//! Updates of cursors that fail because of the disk: an exhausted quota, a full disk that a write
//! or a synchronization reports, and an input/output error, or because another process has locked
//! the database. strace attaches to a process in the middle of a delivery, and makes the system
//! calls for the write-ahead log fail. Neither the file nor a topic with exactly-once delivery may
//! then contain a record twice, and `once` ends. If only the second cursor file cannot be written,
//! `once` succeeds with a warning.

use std::{
    collections::HashMap,
    fmt,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    exactly_once::committed,
    support::{
        Process, Run, Workspace, broker::broker, counts, eventually, ids, summaries,
        without_observations,
    },
};

const WRITES: &str = "write,pwrite64";
const SYNCHRONIZATIONS: &str = "fsync,fdatasync";

/// The number of days that a sink receives.
const DAYS: usize = 8;
/// The file with the calls that have failed.
const FAILED_CALLS: &str = "strace";
/// More failed calls than one attempt to update a cursor makes.
const MIN_FAILED_CALLS: usize = 4;
/// Limits the records of a second, so that most of them are not delivered when the disk fails.
const MAX_RATE: &str = "max_rate = 100";

/// System calls for the write-ahead log that fail.
struct DiskFault {
    calls: &'static str,
    error: &'static str,
}

impl DiskFault {
    /// Makes all of these calls of a process fail. strace ends when the process ends.
    fn begin(&self, workspace: &Workspace, process: &Process) -> Process {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-p", &process.id().to_string(), "-o"]);
        strace.arg(workspace.path(FAILED_CALLS)).arg("-P");
        strace.arg(workspace.state().join("checkpoint.db-wal"));
        strace.args(["-e", &format!("trace={}", self.calls), "-e"]);
        strace.arg(format!("inject={}:error={}", self.calls, self.error));
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Process::of(strace)
    }
}

/// Why the updates of a cursor fail.
enum UpdateFault {
    Disk(DiskFault),
    /// Another process holds the lock of the database for writing.
    Busy,
}

/// A fault that has begun.
enum ActiveFault {
    Traced(Process),
    Locked(rusqlite::Connection),
}

impl UpdateFault {
    fn begin(&self, workspace: &Workspace, process: &Process) -> ActiveFault {
        match self {
            Self::Disk(fault) => ActiveFault::Traced(fault.begin(workspace, process)),
            Self::Busy => {
                let database = workspace.state().join("checkpoint.db");
                let connection = rusqlite::Connection::open(database).unwrap();
                connection.execute_batch("BEGIN IMMEDIATE").unwrap();
                ActiveFault::Locked(connection)
            }
        }
    }
}

impl fmt::Display for UpdateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(fault) => write!(f, "{} {}", fault.calls, fault.error),
            Self::Busy => f.write_str("busy"),
        }
    }
}

impl ActiveFault {
    /// Whether calls have failed more often than in one attempt to update a cursor.
    fn has_repeated(&self, workspace: &Workspace) -> bool {
        match self {
            Self::Traced(_) => {
                let calls =
                    std::fs::read_to_string(workspace.path(FAILED_CALLS)).unwrap_or_default();
                calls.matches("(INJECTED)").count() >= MIN_FAILED_CALLS
            }
            // Each attempt has waited for the lock.
            Self::Locked(_) => true,
        }
    }

    fn end(self) {
        match self {
            Self::Traced(strace) => end_fault(strace),
            Self::Locked(connection) => connection.execute_batch("ROLLBACK").unwrap(),
        }
    }
}

/// Ends the fault that this strace injects.
fn end_fault(mut strace: Process) {
    assert!(strace.is_running(), "strace has ended");
    // On this signal, strace detaches from the process.
    strace.signal("TERM");
    eventually("strace has ended", || !strace.is_running());
}

/// A workspace whose checkpoint contains days that only the sink `reference` has received, and the
/// path of its file.
fn workspace_with_days() -> (Workspace, std::path::PathBuf) {
    let mut workspace = Workspace::new();
    workspace.extra = format!("initial_backfill_days = {DAYS}");
    let reference = workspace.file_sink("reference");
    workspace.run_ok(&["once"]);
    (workspace, reference)
}

/// The numbers of sent records and of log entries that are not sent; `None` if the sink does not
/// have a cursor yet.
fn progress(workspace: &Workspace, name: &str) -> Option<(u64, u64)> {
    let status = workspace.try_status()?;
    let sink = status["sinks"].as_array()?.iter().find(|sink| sink["name"] == name)?;
    Some((sink["sent"].as_u64()?, sink["backlog_entries"].as_u64()?))
}

/// Whether the sink has received a part of its records, and the update of its cursor is complete.
fn is_delivering(workspace: &Workspace, name: &str) -> bool {
    progress(workspace, name).is_some_and(|(sent, backlog)| sent > 0 && backlog > 0)
}

/// Runs the daemon, whose calls fail in the middle of the delivery until an update was attempted
/// repeatedly, until the sink has received everything. Returns how many deliveries have failed.
fn deliver_despite(fault: &UpdateFault, workspace: &Workspace, sink: &str) -> usize {
    let log = workspace.path("log");
    let mut command = workspace.command(&["run"]);
    command.stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
    let daemon = Process::of(command);
    let failures = || {
        let log = std::fs::read_to_string(&log).unwrap();
        log.matches("delivery failed; retrying").count()
    };

    eventually("a batch is acknowledged", || is_delivering(workspace, sink));
    assert_eq!(failures(), 0);
    let active = fault.begin(workspace, &daemon);
    // The log counts equal entries instead of repeating them.
    eventually("updates have failed again and again", || {
        failures() >= 1 && active.has_repeated(workspace)
    });
    active.end();
    let has_received_all =
        || progress(workspace, sink).is_some_and(|(sent, backlog)| sent > 0 && backlog == 0);
    eventually("the sink has received everything", has_received_all);

    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
    workspace.run_ok(&["once"]);
    failures()
}

/// Asserts that every record of the file `reference` was received, and no record twice.
fn assert_received_once(received: &HashMap<String, usize>, reference: &Path) {
    let expected = without_observations(reference);
    let missing = ids(&expected).filter(|id| !received.contains_key(*id)).count();
    let repeated = received.values().filter(|count| **count > 1).count();
    assert!(expected.len() > 10 * 100);
    assert_eq!((missing, repeated), (0, 0));
}

fn received_by(file: &Path) -> HashMap<String, usize> {
    counts(ids(&crate::support::records(file)))
}

/// Regression: the file sink stayed open after the update had failed, and appended the batch again.
#[test]
fn the_file_repeats_nothing_after_failed_updates() {
    for fault in [
        UpdateFault::Disk(DiskFault { calls: SYNCHRONIZATIONS, error: "EIO" }),
        UpdateFault::Disk(DiskFault { calls: SYNCHRONIZATIONS, error: "ENOSPC" }),
        UpdateFault::Disk(DiskFault { calls: WRITES, error: "ENOSPC" }),
        UpdateFault::Disk(DiskFault { calls: WRITES, error: "EDQUOT" }),
        UpdateFault::Busy,
    ] {
        let (mut workspace, reference) = workspace_with_days();
        let file = workspace.path("local.jsonl");
        let section = format!("type = \"file\"\npath = \"{}\"\n{MAX_RATE}", file.display());
        workspace.sink("local", &section);

        let failures = deliver_despite(&fault, &workspace, "local");
        assert!(failures > 0, "{fault}: no update has failed");
        assert_received_once(&received_by(&file), &reference);
    }
}

/// Regression: the producer stayed open after the update had failed, so the progress in the topic
/// was not read, and the batch was produced in a second transaction.
#[test]
fn kafka_repeats_nothing_after_failed_updates() {
    for (fault, topic) in [
        (UpdateFault::Disk(DiskFault { calls: SYNCHRONIZATIONS, error: "EIO" }), "update-eio"),
        (UpdateFault::Disk(DiskFault { calls: WRITES, error: "ENOSPC" }), "update-enospc"),
        (UpdateFault::Busy, "update-busy"),
    ] {
        broker().create_topic(topic, 1 << 20);
        let (mut workspace, reference) = workspace_with_days();
        let address = &broker().address;
        let section =
            format!("type = \"kafka\"\nbrokers = [\"{address}\"]\ntopic = \"{topic}\"\n{MAX_RATE}");
        workspace.sink("lake", &section);

        let failures = deliver_despite(&fault, &workspace, "lake");
        assert!(failures > 0, "{fault}: no update has failed");
        assert_received_once(&committed(broker(), topic), &reference);
    }
}

/// Regression: `once` waited without a limit until there was space for the cursor.
#[test]
fn once_ends_on_a_full_disk() {
    for error in ["ENOSPC", "EDQUOT"] {
        let (mut workspace, reference) = workspace_with_days();
        let file = workspace.path("local.jsonl");
        let section = format!("type = \"file\"\npath = \"{}\"\n{MAX_RATE}", file.display());
        workspace.sink("local", &section);

        let mut process = Process::of(workspace.command(&["once"]));
        eventually("a batch is acknowledged", || is_delivering(&workspace, "local"));
        let fault = DiskFault { calls: WRITES, error };
        let mut strace = fault.begin(&workspace, &process);
        eventually("the command has ended", || !process.is_running());
        let run = process.end();
        assert_eq!(run.code, 1, "{error}: {}", run.stderr);
        assert!(run.stderr.contains("then stopped: "), "{error}: {}", run.stderr);
        eventually("strace has ended", || !strace.is_running());

        workspace.run_ok(&["once"]);
        assert_received_once(&received_by(&file), &reference);
    }
}

/// Runs `once` while nothing can be written to the new second cursor file.
fn once_without_space_for_cursors(workspace: &Workspace, error: &str) -> Run {
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-P"]);
    strace.arg(workspace.state().join("cursors.json.new"));
    strace.args(["-e", "trace=write", "-e", &format!("inject=write:error={error}")]);
    Run::of(workspace.command_under(strace, &["once", "--json"]).output().unwrap())
}

/// The condition of the second cursor file in the status.
fn outdated_cursor_file(workspace: &Workspace) -> Option<serde_json::Value> {
    let status = workspace.status();
    let mut conditions = status["conditions"].as_array().unwrap().iter();
    conditions.find(|condition| condition["kind"] == "cursor_file_outdated").cloned()
}

/// Regression: `once` exited with code 0 and without a message that names the second cursor file,
/// and `status` showed nothing. The records are delivered and recorded, so the exit code remains.
#[test]
fn an_outdated_cursor_file_is_reported() {
    for error in ["ENOSPC", "EDQUOT"] {
        let mut workspace = Workspace::new();
        workspace.extra = "initial_backfill_days = 3".to_owned();
        let file = workspace.file_sink("local");

        let run = once_without_space_for_cursors(&workspace, error);
        assert_eq!(run.code, 0, "{error}: {}", run.stderr);
        let warning = "warning: `cursors.json`, the copy of the cursors, is outdated";
        assert_eq!(run.stderr.matches(warning).count(), 1, "{error}: {}", run.stderr);
        assert!(run.stderr.contains("\n  hint: "), "{error}: {}", run.stderr);
        let document: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(document["complete"], true, "{document}");
        assert!(document["cursor_file_error"]["message"].is_string(), "{document}");
        assert!(!workspace.state().join("cursors.json").exists(), "{error}");

        let condition = outdated_cursor_file(&workspace).unwrap();
        assert_eq!(condition["severity"], "warning", "{condition}");
        assert_eq!(condition["subject"], "daemon", "{condition}");
        assert_eq!(workspace.run(&["status"]).code, 0, "{error}");

        // The next run writes the file, although it has nothing to deliver.
        let run = workspace.run_ok(&["once"]);
        assert!(!run.stderr.contains("warning: "), "{error}: {}", run.stderr);
        assert!(workspace.state().join("cursors.json").exists(), "{error}");
        assert_eq!(outdated_cursor_file(&workspace), None, "{error}");
        assert_eq!(summaries(&file), 3, "{error}");
    }
}
