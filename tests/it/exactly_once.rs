//! Kafka exactly once, on a real broker: a reader of what is committed sees every record, and sees
//! it once, whatever is killed, fenced or restarted.

use std::{process::Command, time::Duration};

use crate::support::{
    Process, Run, Workspace,
    broker::{Broker, PASSWORD, USER, broker},
    counts, eventually, fs, ids, records,
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

/// The ids in a topic, each with its count, in a map.
fn committed(broker: &Broker, topic: &str) -> std::collections::HashMap<String, usize> {
    let consumed = broker.consume(topic);
    counts(consumed.iter().map(|message| {
        let header = message.headers.iter().find_map(|h| h.strip_prefix("event_id="));
        header.unwrap()
    }))
}

/// Every record of the file once, and nothing else.
fn assert_once(broker: &Broker, topic: &str, file: &std::path::Path) {
    let expected = records(file);
    let got = committed(broker, topic);
    let missing = ids(&expected).filter(|id| !got.contains_key(*id)).count();
    let repeated = got.values().filter(|count| **count > 1).count();
    assert_eq!((missing, repeated, got.len()), (0, 0, expected.len()));
}

/// Runs until it is not killed any more; gives the number of kills.
fn until_through(mut attempt: impl FnMut(u32) -> Run) -> u32 {
    for kills in 1..400 {
        let run = attempt(kills);
        if run.code == 0 {
            return kills - 1;
        }
        assert_eq!(run.code, -1, "{}", run.stderr);
    }
    panic!("it never got through");
}

/// Under strace, killed at the n-th call of a kind, for n = 1, 2, 3 and so on: each time that it
/// sends to the broker, and every few writes to the checkpoint.
#[test]
fn killed_at_every_step() {
    for (call, every) in [("sendmsg", 1), ("pwrite64", 9)] {
        let topic = format!("steps-{call}");
        broker().create_topic(&topic, 1 << 20);
        let mut workspace = workspace(broker(), &topic, 1);
        let file = workspace.file_sink("local");
        let inject = |n: u32| format!("inject={call}:signal=SIGKILL:when={}", n * every);
        let kills = until_through(|n| {
            let plain = workspace.command(&["once"]);
            let mut traced = Command::new("strace");
            traced.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e"]);
            traced.arg(inject(n)).arg(plain.get_program()).args(plain.get_args());
            traced.envs(plain.get_envs().filter_map(|(k, v)| Some((k, v?))));
            Run::of(traced.output().unwrap())
        });
        assert!(kills > 5, "{call}: {kills}");
        assert_once(broker(), &topic, &file);
    }
}

#[test]
fn a_lost_checkpoint_sends_nothing_again() {
    broker().create_topic("lost", 1 << 20);
    let mut workspace = workspace(broker(), "lost", 20);
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    assert_once(broker(), "lost", &file);
    std::fs::remove_dir_all(workspace.state()).unwrap();
    std::fs::remove_file(&file).unwrap();
    let run = workspace.run_ok(&["once"]);
    assert!(run.stderr.contains("sink lake: 0 records delivered"), "{}", run.stderr);
    assert_once(broker(), "lost", &file);
}

/// Yesterday's copy of the state put back: its log is shorter than what was sent.
#[test]
fn a_checkpoint_put_back_sends_nothing_again() {
    broker().create_topic("put-back", 1 << 20);
    let mut workspace = workspace(broker(), "put-back", 3);
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
    let got = committed(broker(), "put-back");
    assert!(got.values().all(|count| *count == 1));
    let wanted = counts(ids(&records(&file)));
    assert_eq!(got.len(), wanted.len());
}

/// Two instances for the same tenant: the second shuts the first out, and goes on where it was.
#[test]
fn a_second_instance_fences_the_first() {
    broker().create_topic("twins", 1 << 20);
    let mut first = Workspace::new();
    // Slow enough to be in the middle of it.
    first.sink("lake", &(section(broker(), "twins") + "\nmax_rate = 1000"));
    let file = first.file_sink("local");
    let second = workspace(broker(), "twins", 90);
    let daemon = first.spawn(&["run"]);
    eventually("the first has begun", || !committed(broker(), "twins").is_empty());
    let run = second.run_ok(&["once"]);
    assert!(!run.stderr.contains("sink lake: 0 records delivered"), "{}", run.stderr);
    eventually("the first has noticed, or was through", || {
        let Some(status) = first.try_status() else { return false };
        let sink = &status["sinks"][0];
        sink["last_error"].as_str().is_some_and(|e| e.contains("another instance uses"))
            || sink["backlog_days"] == 0
    });
    daemon.signal("TERM");
    daemon.end();
    // And back again: it finds what the other has sent.
    first.run_ok(&["once"]);
    assert_once(broker(), "twins", &file);
}

/// Stopped in the middle of a transaction for longer than the cluster waits.
#[test]
fn a_transaction_that_timed_out() {
    broker().create_topic("timeout", 1 << 20);
    let mut workspace = workspace(broker(), "timeout", 60);
    let file = workspace.file_sink("local");
    for pause in [60, 120, 200] {
        let process = workspace.spawn(&["once"]);
        std::thread::sleep(Duration::from_millis(pause));
        process.signal("STOP");
        std::thread::sleep(Duration::from_secs(7));
        process.signal("CONT");
        let run = process.end();
        assert!(matches!(run.code, 0 | 1), "{}", run.stderr);
    }
    workspace.run_ok(&["once"]);
    assert_once(broker(), "timeout", &file);
}

#[test]
fn a_broker_that_restarts() {
    let own = Broker::start();
    own.create_topic("restart", 1 << 20);
    let mut workspace = workspace(&own, "restart", 90);
    let file = workspace.file_sink("local");
    let daemon: Process = workspace.spawn(&["run"]);
    for pause in [150, 300] {
        std::thread::sleep(Duration::from_millis(pause));
        own.crash();
    }
    eventually("everything is delivered", || {
        let days = |status: serde_json::Value| status["tenants"][0]["days"] == 90;
        workspace.try_status().is_some_and(days) && workspace.is_delivered()
    });
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
    assert_once(&own, "restart", &file);
}

/// The topic depends on the tenant and its labels.
#[test]
fn a_topic_for_each_customer() {
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
fn tls_with_scram_and_with_plain() {
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
        fs(workspace.path("kafka-secret"), "CANARY-5ecr3t-wrong");
        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains("the cluster refuses the credential"), "{}", run.stderr);
        fs(workspace.path("kafka-secret"), PASSWORD);
        workspace.run_ok(&["once"]);
        assert_once(broker(), topic, &file);
    }
}

#[test]
fn a_cluster_that_nobody_vouches_for_is_refused() {
    let mut workspace = Workspace::new();
    let section =
        format!("type = \"kafka\"\nbrokers = [\"{}\"]\ntopic = \"x\"\ntls = {{}}", broker().secure);
    workspace.sink("lake", &section);
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("TLS with the cluster failed"), "{}", run.stderr);
}
