//! What this process has counted, and when its loops last did something. Kept over a reload; what
//! must outlive the process stands in the checkpoint.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

#[derive(Debug)]
pub struct Meters {
    /// When the process began, on the wall clock.
    pub started: Timestamp,
    began: Instant,
    scheduler: Pulse,
    /// The checkpoint is written anew as a whole, and everybody waits for it.
    maintenance: AtomicU64,
    tenants: Mutex<BTreeMap<String, PollCounts>>,
    sinks: Mutex<BTreeMap<String, Arc<SinkMeter>>>,
}

/// Polls of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PollCounts {
    pub polls: u64,
    /// By class; see `PollError::class`.
    pub failures: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
pub struct SinkMeter {
    pub batches: AtomicU64,
    pub bytes: AtomicU64,
    /// Attempts that failed, and were or will be made again.
    pub retries: AtomicU64,
    state: AtomicU8,
    pulse: Pulse,
    /// No batch takes longer, by the sink's own limits.
    patience: Duration,
}

/// What a deliverer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkState {
    /// Nothing waits for it.
    Idle = 0,
    Working = 1,
    /// Something failed, and is tried again by itself.
    Retrying = 2,
    /// It wants a person; tried again from time to time.
    Parked = 3,
}

/// When a loop last got on, in milliseconds of the process's life plus one; 0 while it rests.
#[derive(Debug, Default)]
struct Pulse(AtomicU64);

/// A scheduler that did not look for work for so long hangs: it looks every minute.
const SCHEDULER_PATIENCE: Duration = Duration::from_mins(5);

impl Meters {
    pub fn new(now: Timestamp) -> Self {
        Self {
            started: now,
            began: Instant::now(),
            scheduler: Pulse::default(),
            maintenance: AtomicU64::new(0),
            tenants: Mutex::default(),
            sinks: Mutex::default(),
        }
    }

    /// Counts a poll; `failure` is its class, if it failed.
    pub(super) fn poll(&self, tenant: &str, failure: Option<&'static str>) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if !tenants.contains_key(tenant) {
            tenants.insert(tenant.to_owned(), PollCounts::default());
        }
        if let Some(counts) = tenants.get_mut(tenant) {
            counts.polls += 1;
            if let Some(class) = failure {
                *counts.failures.entry(class).or_default() += 1;
            }
        }
    }

    pub fn polls(&self) -> BTreeMap<String, PollCounts> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The meter of a sink, from zero if it is new. Its patience is that of the configuration now.
    pub(super) fn sink(&self, name: &str, patience: Duration) -> Arc<SinkMeter> {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        let before = sinks.get(name);
        let carried = |of: fn(&SinkMeter) -> &AtomicU64| {
            AtomicU64::new(before.map_or(0, |meter| of(meter).load(Relaxed)))
        };
        let meter = Arc::new(SinkMeter {
            batches: carried(|meter| &meter.batches),
            bytes: carried(|meter| &meter.bytes),
            retries: carried(|meter| &meter.retries),
            state: AtomicU8::new(SinkState::Idle as u8),
            pulse: Pulse::default(),
            patience,
        });
        sinks.insert(name.to_owned(), Arc::clone(&meter));
        meter
    }

    pub fn sinks(&self) -> BTreeMap<String, Arc<SinkMeter>> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets what is no longer configured.
    pub(super) fn retain(&self, tenant: impl Fn(&str) -> bool, sink: impl Fn(&str) -> bool) {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.retain(|name, _| tenant(name));
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.retain(|name, _| sink(name));
    }

    /// The scheduler has looked for work.
    pub(super) fn scheduled(&self) {
        self.scheduler.beat(self.began.elapsed());
    }

    /// Does what everybody has to wait for, however long: nobody hangs meanwhile.
    pub(super) fn maintain<T>(&self, work: impl FnOnce() -> T) -> T {
        self.maintenance.fetch_add(1, Relaxed);
        let done = work();
        self.scheduled();
        for meter in self.sinks().values().filter(|meter| meter.pulse.is_beating()) {
            self.progress(meter);
        }
        self.maintenance.fetch_sub(1, Relaxed);
        done
    }

    /// A sink's deliverer has got on.
    pub(super) fn progress(&self, sink: &SinkMeter) {
        sink.pulse.beat(self.began.elapsed());
    }

    /// What failed is failing until something is proven: a mere attempt is no news.
    pub(super) fn enter(&self, sink: &SinkMeter, state: SinkState) {
        if state != SinkState::Working {
            sink.state.store(state as u8, Relaxed);
            return sink.pulse.rest();
        }
        if matches!(sink.state(), SinkState::Idle) {
            sink.state.store(state as u8, Relaxed);
        }
        self.progress(sink);
    }

    /// Records are where they should be.
    pub(super) fn acknowledged(&self, sink: &SinkMeter) {
        sink.state.store(SinkState::Working as u8, Relaxed);
        self.progress(sink);
    }

    /// The loops that should have got on and did not: each in words. This is what the watchdog goes
    /// by, so a loop that waits for somebody else, within its limits, is none of them.
    pub fn stalled(&self) -> Vec<String> {
        let now = self.began.elapsed();
        let mut stalled = Vec::new();
        if self.maintenance.load(Relaxed) > 0 {
            return stalled;
        }
        if self.scheduler.is_older(now, SCHEDULER_PATIENCE) {
            stalled.push("the scheduler has not looked for work".to_owned());
        }
        for (name, meter) in self.sinks() {
            if meter.pulse.is_older(now, meter.patience) {
                stalled.push(format!("sink `{name}` has been at one batch for too long"));
            }
        }
        stalled
    }
}

impl SinkMeter {
    pub fn state(&self) -> SinkState {
        match self.state.load(Relaxed) {
            0 => SinkState::Idle,
            1 => SinkState::Working,
            2 => SinkState::Retrying,
            _ => SinkState::Parked,
        }
    }
}

impl SinkState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Working => "working",
            Self::Retrying => "retrying",
            Self::Parked => "parked",
        }
    }
}

impl Pulse {
    fn beat(&self, age: Duration) {
        self.0.store(u64::try_from(age.as_millis()).map_or(u64::MAX, |ms| ms + 1), Relaxed);
    }

    fn rest(&self) {
        self.0.store(0, Relaxed);
    }

    fn is_beating(&self) -> bool {
        self.0.load(Relaxed) > 0
    }

    fn is_older(&self, now: Duration, than: Duration) -> bool {
        match self.0.load(Relaxed) {
            0 => false,
            beat => now.saturating_sub(Duration::from_millis(beat - 1)) > than,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_rests_is_never_stalled_and_what_works_must_get_on() {
        let meters = Meters::new(Timestamp::UNIX_EPOCH);
        let sink = meters.sink("splunk", Duration::from_mins(10));
        meters.scheduled();
        tokio::time::advance(Duration::from_mins(4)).await;
        assert_eq!(meters.stalled(), Vec::<String>::new());
        meters.enter(&sink, SinkState::Working);
        tokio::time::advance(Duration::from_mins(9)).await;
        assert_eq!(meters.stalled(), ["the scheduler has not looked for work"]);
        meters.scheduled();
        meters.progress(&sink);
        tokio::time::advance(Duration::from_mins(11)).await;
        meters.scheduled();
        assert_eq!(meters.stalled(), ["sink `splunk` has been at one batch for too long"]);
        meters.enter(&sink, SinkState::Parked);
        assert_eq!((meters.stalled().len(), sink.state()), (0, SinkState::Parked));
        meters.enter(&sink, SinkState::Working);
        assert_eq!(sink.state(), SinkState::Parked, "it only tries again");
        tokio::time::advance(Duration::from_mins(11)).await;
        meters.scheduled();
        assert_eq!(meters.stalled().len(), 1, "and may hang in that");
        meters.acknowledged(&sink);
        assert_eq!((meters.stalled().len(), sink.state()), (0, SinkState::Working));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_checkpoint_to_be_written_anew_does_not_hang() {
        let meters = Meters::new(Timestamp::UNIX_EPOCH);
        meters.scheduled();
        tokio::time::advance(Duration::from_mins(20)).await;
        assert_eq!(meters.stalled().len(), 1);
        meters.maintain(|| assert_eq!(meters.stalled().len(), 0));
        assert_eq!(meters.stalled().len(), 0, "and has its time anew");
    }

    #[test]
    fn counts_outlive_a_reload_and_go_with_their_sink() {
        let meters = Meters::new(Timestamp::UNIX_EPOCH);
        let sink = meters.sink("splunk", Duration::from_mins(10));
        sink.bytes.fetch_add(7, Relaxed);
        let again = meters.sink("splunk", Duration::from_mins(20));
        assert_eq!(again.bytes.load(Relaxed), 7);
        meters.poll("contoso", None);
        meters.poll("contoso", Some("throttled"));
        let polls = meters.polls();
        assert_eq!(polls["contoso"].polls, 2);
        assert_eq!(polls["contoso"].failures, BTreeMap::from([("throttled", 1)]));
        meters.retain(|_| false, |_| false);
        assert!(meters.polls().is_empty() && meters.sinks().is_empty());
    }
}
