//! The library behind the `secure-score-forwarder` binary. `docs/explanation/architecture.md`
//! describes the modules and the permitted dependencies between them.

#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests may block, read clocks and use std::fs")
)]

pub mod admin;
pub mod checkpoint;
pub mod cli;
pub mod clock;
pub mod compressed;
pub mod conditions;
pub mod config;
pub mod daemon;
pub mod derive;
pub mod error;
pub mod files;
pub mod foreign_text;
pub mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod ledger;
pub mod model;
pub mod net;
pub mod report;
pub mod schedule;
pub mod settings;
pub mod sink;
pub mod source;
pub mod state_directory;
pub mod telemetry;
pub mod text;
pub mod wire;
