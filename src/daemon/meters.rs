//! Counters of this process, and the times at which its loops last made progress.
//!
//! The watchdog, the health endpoints and the metrics read them. They survive a reload; everything
//! that must survive a restart is in the checkpoint.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{ContainedTask, host_clock::HostClock, outage::Outages, storage_watch::StorageHealth};
use crate::model::{PollErrorClass, SinkName};

/// The counters and heartbeats of all loops. Reading them never waits for the checkpoint, so the
/// watchdog can do so at any time.
#[derive(Debug)]
pub struct Meters {
    /// The wall-clock time at which the process started.
    pub started: Timestamp,
    started_at: Instant,
    scheduler: Heartbeat,
    /// The number of running calls of [`Self::run_maintenance`]. No loop counts as stalled during
    /// such a call.
    maintenance: AtomicU64,
    tenants: Mutex<BTreeMap<String, PollCounts>>,
    sinks: Mutex<BTreeMap<SinkName, Arc<SinkMeter>>>,
    panics: Mutex<BTreeMap<ContainedTask, u64>>,
    /// The outages that have not ended.
    pub(super) outages: Outages,
    /// What polls have found out about the clock of this host.
    pub(super) clock: HostClock,
    /// Whether the checkpoint can be written.
    pub(super) storage: StorageHealth,
}

/// The polls of one tenant since the start of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PollCounts {
    /// All polls, including those that failed.
    pub polls: u64,
    /// Failed polls by the class of their error.
    pub failures: BTreeMap<PollErrorClass, u64>,
}

/// The counters of one sink since the start of the process.
#[derive(Debug)]
pub struct SinkMeter {
    /// Batches that were settled, without empty ones.
    pub batches: AtomicU64,
    /// Bytes of the batches before compression.
    pub bytes: AtomicU64,
    /// Failed attempts to deliver.
    pub retries: AtomicU64,
    parked_targets: Mutex<Vec<String>>,
    heartbeat: Heartbeat,
    /// The longest time that a batch may take by the sink's own limits; see `Plan::timeout`.
    batch_limit: Duration,
}

/// Ends a call of [`Meters::run_maintenance`], also if its work panics: otherwise, no loop would
/// ever count as stalled again.
struct MaintenanceGuard<'a>(&'a Meters);

/// When a loop last made progress, in milliseconds since the start of the process plus one; 0 while
/// the loop is idle.
#[derive(Debug, Default)]
struct Heartbeat(AtomicU64);

/// The scheduler runs every minute; after this time without a run it is stalled.
const SCHEDULER_LIMIT: Duration = Duration::from_mins(5);

impl Meters {
    /// Meters without counts. `now` is the wall-clock time of the start.
    pub fn new(now: Timestamp) -> Self {
        Self {
            started: now,
            started_at: Instant::now(),
            scheduler: Heartbeat::default(),
            maintenance: AtomicU64::new(0),
            tenants: Mutex::default(),
            sinks: Mutex::default(),
            panics: Mutex::default(),
            outages: Outages::default(),
            clock: HostClock::default(),
            storage: StorageHealth::default(),
        }
    }

    /// Counts a poll, and its failure if it failed, by class.
    pub(super) fn poll(&self, tenant: &str, failure: Option<PollErrorClass>) {
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

    /// The polls of the tenant with this name.
    pub fn polls_of(&self, tenant: &str) -> PollCounts {
        let tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.get(tenant).cloned().unwrap_or_default()
    }

    /// A meter for the deliverer of a sink. Continues the counts of the sink's previous meter.
    pub(super) fn sink(&self, name: &SinkName, batch_limit: Duration) -> Arc<SinkMeter> {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        let previous = sinks.get(name);
        let continued = |counter: fn(&SinkMeter) -> &AtomicU64| {
            AtomicU64::new(previous.map_or(0, |meter| counter(meter).load(Relaxed)))
        };

        let meter = Arc::new(SinkMeter {
            batches: continued(|meter| &meter.batches),
            bytes: continued(|meter| &meter.bytes),
            retries: continued(|meter| &meter.retries),
            parked_targets: Mutex::default(),
            heartbeat: Heartbeat::default(),
            batch_limit,
        });
        sinks.insert(name.clone(), Arc::clone(&meter));
        meter
    }

    /// The meters of all sinks by name.
    pub fn sinks(&self) -> BTreeMap<SinkName, Arc<SinkMeter>> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a panic that was contained.
    pub fn count_panic(&self, task: ContainedTask) {
        let mut panics = self.panics.lock().unwrap_or_else(PoisonError::into_inner);
        *panics.entry(task).or_default() += 1;
    }

    /// The contained panics since the start of the process.
    pub fn panics(&self, task: ContainedTask) -> u64 {
        let panics = self.panics.lock().unwrap_or_else(PoisonError::into_inner);
        panics.get(&task).copied().unwrap_or_default()
    }

    /// Removes the counts of tenants and sinks for which the predicates return `false`.
    pub(super) fn retain(&self, tenant: impl Fn(&str) -> bool, sink: impl Fn(&SinkName) -> bool) {
        self.outages.retain(&tenant, &sink);
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        tenants.retain(|name, _| tenant(name));
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        sinks.retain(|name, _| sink(name));
    }

    /// Records progress of the scheduler.
    pub(super) fn scheduler_progress(&self) {
        self.scheduler.beat(self.started_at.elapsed());
    }

    /// Runs work that blocks all users of the checkpoint, such as rewriting the database. No loop
    /// counts as stalled until it returns; the timer of every active loop then restarts.
    pub(super) fn run_maintenance<T>(&self, work: impl FnOnce() -> T) -> T {
        self.maintenance.fetch_add(1, Relaxed);
        let _ended = MaintenanceGuard(self);
        work()
    }

    /// Records progress of a sink's deliverer.
    pub(super) fn progress(&self, sink: &SinkMeter) {
        sink.heartbeat.beat(self.started_at.elapsed());
    }

    /// Describes each loop that should have made progress and has not. A loop that waits within its
    /// limits is not stalled: systemd restarts the daemon if the watchdog is not notified.
    pub fn stalled(&self) -> Vec<String> {
        let now = self.started_at.elapsed();
        let mut stalled = Vec::new();
        if self.maintenance.load(Relaxed) > 0 {
            return stalled;
        }

        if self.scheduler.is_older(now, SCHEDULER_LIMIT) {
            let limit = SCHEDULER_LIMIT.as_secs() / 60;
            stalled.push(format!("the scheduler has not run for {limit} minutes"));
        }
        for (name, meter) in self.sinks() {
            if meter.heartbeat.is_older(now, meter.batch_limit) {
                let limit = meter.batch_limit.as_secs();
                stalled.push(format!("sink `{name}` has spent more than {limit} s on one batch"));
            }
        }
        stalled
    }
}

impl Drop for MaintenanceGuard<'_> {
    fn drop(&mut self) {
        let Self(meters) = self;
        meters.scheduler_progress();
        for meter in meters.sinks().values().filter(|meter| meter.heartbeat.is_active()) {
            meters.progress(meter);
        }
        meters.maintenance.fetch_sub(1, Relaxed);
    }
}

impl SinkMeter {
    /// The names of the parked targets, such as indices that the receiver refuses, and of the
    /// withheld tenants.
    pub fn parked_targets(&self) -> Vec<String> {
        self.parked_targets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the names of the parked targets.
    pub(super) fn set_parked_targets(&self, names: Vec<String>) {
        *self.parked_targets.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// Records that the deliverer is idle: it waits for new entries, or for its next attempt. An
    /// idle deliverer is never stalled.
    pub(super) fn idle(&self) {
        self.heartbeat.stop();
    }
}

impl Heartbeat {
    fn beat(&self, age: Duration) {
        self.0.store(u64::try_from(age.as_millis()).map_or(u64::MAX, |ms| ms + 1), Relaxed);
    }

    fn stop(&self) {
        self.0.store(0, Relaxed);
    }

    fn is_active(&self) -> bool {
        self.0.load(Relaxed) > 0
    }

    fn is_older(&self, now: Duration, limit: Duration) -> bool {
        match self.0.load(Relaxed) {
            0 => false,
            beat => now.saturating_sub(Duration::from_millis(beat - 1)) > limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::contained;

    #[tokio::test(start_paused = true)]
    async fn only_a_working_loop_can_stall() {
        let meters = Meters::new(Timestamp::UNIX_EPOCH);
        let sink = meters.sink(&"splunk".into(), Duration::from_mins(10));
        meters.scheduler_progress();
        tokio::time::advance(Duration::from_mins(4)).await;
        assert_eq!(meters.stalled(), Vec::<String>::new());

        meters.progress(&sink);
        tokio::time::advance(Duration::from_mins(9)).await;
        assert_eq!(meters.stalled(), ["the scheduler has not run for 5 minutes"]);

        meters.scheduler_progress();
        meters.progress(&sink);
        tokio::time::advance(Duration::from_mins(11)).await;
        meters.scheduler_progress();
        assert_eq!(meters.stalled(), ["sink `splunk` has spent more than 600 s on one batch"]);

        sink.idle();
        assert_eq!(meters.stalled(), Vec::<String>::new());

        meters.progress(&sink);
        tokio::time::advance(Duration::from_mins(11)).await;
        meters.scheduler_progress();
        assert_eq!(meters.stalled().len(), 1, "the next attempt can stall");

        meters.progress(&sink);
        assert_eq!(meters.stalled(), Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_stalls_during_maintenance() {
        let meters = Meters::new(Timestamp::UNIX_EPOCH);
        meters.scheduler_progress();
        tokio::time::advance(Duration::from_mins(20)).await;
        assert_eq!(meters.stalled().len(), 1);
        meters.run_maintenance(|| assert_eq!(meters.stalled().len(), 0));
        assert_eq!(meters.stalled().len(), 0, "the time of the scheduler starts again");

        let panic = contained::<()>(|| meters.run_maintenance(|| panic!("interrupted")));
        assert!(panic.is_err());
        tokio::time::advance(Duration::from_mins(20)).await;
        assert_eq!(meters.stalled().len(), 1, "the maintenance has ended");
    }

    #[test]
    fn counts_survive_a_reload_until_removed() {
        let meters = Meters::new(Timestamp::UNIX_EPOCH);
        let sink = meters.sink(&"splunk".into(), Duration::from_mins(10));
        sink.bytes.fetch_add(7, Relaxed);
        let reloaded = meters.sink(&"splunk".into(), Duration::from_mins(20));
        assert_eq!(reloaded.bytes.load(Relaxed), 7);

        meters.poll("contoso", None);
        meters.poll("contoso", Some(PollErrorClass::Throttled));
        let failures = BTreeMap::from([(PollErrorClass::Throttled, 1)]);
        assert_eq!(meters.polls_of("contoso"), PollCounts { polls: 2, failures });

        meters.retain(|_| false, |_| false);
        assert_eq!(meters.polls_of("contoso"), PollCounts::default());
        assert!(meters.sinks().is_empty());
    }
}
