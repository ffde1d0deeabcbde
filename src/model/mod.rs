//! The words of the house as types: tenant, snapshot, control, catalog, facts, record.
//!
//! Pure. No I/O, no clock, no tokio, and no knowledge of anybody's JSON: [`crate::wire`] fills
//! these types, [`crate::format`] writes them.

mod baseline;
mod catalog;
mod change;
mod day;
mod facts;
mod identity;
mod number;
mod observation;
mod record;
mod snapshot;
mod tenant;

pub use baseline::Baseline;
pub use catalog::{Catalog, Profile, ProfileSlot, StateUpdate};
pub use change::{
    Acceptance, Cause, Change, ChangeKind, ChangeRecord, DriftFrom, ExpectedBy, QualityRecord,
    Severity, Side, Target, accepts_risk,
};
pub use day::Day;
pub use facts::{AverageFacts, Comparison, ControlFacts, DayFacts, KeptDay, compare};
pub use identity::{EventId, EventIds, Field, Subject, day_digest};
pub use number::Number;
pub(crate) use number::write_integer;
pub use observation::{Observation, Phase, What};
pub use record::{
    Body, ControlRecord, Kind, MaxScoreSource, Outcome, Record, SCHEMA, SnapshotRef, SummaryRecord,
};
pub use snapshot::{Additional, Average, ControlScore, Snapshot};
pub use tenant::{Tenant, TenantId, TenantIdError};
