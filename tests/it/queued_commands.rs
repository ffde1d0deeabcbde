//! Backfills and imports that are interrupted: the next process continues them, and everything is
//! delivered once.

use std::path::PathBuf;

use secure_score_forwarder::{
    clock,
    model::Day,
    source::simulated::{Richness, snapshot_json},
};

use crate::support::{
    Process, TENANT, Workspace, counts, eventually,
    faults::{Fault, FaultyApi},
    ids, summaries, without_observations, write,
};

const SCORES: &str = "/secureScores";
const FIRST_DAYS: usize = 3;

/// A running daemon that has delivered the first days of its tenant.
struct Trial {
    api: FaultyApi,
    workspace: Workspace,
    file: PathBuf,
    daemon: Process,
}

impl Trial {
    fn start() -> Self {
        let api = FaultyApi::new();
        let mut workspace = Workspace::against(&api.url);
        workspace.extra = format!("initial_backfill_days = {FIRST_DAYS}");
        let file = workspace.file_sink("local");
        let daemon = workspace.spawn(&["run"]);
        eventually("the first days are delivered", || {
            summaries(&file) == FIRST_DAYS && workspace.is_delivered()
        });
        api.clear();
        Self { api, workspace, file, daemon }
    }

    /// Starts a command whose poll never receives a response.
    fn hang(&self, command: &[&str]) -> Process {
        self.api.fail(SCORES, Fault::Hang);
        let process = self.workspace.spawn(command);
        eventually("the poll waits for a response", || {
            self.api.requests().iter().any(|path| path.contains(SCORES))
        });
        process
    }
}

/// The number of queued commands.
fn queued(workspace: &Workspace) -> i64 {
    let path = workspace.state().join("checkpoint.db");
    let database = rusqlite::Connection::open(path).unwrap();
    database.query_row("SELECT count(*) FROM queued_command", [], |row| row.get(0)).unwrap()
}

/// Asserts that this number of days is stored and delivered, and no record twice.
fn assert_delivered_once(workspace: &Workspace, file: &std::path::Path, days: usize) {
    assert_eq!(workspace.status()["tenants"][0]["days"], days);
    let all = without_observations(file);
    let repeated = counts(ids(&all)).values().filter(|count| **count > 1).count();
    assert_eq!((repeated, summaries(file)), (0, days));
    assert_eq!(queued(workspace), 0);
}

/// Regression: a backfill that was interrupted had to be requested again.
#[test]
fn a_killed_backfill_is_continued() {
    let trial = Trial::start();
    let backfill = trial.hang(&["backfill", "--days", "20"]);
    let Trial { api: _api, workspace, file, daemon } = trial;
    daemon.kill();
    assert_ne!(backfill.end().code, 0);
    assert_eq!((queued(&workspace), summaries(&file)), (1, FIRST_DAYS));

    // The schedule waits after a kill, and `once` does not.
    workspace.run_ok(&["once"]);
    assert_delivered_once(&workspace, &file, 20);
}

#[test]
fn a_stopped_backfill_is_continued() {
    let trial = Trial::start();
    let backfill = trial.hang(&["backfill", "--days", "20"]);
    let Trial { api: _api, workspace, file, daemon } = trial;
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
    assert_ne!(backfill.end().code, 0);

    let daemon = workspace.spawn(&["run"]);
    eventually("all days are delivered", || summaries(&file) == 20 && workspace.is_delivered());
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
    assert_delivered_once(&workspace, &file, 20);
}

/// The import waits for the end of a poll when the process is killed.
///
/// Regression: an import that was interrupted had to be requested again, and the command did not
/// report what was stored.
#[test]
fn a_killed_import_is_continued() {
    let trial = Trial::start();
    let day = Day::of(clock::now()).plus(-40);
    write(trial.workspace.path("day.json"), &snapshot_json(TENANT, day, Richness::Poor));
    let path = trial.workspace.path("day.json").display().to_string();
    let poll = trial.hang(&["poll"]);
    let import = trial.workspace.spawn(&["import", &path]);
    eventually("the import is queued", || queued(&trial.workspace) == 1);

    let Trial { api: _api, workspace, file, daemon } = trial;
    daemon.kill();
    assert_ne!(poll.end().code, 0);
    let interrupted = import.end();
    assert_eq!(interrupted.code, 1, "{}", interrupted.stderr);
    assert!(interrupted.stderr.contains("hint: run the same import"), "{}", interrupted.stderr);
    workspace.run_ok(&["once"]);
    assert_delivered_once(&workspace, &file, FIRST_DAYS + 1);

    // The same import again changes nothing.
    let run = workspace.run_ok(&["import", &path]);
    assert!(run.stderr.contains("0 new days imported"), "{}", run.stderr);
    workspace.run_ok(&["once"]);
    assert_delivered_once(&workspace, &file, FIRST_DAYS + 1);
}
