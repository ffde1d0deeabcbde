//! The syslog sink: encodes and frames messages, and passes batches to the transport. It never
//! decides itself whether a batch has arrived: each transport returns its own acknowledgement.
//! Start reading at [`open`].

use super::{
    config::{Framing, SyslogPlan, SyslogTarget},
    datagram::{LocalLink, UdpLink},
    message::Messages,
    relp::RelpLink,
    stream::StreamLink,
    tls_detection::{PlainProtocol, TlsDetection},
};
use crate::{
    model::{Record, write_integer},
    sink::{Acknowledgement, Batch, BoxFuture, Context, EncodeError, Failure, Sink},
};

struct SyslogSink {
    plan: SyslogPlan,
    messages: Messages,
    transport: Transport,
}

enum Transport {
    Stream(StreamLink),
    Relp(RelpLink),
    Udp(UdpLink),
    Local(LocalLink),
}

/// Opens the sink. The connection is opened with the first batch, so this cannot fail.
pub(super) fn open(plan: &SyslogPlan, context: &Context) -> Box<dyn Sink> {
    let (plan, messages) = (plan.clone(), Messages::new(plan, context));
    Box::new(SyslogSink { transport: transport(&plan), plan, messages })
}

/// Opens the sink for one test record. A receiver that expects TLS closes a connection in plain
/// text only after it has received data, so it is examined before the record is sent.
pub(super) async fn open_for_test(
    plan: &SyslogPlan,
    context: &Context,
) -> Result<Box<dyn Sink>, Failure> {
    if let SyslogTarget::Stream { address, tls } = &plan.target {
        TlsDetection::new(address, PlainProtocol::Messages, tls.as_ref()).check().await?;
    }
    Ok(open(plan, context))
}

/// Opens a connection and, with RELP, a session. Every syslog message is stored by the receiver, so
/// nothing else can be verified. Fails if the receiver cannot be reached, rejects the session, or
/// expects TLS.
pub(super) async fn probe(plan: &SyslogPlan) -> Result<String, Failure> {
    let result = match transport(plan) {
        Transport::Stream(mut link) => {
            link.reach().await?;
            link.close().await;
            "accepts the connection"
        }
        Transport::Relp(mut link) => {
            link.reach().await?;
            link.close().await;
            "accepts the RELP session"
        }
        Transport::Local(mut link) => {
            link.reach().await?;
            "accepts the connection"
        }
        Transport::Udp(mut link) => {
            link.reach().await?;
            "resolves to an address; nothing else can be verified over UDP"
        }
    };

    Ok(format!("{} {result}", plan.target))
}

fn transport(plan: &SyslogPlan) -> Transport {
    match &plan.target {
        SyslogTarget::Udp { address } => Transport::Udp(UdpLink::new(address)),
        SyslogTarget::Unix { path } => Transport::Local(LocalLink::new(path.clone())),
        SyslogTarget::Stream { address, tls } => {
            Transport::Stream(StreamLink::new(address, tls.as_ref(), plan.replay_on_reconnect))
        }
        SyslogTarget::Relp { address, tls } => {
            Transport::Relp(RelpLink::new(address, tls.as_ref(), plan.window))
        }
    }
}

/// A placeholder for the length of a message, which is known only after the message is written.
/// Most lengths have four digits, so the message rarely has to be moved.
const LENGTH: &[u8] = b"0000 ";

/// Replaces the placeholder [`LENGTH`] at `start` with the length of the message, which begins at
/// `message` and ends with `out` (RFC 6587, 3.4.1).
fn write_length(start: usize, message: usize, out: &mut Vec<u8>) {
    let mut length = Vec::with_capacity(8);
    write_integer((out.len() - message) as u64, &mut length);
    length.push(b' ');

    if length.len() == LENGTH.len() {
        out[start..message].copy_from_slice(&length);
    } else {
        out.splice(start..message, length);
    }
}

impl Sink for SyslogSink {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        let Self { plan, messages, .. } = self;
        let framed = matches!(plan.target, SyslogTarget::Stream { .. });
        let mut truncated = false;

        batch.push(record, |out| {
            let start = out.len();
            if framed && plan.framing == Framing::OctetCounting {
                out.extend_from_slice(LENGTH);
            }
            let message = out.len();
            truncated = messages.write(record, plan, out)?;
            if framed && plan.framing == Framing::Newline {
                out.push(b'\n');
            } else if framed {
                write_length(start, message, out);
            }
            Ok(start)
        })?;

        if truncated {
            batch.note_truncated();
        }
        Ok(())
    }

    fn deliver<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Acknowledgement, Failure>> {
        Box::pin(async move {
            match &mut self.transport {
                Transport::Stream(link) => link.deliver(batch).await,
                Transport::Relp(link) => link.deliver(batch).await,
                Transport::Udp(link) => link.deliver(batch).await,
                Transport::Local(link) => link.deliver(batch).await,
            }
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            match self.transport {
                Transport::Stream(link) => link.close().await,
                Transport::Relp(link) => link.close().await,
                Transport::Udp(_) | Transport::Local(_) => {}
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_a_length_of_any_size() {
        for length in [0, 9, 999, 1_000, 9_999, 10_000, 123_456] {
            let mut out = b"before".to_vec();
            out.extend_from_slice(LENGTH);
            out.resize(out.len() + length, b'x');
            write_length(6, 11, &mut out);
            let expected = format!("before{length} {}", "x".repeat(length));
            assert!(out == expected.as_bytes(), "{length}");
        }
    }
}
