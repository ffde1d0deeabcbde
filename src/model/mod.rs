//! The terms of the glossary as types: tenant, day, snapshot, control, catalog, facts, record.
//!
//! This module is pure: it performs no I/O, reads no clock and parses no JSON. [`crate::wire`]
//! fills these types from Microsoft's JSON, and [`crate::format`] writes records in the format of a
//! sink. Start reading at [`Snapshot`], [`DayFacts`] and [`Record`].

mod baseline;
mod catalog;
mod change;
mod checkpoint_id;
mod clock_offset;
mod data_faults;
mod day;
mod decision_state;
mod facts;
mod hexadecimal;
mod identity;
mod number;
mod observation;
mod observation_subject;
mod poll;
mod record;
mod rejected_configuration;
mod seq;
mod sink_name;
mod snapshot;
mod tenant;
mod time;

pub use baseline::Baseline;
pub use catalog::{Catalog, Profile, ProfileSlot, StateUpdate};
pub use change::{
    Acceptance, Cause, Change, ChangeKind, ChangeRecord, ControlState, DriftFrom, ExpectedBy,
    QualityRecord, Severity, Target, accepts_risk,
};
pub use checkpoint_id::CheckpointId;
pub use clock_offset::{CLOCK_HINT, ClockAccuracy, ClockDifference, ClockOffset};
pub use data_faults::DataFaults;
pub use day::{DAYS_AT_SOURCE, Day};
pub use decision_state::DecisionState;
pub use facts::{AverageFacts, ControlFacts, DayFacts, FactsComparison, KeptDay, compare};
pub use hexadecimal::{hex, parse_hex};
pub use identity::{EventId, EventIds, Field, Subject, day_hash};
pub use number::Number;
pub(crate) use number::write_integer;
pub use observation::{
    AcceptedData, Observation, ObservationKind, OpenObservation, Phase, RejectedSnapshots,
};
pub use observation_subject::ObservationSubject;
pub use poll::{PollErrorClass, Polled, REREAD_DAYS};
pub use record::{
    Body, ControlOutcome, ControlRecord, Kind, MaxScoreSource, Record, SCHEMA, SnapshotRef,
    SummaryRecord,
};
pub use rejected_configuration::RejectedConfiguration;
pub use seq::Seq;
pub use sink_name::SinkName;
pub use snapshot::{Additional, Average, ControlList, ControlScore, Snapshot};
pub use tenant::{Tenant, TenantId, TenantIdError};
pub use time::{CLOCK_TOLERANCE, UnixMillis, short_duration};
