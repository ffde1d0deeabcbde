//! The storage of the checkpoint fails, or its files are lost or damaged, while the program runs or
//! between two runs.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    admin::send,
    state::with_days,
    support::{Run, Workspace, counts, eventually, free_port, ids, records, summaries},
};

/// The time within which everything works again after its cause is gone.
const RECOVERY: Duration = Duration::from_secs(60);

const SYNCHRONIZATIONS: &str = "fsync,fdatasync";

/// The files whose system calls fail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Files {
    All,
    /// The database and its write-ahead log.
    Database,
}

/// Runs a command while every system call with one of these names fails with an error, if it uses
/// these files.
fn run_with_fault(
    workspace: &Workspace,
    args: &[&str],
    calls: &str,
    error: &str,
    files: Files,
) -> Run {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={calls}"), "-e"]);
    traced.arg(format!("inject={calls}:error={error}"));
    if files == Files::Database {
        for name in ["checkpoint.db", "checkpoint.db-wal"] {
            traced.arg("-P").arg(workspace.state().join(name));
        }
    }
    Run::of(workspace.command_under(traced, args).output().unwrap())
}

/// The names of the files in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Regression: a full disk, a used quota, a read-only file system and a single error of the disk
/// were reported as damage, and `state repair` replaced the intact database.
#[test]
fn faults_are_named_and_replace_no_database() {
    let (workspace, _) = with_days(3);
    // With all files, the first write that fails is that of the lock.
    for (calls, files, error, code, cause, hint) in [
        (SYNCHRONIZATIONS, Files::All, "EIO", 1, "reported an error", "dmesg"),
        (SYNCHRONIZATIONS, Files::All, "ENOSPC", 1, "is full", "free space"),
        ("pwrite64", Files::All, "EIO", 1, "reported an error", "dmesg"),
        ("pwrite64", Files::All, "EDQUOT", 1, "quota", "increase the disk quota"),
        ("pwrite64", Files::All, "EROFS", 3, "are read-only", "mount the file system"),
        ("pwrite64", Files::All, "ENOSPC", 1, "is full", "free space"),
        ("pwrite64", Files::Database, "EIO", 1, "reported an error", "dmesg"),
        ("pwrite64", Files::Database, "EDQUOT", 1, "quota", "increase the disk quota"),
        ("pwrite64", Files::Database, "EROFS", 3, "are read-only", "mount the file system"),
        ("pwrite64", Files::Database, "ENOSPC", 1, "is full", "free space"),
    ] {
        let run = run_with_fault(&workspace, &["once"], calls, error, files);
        let output = format!("{calls} {error}: {} {}{}", run.code, run.stdout, run.stderr);
        assert_eq!(run.code, code, "{output}");
        assert!(run.stderr.contains("checkpoint") && run.stderr.contains(cause), "{output}");
        assert!(run.stderr.contains(hint), "{output}");
        for advice in ["damaged", "state repair"] {
            assert!(!run.stderr.contains(advice), "{output}");
        }

        let run = run_with_fault(&workspace, &["state", "repair"], calls, error, files);
        assert!(!run.stderr.contains("damaged"), "{calls} {error}: {}", run.stderr);
        let renamed = names(&workspace.state()).into_iter().any(|name| name.contains("damaged"));
        assert!(!renamed, "{calls} {error}");
    }
    workspace.run_ok(&["state", "verify"]);
    workspace.run_ok(&["once"]);
}

/// A file that cannot be read may be intact, so it is not even renamed on request.
#[test]
fn an_unreadable_database_is_not_replaced() {
    let (workspace, _) = with_days(3);
    for options in [&["state", "repair"][..], &["state", "repair", "--set-aside"]] {
        let run = run_with_fault(&workspace, options, "read,pread64", "EIO", Files::Database);
        assert_eq!(run.code, 1, "{options:?}: {}", run.stderr);
        let causes = ["the disk of the checkpoint reported an error", "Input/output error"];
        assert!(causes.iter().any(|cause| run.stderr.contains(cause)), "{}", run.stderr);
        assert!(!run.stderr.contains("damaged"), "{}", run.stderr);
    }
    let database = std::fs::read(workspace.state().join("checkpoint.db")).unwrap();
    assert!(database.starts_with(b"SQLite format 3"));
    assert_eq!(workspace.status()["tenants"][0]["days"], 3);
}

/// Regression: a single error of the disk was reported as damage, because SQLite reports some
/// failed reads as lines of its integrity check or as corruption, and `state repair` replaced the
/// intact database.
#[test]
fn no_failed_read_is_damage() {
    let (workspace, _) = with_days(3);
    for number in (1..=12).chain([16, 24, 40]) {
        // The read with this number fails once, or from then on.
        for when in [format!("EIO:when={number}"), format!("EIO:when={number}+")] {
            for command in [&["once"][..], &["state", "verify"], &["state", "repair"]] {
                let run = run_with_fault(&workspace, command, "pread64", &when, Files::Database);
                let output = format!("{when} {command:?}: {run:?}");
                assert!([0, 1].contains(&run.code), "{output}");
                for text in [&run.stdout, &run.stderr] {
                    assert!(!text.replace("no damage", "").contains("damage"), "{output}");
                }
                let renamed = names(&workspace.state()).iter().any(|name| name.contains("damaged"));
                assert!(!renamed, "{output}");
            }
        }
    }
    workspace.run_ok(&["state", "verify"]);
    assert_eq!(workspace.status()["tenants"][0]["days"], 3);
}

/// Regression: `status` reported the database of another checkpoint as healthy.
#[test]
fn every_command_rejects_the_database_of_another_checkpoint() {
    let ((workspace, _), (other, _)) = (with_days(3), with_days(3));
    let database = |workspace: &Workspace| workspace.state().join("checkpoint.db");
    std::fs::copy(database(&other), database(&workspace)).unwrap();
    for command in [&["once"][..], &["run"], &["check"], &["status"], &["state", "verify"]] {
        let run = workspace.run(command);
        assert_eq!(run.code, 3, "{command:?}: {run:?}");
        let output = format!("{}{}", run.stdout, run.stderr);
        assert!(output.contains("`cursors.json`"), "{command:?}: {output}");
    }
}

/// Regression: `check` accepted a link in place of the database that leads nowhere.
#[test]
fn every_command_rejects_a_link_without_a_target() {
    let (workspace, _) = with_days(1);
    let database = workspace.state().join("checkpoint.db");
    std::fs::remove_file(&database).unwrap();
    std::os::unix::fs::symlink("nowhere", &database).unwrap();
    for command in [&["once"][..], &["check"], &["status"]] {
        let run = workspace.run(command);
        assert_eq!(run.code, 3, "{command:?}: {run:?}");
    }
}

/// Regression: a daemon whose lock file was removed continued, and another process could write to
/// the same checkpoint.
#[test]
fn a_daemon_ends_when_its_lock_is_removed() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    let mut daemon = workspace.spawn(&["run"]);
    eventually("three days are acknowledged", || summaries(&file) == 3 && workspace.is_delivered());

    std::fs::remove_file(workspace.state().join("lock")).unwrap();
    eventually("the daemon has ended", || !daemon.is_running());
    let run = daemon.end();
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(run.stderr.contains("the file `lock` was removed or replaced"), "{}", run.stderr);
    workspace.run_ok(&["once"]);
    assert_eq!(summaries(&file), 3, "nothing is sent again");
}

/// Regression: a daemon continued after another process had written to its checkpoint, stored
/// nothing, and was `Healthy`.
#[test]
fn a_daemon_ends_when_another_process_writes() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    let mut daemon = workspace.spawn(&["run"]);
    eventually("three days are acknowledged", || summaries(&file) == 3 && workspace.is_delivered());

    let other = rusqlite::Connection::open(workspace.state().join("checkpoint.db")).unwrap();
    other.execute_batch("UPDATE shard SET writes = writes + 1").unwrap();
    drop(other);
    let written = Instant::now();
    eventually("the daemon has ended", || !daemon.is_running());
    assert!(written.elapsed() < RECOVERY, "{:?}", written.elapsed());
    let run = daemon.end();
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(run.stderr.contains("another process has taken over shard 0"), "{}", run.stderr);
    assert!(run.stderr.contains("start this one again"), "{}", run.stderr);

    workspace.run_ok(&["once"]);
    workspace.run_ok(&["state", "verify"]);
    assert_eq!(summaries(&file), 3, "nothing is sent again");
}

/// Regression: on a read-only file system, commands that only read reported that a file did not
/// exist; on a full disk, `state repair --set-aside` replaced an intact database with an empty
/// file.
#[test]
fn read_only_and_full_disks_keep_the_database() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    workspace.write_configuration();
    std::fs::create_dir(workspace.state()).unwrap();

    let script = format!(
        "run() {{ \"$0\" \"$@\" --config {config} >/dev/null; echo $1 $?; }}
         mount -t tmpfs -o size=40m tmpfs {state} && chmod 700 {state} || exit
         run once; mount -o remount,ro {state}
         run status; run state verify; run report; run dead-letters list
         mount -o remount,rw {state}; cat /dev/zero >{state}/ballast 2>/dev/null
         run state repair --set-aside; ls {state}; rm {state}/ballast; run once",
        config = workspace.path("config.toml").display(),
        state = workspace.state().display(),
    );
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &script, env!("CARGO_BIN_EXE_secure-score-forwarder")]);
    let run = Run::of(command.env("NO_COLOR", "1").output().unwrap());

    let expected = "once 0\nstatus 3\nstate 3\nreport 3\ndead-letters 3\nstate 1\n";
    assert!(run.stdout.starts_with(expected), "{run:?}");
    assert!(run.stdout.ends_with("\nonce 0\n"), "{run:?}");
    assert!(run.stderr.contains("its files are read-only"), "{run:?}");
    assert!(!run.stderr.contains("does not exist"), "{run:?}");
    assert!(!run.stdout.contains("damaged"), "{run:?}");
    assert_eq!(summaries(&file), 3, "nothing is sent again");
}

/// Regression: a daemon whose database was removed or replaced continued until its end, and the
/// next start sent everything again.
#[test]
fn a_daemon_ends_when_its_database_is_lost() {
    /// A way to lose a database.
    type Loss = fn(&Path);
    let losses: [(&str, Loss); 3] = [
        ("removed", |state| std::fs::remove_file(state.join("checkpoint.db")).unwrap()),
        ("emptied", |state| std::fs::write(state.join("checkpoint.db"), "").unwrap()),
        ("without a directory", |state| std::fs::remove_dir_all(state).unwrap()),
    ];
    for (what, lose) in losses {
        let mut workspace = Workspace::new();
        workspace.extra = "initial_backfill_days = 5".to_owned();
        let file = workspace.file_sink("local");
        let mut daemon = workspace.spawn(&["run"]);
        eventually("five days are acknowledged", || {
            summaries(&file) == 5 && workspace.is_delivered()
        });
        let before = records(&file);

        lose(&workspace.state());
        eventually("the daemon has ended", || !daemon.is_running());
        let run = daemon.end();
        assert_eq!(run.code, 3, "{what}: {}", run.stderr);
        assert!(run.stderr.contains("was removed, replaced or emptied"), "{what}: {}", run.stderr);

        for command in [&["once"][..], &["status"], &["check"], &["state", "verify"]] {
            let run = workspace.run(command);
            assert_eq!(run.code, 3, "{what} {command:?}: {}", run.stderr);
            let output = format!("{}{}", run.stdout, run.stderr);
            assert!(output.contains("`cursors.json`"), "{what} {command:?}: {output}");
        }

        let repaired = workspace.run_ok(&["state", "repair"]);
        assert!(repaired.stderr.contains("created a new checkpoint"), "{}", repaired.stderr);
        workspace.run_ok(&["once"]);
        assert_eq!(records(&file), before, "{what}: nothing is sent again");
    }
}

/// A daemon that is stopped or hangs must not make `status` hang, and must not look healthy.
#[test]
fn status_reports_a_daemon_that_does_not_respond() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    eventually("three days are acknowledged", || summaries(&file) == 3 && workspace.is_delivered());
    let is_silent = || {
        let status = workspace.status();
        let conditions = status["conditions"].as_array().unwrap();
        conditions.iter().any(|condition| condition["kind"] == "daemon_silent")
    };
    assert!(!is_silent());

    daemon.signal("STOP");
    let asked = Instant::now();
    let status = workspace.run_ok(&["status"]);
    assert!(asked.elapsed() < RECOVERY, "{:?}", asked.elapsed());
    assert!(status.stdout.starts_with("Degraded: "), "{}", status.stdout);
    assert!(status.stdout.contains("no response within 2 s"), "{}", status.stdout);

    daemon.signal("CONT");
    eventually("the daemon responds", || !is_silent());
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

/// Regression: while another process held a lock of the database, or the disk reported errors, the
/// health endpoints and `status` reported no problem.
#[test]
fn a_locked_database_makes_the_daemon_unready() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    workspace.head = format!("[admin]\nlisten = \"{address}\"\n");
    let daemon = workspace.spawn(&["run"]);
    eventually("three days are acknowledged", || summaries(&file) == 3 && workspace.is_delivered());

    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let readiness = || send(address, &request);
    assert_eq!(readiness().0, 200, "{}", readiness().2);

    let other = rusqlite::Connection::open(workspace.state().join("checkpoint.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    eventually("the daemon is not ready", || readiness().0 == 503);
    let body = readiness().2;
    assert!(body.contains("the checkpoint cannot be used"), "{body}");
    assert!(body.contains("another process has locked the database"), "{body}");

    // The daemon cannot store the fault, and reports it over its control socket.
    let status = workspace.run(&["status"]);
    assert_eq!(status.code, 1, "{}", status.stdout);
    assert!(status.stdout.starts_with("Failing: "), "{}", status.stdout);
    assert!(status.stdout.contains("another process has locked the database"), "{}", status.stdout);

    other.execute_batch("ROLLBACK").unwrap();
    let freed = Instant::now();
    eventually("the daemon is ready", || readiness().0 == 200);
    assert!(freed.elapsed() < RECOVERY, "{:?}", freed.elapsed());

    daemon.signal("TERM");
    let run = daemon.end();
    assert!(run.stderr.contains("the checkpoint can be used again"), "{}", run.stderr);
}

/// Regression: after a nearly full disk, the tenant waited for up to two hours.
#[test]
fn polls_resume_when_the_disk_is_free() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5".to_owned();
    let file = workspace.file_sink("local");
    workspace.write_configuration();
    std::fs::create_dir(workspace.state()).unwrap();

    // The file system exists only in the namespace of the script.
    let script = format!(
        "mount -t tmpfs -o size=40m tmpfs {state} && chmod 700 {state} && head -c 30M /dev/zero >{state}/ballast
         \"$0\" run --config {config} & daemon=$!
         trap 'kill $daemon' TERM
         while [ ! -e {free} ]; do sleep 0.1; done
         rm {state}/ballast
         wait $daemon; wait $daemon",
        state = workspace.state().display(),
        config = workspace.path("config.toml").display(),
        free = workspace.path("free").display(),
    );
    let log = workspace.path("log");
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-c", &script, env!("CARGO_BIN_EXE_secure-score-forwarder")]);
    for variable in ["RUNTIME_DIRECTORY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"] {
        command.env_remove(variable);
    }
    command.env("NO_COLOR", "1").stderr(std::fs::File::create(&log).unwrap());
    let mut script = command.spawn().unwrap();

    let logged = |text: &str| std::fs::read_to_string(&log).unwrap().contains(text);
    eventually("polling is paused", || logged("the disk is nearly full"));
    assert_eq!(summaries(&file), 0);

    std::fs::write(workspace.path("free"), "").unwrap();
    let freed = Instant::now();
    eventually("five days are delivered", || summaries(&file) == 5);
    let waited = freed.elapsed();
    assert!(waited < RECOVERY, "{waited:?}");

    let ended = Command::new("kill").args(["-s", "TERM", &script.id().to_string()]).status();
    assert!(ended.unwrap().success());
    script.wait().unwrap();
}

/// A sample of the damages that `checkpoint::tests::damage` causes, with the commands themselves.
#[test]
fn commands_recover_from_random_damages() {
    const DAYS: usize = 90;

    let (workspace, file) = with_days(DAYS as u32);
    let sent = std::fs::read(&file).unwrap();
    let names = ["checkpoint.db", "cursors.json", "lock"];
    let intact = names.map(|name| std::fs::read(workspace.state().join(name)).unwrap());

    for seed in 0..12 {
        let mut random = fastrand::Rng::with_seed(seed);
        std::fs::remove_dir_all(workspace.state()).unwrap();
        std::fs::create_dir(workspace.state()).unwrap();
        for (name, bytes) in names.iter().zip(&intact) {
            std::fs::write(workspace.state().join(name), bytes).unwrap();
        }
        std::fs::write(&file, &sent).unwrap();

        // Most of the damages are in the database.
        let damaged = [0, 0, 0, 1, 0, 2][seed as usize % 6];
        let mut bytes = intact[damaged].clone();
        if seed % 2 == 0 {
            for _ in 0..4 {
                let at = random.usize(..bytes.len());
                bytes[at] ^= 1 << random.u8(..8);
            }
        } else {
            bytes.truncate(random.usize(..bytes.len()));
        }
        std::fs::write(workspace.state().join(names[damaged]), bytes).unwrap();

        let what = format!("seed {seed}, {}", names[damaged]);
        let works = || {
            workspace.run(&["state", "verify"]).code == 0 && {
                let run = workspace.run(&["once"]);
                assert!(!run.stderr.contains("internal error"), "{what}: {}", run.stderr);
                run.code == 0
            }
        };
        let mut has_recovered = works();
        for command in [&["state", "repair"][..], &["state", "repair", "--set-aside"]] {
            if !has_recovered {
                let run = workspace.run(command);
                assert!([0, 3].contains(&run.code), "{what}: {}", run.stderr);
                has_recovered = works();
            }
        }
        assert!(has_recovered, "{what}");

        let all = records(&file);
        let days: BTreeSet<&str> =
            all.iter().filter_map(|record| record["snapshot"]["date"].as_str()).collect();
        assert_eq!(days.len(), DAYS, "{what}");
        if damaged != 1 {
            assert!(counts(ids(&all)).values().all(|times| *times == 1), "{what}: repeated");
        }
    }
}
