//! The receivers under test, each behind a [`FaultyProxy`] if it is reached over a connection.

#[cfg(feature = "email")]
mod email;
mod files;
mod kafka;
#[cfg(feature = "object_store")]
mod objects;
mod splunk;
mod syslog;
mod web;

#[cfg(feature = "email")]
pub use email::email;
pub use files::{file, stdout};
pub use kafka::{kafka, kafka_at_least_once};
#[cfg(feature = "object_store")]
pub use objects::{azure_blob, s3};
pub use splunk::{hec, hec_acknowledged, hec_collector, hec_collector_acknowledged};
pub use syslog::{syslog_relp, syslog_relps, syslog_tcp, syslog_tls, syslog_udp, syslog_unix};
pub use web::{chat_slack, chat_teams, chat_template, elasticsearch, http, otlp, sentinel};

use super::{Receiver, SinkCase};
use crate::support::{Workspace, faulty_proxy::FaultyProxy};

/// A case with the strongest guarantees: in order, without loss and without repeats.
fn case(row: &'static str, kind: &'static str, receiver: fn() -> Box<dyn Receiver>) -> SinkCase {
    SinkCase {
        row,
        kind,
        receiver,
        ordered: true,
        lossy: false,
        repeats_per_kill: 0,
        repeats_per_cut: 0,
    }
}

/// The event IDs of all records in a text that contains their canonical JSON.
fn ids_in(text: &str) -> Vec<String> {
    text.split("\"event_id\":\"")
        .skip(1)
        .filter_map(|rest| rest.get(..40))
        .map(str::to_owned)
        .collect()
}

fn port_of(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
}
