//! Continues the delivery to a sink after a panic of its deliverer.
//!
//! All state of a deliverer can be lost, so another one continues at the cursors. A tenant whose
//! log was being read is then a suspect: its data may have caused the panic, so it is read again
//! only when everything else is settled. Otherwise, the records of one tenant could prevent the
//! delivery for all others. Start reading at [`supervise`]. See decision 0062.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Deliverer, DeliveryError, MAX_BACKOFF, RetryBudget, RetryCause, RetryLimit, Shutdown};
use crate::{
    config::SinkPlan,
    daemon::{CaughtPanic, ContainedTask, Engine, contain, report_panic},
    model::TenantId,
};

/// The suspects of one sink, which its deliverers share.
#[derive(Clone, Debug, Default)]
pub(super) struct Suspects(Arc<Mutex<SuspectList>>);

#[derive(Debug, Default)]
struct SuspectList {
    /// The tenant whose log is being read.
    reading: Option<TenantId>,
    /// The suspects that wait, in the order in which they are read.
    waiting: VecDeque<TenantId>,
    /// All tenants that have ever been suspects.
    known: HashSet<TenantId>,
}

/// Runs the deliverer of a sink until a shutdown is requested. After a panic, the failure is
/// recorded as every other one, and another deliverer continues after a backoff.
pub(in crate::daemon) async fn supervise(engine: Arc<Engine>, plan: SinkPlan, shutdown: Shutdown) {
    let suspects = Suspects::default();
    let create =
        || Deliverer { suspects: suspects.clone(), ..Deliverer::new(engine.clone(), plan.clone()) };
    let mut deliverer = create();
    let mut panics = RetryBudget::new(RetryLimit::Unlimited);

    loop {
        let started = Instant::now();
        let Err(panic) = contain(deliverer.run(shutdown.clone())).await else { return };
        suspects.accuse();
        deliverer = create();
        deliverer.record_panic(panic);

        // A panic after hours of work is not one of a series.
        if started.elapsed() > MAX_BACKOFF {
            panics.reset();
        }
        let wait = panics.wait_after(RetryCause::Lasting, fastrand::f64());
        tokio::select! {
            () = tokio::time::sleep(wait.unwrap_or(MAX_BACKOFF)) => {}
            () = shutdown.requested.cancelled() => return,
        }
    }
}

impl Deliverer {
    /// Delivers until nothing is left. Makes several attempts if the failures are transient. After
    /// a panic, delivers the records of all other tenants.
    pub async fn run_once(&mut self, cancel: &CancellationToken) -> Result<(), DeliveryError> {
        loop {
            let panic = match contain(self.attempt_delivery(cancel)).await {
                Ok(result) => return result,
                Err(panic) => panic,
            };

            let is_new = self.suspects.accuse();
            *self = self.successor();
            let error = self.record_panic(panic);
            if !is_new {
                return Err(error);
            }
        }
    }

    /// A deliverer that has nothing in common with this one except what it has counted.
    fn successor(&self) -> Self {
        Self {
            suspects: self.suspects.clone(),
            delivered: self.delivered,
            rejected: self.rejected,
            ..Self::new(self.engine.clone(), self.plan.clone())
        }
    }

    /// Records the panic of the previous deliverer as a failed attempt.
    fn record_panic(&self, panic: CaughtPanic) -> DeliveryError {
        let name = self.plan.name.as_str();
        report_panic(self.engine.meters(), ContainedTask::Sink, name, &panic);
        // The panic may have interrupted the writing of the second cursor file.
        self.engine.cursor_file().mark_moved();

        let error = DeliveryError::Panicked(panic);
        self.record_failure(&error);
        self.meter.idle();
        error
    }
}

impl Suspects {
    /// Notes the tenant whose log is read from now on.
    pub(super) fn begin(&self, tenant: TenantId) {
        self.lock().reading = Some(tenant);
    }

    /// Notes that no log is being read.
    pub(super) fn end(&self) {
        self.lock().reading = None;
    }

    /// Makes the tenant whose log was being read a suspect. Returns whether it is one for the first
    /// time; `false` if no log was being read.
    fn accuse(&self) -> bool {
        let list = &mut *self.lock();
        let Some(tenant) = list.reading.take() else { return false };
        list.waiting.retain(|waiting| *waiting != tenant);
        list.waiting.push_back(tenant);
        list.known.insert(tenant)
    }

    /// The suspects that wait until everything else is settled.
    pub(super) fn waiting(&self) -> HashSet<TenantId> {
        self.lock().waiting.iter().copied().collect()
    }

    /// The suspect to read next, which does not wait anymore.
    pub(super) fn take_next(&self) -> Option<TenantId> {
        self.lock().waiting.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, SuspectList> {
        // Nothing that can panic runs while the list is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(n: u8) -> TenantId {
        TenantId::parse(&format!("{n:02x}000000-0000-4000-8000-000000000000")).unwrap()
    }

    #[test]
    fn suspects_are_read_in_turn() {
        let suspects = Suspects::default();
        assert!(!suspects.accuse(), "no log was being read");

        for n in [1, 2] {
            suspects.begin(tenant(n));
            assert!(suspects.accuse());
        }
        suspects.begin(tenant(3));
        suspects.end();
        assert!(!suspects.accuse(), "the log was read completely");
        assert_eq!(suspects.waiting(), HashSet::from([tenant(1), tenant(2)]));

        let next = suspects.take_next().unwrap();
        assert_eq!(next, tenant(1));
        suspects.begin(next);
        assert!(!suspects.accuse(), "it has been a suspect before");
        assert_eq!(suspects.take_next(), Some(tenant(2)), "the other one is read first");
    }
}
