//! Polls during which the process was killed, for example because its memory was exhausted.
//!
//! The next process starts immediately, and the same response could exhaust its memory again, so
//! that no other tenant would be polled. A scheduled poll of such a tenant therefore waits as after
//! a failure, and its condition explains why; a poll that an operator requests does not wait. Start
//! reading at [`RunningPoll`] and [`Collector::record_interrupted_polls`]. See decision 0063.

use jiff::Timestamp;
use tokio::time::Instant;

use super::Collector;
use crate::{
    checkpoint::{Checkpoint, CheckpointError, PollFailure},
    clock,
    daemon::{StoreExecutor, TenantState, outage::OutageSubject},
    error::Explanation,
    model::{Day, Observation, PollErrorClass, TenantId, UnixMillis},
};

/// A poll that the checkpoint lists as running. Dropping it removes it from the list, also if the
/// poll is aborted or has failed; a process that is killed drops nothing.
#[derive(Debug)]
pub(in crate::daemon) struct RunningPoll<'a> {
    store: &'a StoreExecutor,
    tenant: TenantId,
    /// Whether the transaction with the result of the poll has removed it from the list.
    is_committed: bool,
}

impl<'a> RunningPoll<'a> {
    /// Lists a poll that begins. A failure is only logged: it does not prevent the poll.
    pub(in crate::daemon) fn begin(store: &'a StoreExecutor, tenant: TenantId) -> Self {
        let now = clock::now();
        log_failure(store.run(|checkpoint| checkpoint.begin_poll(tenant, now.into())));
        Self { store, tenant, is_committed: false }
    }

    /// The result of the poll is committed.
    pub(in crate::daemon) fn committed(mut self) {
        self.is_committed = true;
    }
}

impl Drop for RunningPoll<'_> {
    fn drop(&mut self) {
        if !self.is_committed {
            // An aborted poll ends on a thread of the runtime, like any other.
            log_failure(self.store.run(|checkpoint| checkpoint.abandon_poll(self.tenant)));
        }
    }
}

fn log_failure(stored: Result<(), CheckpointError>) {
    if let Err(error) = stored {
        let error = Explanation::of(&error);
        tracing::warn!(
            error = error.message,
            hint = error.hint,
            "cannot store in the checkpoint which tenant is being polled"
        );
    }
}

impl Collector {
    /// Records a failure for each tenant during whose poll the previous process was killed, and
    /// delays its next scheduled poll. Called when the daemon starts to poll; a process that ends
    /// in order leaves no running polls.
    pub(in crate::daemon) fn record_interrupted_polls(&self) {
        let now = clock::now();
        let recorded = self.store.run(|checkpoint| {
            let mut all = Ok(());
            for id in checkpoint.running_polls()? {
                let recorded = match self.tenants.with_id(id) {
                    Some(state) => self.record_interrupted_poll(checkpoint, state, id, now),
                    // The tenant is not configured anymore.
                    None => checkpoint.abandon_poll(id),
                };
                // A damaged row of one tenant must not affect the others.
                all = all.and(recorded);
            }
            all
        });

        if let Err(error) = recorded {
            let error = Explanation::of(&error);
            tracing::warn!(
                error = error.message,
                hint = error.hint,
                "cannot record in the checkpoint which polls were interrupted"
            );
        }
    }

    fn record_interrupted_poll(
        &self,
        checkpoint: &Checkpoint,
        state: &TenantState,
        tenant: TenantId,
        now: Timestamp,
    ) -> Result<(), CheckpointError> {
        let reason = reason();
        let class = PollErrorClass::Interrupted;
        let observation = Observation::of_failed_poll(class, Day::of(now), &reason);
        let failure = PollFailure {
            at: now.into(),
            reason: &reason,
            class,
            observation: &observation,
            not_before: checkpoint.poll_state(tenant)?.not_before,
        };
        self.log.notify(checkpoint.record_poll_failure(tenant, &failure)?);

        let polled = checkpoint.poll_state(tenant)?.polled;
        let retry_at = self.configuration.schedule.retry_at(&polled);
        if let Some(time) = retry_at {
            let wait = UnixMillis::from(time).saturating_duration_since(now.into());
            state.delay_poll(wait);
        }
        let name = &state.plan.name;
        self.meters.outages.begin(OutageSubject::Tenant(name.clone()), Instant::now());
        tracing::warn!(
            tenant = name,
            error = reason.message,
            hint = reason.hint,
            retry_at = retry_at.map(tracing::field::display),
            "the next poll of the tenant is delayed"
        );
        Ok(())
    }
}

fn reason() -> Explanation {
    let message =
        "the process was killed during the last poll, possibly because its memory was exhausted";
    let hint = "search the log of the kernel for `oom-kill`; if the data of the tenant is genuine, increase the memory limit of the service";
    Explanation::new(message).with_hint(hint)
}
