//! Changes the checkpoint for an operator: replays, dead letters, baselines, pruning and erasure.
//!
//! The control socket carries the commands to a daemon; without a daemon, the commands call the
//! same methods. They only change the checkpoint, and never poll or deliver: the deliverers send
//! what is queued. Polls and imports are in `collector`. Start reading at [`Operations`].

use std::sync::Arc;

use super::{
    LogSignal, Meters, ReplayError, ReplayExtent, ReplayRequest, RequestFailure, SinkConfiguration,
    StoreExecutor, TenantState, Tenants, prune, replay::replay_extent,
};
use crate::{
    checkpoint::{CheckpointError, DeadLetterKey, ErasureReceipt, Pruned},
    clock,
    config::Configuration,
    error::Explanation,
    model::{Baseline, Day, Seq, Tenant, TenantId},
};

/// The changes of the checkpoint that an operator can request under one configuration.
#[derive(Debug)]
pub struct Operations {
    configuration: Arc<Configuration>,
    store: StoreExecutor,
    meters: Arc<Meters>,
    tenants: Arc<Tenants>,
    sinks: Arc<SinkConfiguration>,
    log: Arc<LogSignal>,
}

impl Operations {
    pub(super) fn new(
        configuration: Arc<Configuration>,
        store: StoreExecutor,
        meters: Arc<Meters>,
        tenants: Arc<Tenants>,
        sinks: Arc<SinkConfiguration>,
        log: Arc<LogSignal>,
    ) -> Self {
        Self { configuration, store, meters, tenants, sinks, log }
    }

    /// Queues a replay and notifies the deliverers. Returns how much it sends.
    ///
    /// # Errors
    ///
    /// Fails if no such sink is configured, if the sink receives none of the tenants, or if the
    /// checkpoint cannot be written.
    pub fn replay(&self, request: &ReplayRequest) -> Result<ReplayExtent, ReplayError> {
        let plan = self.sinks.named(&request.sink);
        let plan = plan.ok_or_else(|| ReplayError::NoSink(request.sink.clone()))?;
        let (first, last) = (request.first_day, request.last_day);

        let selected = |state: &&Arc<TenantState>| {
            plan.tenants.matches(&state.plan) && request.selects(&state.plan)
        };
        let selected = self.tenants.iter().filter(selected);
        let tenants: Vec<Arc<Tenant>> = selected.filter_map(|state| state.resolved()).collect();
        request.check(&tenants)?;

        let extent = self.store.run(|checkpoint| {
            let (days, clients) = ((first, last), self.sinks.clients());
            let extent = replay_extent(checkpoint, plan, &tenants, days, clients)?;
            let ids: Vec<TenantId> = tenants.iter().map(|tenant| tenant.id).collect();
            checkpoint.add_replay(&plan.name, &ids, first, last, clock::now().into())?;
            Ok::<_, CheckpointError>(extent)
        })?;
        self.log.notify_all();
        Ok(extent)
    }

    /// Queues dead letters for a retry and notifies the deliverers. Returns how many of them exist.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the checkpoint cannot be written.
    pub fn retry_dead_letters(&self, keys: &[DeadLetterKey]) -> Result<u64, CheckpointError> {
        let queued = self.store.run(|checkpoint| checkpoint.retry_dead_letters(keys))?;
        self.log.notify_all();
        Ok(queued)
    }

    /// Discards dead letters, which the other sinks are notified of. Returns how many of them
    /// existed.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the checkpoint cannot be written.
    pub fn discard_dead_letters(&self, keys: &[DeadLetterKey]) -> Result<u64, CheckpointError> {
        let now = clock::now().into();
        let (discarded, growth) =
            self.store.run(|checkpoint| checkpoint.discard_dead_letters(keys, now))?;
        self.log.notify(growth);
        Ok(discarded)
    }

    /// Sets the baseline that all later entries of a tenant are compared with.
    ///
    /// # Errors
    ///
    /// Fails if the tenant is not configured or not resolved, if a target is invalid, or if the
    /// checkpoint cannot be written.
    pub fn set_baseline(
        &self,
        tenant: &str,
        name: &str,
        day: Option<Day>,
        targets: &str,
    ) -> Result<(), RequestFailure> {
        let resolved = self.tenants.named(tenant).and_then(TenantState::resolved);
        let resolved = resolved.ok_or_else(|| RequestFailure::unknown_tenant(tenant))?;
        let targets = Baseline::parse_targets(targets)
            .map_err(|line| RequestFailure::invalid(format!("invalid target in line {line}")))?;

        let baseline = Baseline { name: name.to_owned(), day, since: Seq::ZERO, targets };
        let now = clock::now().into();
        self.store.run(|checkpoint| checkpoint.set_baseline(resolved.id, &baseline, now))?;
        Ok(())
    }

    /// Prunes bodies now, as [`prune`] does.
    pub(super) fn prune(&self) -> Result<Pruned, CheckpointError> {
        self.store.run(|checkpoint| prune(&self.configuration, checkpoint))
    }

    /// Prunes bodies as [`prune`] does, at most once per day, and logs the result. Does nothing
    /// until a poll has confirmed the clock.
    pub(super) fn prune_daily(&self) {
        if !self.meters.clock.is_confirmed() {
            return;
        }
        let today = Day::of(clock::now());
        let pruned = self.store.run(|checkpoint| {
            // The cursors of removed sinks protect unsent bodies until they are deleted.
            self.sinks.delete_expired()?;
            if checkpoint.last_prune_day()? == Some(today) {
                return Ok(Pruned::default());
            }
            let pruned = prune(&self.configuration, checkpoint)?;
            checkpoint.set_last_prune_day(today)?;
            Ok::<_, CheckpointError>(pruned)
        });

        match pruned {
            Ok(Pruned { days: 0, .. }) => {}
            Ok(Pruned { days, used_bytes: used }) => {
                tracing::info!(days, used_bytes = used, "pruned the bodies of old days");
            }
            Err(error) => {
                let error = Explanation::of(&error);
                tracing::error!(
                    error = error.message,
                    hint = error.hint,
                    "cannot prune the bodies of old days"
                );
            }
        }
    }

    /// Erases a tenant, and returns what was erased; `None` if the checkpoint does not contain it.
    ///
    /// Fails if the tenant is still configured, or if the checkpoint cannot be written.
    pub(super) fn forget(
        &self,
        tenant: TenantId,
    ) -> Result<Option<ErasureReceipt>, RequestFailure> {
        if self.tenants.with_id(tenant).is_some() {
            let error = Explanation::new("the running configuration still contains the tenant");
            let hint = "remove it from the configuration and run `reload`";
            return Err(RequestFailure::invalid(error.with_hint(hint)));
        }

        let now = clock::now().into();
        let forgotten = self
            .store
            .run(|checkpoint| self.meters.run_maintenance(|| checkpoint.forget(tenant, now)))?;
        Ok(forgotten)
    }
}
