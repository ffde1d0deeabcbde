//! `type = "sentinel"`.

use super::service::{open, probe};
use crate::{
    format::FormatName,
    settings::{Choice, Key, Section, Shape, optional, required},
    sink::{
        BoxFuture, Context, Failure, Limits, Plan, Sink, read_format,
        web::{CA_FILE, GZIP, HttpOptions, read_url},
    },
};

pub(in crate::sink) const KEYS: &[Key] = &[
    required(
        "url",
        Shape::Text,
        "The logs ingestion endpoint of the data collection endpoint or rule, https://….ingest.monitor.azure.com.",
    ),
    required("rule_id", Shape::Text, "The immutable id of the data collection rule, dcr-…."),
    required(
        "stream",
        Shape::Text,
        "The stream that the rule declares, such as Custom-SecureScore_CL.",
    ),
    optional(
        "format",
        Shape::OneOf(&[Choice::now("json"), Choice::now("ocsf"), Choice::now("ecs")]),
        "How a record is written; default json. Each has a TimeGenerated.",
    ),
    GZIP,
    CA_FILE,
];

#[derive(Clone, Debug)]
pub(super) struct SentinelPlan {
    /// With path and version.
    pub url: url::Url,
    pub format: FormatName,
    pub web: HttpOptions,
    resource: &'static str,
}

/// Where tokens for the API of a cloud are good, by the end of its endpoints' names.
const RESOURCES: [(&str, &str); 3] = [
    (".azure.us", "https://monitor.azure.us"),
    (".azure.cn", "https://monitor.azure.cn"),
    ("", "https://monitor.azure.com"),
];

pub(in crate::sink) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    let url = section.text("url").and_then(|text| read_url(section, "url", text));
    let (rule, stream) = (section.text("rule_id")?, section.text("stream")?);
    let is_name =
        |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !rule.starts_with("dcr-") || !is_name(rule) {
        section.fault("rule_id", "`rule_id` must be the rule's immutable id, dcr-…");
    }
    if !["Custom-", "Microsoft-"].iter().any(|front| stream.starts_with(front)) || !is_name(stream)
    {
        section
            .fault("stream", "`stream` must be Custom-… or Microsoft-…, as the rule declares it");
    }
    let mut url = url?;
    let host = url.host_str().unwrap_or_default().to_owned();
    let resource = RESOURCES.iter().find(|(end, _)| host.ends_with(end))?.1;
    url.set_path(&format!("/dataCollectionRules/{rule}/streams/{stream}"));
    url.set_query(Some("api-version=2023-01-01"));
    let format = read_format(section, FormatName::Json);
    Some(Box::new(SentinelPlan { url, format, web: HttpOptions::read(section), resource }))
}

impl Plan for SentinelPlan {
    fn format(&self) -> FormatName {
        self.format
    }

    fn acknowledgement(&self) -> &'static str {
        "the ingestion API took it"
    }

    fn limits(&self) -> Limits {
        // With one large record beyond it, a batch is still below 1 MB.
        Limits { records: 1_000, bytes: 800_000, in_flight: 1 }
    }

    fn token_resource(&self) -> Option<&str> {
        Some(self.resource)
    }

    fn probe<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(probe(self, context))
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(std::future::ready(open(self, context)))
    }
}
