//! A record as an event of HEC: metadata, a few indexed fields, and the canonical JSON.
//!
//! Times are in epoch seconds with three decimals, because Splunk rejects an exponent. `fields` is
//! flat and contains only strings. Fields that Splunk's Common Information Model defines have the
//! names from that model.

use super::config::HecPlan;
use crate::{
    format::{FormatName, Formatter, json_string},
    model::{Record, UnixMillis, write_integer},
    sink::{Batch, Context, Destination, EncodeError, formatter},
};

/// Writes records as events of HEC.
pub(super) struct HecEnvelope {
    /// The members that are the same in every event: `"host":…,`.
    metadata: Vec<u8>,
    index: Option<Destination>,
    sourcetype: Option<String>,
    fields: bool,
    formatter: Formatter,
}

impl HecEnvelope {
    /// Renders the members that are the same in every event.
    pub(super) fn new(plan: &HecPlan, context: &Context) -> Self {
        let mut metadata = Vec::new();
        write_member("host", &context.host, &mut metadata);
        Self {
            metadata,
            index: plan.index.clone(),
            sourcetype: plan.sourcetype.clone(),
            fields: plan.fields,
            formatter: formatter(FormatName::Json, context),
        }
    }

    /// Appends a record to a batch as one event and a newline. Fails if there is no valid name of
    /// the index for the record.
    pub(super) fn write(
        &mut self,
        record: &Record<'_>,
        batch: &mut Batch,
    ) -> Result<(), EncodeError> {
        let index = match &self.index {
            Some(index) => Some(index.of_record(record)?),
            None => None,
        };
        let is_fixed = self.index.as_ref().is_some_and(|index| index.fixed().is_some());
        let target = index.as_deref().filter(|_| !is_fixed);

        batch.push_to(record, target, |out| {
            let start = out.len();
            write_time(record.time, out);
            out.extend_from_slice(&self.metadata);
            if let Some(index) = &index {
                write_member("index", index, out);
            }

            out.extend_from_slice(b"\"source\":");
            json_string(&format!("secure-score:{}", record.tenant.name), out);
            out.push(b',');
            if let Some(sourcetype) = &self.sourcetype {
                write_member("sourcetype", sourcetype, out);
            } else {
                out.extend_from_slice(b"\"sourcetype\":\"microsoft:securescore:");
                out.extend_from_slice(record.kind().as_str().as_bytes());
                out.extend_from_slice(b"\",");
            }

            if self.fields {
                write_fields(record, out);
            }

            out.extend_from_slice(b"\"event\":");
            self.formatter.write(record, out);
            out.extend_from_slice(b"}\n");
            Ok(start)
        })
    }
}

/// Writes `{"time":…,` in epoch seconds, with three decimals and never an exponent.
fn write_time(time: UnixMillis, out: &mut Vec<u8>) {
    let ms = u64::try_from(time.as_i64()).unwrap_or(0);
    out.extend_from_slice(b"{\"time\":");
    write_integer(ms / 1_000, out);
    out.extend_from_slice(format!(".{:03},", ms % 1_000).as_bytes());
}

fn write_fields(record: &Record<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"fields\":{\"event_id\":\"");
    out.extend_from_slice(&record.event_id.hex());
    out.extend_from_slice(b"\",\"tenant_id\":\"");
    out.extend_from_slice(record.tenant.id.to_string().as_bytes());
    out.extend_from_slice(b"\",\"vendor_product\":\"Microsoft Secure Score\"");

    if !record.control_id().is_empty() {
        out.extend_from_slice(b",\"object_category\":\"security_control\",\"object\":");
        json_string(record.control_id(), out);
    }
    out.extend_from_slice(b"},");
}

fn write_member(key: &str, value: &str, out: &mut Vec<u8>) {
    json_string(key, out);
    out.push(b':');
    json_string(value, out);
    out.push(b',');
}
