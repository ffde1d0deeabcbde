//! Killed at random while polling and delivering, a hundred times and more. Nothing is missing,
//! repeats are at most what was on its way at each sink and kill, none in Kafka, and no line is torn.

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

/// Records that may be on their way to each sink: the limits that its plan states.
const BATCHES: [(&str, usize); 4] =
    [("local", 0), ("siem", 3 * 2_000), ("splunk", 16 * 1_000), ("lake", 0)];

#[test]
fn killed_at_random_nothing_is_lost() {
    let mut kills = 0;
    let mut round = 0;
    while kills < KILLS {
        kills += one_round(round);
        round += 1;
    }
}

/// One checkpoint from nothing to ninety days, killed on the way again and again.
fn one_round(round: u32) -> u32 {
    let topic = format!("crash-{round}");
    broker().create_topic(&topic, 1 << 20);
    let (rsyslog, hec) = (Rsyslog::new(), Hec::new());
    // Every other time with acknowledgement.
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
        // Ever later on average, so that each round gets through in the end.
        let patience = Duration::from_millis(fastrand::u64(10..120 + 40 * u64::from(kills)));
        std::thread::sleep(patience);
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
    let wanted = counts(ids(&expected));
    assert!(expected.len() > 20_000);
    let mut messages = rsyslog.expect(expected.len());
    // What came twice counts among so many: the last ones may be still on their way.
    eventually("rsyslog has written all of them", || {
        messages = rsyslog.messages();
        cef_ids(&messages).iter().collect::<HashSet<_>>().len() >= wanted.len()
    });
    let kafka: Vec<serde_json::Value> = broker()
        .consume(&topic)
        .iter()
        .map(|m| serde_json::from_slice(&m.payload).unwrap())
        .collect();
    let arrived = HashMap::from([
        ("local", wanted.clone()),
        ("siem", counts(cef_ids(&messages).iter().map(String::as_str))),
        ("splunk", counts(hec.ids().iter().map(String::as_str))),
        ("lake", counts(ids(&kafka))),
    ]);
    for (sink, batch) in BATCHES {
        let got = &arrived[sink];
        let missing: Vec<&String> = wanted.keys().filter(|id| !got.contains_key(*id)).collect();
        assert!(
            missing.is_empty(),
            "round {round}: {sink} lacks {} records after {kills} kills",
            missing.len()
        );
        let repeats: usize = got.values().map(|count| count - 1).sum();
        assert!(
            repeats <= batch * kills as usize,
            "round {round}: {sink} has {repeats} repeats after {kills} kills"
        );
        assert_eq!(got.len(), wanted.len(), "{sink} has records that were never issued");
    }
    kills
}
