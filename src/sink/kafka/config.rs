//! `type = "kafka"`.

use super::service::open;
use crate::{
    format::FormatName,
    settings::{Choice, Key, Section, Shape, later, optional, required},
    sink::{BoxFuture, Context, Failure, Limits, Plan, Sink},
};

pub(in crate::sink) const KEYS: &[Key] = &[
    required("brokers", Shape::Texts, "Brokers to ask first, each `host:port`."),
    required(
        "topic",
        Shape::Text,
        "The topic; it must exist, unless the cluster makes topics by itself.",
    ),
    optional("format", Shape::OneOf(FORMATS), "How a record is written."),
    optional(
        "exactly_once",
        Shape::OffOnly,
        "Transactions, with the progress in the same transaction.",
    ),
    later("tls"),
    later("sasl"),
    later("progress_topic"),
];

const FORMATS: &[Choice] =
    &[Choice::now("json"), Choice::now("cef"), Choice::later("ocsf"), Choice::later("ecs")];

#[derive(Debug)]
pub(super) struct KafkaPlan {
    pub brokers: String,
    pub topic: String,
    pub format: FormatName,
}

pub(in crate::sink) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    let brokers = section.texts("brokers")?;
    let has_port = |broker: &&str| {
        broker
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    if brokers.is_empty()
        || !brokers.iter().all(has_port)
        || brokers.iter().any(|b| b.contains(','))
    {
        section.fault("brokers", "`brokers` must be a list of `host:port`");
        return None;
    }
    let topic = section.text("topic")?;
    if topic.len() > 249 || !topic.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    {
        section.fault("topic", "`topic` must be at most 249 letters, digits, `.`, `_` and `-`");
        return None;
    }
    let format = section.text("format").and_then(FormatName::parse).unwrap_or(FormatName::Json);
    Some(Box::new(KafkaPlan { brokers: brokers.join(","), topic: topic.to_owned(), format }))
}

impl Plan for KafkaPlan {
    fn format(&self) -> FormatName {
        self.format
    }

    fn limits(&self) -> Limits {
        Limits { records: 5_000, octets: 4 << 20, in_flight: 1 }
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(std::future::ready(open(self, context)))
    }
}
