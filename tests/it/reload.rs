//! SIGHUP: the configuration anew, whole or not at all; and what systemd is told meanwhile.

use std::{os::unix::net::UnixDatagram, time::Duration};

use crate::support::{
    CANARY, OTHER, Process, Workspace, counts, eventually, fs, ids, records, summaries,
};

/// Writes the configuration as it is now, and tells the daemon.
fn reload(workspace: &Workspace, daemon: &Process) {
    workspace.write_configuration();
    daemon.signal("HUP");
}

/// Reads back through the daemon; one that is just going on with another configuration says so.
fn backfill(workspace: &Workspace, days: &str) {
    eventually("the daemon reads back", || {
        let run = workspace.run(&["backfill", "--days", days]);
        assert!(run.code == 0 || run.stderr.contains("ask again"), "{}", run.stderr);
        run.code == 0
    });
}

fn end(daemon: Process) -> String {
    daemon.signal("TERM");
    let run = daemon.end();
    assert_eq!(run.code, 0, "{}", run.stderr);
    run.stderr
}

#[test]
fn sinks_and_tenants_come_change_and_go_and_no_cursor_is_lost() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5".to_owned();
    let stays = workspace.file_sink("stays");
    let goes = workspace.file_sink("goes");
    let daemon = workspace.spawn(&["run"]);
    eventually("both have five days", || summaries(&stays) == 5 && summaries(&goes) == 5);

    workspace.replace_sinks();
    workspace.tenants.push(("fabrikam", OTHER));
    let stays = workspace.file_sink("stays");
    let comes = workspace.file_sink("comes");
    workspace.run_ok(&["reload"]);
    eventually("the second tenant is there", || summaries(&stays) == 10);
    eventually("the new sink has both tenants", || summaries(&comes) == 10);
    // What is written and not yet noted would be there twice when its sink is another.
    eventually("all of it is noted", || workspace.is_delivered());

    workspace.replace_sinks();
    let stays_elsewhere = workspace.path("elsewhere.jsonl");
    workspace.sink("stays", &format!("type = \"file\"\npath = \"{}\"", stays_elsewhere.display()));
    workspace.file_sink("comes");
    reload(&workspace, &daemon);
    backfill(&workspace, "7");
    eventually("what is new goes to the new place", || summaries(&stays_elsewhere) == 4);
    let log = end(daemon);
    assert!(log.contains("running with the new configuration"), "{log}");

    let mut all = records(&stays);
    all.extend(records(&stays_elsewhere));
    assert!(counts(ids(&all)).values().all(|times| *times == 1), "nothing came twice");
    assert_eq!(summaries(&goes), 5, "what was taken out is sent nothing more");
    let status = workspace.status();
    let sinks: Vec<_> =
        status["sinks"].as_array().unwrap().iter().map(|sink| sink["name"].clone()).collect();
    assert_eq!(sinks, ["stays", "comes"]);
}

#[test]
fn the_command_waits_for_the_verdict() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    assert!(workspace.run(&["reload"]).stderr.contains("no daemon is running"));
    let daemon = workspace.spawn(&["run"]);
    eventually("three days are there", || summaries(&file) == 3);
    let good = workspace.configuration();
    workspace.literal = Some(good.replace("/secret\"", "/no-such-secret\""));
    let run = workspace.run(&["reload"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("no-such-secret"), "{}", run.stderr);
    workspace.literal = None;
    let copy = workspace.file_sink("copy");
    for _ in 0..3 {
        let run = workspace.run_ok(&["reload"]);
        assert_eq!(run.stdout, "the daemon runs with the new configuration\n");
    }
    eventually("the new sink has all of it", || summaries(&copy) == 3);
    backfill(&workspace, "3");
    let log = end(daemon);
    assert_eq!(log.matches("running with the new configuration").count(), 3, "{log}");
}

#[test]
fn a_fault_refuses_the_whole_and_the_old_configuration_goes_on() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    // Nobody listens there: its backlog stays.
    let port = crate::support::free_port();
    let far = format!("type = \"syslog\"\naddress = \"tcp://127.0.0.1:{port}\"");
    workspace.sink("far", &far);
    let file = workspace.file_sink("local");
    let log = workspace.path("log");
    let mut command = workspace.command(&["run"]);
    command.stderr(std::fs::File::create(&log).unwrap());
    let daemon = Process::of(command);
    eventually("three days are there", || summaries(&file) == 3);
    let good = workspace.configuration();
    let state = workspace.state().display().to_string();

    for (bad, named) in [
        (good.replace("type = \"file\"", "type = \"fiel\""), "did you mean `file`?"),
        (good.replace(&state, &format!("{state}-2")), "`state.directory` cannot be changed"),
        (good.replace("/secret\"", "/no-such-secret\""), "no-such-secret"),
        (
            good.replace("\"far\"", "\"farther\""),
            "sink `far` is no longer configured, and 3 days still",
        ),
    ] {
        assert_ne!(bad, good);
        workspace.literal = Some(format!("{bad}\n[[sinks]]\nname = \"more\"\ntype = \"stdout\"\n"));
        reload(&workspace, &daemon);
        eventually(named, || std::fs::read_to_string(&log).unwrap().contains(named));
    }
    workspace.literal = Some(good);
    backfill(&workspace, "4");
    eventually("it is still at work", || summaries(&file) == 4);
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
    let log = std::fs::read_to_string(&log).unwrap();
    assert_eq!(log.matches("is refused; the old one stays").count(), 4, "{log}");
    let sinks = workspace.status()["sinks"].as_array().unwrap().len();
    assert_eq!(sinks, 2, "nothing of it was put in force");
    assert!(!std::path::Path::new(&format!("{state}-2")).exists());
}

/// What systemd is told.
struct Systemd {
    socket: UnixDatagram,
    told: Vec<String>,
}

impl Systemd {
    fn new(path: &std::path::Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(180))).unwrap();
        Self { socket, told: Vec::new() }
    }

    /// Waits for a message that has all of these words.
    fn until(&mut self, words: &[&str]) {
        for _ in 0..10_000 {
            let mut buffer = [0; 1024];
            let length = self.socket.recv(&mut buffer).unwrap();
            self.told.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            if has(self.told.last().unwrap(), words) {
                return;
            }
        }
        panic!("systemd was never told {words:?}");
    }

    /// The same, unless one had come before.
    fn until_once(&mut self, words: &[&str]) {
        if !self.told.iter().any(|message| has(message, words)) {
            self.until(words);
        }
    }
}

fn has(message: &str, words: &[&str]) -> bool {
    words.iter().all(|word| message.contains(word))
}

#[test]
fn systemd_is_told_of_reloads_and_of_progress() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    let path = workspace.path("notify.sock");
    let mut systemd = Systemd::new(&path);
    let mut command = workspace.command(&["run"]);
    let child = command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000");
    let child = child.env_remove("WATCHDOG_PID");
    let daemon = Process::of(std::mem::replace(child, std::process::Command::new("true")));
    systemd.until(&["READY=1", "STATUS=", "; 1 of 1 tenants; "]);
    systemd.until(&["WATCHDOG=1"]);
    systemd.until_once(&["STATUS=Newest day ", "; 1 of 1 tenants; 1 of 1 sinks up to date"]);
    eventually("three days are there", || summaries(&file) == 3);
    daemon.signal("HUP");
    systemd.until(&["RELOADING=1", "MONOTONIC_USEC="]);
    systemd.until(&["READY=1", "STATUS=Newest day "]);
    fs(workspace.path("config.toml"), "[state]\n");
    daemon.signal("HUP");
    systemd.until(&[
        "READY=1",
        "STATUS=The new configuration is refused, the log says why; Newest day ",
    ]);
    systemd.until(&["WATCHDOG=1"]);
    daemon.signal("TERM");
    systemd.until(&["STOPPING=1"]);
    assert_eq!(daemon.end().code, 0);
}

/// A tenant whose secret had been mended waited for the end of its patience, also over a restart.
#[test]
fn what_failed_before_is_tried_again_at_once() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let file = workspace.file_sink("local");
    fs(workspace.path("secret"), "wrong\n");
    let daemon = workspace.spawn(&["run"]);
    let failed = || {
        let status = workspace.try_status()?;
        status["tenants"][0]["last_error"].as_str().map(str::to_owned)
    };
    eventually("it is refused", || failed().is_some());
    let run = workspace.run(&["status"]);
    assert!(run.stdout.contains("next attempt at"), "{}", run.stdout);
    let tenant = &workspace.status()["tenants"][0];
    assert!(tenant["next_attempt"].as_str() > tenant["last_attempt"].as_str(), "{tenant}");
    fs(workspace.path("secret"), &format!("{CANARY}-client\n"));
    daemon.signal("HUP");
    eventually("the days are there", || summaries(&file) > 0);
    assert_eq!(failed(), None);
    assert!(workspace.status()["tenants"][0]["next_attempt"].is_null());
    end(daemon);
}

#[test]
fn each_refusal_is_logged_for_each_is_an_answer() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let file = workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    eventually("it runs", || summaries(&file) > 0);
    let good = workspace.configuration();
    workspace.literal = Some(good.replace("/secret\"", "/no-such-secret\""));
    for _ in 0..3 {
        assert_eq!(workspace.run(&["reload"]).code, 2);
    }
    let log = end(daemon);
    assert_eq!(log.matches("the new configuration is refused").count(), 3, "{log}");
}

/// A receiver that takes and never answers held everybody up, until the watchdog came.
#[test]
fn a_receiver_that_is_silent_delays_a_reload_by_half_a_minute_at_most() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 2".to_owned();
    workspace.sink(
        "web",
        &format!("type = \"http\"\nurl = \"http://{}\"", silent.local_addr().unwrap()),
    );
    let local = workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    let _open = silent.accept().unwrap();
    eventually("the other sink has it all", || summaries(&local) >= 2);
    let copy = workspace.file_sink("copy");
    reload(&workspace, &daemon);
    eventually("the new sink is served", || summaries(&copy) >= 2);
    let log = end(daemon);
    assert!(log.contains("running with the new configuration"), "{log}");
}

#[test]
fn a_caller_that_says_nothing_holds_nobody_up() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 2".to_owned();
    let file = workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    eventually("it runs", || summaries(&file) >= 2);
    let socket = workspace.state().join("control.sock");
    let _silent = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    eventually("what was sent is noted", || workspace.is_delivered());
    let run = workspace.run_ok(&["replay", "--sink", "local", "--from", "2020-01-01"]);
    assert!(run.stderr.contains("to be sent again"), "{}", run.stderr);
    end(daemon);
}
