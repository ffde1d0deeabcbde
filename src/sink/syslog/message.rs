//! A record as a message: header, payload, and what is done when it is too long.

use jiff::{Timestamp, tz::TimeZone};
use syslog::{Formatter3164, LogFormat, Severity};

use super::config::{Header, Oversize, Stamp, SyslogPlan, Target};
use crate::{
    format::{
        Formatter, SyslogHeader, cef_severity, shorten, syslog_severity, write_message,
        write_message_3164,
    },
    model::Record,
    sink::{Context, Refusal, formatter},
};

/// Writes messages, one after the other, into a buffer of its own.
pub(super) struct Messages {
    host: String,
    formatter: Formatter,
    zone: TimeZone,
    payload: Vec<u8>,
    message: Vec<u8>,
    /// The header's time of the last record, which others of its entry share.
    stamp: (i64, String),
}

/// A message that is ready, and whether its payload had to be cut.
pub(super) struct Message<'a> {
    pub octets: &'a [u8],
    pub truncated: bool,
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
            payload: Vec::new(),
            message: Vec::new(),
            stamp: (i64::MIN, String::new()),
        }
    }

    /// The message of a record, no longer than the plan allows.
    pub(super) fn write(
        &mut self,
        record: &Record<'_>,
        plan: &SyslogPlan,
    ) -> Result<Message<'_>, Refusal> {
        self.payload.clear();
        self.formatter.write(record, &mut self.payload);
        self.assemble(record, plan)?;
        let (length, max) = (self.message.len(), plan.max_message);
        let mut truncated = false;
        if length > max {
            let too_long =
                || Refusal(format!("the message has {length} octets, `max_message` is {max}"));
            if plan.oversize == Oversize::Reject {
                return Err(too_long());
            }
            let room = self.payload.len().saturating_sub(length - max);
            truncated = shorten(plan.format, &mut self.payload, room);
            self.assemble(record, plan)?;
            if !truncated || self.message.len() > max {
                return Err(too_long());
            }
        }
        Ok(Message { octets: &self.message, truncated })
    }

    fn assemble(&mut self, record: &Record<'_>, plan: &SyslogPlan) -> Result<(), Refusal> {
        let severity = syslog_severity(cef_severity(record));
        self.message.clear();
        if matches!(plan.target, Target::Unix { .. }) {
            return self.local(severity, plan);
        }
        if self.stamp.0 != record.observed_ms {
            self.stamp = (record.observed_ms, self.time(record.observed_ms, plan));
        }
        let header = SyslogHeader {
            pri: plan.facility as u8 | severity,
            timestamp: &self.stamp.1,
            hostname: &self.host,
            app_name: &plan.app_name,
            procid: "",
            msgid: record.kind().as_str(),
        };
        match &plan.header {
            Header::Rfc5424 { bom, structured_data } => {
                let tenant = record.tenant.id.to_string();
                let event_id = record.event_id.to_string();
                let params = [("event_id", event_id.as_str()), ("tenant", tenant.as_str())];
                let element = structured_data.as_deref().map(|id| (id, &params[..]));
                write_message(&header, element.as_slice(), Some(b""), &mut self.message);
                if *bom {
                    self.message.extend_from_slice(BOM);
                }
            }
            Header::Rfc3164 { tagged, .. } => {
                write_message_3164(&header, *tagged, &mut self.message);
            }
        }
        self.message.extend_from_slice(&self.payload);
        Ok(())
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

    /// The form that local daemons know; they stamp the time themselves.
    fn local(&mut self, severity: u8, plan: &SyslogPlan) -> Result<(), Refusal> {
        let format = Formatter3164 {
            facility: plan.facility,
            hostname: None,
            process: plan.app_name.clone(),
            pid: std::process::id(),
        };
        let payload = String::from_utf8_lossy(&self.payload);
        format
            .format(&mut self.message, local_severity(severity), payload)
            .map_err(|error| Refusal(error.to_string()))
    }
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
