//! The terms of the glossary as types: tenant, day, snapshot, control, catalog, facts, record.
//!
//! This module is pure: it performs no I/O, reads no clock and parses no JSON. [`crate::wire`]
//! fills these types from Microsoft's JSON, and [`crate::format`] writes records in the format of a
//! sink. Start reading at [`Snapshot`], [`DayFacts`] and [`Record`].

mod baseline;
mod catalog;
mod change;
mod day;
mod facts;
mod identity;
mod number;
mod observation;
mod poll;
mod record;
mod rejected_configuration;
mod snapshot;
mod tenant;
mod time;

pub use baseline::Baseline;
pub use catalog::{Catalog, Profile, ProfileSlot, StateUpdate};
pub use change::{
    Acceptance, Cause, Change, ChangeKind, ChangeRecord, ControlState, DriftFrom, ExpectedBy,
    QualityRecord, Severity, Target, accepts_risk,
};
pub use day::Day;
pub use facts::{AverageFacts, ControlFacts, DayFacts, FactsComparison, KeptDay, compare};
pub use identity::{EventId, EventIds, Field, Subject, day_hash};
pub use number::Number;
pub(crate) use number::write_integer;
pub use observation::{Observation, ObservationKind, OpenObservation, Phase};
pub use poll::{PollErrorClass, Polled};
pub use record::{
    Body, ControlOutcome, ControlRecord, Kind, MaxScoreSource, Record, SCHEMA, SnapshotRef,
    SummaryRecord,
};
pub use rejected_configuration::RejectedConfiguration;
pub use snapshot::{Additional, Average, ControlScore, Snapshot};
pub use tenant::{Tenant, TenantId, TenantIdError};
pub use time::{UnixMillis, short_duration};
