//! Messages, framed and handed to whatever carries them.

use super::{
    config::{SyslogPlan, Target},
    datagram::{LocalLink, UdpLink},
    message::Messages,
    relp::RelpLink,
    stream::StreamLink,
};
use crate::{
    model::{Record, write_integer},
    sink::{Acknowledgement, Batch, BoxFuture, Context, Failure, EncodeError, Sink},
};

struct SyslogSink {
    plan: SyslogPlan,
    messages: Messages,
    link: Link,
}

enum Link {
    Stream(StreamLink),
    Relp(RelpLink),
    Udp(UdpLink),
    Local(LocalLink),
}

pub(super) fn open(plan: &SyslogPlan, context: &Context) -> Box<dyn Sink> {
    let (plan, messages) = (plan.clone(), Messages::new(plan, context));
    Box::new(SyslogSink { link: link(&plan), plan, messages })
}

/// A connection, and with RELP a session: syslog itself has no word that asks for nothing.
pub(super) async fn probe(plan: &SyslogPlan) -> Result<String, Failure> {
    let what = match link(plan) {
        Link::Stream(mut link) => {
            link.reach().await?;
            link.close().await;
            "takes the connection"
        }
        Link::Relp(mut link) => {
            link.reach().await?;
            link.close().await;
            "opens a session"
        }
        Link::Local(mut link) => {
            link.reach().await?;
            "takes the connection"
        }
        Link::Udp(mut link) => {
            link.reach().await?;
            "has an address, and UDP says no more"
        }
    };
    Ok(format!("{} {what}", plan.target))
}

fn link(plan: &SyslogPlan) -> Link {
    match &plan.target {
        Target::Udp { address } => Link::Udp(UdpLink::new(address)),
        Target::Unix { path } => Link::Local(LocalLink::new(path.clone())),
        Target::Stream { address, tls } => {
            Link::Stream(StreamLink::new(address, tls.as_ref(), plan.replay_on_reconnect))
        }
        Target::Relp { address, tls } => {
            Link::Relp(RelpLink::new(address, tls.as_ref(), plan.window))
        }
    }
}

/// MemoryBudget for a length, which is known when the message is there: most have four digits.
const LENGTH: &[u8] = b"0000 ";

/// Puts the length of a message before it, at `start` in the place of [`LENGTH`].
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
        let framed = matches!(plan.target, Target::Stream { .. });
        let mut truncated = false;
        batch.push(record, |out| {
            let start = out.len();
            if framed && !plan.newline {
                out.extend_from_slice(LENGTH);
            }
            let message = out.len();
            truncated = messages.write(record, plan, out)?;
            if framed && plan.newline {
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
            match &mut self.link {
                Link::Stream(link) => link.deliver(batch).await,
                Link::Relp(link) => link.deliver(batch).await,
                Link::Udp(link) => link.deliver(batch).await,
                Link::Local(link) => link.deliver(batch).await,
            }
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            match self.link {
                Link::Stream(link) => link.close().await,
                Link::Relp(link) => link.close().await,
                Link::Udp(_) | Link::Local(_) => {}
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_any_size_stands_before_its_message() {
        for length in [0, 9, 999, 1_000, 9_999, 10_000, 123_456] {
            let mut out = b"before".to_vec();
            out.extend_from_slice(LENGTH);
            out.resize(out.len() + length, b'x');
            write_length(6, 11, &mut out);
            let wanted = format!("before{length} {}", "x".repeat(length));
            assert!(out == wanted.as_bytes(), "{length}");
        }
    }
}
