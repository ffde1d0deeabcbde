//! Encodes a record as a syslog message: header, payload, and truncation of a message that is too
//! long. The framing is not part of a message; `service` adds it. Sources: RFC 5424 and RFC 3164.
//! Start reading at [`Messages::write`].

use jiff::{Timestamp, tz::TimeZone};
use syslog::{Formatter3164, LogFormat, Severity};

use super::config::{Header, Oversize, SyslogPlan, SyslogTarget, TimestampFormat};
use crate::{
    format::{
        Formatter, SyslogHeader, cef_severity, shorten, syslog_severity, write_message,
        write_message_3164,
    },
    model::{Kind, Record, UnixMillis, write_integer},
    sink::{Context, EncodeError, formatter},
};

/// Encodes the messages of one sink.
pub(super) struct Messages {
    host: String,
    formatter: Formatter,
    zone: TimeZone,
    /// The bytes between the priority and MSG, which are the same for all records of one poll and
    /// kind.
    head: Vec<u8>,
    /// The time of the poll and the kind of record for which `head` was rendered.
    head_key: Option<(UnixMillis, Kind)>,
}

/// The byte order mark that declares MSG to be UTF-8 (RFC 5424, 6.4).
const BOM: &[u8] = b"\xef\xbb\xbf";

impl Messages {
    /// An encoder for one sink. The local time zone is read once.
    pub(super) fn new(plan: &SyslogPlan, context: &Context) -> Self {
        let zone = match plan.header {
            Header::Rfc3164 { timestamp: TimestampFormat::Local, .. } => TimeZone::system(),
            _ => TimeZone::UTC,
        };

        Self {
            host: context.host.clone(),
            formatter: formatter(plan.format, context),
            zone,
            head: Vec::new(),
            head_key: None,
        }
    }

    /// Appends the message of a record, of at most `max_message` bytes. Returns whether the payload
    /// was truncated. If this fails, `out` may contain a part of the message.
    pub(super) fn write(
        &mut self,
        record: &Record<'_>,
        plan: &SyslogPlan,
        out: &mut Vec<u8>,
    ) -> Result<bool, EncodeError> {
        let start = out.len();
        self.write_head(record, plan, out)?;
        let msg = out.len();
        self.formatter.write(record, out);

        let (length, max) = (out.len() - start, plan.max_message);
        if length <= max {
            return Ok(false);
        }

        let error =
            EncodeError(format!("the message has {length} bytes; `max_message` is {max} bytes"));
        if plan.oversize == Oversize::Reject {
            return Err(error);
        }

        // Only the payload can be shortened, so the header is not counted.
        let mut payload = out.split_off(msg);
        let budget = payload.len().saturating_sub(length - max);
        let truncated = shorten(plan.format, &mut payload, budget);
        out.extend_from_slice(&payload);
        if truncated && out.len() - start <= max { Ok(true) } else { Err(error) }
    }

    /// Appends everything that precedes the payload.
    fn write_head(
        &mut self,
        record: &Record<'_>,
        plan: &SyslogPlan,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let severity = syslog_severity(cef_severity(record));
        if matches!(plan.target, SyslogTarget::Unix { .. }) {
            return local_head(severity, plan, out);
        }

        // Structured data contains the event ID, so such a head cannot be reused.
        let is_unique = matches!(plan.header, Header::Rfc5424 { structured_data: Some(_), .. });
        let head_key = (record.observed_at, record.kind());
        if is_unique || self.head_key != Some(head_key) {
            self.head = self.render_head(record, plan);
            self.head_key = Some(head_key);
        }

        out.push(b'<');
        write_integer((plan.facility as u8 | severity).into(), out);
        out.extend_from_slice(&self.head);
        Ok(())
    }

    /// Renders the bytes from the `>` after the priority up to MSG.
    fn render_head(&self, record: &Record<'_>, plan: &SyslogPlan) -> Vec<u8> {
        let header = SyslogHeader {
            pri: 0,
            timestamp: &self.time(record.observed_at, plan),
            hostname: &self.host,
            app_name: &plan.app_name,
            procid: "",
            msgid: record.kind().as_str(),
        };

        let mut head = Vec::new();
        match &plan.header {
            Header::Rfc5424 { bom, structured_data } => {
                let tenant = record.tenant.id.to_string();
                let event_id = record.event_id.to_string();
                let params = [("event_id", event_id.as_str()), ("tenant", tenant.as_str())];
                let element = structured_data.as_deref().map(|id| (id, &params[..]));
                write_message(&header, element.as_slice(), Some(b""), &mut head);
                if *bom {
                    head.extend_from_slice(BOM);
                }
            }
            Header::Rfc3164 { tag, .. } => write_message_3164(&header, *tag, &mut head),
        }

        // The priority differs between records and is written for each of them.
        head.split_off("<0".len())
    }

    /// Formats the time of the poll for the header. This time is used rather than the record's day,
    /// because relays file messages by this time and can drop old ones.
    fn time(&self, observed_at: UnixMillis, plan: &SyslogPlan) -> String {
        let time = Timestamp::from(observed_at);
        match plan.header {
            Header::Rfc5424 { .. }
            | Header::Rfc3164 { timestamp: TimestampFormat::Rfc3339, .. } => {
                format!("{time:.3}")
            }
            Header::Rfc3164 { .. } => {
                time.to_zoned(self.zone.clone()).strftime("%b %e %H:%M:%S").to_string()
            }
        }
    }
}

/// Appends the RFC 3164 header that local syslog daemons expect: the current time, and no host
/// name.
fn local_head(severity: u8, plan: &SyslogPlan, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let format = Formatter3164 {
        facility: plan.facility,
        hostname: None,
        process: plan.app_name.clone(),
        pid: std::process::id(),
    };
    format.format(out, local_severity(severity), "").map_err(|error| EncodeError(error.to_string()))
}

fn local_severity(severity: u8) -> Severity {
    match severity {
        0..=2 => Severity::LOG_CRIT,
        3 => Severity::LOG_ERR,
        4 => Severity::LOG_WARNING,
        5 => Severity::LOG_NOTICE,
        _ => Severity::LOG_INFO,
    }
}
