//! Retries and discards dead letters, and shows the record of one. Both requests only change the
//! checkpoint: the deliverers send what is queued. Start reading at `Engine::retry_dead_letters`.

use std::sync::Arc;

use super::{
    DeliveryError, Engine,
    deliverer::{Catalogs, DeadLetterContext, derive_dead_letter},
    sampler::formatter,
};
use crate::{
    checkpoint::{Checkpoint, CheckpointError, DeadLetterKey, QueuedDeadLetter},
    clock,
    config::{SinkPlan, TenantPlan},
    model::Tenant,
    source::Clients,
};

/// The record of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadLetterRecord {
    /// The text that the sink would send, without the envelope of its protocol.
    Text(String),
    /// The reason why the record no longer exists.
    Absent(&'static str),
}

impl Engine {
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
}

/// Derives the record of a dead letter as its sink would send it now.
///
/// # Errors
///
/// Fails if the checkpoint cannot be read, or if the entry of the record cannot be decoded.
pub fn dead_letter_record(
    checkpoint: &Checkpoint,
    plan: &SinkPlan,
    (tenant_plan, tenant): (&TenantPlan, &Tenant),
    letter: &QueuedDeadLetter,
    clients: &Arc<Clients>,
) -> Result<DeadLetterRecord, DeliveryError> {
    let mut formatter = formatter(plan, clients);
    let context = DeadLetterContext {
        checkpoint,
        tenant,
        rules: &tenant_plan.rules,
        selection: &plan.selection,
    };

    derive_dead_letter(&context, &mut Catalogs::default(), letter, |record| match record {
        Ok(record) => {
            let mut text = Vec::new();
            formatter.write(record, &mut text);
            DeadLetterRecord::Text(String::from_utf8_lossy(&text).into_owned())
        }
        Err(reason) => DeadLetterRecord::Absent(reason),
    })
}
