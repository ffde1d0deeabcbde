//! Integration tests: the binary runs as a process, against the simulated tenant and real
//! receivers. Start reading at `support`.

#![expect(
    clippy::disallowed_methods,
    reason = "tests wait for processes, bounded by the wall clock"
)]
#![allow(
    unreachable_pub,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::result_large_err
)]

mod admin;
mod api;
mod attacks;
mod auth;
mod certificates;
mod changes;
mod check;
mod clock;
mod completions;
mod configuration;
mod connections;
mod contract;
mod crash;
mod cursor_updates;
mod daemon;
mod data;
mod dead_letters;
#[cfg(feature = "email")]
mod email;
mod exactly_once;
mod exit_codes;
mod fetch;
mod formats;
mod hec;
mod import;
mod init;
mod kafka;
mod login;
mod logs;
mod lost_controls;
mod manual;
mod matrix;
mod monitoring;
mod notifications;
#[cfg(feature = "object_store")]
mod objects;
mod paging;
mod partial;
mod pipeline;
mod poll;
mod queued_commands;
mod readers;
mod reference;
mod reload;
mod relp;
mod removed_sinks;
mod replay;
mod report;
mod retention;
mod selection;
mod siem;
mod soak;
mod state;
mod storage;
mod support;
mod syslog;
mod targets;
mod throttling;
mod untidy_inputs;
mod version;
mod web;
