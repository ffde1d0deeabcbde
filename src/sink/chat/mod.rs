//! The notification sink for chats: messages in Microsoft Teams, in Slack, or at any HTTP endpoint
//! whose JSON a template describes.
//!
//! Each service has its own acknowledgement. Teams returns 202 when the workflow has accepted a
//! message, before it appears in the channel. Start reading in `service`; `teams` and `slack` build
//! the messages, and `response` interprets the replies. See decision 0052.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod config;
mod json_template;
mod response;
mod service;
mod slack;
mod teams;

use config::{ChatPlan, Service};
pub(super) use config::{EXAMPLES, KEYS};

use super::{
    BoxFuture, Context, Failure, Guarantee, History, Limits, Plan, Sink, notification::RECORDS,
};
use crate::{format::FormatName, model::Kind, settings::Section};

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[
    Guarantee {
        variant: "`service = \"teams\"`",
        acknowledgement: "HTTP 202: the workflow accepted the message",
        may_be_lost: "messages whose workflow run fails after it was accepted",
        may_be_repeated: "one message",
    },
    Guarantee {
        variant: "`service = \"slack\"`",
        acknowledgement: "HTTP 200 with the body `ok`",
        may_be_lost: "messages that Slack drops afterward",
        may_be_repeated: "one message",
    },
    Guarantee {
        variant: "`service = \"template\"`",
        acknowledgement: "a complete HTTP 2xx response, unless it is an HTML page",
        may_be_lost: "messages that the endpoint drops afterward",
        may_be_repeated: "one batch, of at most 50 messages",
    },
];

/// The maximum number of records in a message. Many records can share a part.
const RECORDS_PER_MESSAGE: usize = 1_000;
/// The maximum number of records in a batch for a template, each of which is one request.
const REQUESTS_PER_BATCH: usize = 50;

/// Reads a section. Returns `None` if it is not valid.
pub(super) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    Some(Box::new(config::read(section)?))
}

impl Plan for ChatPlan {
    /// Messages have no format. This one is used only to estimate sizes.
    fn format(&self) -> FormatName {
        FormatName::Json
    }

    fn acknowledgement(&self) -> &'static str {
        match self.service {
            Service::Teams => "the workflow accepted the message",
            Service::Slack => "Slack accepted the message",
            Service::Template(_) => "the endpoint returned a success status",
        }
    }

    fn limits(&self) -> Limits {
        let records = match self.service {
            Service::Teams | Service::Slack => RECORDS_PER_MESSAGE,
            Service::Template(_) => REQUESTS_PER_BATCH,
        };
        self.mode.limits(Limits { records, bytes: 1 << 20, in_flight: 1 })
    }

    fn default_records(&self) -> &'static [Kind] {
        RECORDS
    }

    fn history(&self) -> History {
        History::Skipped
    }

    fn required_labels(&self) -> Vec<String> {
        match &self.service {
            Service::Template(template) => template.labels(),
            Service::Teams | Service::Slack => Vec::new(),
        }
    }

    fn probe<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(service::probe(self))
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(std::future::ready(service::open(self, context)))
    }
}
