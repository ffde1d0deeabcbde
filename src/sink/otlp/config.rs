//! The configuration of a sink with `type = "otlp"`. Reading a section opens no connection and
//! reads no secret; faults are added to the section.

use reqwest::header::HeaderName;

use crate::{
    format::FormatName,
    settings::{
        ExampleSection, Key, SECRETS, SecretRef, Secrets, Section, TEXT, Text, keys, optional,
        required,
    },
    sink::{
        shared_keys::{FORMAT, FORMAT_KEYS, GZIP_KEYS, TLS_KEYS},
        web::{HttpReceiverOptions, read_url},
    },
};

keys! {
    /// The keys of this sink, besides those of all sinks.
    pub(in crate::sink) const KEYS;
    ..FORMAT_KEYS;
    ..GZIP_KEYS;
    ..TLS_KEYS;
    URL: Key<Text> = required(
        "url",
        TEXT,
        "The URL of the receiver, such as https://otel.example.com:4318; if it has no path, /v1/logs is added.",
    )
    .example("https://otel.example.com:4318");
    HEADERS: Key<Secrets> = optional(
        "headers",
        SECRETS,
        "no additional headers",
        "Additional headers, by reference: Authorization = { credential = \"name\" }.",
    )
    .example("{ Authorization = { credential = \"otel-token\" } }");
}

/// The section in the example file.
pub(in crate::sink) const EXAMPLES: &[ExampleSection] = &[ExampleSection {
    name: "otel",
    about: "A receiver of OpenTelemetry logs.",
    ..ExampleSection::NOT_SET
}];

/// A validated section.
#[derive(Clone, Debug)]
pub(super) struct OtlpPlan {
    /// The URL of the logs endpoint, with its path.
    pub url: url::Url,
    /// The format of the body of a log record.
    pub format: FormatName,
    /// Additional headers; their values are secrets.
    pub headers: Vec<(HeaderName, SecretRef)>,
    /// How the endpoint is reached.
    pub web: HttpReceiverOptions,
}

/// Reads a section. Returns `None` if it is not valid.
pub(super) fn read(section: &Section<'_>) -> Option<OtlpPlan> {
    let url = section.get(&URL).and_then(|text| read_url(section, &URL, text));

    let mut headers = Vec::new();
    for (name, secret) in section.get(&HEADERS).unwrap_or_default() {
        match name.parse::<HeaderName>() {
            Ok(name) => headers.push((name, secret)),
            Err(_) => section.fault(&HEADERS, format!("`{name}` is not a valid header name")),
        }
    }

    let mut url = url?;
    if matches!(url.path(), "" | "/") {
        url.set_path("/v1/logs");
    }

    Some(OtlpPlan {
        url,
        format: section.get(&FORMAT),
        headers,
        web: HttpReceiverOptions::read(section),
    })
}
