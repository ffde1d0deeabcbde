//! The log output of the daemon and of commands.

use std::{
    fs::File,
    net::{SocketAddr, TcpStream},
    process::Stdio,
    time::{Duration, Instant},
};

use crate::{
    admin::{send, value},
    support::{Process, Workspace, eventually, free_port},
};

/// A workspace with a sink that cannot connect.
fn failing(port: u16) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 2".to_owned();
    workspace.sink("far", &format!("type = \"syslog\"\naddress = \"tcp://127.0.0.1:{port}\""));
    workspace
}

#[test]
fn repeated_failures_are_collapsed() {
    let mut workspace = failing(free_port());
    let page = SocketAddr::from(([127, 0, 0, 1], free_port()));
    workspace.head = format!("[admin]\nlisten = \"{page}\"\n");
    let daemon = workspace.spawn(&["run"]);
    let series = "secure_score_forwarder_sink_retries_total{sink=\"far\",type=\"syslog\"}";
    eventually("three attempts have failed", || {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {page}\r\n\r\n");
        TcpStream::connect(page).is_ok() && value(&send(page, &request).2, series) >= Some(3.0)
    });

    daemon.signal("TERM");
    let log = daemon.end().stderr;
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("delivery failed")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(!lines[0].contains("repeated="), "{log}");
    let repeated = lines[1].rsplit_once("repeated=").unwrap().1;
    assert!(repeated.parse::<u32>().unwrap() >= 2, "{log}");
}

#[test]
fn json_output_is_one_object_per_line() {
    let workspace = failing(free_port());
    let run = workspace.run(&["once", "--log", "info", "--log-format", "json"]);
    let (mut objects, mut hints) = (0, 0);
    for line in run.stderr.lines().filter(|line| line.starts_with('{')) {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(
            event["time"].is_string() && event["level"].is_string() && event["message"].is_string()
        );
        // A hint is a separate field, not a part of the message.
        hints += usize::from(event["hint"].as_str().is_some_and(|hint| hint.contains("receiver")));
        assert!(!event["message"].as_str().unwrap().contains("hint:"), "{line}");
        objects += 1;
    }
    assert!(hints > 0, "{}", run.stderr);
    assert!(objects >= 2, "{}", run.stderr);
    assert!(run.stderr.contains("\"sink\":\"far\""), "{}", run.stderr);
}

#[test]
fn a_blocked_log_reader_delays_nothing() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    let mut command = workspace.command(&["run", "--log", "trace"]);
    // Nothing reads from this pipe, and a thread fills its buffer.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut full = writer.try_clone().unwrap();
    let filler = std::thread::spawn(move || {
        use std::io::Write;
        let _ = full.write_all(&vec![b'x'; 1 << 20]);
    });
    command.stderr(Stdio::from(writer));

    let daemon = Process::of(command);
    eventually("three days are delivered", || {
        std::fs::read_to_string(&file)
            .is_ok_and(|text| text.matches("\"kind\":\"summary\"").count() == 3)
    });

    let stopped = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
    assert!(stopped.elapsed() < Duration::from_secs(15));
    drop(reader);
    let _ = filler.join();
}

#[test]
fn lower_levels_are_not_written() {
    let workspace = failing(free_port());
    let log = workspace.path("log");
    let mut command = workspace.command(&["once", "--log", "error"]);
    command.stderr(File::create(&log).unwrap());
    Process::of(command).end();
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(!text.contains(" WARN ") && !text.contains(" INFO "), "{text}");
}
