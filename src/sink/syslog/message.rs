//! A record as a message: header, payload, and what is done when it is too long.

use jiff::{Timestamp, tz::TimeZone};
use syslog::{Formatter3164, LogFormat, Severity};

use super::config::{Header, Oversize, Stamp, SyslogPlan, Target};
use crate::{
    format::{
        Formatter, SyslogHeader, cef_severity, shorten, syslog_severity, write_message,
        write_message_3164,
    },
    model::{Kind, Record, write_integer},
    sink::{Context, EncodeError, formatter},
};

/// Writes messages, one after the other.
pub(super) struct Messages {
    host: String,
    formatter: Formatter,
    zone: TimeZone,
    /// What stands between the priority and MSG, and of which records it is so.
    head: Vec<u8>,
    head_of: Option<(i64, Kind)>,
}

/// The order mark that declares MSG to be UTF-8 (RFC 5424, 6.4).
const BOM: &[u8] = b"\xef\xbb\xbf";

impl Messages {
    pub(super) fn new(plan: &SyslogPlan, context: &Context) -> Self {
        let zone = match plan.header {
            Header::Rfc3164 { stamp: Stamp::Local, .. } => TimeZone::system(),
            _ => TimeZone::UTC,
        };
        Self {
            host: context.host.clone(),
            formatter: formatter(plan.format, context),
            zone,
            head: Vec::new(),
            head_of: None,
        }
    }

    /// Appends the message of a record, no longer than the plan allows. Says whether its payload had
    /// to be cut. After a refusal some of it may stand there.
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
        let refusal =
            EncodeError(format!("the message has {length} bytes, `max_message` is {max}"));
        if plan.oversize == Oversize::Reject {
            return Err(refusal);
        }
        let mut payload = out.split_off(msg);
        let budget = payload.len().saturating_sub(length - max);
        let truncated = shorten(plan.format, &mut payload, budget);
        out.extend_from_slice(&payload);
        if truncated && out.len() - start <= max { Ok(true) } else { Err(refusal) }
    }

    /// What comes before the payload.
    fn write_head(
        &mut self,
        record: &Record<'_>,
        plan: &SyslogPlan,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        let severity = syslog_severity(cef_severity(record));
        if matches!(plan.target, Target::Unix { .. }) {
            return local_head(severity, plan, out);
        }
        // With an element of its own no record shares its head with others.
        let own = matches!(plan.header, Header::Rfc5424 { structured_data: Some(_), .. });
        let of = (record.observed_ms, record.kind());
        if own || self.head_of != Some(of) {
            self.head = self.render_head(record, plan);
            self.head_of = Some(of);
        }
        out.push(b'<');
        write_integer((plan.facility as u8 | severity).into(), out);
        out.extend_from_slice(&self.head);
        Ok(())
    }

    /// From the `>` after the priority up to MSG.
    fn render_head(&self, record: &Record<'_>, plan: &SyslogPlan) -> Vec<u8> {
        let header = SyslogHeader {
            pri: 0,
            timestamp: &self.time(record.observed_ms, plan),
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
            Header::Rfc3164 { tagged, .. } => write_message_3164(&header, *tagged, &mut head),
        }
        head.split_off("<0".len())
    }

    /// When the record was read, as the header writes it: relays file and drop by it.
    fn time(&self, ms: i64, plan: &SyslogPlan) -> String {
        let Ok(time) = Timestamp::from_millisecond(ms) else { return "-".to_owned() };
        match plan.header {
            Header::Rfc5424 { .. } | Header::Rfc3164 { stamp: Stamp::Rfc3339, .. } => {
                format!("{time:.3}")
            }
            Header::Rfc3164 { .. } => {
                time.to_zoned(self.zone.clone()).strftime("%b %e %H:%M:%S").to_string()
            }
        }
    }
}

/// The form that local daemons know; they stamp the time themselves.
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
