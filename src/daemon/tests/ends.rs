//! Every way in which a batch can end, in every lane: alone, after a batch that is not acknowledged
//! yet, before the process is killed, and before the configuration is reloaded. No record is lost,
//! and only records whose acknowledgement was lost arrive again. Start reading at [`check`].

use std::{collections::BTreeSet, time::Duration};

use super::{
    harness::{Harness, Setup, Targets},
    scripted_sink::{Repeats, Step},
};
use crate::{files::HostFault, model::EventId, sink::Failure};

/// How the receiver ends a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Acknowledged,
    AcknowledgedLater,
    AcknowledgementLost,
    AcknowledgementLostLater,
    Busy,
    BusyForAMinute,
    HostFailed,
    Misconfigured,
    OneRecordRejected,
    AllRecordsRejected,
    BatchRejected,
    BatchDenied,
    TargetRefused,
    PartlyArrived,
    TooLarge,
    Reopened,
    Broken,
    Panicked,
}

/// The lane of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TestedLane {
    Live,
    Replay,
    DeadLetters,
}

/// What happens at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Circumstance {
    Alone,
    /// An earlier batch is not acknowledged yet.
    InWindow,
    /// The process is killed after the reply.
    Killed,
    /// The configuration is reloaded after the reply.
    Reloaded,
}

/// The days of each tenant. Two tenants with 13 records per day have 78 records, in four batches.
const DAYS: i32 = 3;
/// Of the records in each batch of 24, every third one becomes a dead letter: 26 of all 78.
const REJECTED: usize = 3;
const DEAD_LETTERS: usize = 26;
/// How long an acknowledgement takes.
const PENDING: Duration = Duration::from_secs(5);

impl End {
    fn step(self) -> Step {
        let reason = || "the reason of the receiver".to_owned();

        match self {
            Self::Acknowledged => Step::Acknowledge,
            Self::AcknowledgedLater => Step::AcknowledgeAfter(PENDING),
            Self::AcknowledgementLost => Step::Lose,
            Self::AcknowledgementLostLater => Step::LoseAfter(PENDING),
            Self::Busy => Step::Fail(Failure::retry("busy")),
            Self::BusyForAMinute => Step::Fail(Failure::Retry {
                reason: reason(),
                after: Some(Duration::from_mins(1)),
                hint: None,
            }),
            Self::HostFailed => {
                Step::Fail(Failure::Host { reason: reason(), fault: HostFault::TooManyFiles })
            }
            Self::Misconfigured => Step::Fail(Failure::misconfigured(reason())),
            Self::OneRecordRejected => Step::RejectFirst,
            Self::AllRecordsRejected => Step::RejectAll,
            Self::BatchRejected => Step::Fail(Failure::RejectsAll { reason: reason(), hint: None }),
            Self::BatchDenied => Step::Fail(Failure::Denied { reason: reason(), hint: None }),
            Self::TargetRefused => Step::RefuseTarget,
            Self::PartlyArrived => Step::Part(12),
            Self::TooLarge => Step::Fail(Failure::TooLarge { reason: reason(), arrived: vec![] }),
            Self::Reopened => Step::Fail(Failure::Reopen),
            Self::Broken => Step::Fail(Failure::Broken { reason: reason() }),
            Self::Panicked => Step::Panic,
        }
    }

    fn targets(self) -> Targets {
        if self == Self::TargetRefused { Targets::PerTenant } else { Targets::One }
    }

    /// The records that may arrive again: those whose acknowledgement was lost.
    fn repeats(self, circumstance: Circumstance) -> Repeats {
        match (self, circumstance) {
            (Self::AcknowledgementLost | Self::AcknowledgementLostLater, _)
            | (Self::AcknowledgedLater, Circumstance::Killed)
            // The panic ends the deliverer, which forgets the earlier batch.
            | (Self::Panicked, Circumstance::InWindow) => Repeats::Unacknowledged,
            _ => Repeats::Nothing,
        }
    }

    /// The number of dead letters that the end leaves; `None` if it depends on whose records are in
    /// the batch.
    fn dead_letters(self) -> Option<usize> {
        match self {
            Self::OneRecordRejected => Some(1),
            Self::AllRecordsRejected => None,
            _ => Some(0),
        }
    }
}

impl TestedLane {
    /// Makes the next delivery send only records of this lane. Returns the records of the dead
    /// letters that are retried; none in the other lanes.
    pub(super) async fn prepare(self, harness: &mut Harness) -> BTreeSet<EventId> {
        harness.append_days(DAYS);
        match self {
            Self::Live => BTreeSet::new(),
            Self::Replay => {
                harness.deliver().await;
                harness.replay();
                BTreeSet::new()
            }
            Self::DeadLetters => {
                harness.sink.begin([], Step::RejectEvery(REJECTED));
                harness.deliver().await;
                let letters = harness.rejected();
                assert_eq!(letters.len(), DEAD_LETTERS);
                harness.retry_dead_letters();
                letters
            }
        }
    }
}

/// Changes the configuration in a way that changes no record.
pub(super) fn changed(text: &str) -> String {
    assert!(text.contains("initial_backfill_days = 3"));
    text.replace("initial_backfill_days = 3", "initial_backfill_days = 7")
}

async fn check(lane: TestedLane, circumstance: Circumstance, end: End) {
    let in_flight = if circumstance == Circumstance::InWindow { 2 } else { 1 };
    let setup = Setup { targets: end.targets(), in_flight, ..Setup::default() };
    let mut harness = Harness::new(setup);
    let letters = lane.prepare(&mut harness).await;

    match circumstance {
        Circumstance::Alone => harness.sink.begin([end.step()], Step::Acknowledge),
        Circumstance::InWindow => {
            let script = [Step::AcknowledgeAfter(PENDING), end.step()];
            // No later batch is acknowledged before an earlier one.
            harness.sink.begin(script, Step::AcknowledgeAfter(Duration::from_secs(1)));
        }
        Circumstance::Killed | Circumstance::Reloaded => {
            harness.sink.begin([end.step()], Step::Acknowledge);
            harness.start();
            harness.sink.script_ended().await;
            if circumstance == Circumstance::Killed {
                harness.restart().await;
            } else {
                harness.reload(changed).await;
            }
        }
    }
    harness.deliver().await;

    let rejected = harness.rejected().len();
    let dead_letters = end.dead_letters().unwrap_or(rejected);
    // A process that is killed may forget a rejection, and the second attempt is acknowledged.
    let is_forgotten = circumstance == Circumstance::Killed && rejected == 0;
    assert!(rejected == dead_letters || is_forgotten, "{rejected} of {dead_letters}");
    let expected = match lane {
        TestedLane::DeadLetters => letters,
        TestedLane::Live | TestedLane::Replay => harness.records().await,
    };
    harness.check(&expected, end.repeats(circumstance));
    if lane != TestedLane::DeadLetters {
        harness.sink.check_order();
    }
}

/// A module with one test for each end.
macro_rules! ends {
    (@tests $lane:ident, $circumstance:ident: $($name:ident: $end:ident,)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            check(TestedLane::$lane, Circumstance::$circumstance, End::$end).await;
        }
    )*};
    ($($module:ident: $lane:ident, $circumstance:ident;)*) => {$(
        mod $module {
            use super::{Circumstance, End, TestedLane, check};

            ends! {
                @tests $lane, $circumstance:
                acknowledged: Acknowledged,
                acknowledged_later: AcknowledgedLater,
                acknowledgement_lost: AcknowledgementLost,
                acknowledgement_lost_later: AcknowledgementLostLater,
                busy: Busy,
                busy_for_a_minute: BusyForAMinute,
                host_failed: HostFailed,
                misconfigured: Misconfigured,
                one_record_rejected: OneRecordRejected,
                all_records_rejected: AllRecordsRejected,
                batch_rejected: BatchRejected,
                batch_denied: BatchDenied,
                target_refused: TargetRefused,
                partly_arrived: PartlyArrived,
                too_large: TooLarge,
                reopened: Reopened,
                broken: Broken,
                panicked: Panicked,
            }
        }
    )*};
}

ends! {
    live: Live, Alone;
    live_in_window: Live, InWindow;
    live_and_killed: Live, Killed;
    live_and_reloaded: Live, Reloaded;
    replay: Replay, Alone;
    replay_in_window: Replay, InWindow;
    replay_and_killed: Replay, Killed;
    replay_and_reloaded: Replay, Reloaded;
    dead_letters: DeadLetters, Alone;
    dead_letters_in_window: DeadLetters, InWindow;
    dead_letters_and_killed: DeadLetters, Killed;
    dead_letters_and_reloaded: DeadLetters, Reloaded;
}
