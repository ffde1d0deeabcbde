//! The `state` commands: verify, backup, restore, repair and export.

use std::path::{Path, PathBuf};

use secure_score_forwarder::{clock, model::Day};

use crate::support::{
    TENANT, Workspace, counts, eventually, ids, records, scores, summaries, write,
};

/// A workspace after one `once` that has read this many days, and the path of its file sink.
pub fn with_days(days: u32) -> (Workspace, PathBuf) {
    let mut workspace = Workspace::new();
    workspace.extra = format!("initial_backfill_days = {days}");
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    (workspace, file)
}

/// Runs SQL statements on the database without the program.
pub fn sql(workspace: &Workspace, statement: &str) {
    let connection = rusqlite::Connection::open(workspace.state().join("checkpoint.db")).unwrap();
    connection.execute_batch(statement).unwrap();
}

/// Reads one number from the database without the program.
pub fn query(workspace: &Workspace, statement: &str) -> i64 {
    let connection = rusqlite::Connection::open(workspace.state().join("checkpoint.db")).unwrap();
    connection.query_row(statement, [], |row| row.get(0)).unwrap()
}

#[test]
fn verify_reports_every_kind_of_damage() {
    let (workspace, _) = with_days(5);
    let run = workspace.run_ok(&["state", "verify"]);
    assert!(run.stdout.starts_with("read 5 snapshots, 5 bodies, 1 catalog and "), "{}", run.stdout);
    assert!(run.stdout.ends_with("no damage found\n"), "{}", run.stdout);

    for (damage, finding) in [
        (
            "UPDATE entry SET digest = zeroblob(32) WHERE seq = 2",
            "the facts do not match their hash",
        ),
        ("UPDATE body SET bytes = zeroblob(40) WHERE id = 1", "a stored body cannot be read"),
        ("UPDATE cursor SET seq = 99", "the cursor of sink `local` is outside the log"),
        (
            "DELETE FROM entry WHERE seq = 3",
            "the log is inconsistent: 4 entries, last `seq` 5, next `seq` 6",
        ),
        ("UPDATE catalog SET members = zeroblob(9)", "catalog `1` cannot be read"),
        ("UPDATE profile SET bytes = zeroblob(9) WHERE id = 2", "profile `2` cannot be read"),
        ("UPDATE profile SET digest = zeroblob(32) WHERE id = 2", "profile `2` cannot be read"),
        ("UPDATE catalog SET digest = zeroblob(32)", "catalog `1` cannot be read"),
        (
            "INSERT INTO held VALUES ((SELECT tenant FROM entry LIMIT 1), 1, 1, 1, zeroblob(9))",
            "a held day cannot be read",
        ),
        (
            "INSERT INTO baseline VALUES ((SELECT tenant FROM entry LIMIT 1), 1, 'march', NULL, 1, 'no target')",
            "baseline `march` cannot be read",
        ),
    ] {
        let (workspace, _) = with_days(5);
        sql(&workspace, damage);

        let run = workspace.run(&["state", "verify"]);
        assert_eq!(run.code, 3, "{damage}: {}", run.stdout);
        assert!(run.stdout.contains(finding), "{damage}: {}", run.stdout);
        assert!(run.stderr.contains("`state repair`"), "{}", run.stderr);
    }
}

#[test]
fn repair_requests_the_day_of_a_damaged_body() {
    let (mut workspace, _) = with_days(5);
    sql(&workspace, "UPDATE body SET bytes = zeroblob(40) WHERE id = 1");
    let late = workspace.file_sink("late");
    let blocked = workspace.run(&["once"]);
    assert_eq!(
        (blocked.code, summaries(&late)),
        (1, 0),
        "the tenant is skipped: {}",
        blocked.stderr
    );

    let run = workspace.run_ok(&["state", "repair"]);
    let day = Day::of(clock::now()).plus(-4);
    assert!(
        run.stderr.contains(&format!(
            "the body of `{day}` cannot be read and will be requested again\n  hint: run \
             `replay --sink late --from {day} --to {day}` after the next poll to send it"
        )),
        "{}",
        run.stderr
    );
    assert_eq!(run.stdout, "the checkpoint has no damage\n");
    assert_eq!(query(&workspace, "SELECT count(*) FROM body WHERE id = 1"), 0);

    workspace.run_ok(&["once"]);
    workspace.run_ok(&["state", "verify"]);
    assert_eq!(query(&workspace, "SELECT count(*) FROM entry WHERE kind = 1 AND body IS NULL"), 0);

    let replayed = workspace.run_ok(&[
        "replay",
        "--sink",
        "late",
        "--from",
        &day.to_string(),
        "--to",
        &day.to_string(),
    ]);
    assert!(replayed.stderr.contains("day"), "{}", replayed.stderr);

    let days: std::collections::BTreeSet<String> = records(&late)
        .iter()
        .filter(|record| record["kind"] == "summary")
        .map(|record| record["snapshot"]["date"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(days.len(), 5, "{days:?}");
}

/// A repair of one small fault must not lose any other data.
#[test]
fn repair_keeps_all_intact_data() {
    for (damage, message) in [
        ("UPDATE entry SET facts = zeroblob(9) WHERE seq = 2", "rebuilt the facts of 1 day"),
        ("UPDATE entry SET digest = zeroblob(32) WHERE seq = 2", "rebuilt the facts of 1 day"),
        (
            "UPDATE cursor SET seq = 99",
            "the damaged cursor of sink `local` was set to its last known position",
        ),
        ("UPDATE tenant SET next_seq = 9 WHERE next_seq > 1", ""),
        ("UPDATE profile SET bytes = zeroblob(9) WHERE id = 2", "1 catalog is lost"),
        ("UPDATE catalog SET members = zeroblob(9)", "1 catalog is lost"),
        (
            "INSERT INTO held SELECT tenant, max(day), 1, 1, zeroblob(9) FROM entry",
            " is lost and will be requested again",
        ),
        (
            "INSERT INTO baseline VALUES ((SELECT tenant FROM entry LIMIT 1), 1, 'march', NULL, 1, 'no target')",
            "the baseline `march` is lost",
        ),
    ] {
        let (workspace, file) = with_days(5);
        let before = records(&file);
        let id = workspace.status()["checkpoint_id"].clone();

        sql(&workspace, damage);
        let run = workspace.run_ok(&["state", "repair"]);
        assert_eq!(run.stdout, "the checkpoint has no damage\n", "{damage}");
        assert!(run.stderr.contains(message), "{damage}: {}", run.stderr);

        workspace.run(&["once"]);
        workspace.run_ok(&["state", "verify"]);
        let status = workspace.status();
        assert_eq!((&status["checkpoint_id"], &status["tenants"][0]["days"]), (&id, &5.into()));
        assert!(records(&file).starts_with(&before), "{damage}");
        assert!(counts(ids(&records(&file))).values().all(|times| *times == 1), "{damage}");
    }
}

/// Regression: after one changed bit in a cursor, `once` succeeded, skipped all new days, and
/// copied the cursor into `cursors.json`.
#[test]
fn a_cursor_after_its_log_is_damage() {
    let (workspace, file) = with_days(3);
    let saved = std::fs::read(workspace.state().join("cursors.json")).unwrap();
    sql(&workspace, "UPDATE cursor SET seq = seq + 64");

    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(run.stderr.contains("the cursor of sink `local` is outside the log"), "{}", run.stderr);
    assert!(run.stderr.contains("`state repair`"), "{}", run.stderr);
    assert_eq!(std::fs::read(workspace.state().join("cursors.json")).unwrap(), saved);

    workspace.run_ok(&["state", "repair"]);
    workspace.run_ok(&["backfill", "--days", "5"]);
    workspace.run_ok(&["once"]);
    let all = records(&file);
    assert_eq!(summaries(&file), 5, "no day is lost");
    assert!(counts(ids(&all)).values().all(|times| *times == 1), "no record is sent twice");
}

/// Regression: a lost cursor made the sink receive everything again.
#[test]
fn lost_cursors_are_in_the_second_cursor_file() {
    let (workspace, file) = with_days(3);
    let before = records(&file);
    sql(&workspace, "DELETE FROM cursor");
    workspace.run_ok(&["once"]);
    assert_eq!(records(&file), before);
}

#[test]
fn repair_replaces_a_checkpoint_only_on_request() {
    let (workspace, _) = with_days(5);
    sql(&workspace, "DELETE FROM entry WHERE seq = 3");
    let run = workspace.run(&["state", "repair"]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(
        run.stderr.contains("run `state repair --set-aside` to start with a new checkpoint"),
        "{}",
        run.stderr
    );
    assert_eq!(workspace.status()["tenants"][0]["days"], 4, "nothing was changed");

    let run = workspace.run_ok(&["state", "repair", "--set-aside"]);
    assert!(run.stderr.contains("checkpoint.db.damaged-"), "{}", run.stderr);
    workspace.run_ok(&["once"]);
}

#[test]
fn restore_includes_the_write_ahead_log() {
    let (workspace, _) = with_days(5);

    // After a power cut, the last commits are only in the write-ahead log.
    let copy = workspace.path("cut.db");
    let connection = rusqlite::Connection::open(workspace.state().join("checkpoint.db")).unwrap();
    connection.pragma_update(None, "wal_autocheckpoint", 0).unwrap();
    connection
        .execute_batch("CREATE TABLE later (a); DROP TABLE later; UPDATE tenant SET failures = 7")
        .unwrap();
    for part in ["", "-wal"] {
        let from = workspace.state().join(format!("checkpoint.db{part}"));
        std::fs::copy(from, format!("{}{part}", copy.display())).unwrap();
    }
    drop(connection);
    sql(&workspace, "UPDATE tenant SET failures = 0");

    // An interrupted restore leaves such a file.
    write(workspace.state().join("checkpoint.db.restored-wal"), "of another one");
    workspace.run_ok(&["state", "restore", &copy.display().to_string()]);
    assert_eq!(query(&workspace, "SELECT max(failures) FROM tenant"), 7);
    workspace.run_ok(&["state", "verify"]);
}

#[test]
fn repair_of_a_damaged_file_sends_nothing_twice() {
    let (workspace, file) = with_days(5);
    let before = std::fs::read_to_string(&file).unwrap();

    let database = workspace.state().join("checkpoint.db");
    let mut bytes = std::fs::read(&database).unwrap();
    bytes[4_096..40_960].fill(0xff);
    std::fs::write(&database, bytes).unwrap();
    let rejected = workspace.run(&["once"]);
    assert_eq!(rejected.code, 3);
    assert!(
        rejected.stderr.contains("run `state repair`, which renames a database"),
        "{}",
        rejected.stderr
    );

    let run = workspace.run_ok(&["state", "repair"]);
    assert!(run.stderr.contains("checkpoint.db.damaged-"), "{}", run.stderr);
    workspace.run_ok(&["once"]);
    let after = records(&file);
    assert!(counts(ids(&after)).values().all(|times| *times <= 1), "no record is sent twice");
    let content = std::fs::read_to_string(&file).unwrap();
    assert!(content.starts_with(&before), "the file is not truncated");
}

#[test]
fn restores_a_backup_of_a_running_daemon() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5".to_owned();
    let file = workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    eventually("five days are sent", || summaries(&file) == 5);
    eventually("five days are acknowledged", || workspace.is_delivered());

    let backup = workspace.path("backup.db");
    let path = backup.display().to_string();
    let run = workspace.run_ok(&["state", "backup", &path]);
    assert!(run.stderr.contains("wrote a backup of the checkpoint"), "{}", run.stderr);
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        workspace.run(&["state", "backup", &path]).code,
        2,
        "an existing file is not overwritten"
    );

    // What is sent after the backup is recorded only in the second cursor file.
    workspace.run_ok(&["backfill", "--days", "9"]);
    eventually("nine days are sent", || summaries(&file) == 9);
    let locked = workspace.run(&["state", "restore", &path]);
    assert_eq!(locked.code, 3);
    assert!(locked.stderr.contains("held by another process"), "{}", locked.stderr);
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);

    let lost = workspace.status()["checkpoint_id"].clone();
    let run = workspace.run_ok(&["state", "restore", &path]);
    assert!(run.stderr.contains("checkpoint.db.before-restore-"), "{}", run.stderr);
    assert!(run.stderr.contains("are not sent again"), "{}", run.stderr);
    let status = workspace.status();
    assert_ne!(status["checkpoint_id"], lost);
    assert_eq!(status["tenants"][0]["days"], 5);
    workspace.run_ok(&["state", "verify"]);

    workspace.run_ok(&["once"]);
    let all = records(&file);
    assert!(counts(ids(&all)).values().all(|times| *times == 1), "no record is sent twice");
    assert_eq!(summaries(&file), 9, "the file is not truncated");
}

#[test]
fn rejects_invalid_backups_and_newer_checkpoints() {
    let (workspace, _) = with_days(3);
    let stored = || {
        let mut status = workspace.status();
        status.as_object_mut().unwrap().retain(|key, _| key != "time" && key != "free_bytes");
        status
    };
    let before = stored();
    for (name, content) in [("text", "not a database, but long enough to look at"), ("empty", "")] {
        write(workspace.path(name), content);
        let run = workspace.run(&["state", "restore", &workspace.path(name).display().to_string()]);
        assert_eq!(run.code, 2, "{name}: {}", run.stdout);
        assert_eq!(stored(), before);
    }

    sql(&workspace, "PRAGMA user_version = 99");
    for command in
        [&["once"][..], &["status"], &["state", "verify"], &["state", "backup", "/nonexistent/x"]]
    {
        let run = workspace.run(command);
        assert_eq!(run.code, 3, "{command:?}: {}", run.stderr);
        assert!(
            run.stderr.contains("has version 99, which requires a newer release"),
            "{}",
            run.stderr
        );
    }
}

#[test]
fn imports_an_export_with_equal_event_ids() {
    let (workspace, file) = with_days(6);
    let run = workspace.run_ok(&["state", "export"]);
    assert_eq!(run.stdout.lines().count(), 6);

    let today = Day::of(clock::now());
    let some = workspace.run_ok(&[
        "state",
        "export",
        "--tenant",
        "contoso",
        "--from",
        &today.plus(-2).to_string(),
        "--to",
        &today.plus(-1).to_string(),
    ]);
    assert_eq!(some.stdout.lines().count(), 2);
    assert_eq!(workspace.run(&["state", "export", "--tenant", "unknown"]).code, 2);

    let mut elsewhere = Workspace::new();
    elsewhere.extra = "initial_backfill_days = 1".to_owned();
    let copy = elsewhere.file_sink("local");
    elsewhere.run_ok(&["once"]);
    write(elsewhere.path("saved.jsonl"), &run.stdout);
    elsewhere.run_ok(&["import", &elsewhere.path("saved.jsonl").display().to_string()]);
    elsewhere.run_ok(&["once"]);

    let sorted_ids = |path: &Path| {
        let mut all: Vec<String> = ids(&scores(path)).map(str::to_owned).collect();
        all.sort();
        all
    };
    assert_eq!(sorted_ids(&file), sorted_ids(&copy));
}

#[test]
fn never_overwrites_a_database_set_aside() {
    let (workspace, _) = with_days(1);
    let backup = workspace.path("backup.db").display().to_string();
    workspace.run_ok(&["state", "backup", &backup]);
    for _ in 0..4 {
        workspace.run_ok(&["state", "restore", &backup]);
    }

    let set_aside = std::fs::read_dir(workspace.state())
        .unwrap()
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name().into_string().unwrap();
            name.contains("before-restore-") && !name.ends_with("-wal") && !name.ends_with("-shm")
        })
        .count();
    assert_eq!(set_aside, 4);
}

/// Regression: the message about an invalid backup claimed that the checkpoint is damaged, and
/// suggested to repair it.
#[test]
fn names_an_invalid_backup_without_suggesting_repair() {
    let (workspace, _) = with_days(1);
    for (name, cause) in [
        ("config.toml", "not a valid backup (file is not a database)"),
        ("nowhere.db", "the file does not exist"),
    ] {
        let path = workspace.path(name).display().to_string();
        let run = workspace.run(&["state", "restore", &path]);
        assert_eq!(run.code, 2, "{}", run.stderr);
        assert_eq!(
            run.stderr,
            format!("error: cannot restore `{path}`: {cause}; nothing was changed\n")
        );
    }
}

#[test]
fn status_works_with_an_invalid_configuration() {
    let (mut workspace, _) = with_days(3);
    workspace.literal = Some(workspace.configuration().replace("path = ", "pfad = "));
    let run = workspace.run(&["status"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("unknown key"), "{}", run.stderr);
    assert!(run.stdout.contains(TENANT) && run.stdout.contains("local"), "{}", run.stdout);
}

/// Regression: with a selection, the only error was that the configuration has no such tenant, with
/// an empty list of names as its hint.
#[test]
fn a_selection_never_hides_faults_of_the_configuration() {
    let (mut workspace, _) = with_days(1);
    let unknown = workspace.run(&["status", "--tenant", "nowhere"]);
    assert_eq!(unknown.code, 2, "{}", unknown.stderr);
    assert!(unknown.stderr.contains("has no tenant `nowhere`"), "{}", unknown.stderr);

    workspace.literal = Some(workspace.configuration().replace("path = ", "pfad = "));
    for selection in [["--tenant", "contoso"], ["--sink", "nowhere"]] {
        let run = workspace.run(&["status", selection[0], selection[1]]);
        assert_eq!(run.code, 2, "{}", run.stderr);
        assert!(run.stderr.contains("unknown key"), "{}", run.stderr);
        for hidden in ["has no", "use one of"] {
            assert!(!run.stderr.contains(hidden), "{}", run.stderr);
        }
    }
}
