//! A damaged state of polls: the poll of its tenant fails, and all other tenants are polled.

use std::collections::BTreeMap;

use super::{dead_letters::id, *};

/// Regression: a damaged state of the polls of one tenant prevented those of all tenants, and the
/// next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_state_stops_only_its_tenant() {
    let directory = tempfile::tempdir().unwrap();
    let process = Engine::build(configuration(directory.path()).await).unwrap();
    backfill(&process, None, &[], |_, _| {}).await;
    // Both tenants are due at the next start.
    let tenants: Vec<_> = process.tenants().iter().cloned().collect();
    process.collector().queue_backfills(&tenants, Day::of(clock::now()).plus(-9));
    process.store().checkpoint().damage_poll_state(id(&process, HOSTILE));
    drop(process);

    let process = Engine::build(configuration(directory.path()).await).unwrap();
    let mut poller = Poller::new(Arc::clone(&process));
    for _ in 0..2 {
        poller.start_due();
        poller.idle().await;
    }

    let polls_of = |name| process.meters().polls_of(name);
    assert_eq!(polls_of(HARMLESS), PollCounts { polls: 1, ..PollCounts::default() });
    let failures = BTreeMap::from([(PollErrorClass::Checkpoint, 1)]);
    assert_eq!(polls_of(HOSTILE), PollCounts { polls: 1, failures });
    let failing = process.store().checkpoint().failures().unwrap().tenants;
    assert_eq!(failing.into_keys().collect::<Vec<_>>(), [id(&process, HOSTILE)]);
}
