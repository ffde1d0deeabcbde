//! CloudEvents 1.0 in the structured JSON mode, with the canonical record as `data`.
//!
//! Sources: CloudEvents specification 1.0.2 and JSON Event Format for CloudEvents 1.0.2. As the
//! specification requires, `source` and `id` together identify an event. `time` is the time of the
//! occurrence, which for a score is the start of its day.

use super::{Json, Options, members::text};
use crate::model::Record;

/// A formatter for CloudEvents, one JSON object per record.
#[derive(Debug)]
pub struct CloudEvents {
    data: Json,
}

/// The prefix of `type`, before the kind of record.
const TYPE_PREFIX: &str = "secure-score-forwarder.";
/// `dataschema`: the name and version of the canonical record.
const SCHEMA: &str = "urn:secure-score-forwarder:1";

impl CloudEvents {
    /// A formatter with an empty cache.
    pub fn new(options: Options) -> Self {
        Self { data: Json::new(options) }
    }

    /// Appends the record as one line, without a trailing newline.
    pub fn write(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"specversion\":\"1.0\",\"id\":\"");
        out.extend_from_slice(&record.event_id.hex());
        out.extend_from_slice(b"\",");
        text("source", Some(&format!("urn:microsoft:tenant:{}", record.tenant.id)), out);
        text("type", Some(&format!("{TYPE_PREFIX}{}", record.kind().as_str())), out);
        text("subject", Some(record.control_id()).filter(|id| !id.is_empty()), out);
        text("time", Some(&record.time_text()), out);
        text("datacontenttype", Some("application/json"), out);
        text("dataschema", Some(SCHEMA), out);

        out.extend_from_slice(b"\"data\":");
        self.data.write(record, out);
        out.push(b'}');
    }
}
