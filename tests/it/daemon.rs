//! `run`: starting, running and stopping the daemon.

use std::{
    os::unix::net::UnixDatagram,
    process::Command,
    time::{Duration, Instant},
};

use crate::support::{Workspace, eventually, records, summaries, write};

#[test]
fn polls_immediately_and_stops_on_a_signal() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5".to_owned();
    let file = workspace.file_sink("local");
    let daemon = workspace.command(&["run"]).spawn().unwrap();
    eventually("five days are delivered", || summaries(&file) == 5 && workspace.is_delivered());

    let stopped = Instant::now();
    assert!(Command::new("kill").arg(daemon.id().to_string()).status().unwrap().success());
    let run = crate::support::Run::of(daemon.wait_with_output().unwrap());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(stopped.elapsed() < Duration::from_secs(5), "{:?}", stopped.elapsed());
    assert!(
        run.stderr.contains("poll completed") && run.stderr.contains("stopping"),
        "{}",
        run.stderr
    );
    assert!(!run.stderr.contains("in time"), "no task had to be aborted: {}", run.stderr);
    records(&file);
    let status = workspace.status();
    assert_eq!(status["tenants"][0]["days"], 5, "what was read is kept");
    assert_eq!(status["sinks"][0]["backlog_entries"], 0, "what was sent is kept");
}

#[test]
fn is_ready_before_the_first_poll_ends() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut workspace = Workspace::against(&format!("http://{}", silent.local_addr().unwrap()));
    workspace.file_sink("local");
    let notify = workspace.path("notify.sock");
    let socket = UnixDatagram::bind(&notify).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(180))).unwrap();
    let mut command = workspace.command(&["run"]);
    let daemon = command.env("NOTIFY_SOCKET", &notify).spawn().unwrap();

    let receive = || {
        let mut buffer = [0; 512];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let is_ready = |message: &String| message.starts_with("READY=1\n");
    let ready = std::iter::repeat_with(receive).find(is_ready).unwrap();
    let status = "\nSTATUS=0 of 1 tenants are current; 1 sink is healthy; no day yet";
    assert!(ready.contains(status), "{ready}");

    assert!(Command::new("kill").arg(daemon.id().to_string()).status().unwrap().success());
    let run = crate::support::Run::of(daemon.wait_with_output().unwrap());
    assert_eq!(run.code, 0, "{}", run.stderr);
}

#[test]
fn stops_in_time_with_a_hanging_sink() {
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 90".to_owned();
    let token = workspace.secret("hec-secret", "CANARY-5ecr3t");
    workspace.sink(
        "splunk",
        &format!(
            "type = \"splunk_hec\"\nurl = \"http://{}\"\ntoken = {token}",
            hanging.local_addr().unwrap()
        ),
    );
    let daemon = workspace.spawn(&["run"]);
    // The sink has connected and will never receive a response.
    let _stream = hanging.accept().unwrap();

    let stopped = Instant::now();
    daemon.signal("TERM");
    let run = daemon.end();
    assert_eq!(run.code, 0, "{}", run.stderr);
    let message = "stopped before all acknowledgements had arrived";
    assert!(run.stderr.contains(message), "{}", run.stderr);
    assert!(stopped.elapsed() < Duration::from_secs(10), "{:?}", stopped.elapsed());
    let status = workspace.status();
    assert_eq!(status["tenants"][0]["days"], 90, "what was read is kept");
    assert_eq!(status["sinks"][0]["backlog_entries"], 90, "nothing counts as sent");
}

#[test]
fn backfill_is_sent_to_the_daemon() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5".to_owned();
    let file = workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    eventually("five days are delivered", || summaries(&file) == 5);

    let run = workspace.run_ok(&["backfill", "--days", "20"]);
    assert!(run.stderr.contains("tenant `contoso`: 15 new days"), "{}", run.stderr);
    eventually("twenty days are delivered", || summaries(&file) == 20 && workspace.is_delivered());
    assert!(
        workspace
            .run_ok(&["status"])
            .stdout
            .contains(&format!("the daemon is running as process {}", daemon.id()))
    );
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

#[test]
fn a_second_daemon_is_rejected() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    let mut daemon = workspace.spawn(&["run"]);
    eventually("three days are delivered", || summaries(&file) == 3);

    for command in ["run", "once"] {
        let second = workspace.run(&[command]);
        assert_eq!(second.code, 3);
        assert!(
            second.stderr.contains(&format!("held by another process (pid {})", daemon.id())),
            "{}",
            second.stderr
        );
    }

    workspace.run_ok(&["check"]);
    assert!(daemon.is_running());

    // When the daemon is killed, its lock is released.
    daemon.kill();
    workspace.run_ok(&["once"]);
}

#[test]
fn a_damaged_checkpoint_is_not_changed() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let database = workspace.state().join("checkpoint.db");
    let mut bytes = std::fs::read(&database).unwrap();
    bytes[4096..20_000].fill(0xAA);
    std::fs::write(&database, &bytes).unwrap();

    for command in ["run", "once", "check"] {
        let run = workspace.run(&[command]);
        assert_eq!(run.code, 3, "{command}: {}", run.stderr);
        assert!(
            run.stderr.contains("the checkpoint is damaged")
                && run.stderr.contains("hint: run `state repair`"),
            "{}",
            run.stderr
        );
    }
    assert_eq!(std::fs::read(&database).unwrap(), bytes);
}

/// The state directory is on a small file system that is almost full. Polling is paused, and
/// resumes when there is space.
#[test]
fn a_full_disk_pauses_only_polling() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 10".to_owned();
    let file = workspace.file_sink("local");
    workspace.command(&["check"]).output().unwrap();
    std::fs::create_dir(workspace.state()).unwrap();

    let script = format!(
        "set -e; mount -t tmpfs -o size=40m tmpfs {state}; chmod 700 {state}; dd if=/dev/zero of={state}/ballast bs=1M count=30 2>/dev/null
         \"$0\" once --config {config} && exit 90; rm {state}/ballast; exec \"$0\" once --config {config}",
        state = workspace.state().display(),
        config = workspace.path("config.toml").display(),
    );
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", &script, env!("CARGO_BIN_EXE_secure-score-forwarder")])
        .output()
        .unwrap();

    let run = crate::support::Run::of(output);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stderr.contains("the disk is nearly full: polling is paused; delivery continues"),
        "{}",
        run.stderr
    );
    assert_eq!(summaries(&file), 10);
}

/// Regression: the record stayed in the log until another poll succeeded, because only a successful
/// poll woke the deliverers.
#[test]
fn a_failed_poll_is_delivered_immediately() {
    let mut workspace = Workspace::new();
    write(workspace.path("secret"), "wrong\n");
    let file = workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    eventually("the record is delivered", || {
        file.exists()
            && records(&file).iter().any(|record| {
                record["kind"] == "quality" && record["quality"]["what"] == "poll_failed"
            })
    });
    eventually("nothing is unsent", || workspace.is_delivered());

    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}
