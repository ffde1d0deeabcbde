//! Every way in which a batch can end, in every lane: alone, after a batch that is not acknowledged
//! yet, before the process is killed, and before the configuration is reloaded. No record is lost,
//! and only records whose acknowledgement was lost arrive again. Start reading at [`check`].

use std::{collections::BTreeSet, time::Duration};

use super::{
    arrivals::Repeats,
    harness::{Harness, Setup, Targets},
    scripted_sink::{RestOfBatch, Step},
};
use crate::{files::HostFault, model::EventId, sink::Failure};

/// How the receiver ends a batch. Those with `Later` are known only after a wait, during which the
/// deliverer sends the next batch if it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Acknowledged,
    AcknowledgedLater,
    NeverAcknowledged,
    AcknowledgementLost,
    AcknowledgementLostLater,
    Busy,
    BusyForAMinute,
    HostFailed,
    Misconfigured,
    OneRecordRejected,
    OneRecordRejectedLater,
    /// All other records arrive.
    SomeRecordsRejected,
    SomeRecordsRejectedLater,
    AllRecordsRejected,
    BatchRejected,
    BatchDenied,
    TargetRefused,
    TargetRefusedLater,
    /// The records for all other targets arrive.
    OnlyTargetRefused,
    /// Some of the records for the other targets arrive.
    TargetRefusedAndBusy,
    PartlyArrived,
    PartlyArrivedLater,
    TooLarge,
    PartTooLarge,
    Reopened,
    Broken,
    BrokenLater,
    Panicked,
    Hanging,
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
    /// As [`Self::Killed`], while an earlier batch is not acknowledged yet.
    KilledInWindow,
    /// As [`Self::Reloaded`], while an earlier batch is not acknowledged yet.
    ReloadedInWindow,
}

/// What ends a deliverer before everything is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interruption {
    Kill,
    Reload,
}

/// The days of each tenant. Two tenants with 13 records per day have 78 records, in four batches of
/// at most 24: one of the first tenant, one with 15 records of the first and 9 of the second, and
/// two of the second.
const DAYS: i32 = 3;
/// Of the records in each batch of 24, every third one becomes a dead letter: 26 of all 78. They
/// are retried in a batch of 24, with 13 records of the first tenant, and in one of 2.
const REJECTED: usize = 3;
const DEAD_LETTERS: usize = 26;
/// Of the records in a batch of 24, every eighth one is rejected by [`End::SomeRecordsRejected`].
const SOME: usize = 8;
/// How long an acknowledgement takes.
const PENDING: Duration = Duration::from_secs(5);
/// Longer than any deliverer waits for an acknowledgement when it ends.
const TOO_LONG: Duration = Duration::from_hours(1);

impl End {
    fn step(self) -> Step {
        let reason = || "the reason of the receiver".to_owned();

        match self {
            Self::AcknowledgedLater => Self::Acknowledged.step().later(PENDING),
            Self::NeverAcknowledged => Self::Acknowledged.step().later(TOO_LONG),
            Self::AcknowledgementLostLater => Self::AcknowledgementLost.step().later(PENDING),
            Self::OneRecordRejectedLater => Self::OneRecordRejected.step().later(PENDING),
            Self::SomeRecordsRejectedLater => Self::SomeRecordsRejected.step().later(PENDING),
            Self::TargetRefusedLater => Self::TargetRefused.step().later(PENDING),
            Self::PartlyArrivedLater => Self::PartlyArrived.step().later(PENDING),
            Self::BrokenLater => Self::Broken.step().later(PENDING),

            Self::Acknowledged => Step::Acknowledge,
            Self::AcknowledgementLost => Step::Lose(Failure::retry("the connection was lost")),
            Self::Busy => Step::Fail(Failure::retry("busy")),
            Self::BusyForAMinute => {
                let after = Some(Duration::from_mins(1));
                Step::Fail(Failure::Retry { reason: reason(), after, hint: None })
            }
            Self::HostFailed => {
                Step::Fail(Failure::Host { reason: reason(), fault: HostFault::TooManyFiles })
            }
            Self::Misconfigured => Step::Fail(Failure::misconfigured(reason())),
            Self::OneRecordRejected => Step::RejectFirst,
            Self::SomeRecordsRejected => Step::RejectEvery(SOME),
            Self::AllRecordsRejected => Step::RejectAll,
            Self::BatchRejected => Step::Fail(Failure::RejectsAll { reason: reason(), hint: None }),
            Self::BatchDenied => Step::Fail(Failure::Denied { reason: reason(), hint: None }),
            Self::TargetRefused => Step::RefuseTarget(RestOfBatch::NotSent),
            Self::OnlyTargetRefused => Step::RefuseTarget(RestOfBatch::Arrives),
            Self::TargetRefusedAndBusy => Step::RefuseTarget(RestOfBatch::HalfArrives),
            Self::PartlyArrived => Step::Part(12),
            Self::TooLarge => Step::Fail(Failure::TooLarge { reason: reason(), arrived: vec![] }),
            Self::PartTooLarge => Step::PartTooLarge,
            Self::Reopened => Step::Fail(Failure::Reopen),
            Self::Broken => Step::Fail(Failure::Broken { reason: reason() }),
            Self::Panicked => Step::Panic,
            Self::Hanging => Step::Hang,
        }
    }

    /// The steps of the batches up to this end.
    fn script(self, lane: TestedLane, circumstance: Circumstance) -> Vec<Step> {
        // The first batch of the logs has records for one target only.
        let needs_two_targets =
            matches!(self, Self::OnlyTargetRefused | Self::TargetRefusedAndBusy)
                && lane != TestedLane::DeadLetters;
        let first = if circumstance.is_in_window() {
            Some(Step::Acknowledge.later(PENDING))
        } else {
            needs_two_targets.then_some(Step::Acknowledge)
        };
        first.into_iter().chain([self.step()]).collect()
    }

    fn targets(self) -> Targets {
        match self {
            Self::TargetRefused
            | Self::TargetRefusedLater
            | Self::OnlyTargetRefused
            | Self::TargetRefusedAndBusy => Targets::PerTenant,
            _ => Targets::One,
        }
    }

    /// The records that may arrive again: those whose acknowledgement was lost.
    fn repeats(self, lane: TestedLane, circumstance: Circumstance) -> Repeats {
        let is_lost = match (self, circumstance) {
            // Both batches are in the window.
            (_, Circumstance::KilledInWindow) => return Repeats::OneWindow,
            (
                Self::AcknowledgementLost
                | Self::AcknowledgementLostLater
                | Self::NeverAcknowledged,
                _,
            )
            | (
                Self::AcknowledgedLater
                | Self::SomeRecordsRejectedLater
                | Self::PartlyArrivedLater
                | Self::PartTooLarge,
                Circumstance::Killed,
            )
            // The end of the deliverer forgets the earlier batch.
            | (Self::Panicked, Circumstance::InWindow | Circumstance::ReloadedInWindow)
            | (Self::Hanging, Circumstance::ReloadedInWindow) => true,

            // The failure forgets the next batch, which the dead letters do not have.
            (Self::PartlyArrivedLater | Self::BrokenLater, Circumstance::InWindow) => {
                lane != TestedLane::DeadLetters
            }
            _ => false,
        };
        if is_lost { Repeats::Unacknowledged } else { Repeats::Nothing }
    }

    /// The number of dead letters that the end leaves.
    fn dead_letters(self, lane: TestedLane, circumstance: Circumstance) -> usize {
        let is_in_window = circumstance.is_in_window();
        match (self, lane) {
            (Self::OneRecordRejected | Self::OneRecordRejectedLater, _) => 1,
            (
                Self::SomeRecordsRejected | Self::SomeRecordsRejectedLater,
                TestedLane::DeadLetters,
            ) if is_in_window => 1,
            (Self::SomeRecordsRejected | Self::SomeRecordsRejectedLater, _) => 3,

            // Dead letters that are rejected again stay dead letters.
            (Self::AllRecordsRejected, TestedLane::DeadLetters) if is_in_window => 2,
            (Self::AllRecordsRejected, TestedLane::DeadLetters) => 24,
            // The first tenant is withheld, with its rejected records. The second one has too few
            // rejected records for that.
            (Self::AllRecordsRejected, _) if is_in_window => 9,
            _ => 0,
        }
    }

    /// Whether the records arrive in the order of the logs. Records that have not arrived with a
    /// failure that is known later arrive after those of the next batch, although they were sent
    /// before. Rejected records of a batch that is sent again after a kill arrive after the others.
    fn keeps_order(self, circumstance: Circumstance) -> bool {
        let leaves_records = matches!(
            self,
            Self::OneRecordRejectedLater
                | Self::TargetRefusedLater
                | Self::PartlyArrivedLater
                | Self::BrokenLater
        );
        let is_repeated = self == Self::SomeRecordsRejectedLater
            && matches!(circumstance, Circumstance::Killed | Circumstance::KilledInWindow);
        !(leaves_records && circumstance == Circumstance::InWindow || is_repeated)
    }
}

impl Circumstance {
    fn is_in_window(self) -> bool {
        matches!(self, Self::InWindow | Self::KilledInWindow | Self::ReloadedInWindow)
    }

    fn interruption(self) -> Option<Interruption> {
        match self {
            Self::Alone | Self::InWindow => None,
            Self::Killed | Self::KilledInWindow => Some(Interruption::Kill),
            Self::Reloaded | Self::ReloadedInWindow => Some(Interruption::Reload),
        }
    }
}

impl Interruption {
    pub(super) async fn interrupt(self, harness: &mut Harness) {
        match self {
            Self::Kill => harness.restart().await,
            Self::Reload => harness.reload(changed).await,
        }
    }
}

impl TestedLane {
    pub(super) const ALL: [Self; 3] = [Self::Live, Self::Replay, Self::DeadLetters];

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
    let in_flight = if circumstance.is_in_window() { 2 } else { 1 };
    let setup = Setup { targets: end.targets(), in_flight, ..Setup::default() };
    let mut harness = Harness::new(setup);
    let letters = lane.prepare(&mut harness).await;

    // No later batch is acknowledged before an earlier one.
    let wait = Duration::from_secs(1);
    let is_in_window = circumstance.is_in_window();
    let default = if is_in_window { Step::Acknowledge.later(wait) } else { Step::Acknowledge };
    harness.sink.follow(end.script(lane, circumstance), default);
    if let Some(interruption) = circumstance.interruption() {
        harness.start();
        harness.sink.script_ended().await;
        interruption.interrupt(&mut harness).await;
    }
    harness.deliver().await;

    let (rejected, dead_letters) = (harness.rejected().len(), end.dead_letters(lane, circumstance));
    // A process that is killed may forget a rejection, and the second attempt is acknowledged.
    let is_forgotten = circumstance.interruption() == Some(Interruption::Kill) && rejected == 0;
    assert!(rejected == dead_letters || is_forgotten, "{rejected} of {dead_letters}");
    let expected = match lane {
        TestedLane::DeadLetters => letters,
        TestedLane::Live | TestedLane::Replay => harness.records().await,
    };
    harness.check(&expected, end.repeats(lane, circumstance));
    if lane != TestedLane::DeadLetters && end.keeps_order(circumstance) {
        harness.sink.check_order();
    }
}

/// A module with one test for each end of a list: `all` of them, those that the reactions to an
/// `interrupted` window depend on, or those without an end (`hanging`).
macro_rules! ends {
    (@tests $lane:ident, $circumstance:ident: $($name:ident: $end:ident,)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            check(TestedLane::$lane, Circumstance::$circumstance, End::$end).await;
        }
    )*};
    (@hanging $lane:ident, $circumstance:ident) => {
        ends! {
            @tests $lane, $circumstance:
            hanging: Hanging,
            never_acknowledged: NeverAcknowledged,
        }
    };
    (@interrupted $lane:ident, $circumstance:ident) => {
        ends! {
            @tests $lane, $circumstance:
            acknowledged: Acknowledged,
            acknowledged_later: AcknowledgedLater,
            acknowledgement_lost_later: AcknowledgementLostLater,
            busy: Busy,
            one_record_rejected: OneRecordRejected,
            some_records_rejected_later: SomeRecordsRejectedLater,
            target_refused_later: TargetRefusedLater,
            partly_arrived_later: PartlyArrivedLater,
            broken_later: BrokenLater,
            panicked: Panicked,
            hanging: Hanging,
            never_acknowledged: NeverAcknowledged,
        }
    };
    (@all $lane:ident, $circumstance:ident) => {
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
            one_record_rejected_later: OneRecordRejectedLater,
            some_records_rejected: SomeRecordsRejected,
            some_records_rejected_later: SomeRecordsRejectedLater,
            all_records_rejected: AllRecordsRejected,
            batch_rejected: BatchRejected,
            batch_denied: BatchDenied,
            target_refused: TargetRefused,
            target_refused_later: TargetRefusedLater,
            only_target_refused: OnlyTargetRefused,
            target_refused_and_busy: TargetRefusedAndBusy,
            partly_arrived: PartlyArrived,
            partly_arrived_later: PartlyArrivedLater,
            too_large: TooLarge,
            part_too_large: PartTooLarge,
            reopened: Reopened,
            broken: Broken,
            broken_later: BrokenLater,
            panicked: Panicked,
        }
    };
    ($($module:ident: $list:ident $lane:ident, $circumstance:ident;)*) => {$(
        mod $module {
            use super::{Circumstance, End, TestedLane, check};

            ends! { @$list $lane, $circumstance }
        }
    )*};
}

ends! {
    live: all Live, Alone;
    live_in_window: all Live, InWindow;
    live_and_killed: all Live, Killed;
    live_and_reloaded: all Live, Reloaded;
    live_killed_in_window: interrupted Live, KilledInWindow;
    live_reloaded_in_window: interrupted Live, ReloadedInWindow;
    live_killed_while_hanging: hanging Live, Killed;
    live_reloaded_while_hanging: hanging Live, Reloaded;
    replay: all Replay, Alone;
    replay_in_window: all Replay, InWindow;
    replay_and_killed: all Replay, Killed;
    replay_and_reloaded: all Replay, Reloaded;
    replay_killed_in_window: interrupted Replay, KilledInWindow;
    replay_reloaded_in_window: interrupted Replay, ReloadedInWindow;
    replay_killed_while_hanging: hanging Replay, Killed;
    replay_reloaded_while_hanging: hanging Replay, Reloaded;
    dead_letters: all DeadLetters, Alone;
    dead_letters_in_window: all DeadLetters, InWindow;
    dead_letters_and_killed: all DeadLetters, Killed;
    dead_letters_and_reloaded: all DeadLetters, Reloaded;
    dead_letters_killed_in_window: interrupted DeadLetters, KilledInWindow;
    dead_letters_reloaded_in_window: interrupted DeadLetters, ReloadedInWindow;
    dead_letters_killed_while_hanging: hanging DeadLetters, Killed;
    dead_letters_reloaded_while_hanging: hanging DeadLetters, Reloaded;
}
