//! How long a sink, or the polls of a tenant, have failed, so that one log line at the end of each
//! outage can report it. Everything here is in memory and survives a reload, because a reload is
//! often what ends an outage. Start reading at [`Outages`].

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// What has an outage. The names are those of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum OutageSubject {
    /// The deliveries to a sink.
    Sink(String),
    /// The polls of a tenant.
    Tenant(String),
}

/// The outages that have not ended.
#[derive(Debug, Default)]
pub(super) struct Outages(Mutex<BTreeMap<OutageSubject, Outage>>);

/// A series of failures.
#[derive(Clone, Copy, Debug)]
struct Outage {
    /// The first failure.
    since: Instant,
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
        let since = self.lock().get(&subject).map_or(now, |outage| outage.since);
        let outage = Outage { since, recovering_since: None, progress: 0 };
        self.lock().insert(subject, outage);
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
        let Outage { since, recovering_since, progress } = self.lock().remove(subject)?;
        let outage = recovering_since.unwrap_or(now).duration_since(since);
        Some(Recovery { outage, progress })
    }

    /// Removes the outages of tenants and sinks for which the predicates return `false`.
    pub(super) fn retain(&self, tenant: impl Fn(&str) -> bool, sink: impl Fn(&str) -> bool) {
        self.lock().retain(|subject, _| match subject {
            OutageSubject::Sink(name) => sink(name),
            OutageSubject::Tenant(name) => tenant(name),
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<OutageSubject, Outage>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink() -> OutageSubject {
        OutageSubject::Sink("splunk".to_owned())
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
