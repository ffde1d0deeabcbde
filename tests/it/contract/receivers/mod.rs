//! The receivers, each behind a line where it is reached by one.

mod files;
mod kafka;
#[cfg(feature = "object_store")]
mod objects;
mod splunk;
mod syslog;
mod web;

pub use files::{file, stdout};
pub use kafka::{kafka, kafka_at_least_once};
#[cfg(feature = "object_store")]
pub use objects::{azure_blob, s3};
pub use splunk::{hec, hec_acknowledged, hec_collector, hec_collector_acknowledged};
pub use syslog::{syslog_relp, syslog_relps, syslog_tcp, syslog_tls, syslog_udp, syslog_unix};
pub use web::{elasticsearch, http, otlp, sentinel};

use super::{Receiver, Sink};
use crate::support::{Workspace, line::Line};

fn sink(row: &'static str, kind: &'static str, receiver: fn() -> Box<dyn Receiver>) -> Sink {
    Sink { row, kind, receiver, ordered: true, lossy: false, killed: 0, cut: 0 }
}

/// The ids in canonical JSON, whatever is around it.
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
