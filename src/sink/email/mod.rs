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

pub(super) use config::{EXAMPLES, KEYS, read};

use super::Guarantee;

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[Guarantee {
    variant: "",
    acknowledgement: "the mail server replied 250 to the message",
    may_be_lost: "messages that a later mail server rejects or discards",
    may_be_repeated: "one message, with the same `Message-ID` if its records are the same",
}];
