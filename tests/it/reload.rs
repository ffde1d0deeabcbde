//! Reloading the configuration, by signal and by command, and the notifications to systemd.

use std::{os::unix::net::UnixDatagram, time::Duration};

use crate::support::{
    CANARY, OTHER, Process, TENANT, Workspace, counts, eventually, ids, records, summaries, write,
};

/// Writes the current configuration and sends SIGHUP to the daemon.
fn reload(workspace: &Workspace, daemon: &Process) {
    workspace.write_configuration();
    daemon.signal("HUP");
}

/// Runs a backfill through the daemon, and repeats it if a reload aborts it.
fn backfill(workspace: &Workspace, days: &str) {
    eventually("the backfill has finished", || {
        let run = workspace.run(&["backfill", "--days", days]);
        assert!(run.code == 0 || run.stderr.contains("the request was aborted"), "{}", run.stderr);
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
fn no_cursor_is_lost_when_sinks_change() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5".to_owned();
    let kept = workspace.file_sink("kept");
    let removed = workspace.file_sink("removed");
    let daemon = workspace.spawn(&["run"]);
    eventually("both have five days", || summaries(&kept) == 5 && summaries(&removed) == 5);

    workspace.clear_sinks();
    workspace.tenants.push(("fabrikam", OTHER));
    let kept = workspace.file_sink("kept");
    let added = workspace.file_sink("added");
    workspace.run_ok(&["reload"]);
    eventually("the second tenant is delivered", || summaries(&kept) == 10);
    eventually("the new sink has both tenants", || summaries(&added) == 10);
    // Records that are written but not acknowledged would be repeated in the other file.
    eventually("everything is acknowledged", || workspace.is_delivered());

    workspace.clear_sinks();
    let kept_elsewhere = workspace.path("elsewhere.jsonl");
    workspace.sink("kept", &format!("type = \"file\"\npath = \"{}\"", kept_elsewhere.display()));
    workspace.file_sink("added");
    reload(&workspace, &daemon);
    backfill(&workspace, "7");
    eventually("new days are in the other file", || summaries(&kept_elsewhere) == 4);
    let log = end(daemon);
    assert!(log.contains("running with the new configuration"), "{log}");

    let mut all = records(&kept);
    all.extend(records(&kept_elsewhere));
    assert!(counts(ids(&all)).values().all(|times| *times == 1), "no record is repeated");
    assert_eq!(summaries(&removed), 5, "a removed sink receives nothing more");
    let status = workspace.status();
    // A sink that needs attention is first, so the order depends on what is delivered.
    let mut sinks: Vec<_> = status["sinks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|sink| sink["name"].as_str().unwrap())
        .collect();
    sinks.sort_unstable();
    assert_eq!(sinks, ["added", "kept"]);
}

#[test]
fn the_reload_command_reports_the_result() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    assert!(workspace.run(&["reload"]).stderr.contains("no daemon is running"));
    let daemon = workspace.spawn(&["run"]);
    eventually("three days are delivered", || summaries(&file) == 3);

    let valid = workspace.configuration();
    workspace.literal = Some(valid.replace("/secret\"", "/no-such-secret\""));
    let run = workspace.run(&["reload"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("no-such-secret"), "{}", run.stderr);

    workspace.literal = None;
    let copy = workspace.file_sink("copy");
    let running = "the daemon is running with the new configuration\n";
    let run = workspace.run_ok(&["reload"]);
    assert_eq!(run.stdout, format!("{running}1 sink added: `copy`\n"));
    for _ in 0..2 {
        let run = workspace.run_ok(&["reload"]);
        assert_eq!(run.stdout, format!("{running}no sink, tenant or setting has changed\n"));
    }
    eventually("the new sink has all days", || summaries(&copy) == 3);
    backfill(&workspace, "3");
    let log = end(daemon);
    assert_eq!(log.matches("running with the new configuration").count(), 3, "{log}");
}

#[test]
fn a_reload_reports_changes_as_json() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let file = workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    eventually("the day is acknowledged", || summaries(&file) == 3 && workspace.is_delivered());

    workspace.tenants.push(("fabrikam", OTHER));
    workspace.head = "[schedule]\njitter = \"1m\"\n".to_owned();
    let path = file.display();
    let renamed = format!("type = \"file\"\npath = \"{path}\"\nrenamed_from = \"local\"");
    workspace.clear_sinks().sink("archive", &renamed);
    let run = workspace.run_ok(&["reload", "--json"]);
    let changes: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(changes["sinks"]["renamed"][0]["from"], "local");
    assert_eq!(changes["sinks"]["renamed"][0]["to"], "archive");
    assert_eq!(changes["tenants"]["added"][0], "fabrikam");
    assert_eq!(changes["settings"][0], "schedule.jitter");
    for empty in [&changes["sinks"]["added"], &changes["possible_renames"]] {
        assert_eq!(empty.as_array().unwrap().len(), 0, "{changes}");
    }

    eventually("both tenants are sent", || summaries(&file) == 6);
    let log = end(daemon);
    assert!(log.contains("1 sink renamed: `local` to `archive`; 1 tenant added: "), "{log}");
}

/// The configuration with this number of additional tenants, which the API does not have.
fn with_tenants(workspace: &Workspace, count: usize) -> String {
    let configuration = workspace.configuration();
    let (start, end) = (configuration.find("[[tenants]]"), configuration.find("[[sinks]]"));
    let (head, sinks) = configuration.split_at(end.unwrap());
    let tenant = &head[start.unwrap()..];

    let more = (0..count).map(|number| {
        let id = format!("bbbbbbbb-0000-4000-8000-{number:012}");
        tenant.replace("\"contoso\"", &format!("\"t{number}\"")).replace(TENANT, &id)
    });
    format!("{head}{}{sinks}", more.collect::<String>())
}

/// Regression: a truncated list of tenants was applied without a question.
#[test]
fn a_reload_refuses_to_remove_many_tenants() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let file = workspace.file_sink("local");
    let (all, most) = (with_tenants(&workspace, 11), with_tenants(&workspace, 9));
    let one = workspace.configuration();

    workspace.literal = Some(all.clone());
    let log = workspace.path("log");
    let mut command = workspace.command(&["run"]);
    command.stderr(std::fs::File::create(&log).unwrap());
    let daemon = Process::of(command);
    let logged = |text: &str| std::fs::read_to_string(&log).unwrap().matches(text).count();
    eventually("the daemon delivers", || summaries(&file) == 3);

    workspace.literal = Some(one.clone());
    let run = workspace.run(&["reload"]);
    assert_eq!(run.code, 2, "{}", run.stdout);
    let message = "the new configuration removes 11 of 12 tenants, more than 20%: `t0`, `t1`, ";
    let hint = "hint: check the list of tenants, or run `reload --allow-removals`";
    assert!(run.stderr.contains(message) && run.stderr.contains(" and 1 more\n"), "{}", run.stderr);
    assert!(run.stderr.contains(hint), "{}", run.stderr);
    reload(&workspace, &daemon);
    let rejected = "the new configuration was rejected";
    eventually("the signal is refused as well", || logged(rejected) == 2);

    workspace.literal = Some(most);
    let run = workspace.run_ok(&["reload"]);
    assert!(run.stdout.ends_with("\n2 tenants removed: `t9`, `t10`\n"), "{}", run.stdout);
    let running = "running with the new configuration";
    eventually("two of twelve are removed", || logged(running) == 1);
    workspace.literal = Some(one.clone());
    assert_eq!(workspace.run(&["reload"]).code, 2);
    let run = workspace.run_ok(&["reload", "--allow-removals"]);
    assert!(run.stdout.contains("9 tenants removed: `t0`, "), "{}", run.stdout);
    eventually("nine of ten are removed", || logged(running) == 2);
    end(daemon);

    // A start does not know the earlier configuration, and refuses nothing.
    workspace.literal = Some(all);
    assert_eq!(workspace.run(&["once"]).code, 1, "the API has no tenant `t0`");
    workspace.literal = Some(one);
    workspace.run_ok(&["once"]);
}

#[test]
fn an_invalid_configuration_changes_nothing() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    // Nothing listens on this port, so the sink has a backlog.
    let port = crate::support::free_port();
    let far = format!("type = \"syslog\"\naddress = \"tcp://127.0.0.1:{port}\"");
    workspace.sink("far", &far);
    let file = workspace.file_sink("local");
    let log = workspace.path("log");
    let mut command = workspace.command(&["run"]);
    command.stderr(std::fs::File::create(&log).unwrap());
    let daemon = Process::of(command);
    eventually("three days are delivered", || summaries(&file) == 3);
    let valid = workspace.configuration();
    let state = workspace.state().display().to_string();

    for (invalid, message) in [
        (valid.replace("type = \"file\"", "type = \"fiel\""), "use `file`"),
        (valid.replace(&state, &format!("{state}-2")), "`state.directory` cannot be changed"),
        (valid.replace("/secret\"", "/no-such-secret\""), "no-such-secret"),
        (
            valid.replace("\"far\"", "\"farther\""),
            "sink `far` is no longer configured, but has 3 unsent log entries",
        ),
    ] {
        assert_ne!(invalid, valid);
        workspace.literal =
            Some(format!("{invalid}\n[[sinks]]\nname = \"more\"\ntype = \"stdout\"\n"));
        reload(&workspace, &daemon);
        eventually(message, || std::fs::read_to_string(&log).unwrap().contains(message));
    }

    workspace.literal = Some(valid);
    backfill(&workspace, "4");
    eventually("the fourth day is delivered", || summaries(&file) == 4);
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
    let log = std::fs::read_to_string(&log).unwrap();
    let rejected = "rejected; the old one remains in force";
    assert_eq!(log.matches(rejected).count(), 4, "{log}");
    let sinks = workspace.status()["sinks"].as_array().unwrap().len();
    assert_eq!(sinks, 2, "no part of a rejected configuration is applied");
    assert!(!std::path::Path::new(&format!("{state}-2")).exists());
}

/// The systemd end of the notification socket.
struct Systemd {
    socket: UnixDatagram,
    received: Vec<String>,
}

impl Systemd {
    fn new(path: &std::path::Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(180))).unwrap();
        Self { socket, received: Vec::new() }
    }

    /// Waits for a message that contains all of these parts.
    fn until(&mut self, parts: &[&str]) {
        for _ in 0..10_000 {
            let mut buffer = [0; 1024];
            let length = self.socket.recv(&mut buffer).unwrap();
            self.received.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
            if has(self.received.last().unwrap(), parts) {
                return;
            }
        }
        panic!("systemd never received {parts:?}");
    }

    /// Waits for a message that contains all of these parts, unless one was received earlier.
    fn until_once(&mut self, parts: &[&str]) {
        if !self.received.iter().any(|message| has(message, parts)) {
            self.until(parts);
        }
    }
}

fn has(message: &str, parts: &[&str]) -> bool {
    parts.iter().all(|part| message.contains(part))
}

#[test]
fn systemd_is_notified_of_reloads_and_progress() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    let path = workspace.path("notify.sock");
    let mut systemd = Systemd::new(&path);
    let mut command = workspace.command(&["run"]);
    let child = command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000");
    let child = child.env_remove("WATCHDOG_PID");
    let daemon = Process::of(std::mem::replace(child, std::process::Command::new("true")));
    systemd.until(&["READY=1", "STATUS=0 of 1 tenants are current; 1 sink is healthy; "]);
    systemd.until(&["WATCHDOG=1"]);
    systemd.until_once(&["STATUS=1 tenant is current; 1 sink is healthy; newest day `"]);
    eventually("three days are delivered", || summaries(&file) == 3);

    daemon.signal("HUP");
    systemd.until(&["RELOADING=1", "MONOTONIC_USEC="]);
    systemd.until(&["READY=1", "; newest day `"]);

    write(workspace.path("config.toml"), "[state]\n");
    daemon.signal("HUP");
    systemd.until(&["READY=1", "; the configuration could not be reloaded, ", "; newest day `"]);
    let status = workspace.run(&["status"]);
    let shown = "error: the configuration could not be reloaded, so the previous one remains";
    assert!(status.stdout.contains(shown), "{}", status.stdout);
    systemd.until(&["WATCHDOG=1"]);

    daemon.signal("TERM");
    systemd.until(&["STOPPING=1"]);
    assert_eq!(daemon.end().code, 0);
}

/// Regression: after its secret had been corrected, a tenant waited for the end of its backoff,
/// even across a restart.
#[test]
fn a_reload_retries_failed_polls_immediately() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let file = workspace.file_sink("local");
    write(workspace.path("secret"), "wrong\n");
    let daemon = workspace.spawn(&["run"]);
    let failed = || {
        let status = workspace.try_status()?;
        status["tenants"][0]["error"]["message"].as_str().map(str::to_owned)
    };
    eventually("the poll has failed", || failed().is_some());
    let run = workspace.run(&["status"]);
    let tenant = &workspace.status()["tenants"][0];
    let next_poll = tenant["next_poll"].as_str().unwrap();
    assert!(run.stdout.contains(next_poll), "{}", run.stdout);
    assert!(tenant["next_poll"].as_str() > tenant["last_attempt"].as_str(), "{tenant}");
    assert_eq!(tenant["state"], "failing", "{tenant}");

    write(workspace.path("secret"), &format!("{CANARY}-client\n"));
    daemon.signal("HUP");
    eventually("the day is delivered", || summaries(&file) > 0);
    assert_eq!(failed(), None);
    let tenant = &workspace.status()["tenants"][0];
    assert!(tenant["next_poll"].as_str() > tenant["last_success"].as_str(), "{tenant}");
    end(daemon);
}

#[test]
fn every_rejected_reload_is_logged() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let file = workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    eventually("the daemon delivers", || summaries(&file) > 0);

    let valid = workspace.configuration();
    workspace.literal = Some(valid.replace("/secret\"", "/no-such-secret\""));
    for _ in 0..3 {
        assert_eq!(workspace.run(&["reload"]).code, 2);
    }
    let log = end(daemon);
    assert_eq!(log.matches("the new configuration was rejected").count(), 3, "{log}");
}

/// Regression: `status` described files that the daemon had not loaded, a configuration that the
/// command `reload` rejected left no condition, and a stopped daemon was none.
#[test]
fn status_compares_the_files_with_the_daemon() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let file = workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    eventually("the daemon delivers", || summaries(&file) > 0);
    let has = |workspace: &Workspace, kind: &str| {
        let status = workspace.status();
        let mut conditions = status["conditions"].as_array().unwrap().iter();
        conditions.any(|condition| condition["kind"] == kind)
    };
    assert!(!has(&workspace, "configuration_changed"));

    workspace.extra = "initial_backfill_days = 2".to_owned();
    assert!(has(&workspace, "configuration_changed"));
    workspace.run_ok(&["reload"]);
    eventually("the files are in force", || !has(&workspace, "configuration_changed"));

    workspace.literal = Some(workspace.configuration().replace("path = ", "pfad = "));
    assert!(has(&workspace, "configuration_invalid"));
    let run = workspace.run(&["reload"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(run.stderr.contains("unknown key"), "{}", run.stderr);
    eventually("the rejection is shown", || has(&workspace, "configuration_rejected"));

    end(daemon);
    assert!(has(&workspace, "daemon_stopped"));
}

/// Regression: a receiver that accepted data and never responded blocked a reload until the
/// watchdog killed the daemon.
#[test]
fn a_silent_receiver_does_not_block_a_reload() {
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
    eventually("the other sink has all days", || summaries(&local) >= 2);
    let copy = workspace.file_sink("copy");
    reload(&workspace, &daemon);
    eventually("the new sink has all days", || summaries(&copy) >= 2);
    let log = end(daemon);
    assert!(log.contains("running with the new configuration"), "{log}");
}

#[test]
fn a_silent_caller_blocks_no_other_request() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 2".to_owned();
    let file = workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    eventually("the daemon delivers", || summaries(&file) >= 2);
    let socket = workspace.state().join("control.sock");
    let _silent = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    eventually("everything is acknowledged", || workspace.is_delivered());
    let run = workspace.run_ok(&["replay", "--sink", "local", "--from", "2020-01-01"]);
    assert!(run.stderr.contains("to be sent again"), "{}", run.stderr);
    end(daemon);
}
