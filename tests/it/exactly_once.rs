//! Exactly-once delivery to Kafka, on a real broker: a `read_committed` consumer receives every
//! record once, after kills, fencing and restarts.

use std::{process::Command, time::Duration};

use crate::support::{
    Process, Run, Workspace,
    broker::{Broker, PASSWORD, USER, broker},
    counts, eventually, ids, records, write,
};

fn workspace(broker: &Broker, topic: &str, days: u32) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.extra = format!("initial_backfill_days = {days}");
    workspace.sink("lake", &section(broker, topic));
    workspace
}

fn section(broker: &Broker, topic: &str) -> String {
    format!(
        "type = \"kafka\"\nbrokers = [\"{}\"]\ntopic = \"{topic}\"\ntransaction_timeout = \"5s\"",
        broker.address
    )
}

/// The event IDs in a topic and how often each occurs.
pub fn committed(broker: &Broker, topic: &str) -> std::collections::HashMap<String, usize> {
    let consumed = broker.consume(topic);
    counts(consumed.iter().map(|message| {
        let header = message.headers.iter().find_map(|h| h.strip_prefix("event_id="));
        header.unwrap()
    }))
}

/// Asserts that the topic contains every record of the file once, and nothing else.
fn assert_once(broker: &Broker, topic: &str, file: &std::path::Path) {
    let expected = records(file);
    broker.consume_at_least(topic, expected.len());
    let committed = committed(broker, topic);
    let missing = ids(&expected).filter(|id| !committed.contains_key(*id)).count();
    let repeated = committed.values().filter(|count| **count > 1).count();
    assert_eq!((missing, repeated, committed.len()), (0, 0, expected.len()));
}

/// Repeats the attempt until it completes without being killed. Returns the number of kills.
fn repeat_until_complete(mut attempt: impl FnMut(u32) -> Run) -> u32 {
    for kills in 1..400 {
        let run = attempt(kills);
        if run.code == 0 {
            return kills - 1;
        }
        assert_eq!(run.code, -1, "{}", run.stderr);
    }
    panic!("no attempt completed");
}

/// strace kills the process at its n-th system call of a kind, with increasing n: at each message
/// to the broker, and at every ninth write to the checkpoint.
#[test]
fn delivers_once_when_killed_at_any_step() {
    for (call, every) in [("sendmsg", 1), ("pwrite64", 9)] {
        let topic = format!("steps-{call}");
        broker().create_topic(&topic, 1 << 20);
        let mut workspace = workspace(broker(), &topic, 1);
        let file = workspace.file_sink("local");

        let kills = repeat_until_complete(|n| workspace.once_killed_at(call, n * every));

        assert!(kills > 5, "{call}: {kills}");
        assert_once(broker(), &topic, &file);
    }
}

#[test]
fn resends_nothing_after_losing_the_checkpoint() {
    broker().create_topic("lost", 1 << 20);
    let mut workspace = workspace(broker(), "lost", 20);
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    assert_once(broker(), "lost", &file);

    std::fs::remove_dir_all(workspace.state()).unwrap();
    std::fs::remove_file(&file).unwrap();
    let run = workspace.run_ok(&["once"]);
    assert!(run.stderr.contains("sink `lake`: 0 records delivered"), "{}", run.stderr);
    assert_once(broker(), "lost", &file);
}

/// The log of an old backup has fewer entries than were sent.
#[test]
fn resends_nothing_after_restoring_an_old_checkpoint() {
    broker().create_topic("restored", 1 << 20);
    let mut workspace = workspace(broker(), "restored", 3);
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);

    let copy = workspace.path("copy");
    let copied = Command::new("cp").arg("-r").arg(workspace.state()).arg(&copy).status().unwrap();
    assert!(copied.success());
    workspace.run_ok(&["backfill", "--days", "9"]);
    workspace.run_ok(&["once"]);

    std::fs::remove_dir_all(workspace.state()).unwrap();
    std::fs::rename(&copy, workspace.state()).unwrap();
    workspace.run_ok(&["backfill", "--days", "9"]);
    workspace.run_ok(&["once"]);

    let committed = committed(broker(), "restored");
    assert!(committed.values().all(|count| *count == 1));
    let expected = counts(ids(&records(&file)));
    assert_eq!(committed.len(), expected.len());
}

/// Two instances serve the same tenant. The second fences the first and continues from its
/// progress.
#[test]
fn a_second_instance_fences_the_first() {
    broker().create_topic("twins", 1 << 20);
    let mut first = Workspace::new();
    // The rate is low enough for the second instance to start before the first is finished.
    first.sink("lake", &(section(broker(), "twins") + "\nmax_rate = 1000"));
    let file = first.file_sink("local");
    let second = workspace(broker(), "twins", 90);

    let daemon = first.spawn(&["run"]);
    eventually("the first instance has committed records", || {
        !committed(broker(), "twins").is_empty()
    });
    let run = second.run_ok(&["once"]);
    assert!(!run.stderr.contains("sink `lake`: 0 records delivered"), "{}", run.stderr);
    eventually("the first instance is fenced or finished", || {
        let Some(status) = first.try_status() else { return false };
        let sink = &status["sinks"][0];
        sink["error"]["message"].as_str().is_some_and(|e| e.contains("another instance uses"))
            || sink["backlog_entries"] == 0
    });
    daemon.signal("TERM");
    daemon.end();

    // The first instance continues from the progress of the second.
    first.run_ok(&["once"]);
    assert_once(broker(), "twins", &file);
}

/// The process is stopped during a transaction, for longer than the transaction timeout.
#[test]
fn delivers_once_after_a_transaction_timeout() {
    broker().create_topic("timeout", 1 << 20);
    let mut workspace = workspace(broker(), "timeout", 60);
    let file = workspace.file_sink("local");

    for pause in [60, 120, 200] {
        let process = workspace.spawn(&["once"]);
        std::thread::sleep(Duration::from_millis(pause));
        process.signal("STOP");
        // The elapsed time itself is tested: the cluster aborts the transaction after
        // `transaction_timeout`, which is five seconds.
        std::thread::sleep(Duration::from_secs(7));
        process.signal("CONT");
        let run = process.end();
        assert!(matches!(run.code, 0 | 1), "{}", run.stderr);
    }

    workspace.run_ok(&["once"]);
    assert_once(broker(), "timeout", &file);
}

#[test]
fn delivers_once_across_broker_restarts() {
    let restarted = Broker::start();
    restarted.create_topic("restart", 1 << 20);
    let mut workspace = workspace(&restarted, "restart", 90);
    let file = workspace.file_sink("local");

    let daemon: Process = workspace.spawn(&["run"]);
    for pause in [150, 300] {
        std::thread::sleep(Duration::from_millis(pause));
        restarted.crash();
    }

    eventually("everything is delivered", || {
        let days = |status: serde_json::Value| status["tenants"][0]["days"] == 90;
        workspace.try_status().is_some_and(days) && workspace.is_delivered()
    });
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
    assert_once(&restarted, "restart", &file);
}

#[test]
fn the_topic_may_contain_a_label() {
    for topic in ["score-c-17", "score-c-18"] {
        broker().create_topic(topic, 1 << 20);
    }
    let mut workspace = workspace(broker(), "score-{label.customer}", 2);
    workspace.extra += "\nlabels = { customer = \"c-17\" }";
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    assert_once(broker(), "score-c-17", &file);

    workspace.extra = "initial_backfill_days = 2".to_owned();
    let run = workspace.run(&["check"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("tenant `contoso` has no label `customer`"), "{}", run.stderr);
}

#[test]
fn connects_with_tls_and_sasl() {
    for (mechanism, topic) in [("scram-sha-512", "scram"), ("plain", "plainly")] {
        broker().create_topic(topic, 1 << 20);
        let mut workspace = Workspace::new();
        workspace.extra = "initial_backfill_days = 2".to_owned();

        let password = workspace.secret("kafka-secret", PASSWORD);
        let section = format!(
            "type = \"kafka\"\nbrokers = [\"{}\"]\ntopic = \"{topic}\"\ntls = {{ ca_file = \"{}\" }}\n\
             sasl = {{ mechanism = \"{mechanism}\", username = \"{USER}\", password = {password} }}",
            broker().secure,
            broker().file("ca.pem"),
        );
        workspace.sink("lake", &section);
        let file = workspace.file_sink("local");

        write(workspace.path("kafka-secret"), "CANARY-5ecr3t-wrong");
        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains("the cluster rejects the credential"), "{}", run.stderr);

        write(workspace.path("kafka-secret"), PASSWORD);
        workspace.run_ok(&["once"]);
        assert_once(broker(), topic, &file);
    }
}

#[test]
fn rejects_a_cluster_with_an_untrusted_certificate() {
    let mut workspace = Workspace::new();
    let section =
        format!("type = \"kafka\"\nbrokers = [\"{}\"]\ntopic = \"x\"\ntls = {{}}", broker().secure);
    workspace.sink("lake", &section);
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("TLS with the cluster failed"), "{}", run.stderr);
}
