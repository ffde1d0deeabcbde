//! CloudEvents 1.0 in structured JSON: the canonical record as `data`.
//!
//! Source: the CloudEvents specification 1.0.2 and its JSON event format. `id` with `source` is
//! unique; `time` is when it happened, which for a score is its day.

use super::{Json, Options, members::text};
use crate::model::Record;

#[derive(Debug)]
pub struct CloudEvents {
    data: Json,
}

/// The types of event: this, and the kind of record.
const TYPE: &str = "secure-score-forwarder.";
const SCHEMA: &str = "urn:secure-score-forwarder:1";

impl CloudEvents {
    pub fn new(options: Options) -> Self {
        Self { data: Json::new(options) }
    }

    pub fn write(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"specversion\":\"1.0\",\"id\":\"");
        out.extend_from_slice(&record.event_id.hex());
        out.extend_from_slice(b"\",");
        text("source", Some(&format!("urn:microsoft:tenant:{}", record.tenant.id)), out);
        text("type", Some(&format!("{TYPE}{}", record.kind().as_str())), out);
        text("subject", Some(record.control_id()).filter(|id| !id.is_empty()), out);
        text("time", Some(&record.time()), out);
        text("datacontenttype", Some("application/json"), out);
        text("dataschema", Some(SCHEMA), out);
        out.extend_from_slice(b"\"data\":");
        self.data.write(record, out);
        out.push(b'}');
    }
}
