//! Records as messages, messages as frames.

use syslog::{Formatter3164, LogFormat, Severity};

use super::{
    config::{SyslogPlan, Target},
    connection::{Connection, connect},
};
use crate::{
    format::{Formatter, SyslogHeader, cef_severity, syslog_severity, write_message},
    model::Record,
    sink::{Batch, BoxFuture, Context, Failure, Proof, Refusal, Sink, formatter},
};

struct SyslogSink {
    plan: SyslogPlan,
    host: String,
    formatter: Formatter,
    connection: Option<Connection>,
    payload: Vec<u8>,
    message: Vec<u8>,
}

pub(super) fn open(plan: &SyslogPlan, context: &Context) -> Box<dyn Sink> {
    Box::new(SyslogSink {
        plan: plan.clone(),
        host: context.host.clone(),
        formatter: formatter(plan.format, context),
        connection: None,
        payload: Vec::new(),
        message: Vec::new(),
    })
}

impl Sink for SyslogSink {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), Refusal> {
        self.payload.clear();
        self.formatter.write(record, &mut self.payload);
        self.message.clear();
        self.write_message(record)?;
        let (length, max) = (self.message.len(), self.plan.max_message);
        if length > max {
            return Err(Refusal(format!(
                "the message has {length} octets, `max_message` is {max}"
            )));
        }
        let stream = matches!(self.plan.target, Target::Tcp { .. } | Target::Tls { .. });
        batch.push(record, |out| {
            let start = out.len();
            if stream && !self.plan.newline {
                out.extend_from_slice(format!("{length} ").as_bytes());
            }
            out.extend_from_slice(&self.message);
            if stream && self.plan.newline {
                out.push(b'\n');
            }
            Ok(start)
        })
    }

    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Proof, Failure>> {
        Box::pin(async move {
            let mut connection = match self.connection.take() {
                Some(connection) => connection,
                None => connect(&self.plan.target).await?,
            };
            let sent = match connection {
                Connection::Stream { .. } => connection.send_stream(batch.octets()).await,
                _ => send_datagrams(&connection, batch).await,
            };
            match sent {
                Ok(()) => {
                    // Kept only while it is known to be good.
                    self.connection = Some(connection);
                    Ok(Proof::given())
                }
                Err(error) => Err(lost(&self.plan.target, &error)),
            }
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            if let Some(connection) = self.connection {
                connection.close().await;
            }
        })
    }
}

impl SyslogSink {
    fn write_message(&mut self, record: &Record<'_>) -> Result<(), Refusal> {
        let severity = syslog_severity(cef_severity(record));
        if matches!(self.plan.target, Target::Unix { .. }) {
            return self.write_local(severity);
        }
        let header = SyslogHeader {
            pri: self.plan.facility as u8 | severity,
            timestamp: record.observed_time,
            hostname: &self.host,
            app_name: &self.plan.app_name,
            procid: "",
            msgid: record.kind().as_str(),
        };
        write_message(&header, &[], Some(&self.payload), &mut self.message);
        Ok(())
    }

    /// The form that local daemons know; they stamp the time themselves.
    fn write_local(&mut self, severity: u8) -> Result<(), Refusal> {
        let format = Formatter3164 {
            facility: self.plan.facility,
            hostname: None,
            process: self.plan.app_name.clone(),
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

async fn send_datagrams(connection: &Connection, batch: &Batch) -> std::io::Result<()> {
    for item in batch.items() {
        connection.send_datagram(batch.payload(item)).await?;
    }
    Ok(())
}

fn lost(target: &Target, error: &std::io::Error) -> Failure {
    let (Target::Udp { address } | Target::Tcp { address } | Target::Tls { address, .. }) = target
    else {
        return Failure::retry(format!("the local syslog daemon did not take a message: {error}"));
    };
    let reason = format!("the connection to {address} was lost: {error}");
    // A TLS receiver says so when it did not like our certificate.
    let alert = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match alert {
        Some(rustls::Error::AlertReceived(_)) => Failure::Misconfigured { reason },
        _ => Failure::retry(reason),
    }
}
