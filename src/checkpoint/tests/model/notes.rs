//! What is stored about the host: its clock, the daemon and its configuration, and the last day on
//! which bodies were pruned.

use proptest::{option, prelude::*, sample::select};

use super::{calls::time, run::Run, *};
use crate::model::{ClockAccuracy, ClockDifference, ClockOffset, RejectedConfiguration};

/// How far the clock is ahead in milliseconds: accurate, inaccurate and unusable, each with
/// differences that are too small to be stored.
const OFFSETS_MS: [i64; 9] =
    [0, 200_000, -300_000, 301_000, 330_000, -340_000, 500_000, 90_000_000, -90_030_000];

/// A call that stores something about the host.
#[derive(Clone, Debug)]
pub(super) enum NoteCall {
    /// The number of the offset.
    Clock {
        offset: usize,
        at: usize,
    },
    /// The process ID of the daemon; `None` removes its report.
    Daemon(Option<u32>),
    /// The time of a rejected reload; `None` if one was applied.
    Reload(Option<usize>),
    Alive(usize),
    Pruned(i32),
    /// A write that changes nothing.
    Test,
}

#[derive(Debug, Default)]
pub(super) struct Notes {
    clock: Option<ClockDifference>,
    daemon: Option<DaemonReport>,
    rejected: Option<RejectedConfiguration>,
    alive_at: Option<UnixMillis>,
    pruned_on: Option<Day>,
}

pub(super) fn call() -> impl Strategy<Value = NoteCall> {
    let clock = (0..OFFSETS_MS.len(), time());
    prop_oneof![
        4 => clock.prop_map(|(offset, at)| NoteCall::Clock { offset, at }),
        1 => option::of(select(vec![7, 8])).prop_map(NoteCall::Daemon),
        1 => option::of(time()).prop_map(NoteCall::Reload),
        1 => time().prop_map(NoteCall::Alive),
        1 => (0..DAYS).prop_map(NoteCall::Pruned),
        1 => Just(NoteCall::Test),
    ]
}

impl Run {
    pub(super) fn note(&mut self, call: &NoteCall) {
        match call {
            NoteCall::Clock { offset, at } => {
                let at = time_at(*at);
                let local = UnixMillis::new(at.as_i64() + OFFSETS_MS[*offset]);
                let offset = ClockOffset::between(local.into(), at.into());
                let found = self.write(|checkpoint| checkpoint.record_clock(offset, at));
                self.follow(found, |model| model.notes.record_clock(offset, at));
            }
            NoteCall::Daemon(pid) => {
                let report = pid.map(report_of);
                let found = self.write(|checkpoint| checkpoint.set_daemon_report(report.as_ref()));
                self.follow(found, |model| model.notes.daemon.clone_from(&report));
            }
            NoteCall::Reload(rejected) => {
                let reason = Explanation::new("unknown key").with_hint("remove it");
                let rejected = rejected.map(|at| RejectedConfiguration { at: time_at(at), reason });
                let found = self
                    .write(|checkpoint| checkpoint.set_rejected_configuration(rejected.as_ref()));
                self.follow(found, |model| model.notes.rejected.clone_from(&rejected));
            }
            NoteCall::Alive(at) => {
                let at = time_at(*at);
                let found = self.write(|checkpoint| checkpoint.record_alive(at));
                self.follow(found, |model| model.notes.alive_at = Some(at));
            }
            NoteCall::Pruned(day) => {
                let day = day_at(*day);
                let found = self.write(|checkpoint| checkpoint.set_last_prune_day(day));
                self.follow(found, |model| model.notes.pruned_on = Some(day));
            }
            NoteCall::Test => {
                let found = self.write(Checkpoint::confirm_writable);
                self.follow(found, |_| ());
            }
        }
    }

    /// Compares what `status` shows.
    pub(super) fn check_notes(&self, found: &Status) {
        let Notes { clock, daemon, rejected, alive_at, .. } = &self.model.notes;
        assert_eq!((&found.clock, &found.daemon), (clock, daemon));
        assert_eq!(&found.rejected_configuration, rejected);
        assert_eq!(&found.daemon_alive_at, alive_at);
    }

    /// Compares what other queries return.
    pub(super) fn check_other_notes(&self) {
        let Notes { clock, pruned_on, .. } = &self.model.notes;
        assert_eq!(&self.checkpoint.clock_difference().unwrap(), clock);
        assert_eq!(&self.checkpoint.last_prune_day().unwrap(), pruned_on);
    }
}

impl Notes {
    fn record_clock(&mut self, offset: ClockOffset, at: UnixMillis) {
        let is_similar = |stored: &ClockDifference| {
            let change = stored.offset.size().abs_diff(offset.size());
            stored.offset.accuracy() == offset.accuracy() && change < Duration::from_mins(1)
        };
        if self.clock.as_ref().is_some_and(is_similar) {
            return;
        }
        let since = self.clock.map_or(at, |stored| stored.since);
        let is_wrong = offset.accuracy() != ClockAccuracy::Accurate;
        self.clock = is_wrong.then_some(ClockDifference { offset, since });
    }
}

fn report_of(pid: u32) -> DaemonReport {
    DaemonReport {
        pid,
        configuration: format!("fingerprint {pid}"),
        variables: vec!["SSF_STATE".to_owned()],
        stalled: vec!["the scheduler has not run for 5 minutes".to_owned()],
    }
}
