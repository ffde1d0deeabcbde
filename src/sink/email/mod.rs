//! The notification sink for email: messages that are sent to a mail server with SMTP.
//!
//! The acknowledgement is the positive reply of the mail server to the end of a message; the server
//! is then responsible for it (RFC 5321, section 6.1). The connection is encrypted unless the
//! server is on a loopback address. Start reading in `service`; `session` speaks SMTP, and
//! `compose` builds a message. See decision 0052.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod compose;
mod config;
mod connection;
mod html;
mod service;
mod session;

use config::EmailPlan;
pub(super) use config::{EXAMPLES, KEYS};

use super::{
    BoxFuture, Context, Failure, Guarantee, History, Limits, Plan, Sink,
    notification::{Mode, RECORDS},
};
use crate::{format::FormatName, model::Kind, settings::Section};

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[Guarantee {
    variant: "",
    acknowledgement: "the mail server replied 250 to the message",
    may_be_lost: "messages that a later mail server rejects or discards",
    may_be_repeated: "one message, with the same `Message-ID` if its records are the same",
}];

/// The maximum number of records in a message. Many records can share a part.
const RECORDS_PER_MESSAGE: usize = 1_000;

/// Reads a section. Returns `None` if it is not valid.
pub(super) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    Some(Box::new(config::read(section)?))
}

impl Plan for EmailPlan {
    /// Messages have no format. This one is used only to estimate sizes.
    fn format(&self) -> FormatName {
        FormatName::Json
    }

    fn acknowledgement(&self) -> &'static str {
        "the mail server accepted the message"
    }

    fn limits(&self) -> Limits {
        self.mode.limits(Limits { records: RECORDS_PER_MESSAGE, bytes: 1 << 20, in_flight: 1 })
    }

    fn default_records(&self) -> &'static [Kind] {
        RECORDS
    }

    fn history(&self) -> History {
        History::Skipped
    }

    fn attaches_report(&self) -> bool {
        self.mode == Mode::Digest && self.attach_report
    }

    fn probe<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(service::probe(self, context))
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(std::future::ready(service::open(self, context)))
    }
}
