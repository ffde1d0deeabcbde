//! The configuration of a sink with `type = "sentinel"`. Reading a section opens no connection and
//! reads no secret; faults are added to the section.

use crate::{
    format::FormatName,
    net::has_path_or_query,
    settings::{
        ExampleSection, Key, KeyWithDefault, OneOf, Section, TEXT, Text, defaulted, keys, one_of,
        required,
    },
    sink::{
        common_keys::{CREDENTIAL, ENTRA_TENANT, LOGIN_URL},
        shared_keys::{AUTHORITY_KEYS, GZIP_KEYS, JSON},
        web::{HttpReceiverOptions, read_url},
    },
};

keys! {
    /// The keys of this sink, besides those of all sinks.
    pub(in crate::sink) const KEYS;
    ..GZIP_KEYS;
    ..AUTHORITY_KEYS;
    URL: Key<Text> = required(
        "url",
        TEXT,
        "The logs ingestion URL of the data collection endpoint or rule, https://….ingest.monitor.azure.com.",
    )
    .example("https://dce-1.westeurope-1.ingest.monitor.azure.com");
    RULE_ID: Key<Text> =
        required("rule_id", TEXT, "The immutable ID of the data collection rule, dcr-….")
            .example("dcr-0123456789abcdef0123456789abcdef");
    STREAM: Key<Text> = required(
        "stream",
        TEXT,
        "A stream that the rule declares, such as Custom-SecureScore_CL.",
    )
    .example("Custom-SecureScore_CL");
    FORMAT: KeyWithDefault<OneOf<FormatName>> = defaulted(
        "format",
        one_of(&["json", "ocsf", "ecs"]).or(JSON),
        "The format of a record. Records in every format have a `TimeGenerated`.",
    );
}

/// The section in the example file.
pub(in crate::sink) const EXAMPLES: &[ExampleSection] = &[ExampleSection {
    name: "sentinel",
    about: "Microsoft Sentinel, or another workspace of Azure Monitor. The credential requires the role Monitoring Metrics Publisher on the data collection rule.",
    sets: &[CREDENTIAL.define(), ENTRA_TENANT.define()],
    lists: &[LOGIN_URL.define()],
    ..ExampleSection::NOT_SET
}];

/// A validated section.
#[derive(Clone, Debug)]
pub(super) struct SentinelPlan {
    /// The URL of the stream, with the API version.
    pub url: url::Url,
    pub format: FormatName,
    /// How the endpoint is reached.
    pub web: HttpReceiverOptions,
    /// The resource that tokens are requested for, a URL.
    pub resource: &'static str,
}

/// The resource of the Logs Ingestion API in each cloud, by the suffix of the host names.
const RESOURCES: [(&str, &str); 3] = [
    (".azure.us", "https://monitor.azure.us"),
    (".azure.cn", "https://monitor.azure.cn"),
    ("", "https://monitor.azure.com"),
];

/// Reads a section. Returns `None` if it is not valid.
pub(super) fn read(section: &Section<'_>) -> Option<SentinelPlan> {
    let url = section.get(&URL).and_then(|text| read_url(section, &URL, text));
    let (rule, stream) = (section.get(&RULE_ID)?, section.get(&STREAM)?);

    let is_name =
        |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !rule.starts_with("dcr-") || !is_name(rule) {
        section.fault(&RULE_ID, "`rule_id` must be the immutable ID of the rule, dcr-…");
    }
    if !["Custom-", "Microsoft-"].iter().any(|prefix| stream.starts_with(prefix))
        || !is_name(stream)
    {
        section.fault(&STREAM, "`stream` must be Custom-… or Microsoft-…, as the rule declares it");
    }

    let mut url = url?;
    if has_path_or_query(&url) {
        let message = "`url` must not have a path or a query; the path of the stream is added";
        let hint = "remove everything after the host";
        section.fault_with(&URL, message.to_owned(), Some(hint.to_owned()));
        return None;
    }
    let host = url.host_str().unwrap_or_default().to_owned();
    let resource = RESOURCES.iter().find(|(suffix, _)| host.ends_with(suffix))?.1;
    url.set_path(&format!("/dataCollectionRules/{rule}/streams/{stream}"));
    url.set_query(Some("api-version=2023-01-01"));

    Some(SentinelPlan {
        url,
        format: section.get(&FORMAT),
        web: HttpReceiverOptions::without_client_certificate(section),
        resource,
    })
}
