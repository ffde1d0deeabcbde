//! The notification sink for chats: messages in Microsoft Teams, in Slack, or at any HTTP endpoint
//! whose JSON a template describes.
//!
//! The acknowledgement is a response with a status from 200 to 299. Teams returns 202 when the
//! workflow has accepted a message, before it appears in the channel. Start reading in `service`;
//! `teams` and `slack` build the messages. See decision 0052.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod config;
mod json_template;
mod service;
mod slack;
mod teams;

pub(super) use config::{EXAMPLES, KEYS, read};

use super::Guarantee;

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[
    Guarantee {
        variant: "`service = \"teams\"`",
        acknowledgement: "HTTP 2xx; 202 means that the workflow accepted the message",
        may_be_lost: "messages whose workflow run fails after it was accepted",
        may_be_repeated: "one message",
    },
    Guarantee {
        variant: "`service = \"slack\"`",
        acknowledgement: "HTTP 2xx",
        may_be_lost: "messages that Slack drops afterward",
        may_be_repeated: "one message",
    },
    Guarantee {
        variant: "`service = \"template\"`",
        acknowledgement: "HTTP 2xx",
        may_be_lost: "messages that the endpoint drops afterward",
        may_be_repeated: "one batch, of at most 50 messages",
    },
];
