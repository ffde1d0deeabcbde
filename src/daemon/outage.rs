//! How long a sink, or the polls of a tenant, have failed, so that one log line at the end of each
//! outage can report it.
//!
//! An operator often repairs a sink or a tenant with a reload or a restart, so neither may lose the
//! beginning of an outage: a reload keeps [`Outages`], and a start restores the outages that the
//! checkpoint contains. Start reading at [`Outages`].

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{TenantState, Tenants};
use crate::{
    checkpoint::StoredFailures,
    clock,
    config::{SinkPlan, TenantName},
    model::{SinkName, UnixMillis},
};

/// The sink or the tenant that fails, by its name in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OutageSubject {
    /// The deliveries to a sink.
    Sink(SinkName),
    /// The polls of a tenant.
    Tenant(String),
}

/// The outages that have not ended.
#[derive(Debug, Default)]
pub(super) struct Outages(Mutex<BTreeMap<OutageSubject, Outage>>);

/// A series of failures.
#[derive(Clone, Copy, Debug)]
struct Outage {
    /// The first failure, or the start of the process if that is later.
    since: Instant,
    /// The time from the first failure to the start of the process.
    before_start: Duration,
    /// The first progress after the last failure.
    recovering_since: Option<Instant>,
    /// The progress after the last failure, in records or days.
    progress: u64,
}

/// The end of an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Recovery {
    /// The time from the first failure to the first progress after the last one.
    pub outage: Duration,
    /// The progress after the last failure: delivered records, or days that were read.
    pub progress: u64,
}

impl Outages {
    /// Records a failure. A failure during a recovery continues the outage.
    pub(super) fn begin(&self, subject: OutageSubject, now: Instant) {
        let mut outages = self.lock();
        let outage = outages.entry(subject).or_insert_with(|| Outage::since(now, Duration::ZERO));
        *outage = Outage::since(outage.since, outage.before_start);
    }

    /// Continues the stored outages of these tenants and sinks. Called once, when the process
    /// starts.
    pub(super) fn restore_all<'a>(
        &self,
        stored: &StoredFailures,
        tenants: &Tenants,
        sinks: impl Iterator<Item = &'a SinkPlan>,
    ) {
        let now = UnixMillis::from(clock::now());
        let restore = |subject, since: UnixMillis| {
            let age = now.saturating_duration_since(since);
            self.restore(subject, age, Instant::now());
        };

        let failing_since = |state: &TenantState| match (state.resolved(), &state.plan.id) {
            (Some(tenant), _) => stored.tenants.get(&tenant.id).copied(),
            (None, TenantName::Domain(domain)) => stored.domains.get(domain).copied(),
            (None, TenantName::Guid(_)) => None,
        };
        for state in tenants {
            if let Some(since) = failing_since(state) {
                restore(OutageSubject::Tenant(state.plan.name.clone()), since);
            }
        }
        for sink in sinks {
            if let Some(since) = stored.sinks.get(&sink.name) {
                restore(OutageSubject::Sink(sink.name.clone()), *since);
            }
        }
    }

    /// Continues an outage that began before the start of the process. `age` is the time since its
    /// first failure.
    fn restore(&self, subject: OutageSubject, age: Duration, now: Instant) {
        self.lock().insert(subject, Outage::since(now, age));
    }

    /// Records progress, which counts only during an outage.
    pub(super) fn advance(&self, subject: &OutageSubject, progress: u64, now: Instant) {
        if let Some(outage) = self.lock().get_mut(subject) {
            outage.recovering_since.get_or_insert(now);
            outage.progress += progress;
        }
    }

    /// Ends an outage. Returns `None` if there is none.
    pub(super) fn end(&self, subject: &OutageSubject, now: Instant) -> Option<Recovery> {
        let ended = self.lock().remove(subject)?;
        let end = ended.recovering_since.unwrap_or(now);
        let outage = ended.before_start + end.duration_since(ended.since);
        Some(Recovery { outage, progress: ended.progress })
    }

    /// Removes the outages of tenants and sinks for which the predicates return `false`.
    pub(super) fn retain(&self, tenant: impl Fn(&str) -> bool, sink: impl Fn(&SinkName) -> bool) {
        self.lock().retain(|subject, _| match subject {
            OutageSubject::Sink(name) => sink(name),
            OutageSubject::Tenant(name) => tenant(name),
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<OutageSubject, Outage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outage {
    /// An outage without progress.
    fn since(since: Instant, before_start: Duration) -> Self {
        Self { since, before_start, recovering_since: None, progress: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink() -> OutageSubject {
        OutageSubject::Sink("splunk".into())
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_ends_with_the_first_progress() {
        let (outages, start) = (Outages::default(), Instant::now());
        outages.begin(sink(), start);
        outages.begin(sink(), after(start, 600));
        outages.advance(&sink(), 100, after(start, 750));
        outages.advance(&sink(), 18, after(start, 760));

        let recovery = Recovery { outage: Duration::from_secs(750), progress: 118 };
        assert_eq!(outages.end(&sink(), after(start, 800)), Some(recovery));
        assert_eq!(outages.end(&sink(), after(start, 900)), None, "each outage ends once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_during_a_recovery_continues_the_outage() {
        let (outages, start) = (Outages::default(), Instant::now());
        outages.advance(&sink(), 5, start);
        assert_eq!(outages.end(&sink(), start), None, "there was no failure");

        outages.begin(sink(), start);
        outages.advance(&sink(), 100, after(start, 10));
        outages.begin(sink(), after(start, 20));
        let recovery = Recovery { outage: Duration::from_secs(30), progress: 0 };
        assert_eq!(outages.end(&sink(), after(start, 30)), Some(recovery));
    }

    /// Regression: a restart during an outage lost its beginning.
    #[tokio::test(start_paused = true)]
    async fn a_restored_outage_includes_the_time_before() {
        let (outages, start) = (Outages::default(), Instant::now());
        outages.restore(sink(), Duration::from_hours(1), start);
        outages.begin(sink(), after(start, 10));
        outages.advance(&sink(), 1_200, after(start, 60));

        let recovery = Recovery { outage: Duration::from_mins(61), progress: 1_200 };
        assert_eq!(outages.end(&sink(), after(start, 70)), Some(recovery));

        outages.begin(sink(), after(start, 80));
        let recovery = Recovery { outage: Duration::from_secs(5), progress: 0 };
        assert_eq!(outages.end(&sink(), after(start, 85)), Some(recovery), "another outage");
    }

    #[tokio::test(start_paused = true)]
    async fn removed_sinks_and_tenants_are_forgotten() {
        let (outages, start) = (Outages::default(), Instant::now());
        let tenant = OutageSubject::Tenant("splunk".to_owned());
        outages.begin(sink(), start);
        outages.begin(tenant.clone(), start);

        outages.retain(|name| name == "splunk", |_| false);
        assert_eq!(outages.end(&sink(), start), None);
        assert!(outages.end(&tenant, start).is_some());
    }
}
