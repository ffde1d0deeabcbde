//! Kills the process at random while it polls and delivers, at least a hundred times. No record may
//! be missing, no line may be incomplete, and each kill may repeat at most the records in flight:
//! none in Kafka and in the file.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::{
    support::{
        Workspace,
        broker::broker,
        counts, eventually,
        hec::{Hec, TOKEN},
        ids, records,
        rsyslog::Rsyslog,
    },
    syslog::cef_ids,
};

const KILLS: u32 = 100;

/// The maximum number of records in flight to each sink: the number of batches times their size.
const MAX_IN_FLIGHT: [(&str, usize); 4] =
    [("local", 0), ("siem", 3 * 2_000), ("splunk", 16 * 1_000), ("lake", 0)];

#[test]
fn loses_no_record_when_killed_at_random() {
    let mut kills = 0;
    let mut round = 0;
    while kills < KILLS {
        kills += one_round(round);
        round += 1;
    }
}

/// Fills one checkpoint with ninety days while the process is killed repeatedly. Returns the number
/// of kills.
fn one_round(round: u32) -> u32 {
    let topic = format!("crash-{round}");
    broker().create_topic(&topic, 1 << 20);
    let (rsyslog, hec) = (Rsyslog::new(), Hec::new());
    // Every other round uses indexer acknowledgement.
    if round % 2 == 1 {
        hec.acknowledge(1);
    }

    let mut workspace = Workspace::new();
    let file = workspace.file_sink("local");
    workspace
        .sink("siem", &format!("type = \"syslog\"\naddress = \"tcp://127.0.0.1:{}\"", rsyslog.tcp));
    let token = workspace.secret("hec-secret", TOKEN);
    workspace
        .sink("splunk", &format!("type = \"splunk_hec\"\nurl = \"{}\"\ntoken = {token}", hec.url));
    workspace.sink(
        "lake",
        &format!("type = \"kafka\"\nbrokers = [\"{}\"]\ntopic = \"{topic}\"", broker().address),
    );

    let mut kills = 0;
    loop {
        let mut process = workspace.spawn(&["once"]);
        // The average lifetime grows with each kill, so that the round eventually finishes.
        let lifetime = Duration::from_millis(fastrand::u64(10..120 + 40 * u64::from(kills)));
        std::thread::sleep(lifetime);
        if process.is_running() {
            process.kill();
            kills += 1;
        } else {
            let run = process.end();
            assert_eq!(run.code, 0, "after {kills} kills: {}", run.stderr);
            break;
        }
    }

    let expected = records(&file);
    let expected_ids = counts(ids(&expected));
    assert!(expected.len() > 20_000);
    let mut messages = rsyslog.expect(expected.len());
    // The expected number can be reached early because of repeated records, so wait for the
    // distinct ones.
    eventually("rsyslog has written all records", || {
        messages = rsyslog.messages();
        cef_ids(&messages).iter().collect::<HashSet<_>>().len() >= expected_ids.len()
    });
    let kafka: Vec<serde_json::Value> = broker()
        .consume_at_least(&topic, expected.len())
        .iter()
        .map(|m| serde_json::from_slice(&m.payload).unwrap())
        .collect();
    let received = HashMap::from([
        ("local", expected_ids.clone()),
        ("siem", counts(cef_ids(&messages).iter().map(String::as_str))),
        ("splunk", counts(hec.ids().iter().map(String::as_str))),
        ("lake", counts(ids(&kafka))),
    ]);

    for (sink, in_flight) in MAX_IN_FLIGHT {
        let received_ids = &received[sink];
        let missing: Vec<&String> =
            expected_ids.keys().filter(|id| !received_ids.contains_key(*id)).collect();
        assert!(
            missing.is_empty(),
            "round {round}: {} records are missing in {sink} after {kills} kills",
            missing.len()
        );

        let repeats: usize = received_ids.values().map(|count| count - 1).sum();
        assert!(
            repeats <= in_flight * kills as usize,
            "round {round}: {sink} has {repeats} repeats after {kills} kills"
        );
        assert_eq!(received_ids.len(), expected_ids.len(), "{sink} has unknown event IDs");
    }
    kills
}
