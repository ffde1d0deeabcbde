//! Shows the record of a dead letter as its sink would send it now. Nothing is sent or changed.
//! Start reading at [`dead_letter_record`].

use std::sync::Arc;

use super::{
    DeliveryError,
    deliverer::{Catalogs, DeadLetterContext, derive_dead_letter},
    sampler::formatter,
};
use crate::{
    checkpoint::{Checkpoint, QueuedDeadLetter},
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
