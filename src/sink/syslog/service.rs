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
    sink::{Batch, BoxFuture, Context, Failure, Proof, Refusal, Sink},
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
    let link = match &plan.target {
        Target::Udp { address } => Link::Udp(UdpLink::new(address)),
        Target::Unix { path } => Link::Local(LocalLink::new(path.clone())),
        Target::Stream { address, tls } => {
            Link::Stream(StreamLink::new(address, tls.as_ref(), plan.replay_on_reconnect))
        }
        Target::Relp { address, tls } => {
            Link::Relp(RelpLink::new(address, tls.as_ref(), plan.window))
        }
    };
    Box::new(SyslogSink { plan: plan.clone(), messages: Messages::new(plan, context), link })
}

impl Sink for SyslogSink {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), Refusal> {
        let message = self.messages.write(record, &self.plan)?;
        let framed = matches!(self.plan.target, Target::Stream { .. });
        let newline = self.plan.newline;
        batch.push(record, |out| {
            let start = out.len();
            if framed && !newline {
                write_integer(message.octets.len() as u64, out);
                out.push(b' ');
            }
            out.extend_from_slice(message.octets);
            if framed && newline {
                out.push(b'\n');
            }
            Ok(start)
        })?;
        if message.truncated {
            batch.note_truncated();
        }
        Ok(())
    }

    fn deliver<'a>(&'a mut self, batch: &'a Batch) -> BoxFuture<'a, Result<Proof, Failure>> {
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
