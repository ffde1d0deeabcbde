//! A fault of the database at each call of a start: with an empty database, and after a kill, with
//! a sink that is renamed; see `faults`. Such a start fails, or continues without what is not
//! essential, and the next one finds everything. Start reading at [`renamed`].

use super::{
    arrivals::Repeats,
    faults::at_each_call,
    harness::{Harness, SINK, Setup},
    scripted_sink::Step,
};

/// Changes the name of the sink.
fn renamed(text: &str) -> String {
    let name = format!("name = \"{SINK}\"");
    assert!(text.contains(&name));
    text.replace(&name, &format!("name = \"renamed\"\nrenamed_from = \"{SINK}\""))
}

#[tokio::test(start_paused = true)]
async fn a_failed_start_prevents_no_other() {
    at_each_call(async |plan| {
        plan.begin();
        let (controls, records, faults) = (4, 4, plan.clone());
        let mut harness = Harness::new(Setup { controls, records, faults, ..Setup::default() });
        plan.end();

        harness.append_days(1);
        harness.sink.begin([Step::Acknowledge], Step::Acknowledge);
        harness.start();
        harness.sink.script_ended().await;
        harness.begin_poll(0);

        plan.begin();
        harness.restart_with(renamed).await;
        harness.record_interrupted_polls();
        plan.end();

        // What the fault has prevented is left to the next process.
        if plan.is_taken_over() {
            harness.restart().await;
        }
        harness.record_interrupted_polls();
        let (checkpoint, id) = (harness.checkpoint(), harness.id(0));
        assert!(checkpoint.running_polls().unwrap().is_empty(), "{plan:?}");
        assert_eq!(checkpoint.poll_state(id).unwrap().polled.failures, 1, "{plan:?}");

        harness.deliver().await;
        let expected = harness.records().await;
        assert_eq!(expected.len(), 10, "{plan:?}");
        harness.check(&expected, Repeats::Nothing);
        harness.sink.check_order();
    })
    .await;
}
