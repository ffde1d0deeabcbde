//! The configuration of a sink with `type = "http"`. Reading a section opens no connection and
//! reads no secret; faults are added to the section.

use reqwest::header::HeaderName;

use super::service::{open, probe};
use crate::{
    format::FormatName,
    settings::{Key, SecretRef, Section, Shape, optional, required},
    sink::{
        BoxFuture, Context, Failure, LINE_FORMAT, Limits, Plan, Sink, read_format,
        web::{CA_FILE, CLIENT_CERTIFICATE, CLIENT_KEY, GZIP, HttpReceiverOptions, ReceiverUrl},
    },
};

/// The keys of this sink, besides those of all sinks.
pub(in crate::sink) const KEYS: &[Key] = &[
    required(
        "url",
        Shape::TextOrSecret,
        "The URL that batches are posted to, or a reference to a secret that contains it.",
    ),
    LINE_FORMAT,
    optional(
        "body",
        Shape::OneOf(&["array", "lines"]),
        "The body of a request: `array` is a JSON array, the default for JSON formats; `lines` has one record per line.",
    ),
    optional(
        "headers",
        Shape::Secrets,
        "Additional headers, by reference: X-Api-Key = { credential = \"name\" }.",
    ),
    optional(
        "signing_secret",
        Shape::Secret,
        "The secret for signing requests according to Standard Webhooks: `whsec_…` or any text.",
    ),
    optional(
        "old_signing_secret",
        Shape::Secret,
        "The previous `signing_secret` during a rotation; requests are signed with both.",
    ),
    optional(
        "batch_records",
        Shape::Integer { min: 1, max: 100_000 },
        "The maximum number of records in a request; default: 500.",
    ),
    optional(
        "batch_size",
        Shape::Size,
        "The size at which a request is sent, before compression; default: 512KiB.",
    ),
    GZIP,
    CA_FILE,
    CLIENT_CERTIFICATE,
    CLIENT_KEY,
];

/// A validated section.
#[derive(Clone, Debug)]
pub(super) struct HttpPlan {
    /// The endpoint: `https`, or `http` to a loopback address.
    pub url: ReceiverUrl,
    pub format: FormatName,
    /// Whether the body is a JSON array; otherwise it has one record per line.
    pub array: bool,
    /// Additional headers; their values are secrets.
    pub headers: Vec<(HeaderName, SecretRef)>,
    /// The current secret and the previous one; empty if requests are not signed.
    pub signing_secrets: Vec<SecretRef>,
    /// How the endpoint is reached.
    pub web: HttpReceiverOptions,
    limits: Limits,
}

/// Reads a section. Returns `None` if it is not valid.
pub(in crate::sink) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    let url = ReceiverUrl::read(section, "url");
    let format = read_format(section, FormatName::Json);
    let array = section.text("body").map_or(format.is_json(), |body| body == "array");
    if array && !format.is_json() {
        section.fault("body", "`body = \"array\"` requires a JSON format");
    }

    let mut headers = Vec::new();
    for (name, secret) in section.secret_map("headers") {
        match name.parse::<HeaderName>() {
            Ok(name) if !is_reserved(&name) => headers.push((name, secret)),
            _ => section.fault("headers", format!("the header `{name}` cannot be set")),
        }
    }

    let old = section.secret("old_signing_secret");
    if old.is_some() && !section.has("signing_secret") {
        section.fault("old_signing_secret", "`old_signing_secret` requires `signing_secret`");
    }

    let number = |key: &str| section.integer(key).and_then(|n| usize::try_from(n).ok());
    let bytes = section.size("batch_size").and_then(|size| usize::try_from(size).ok());
    if bytes.is_some_and(|bytes| !(1 << 10..=64 << 20).contains(&bytes)) {
        section.fault("batch_size", "`batch_size` must be from 1KiB to 64MiB");
    }

    Some(Box::new(HttpPlan {
        url: url?,
        format,
        array,
        headers,
        signing_secrets: section.secret("signing_secret").into_iter().chain(old).collect(),
        web: HttpReceiverOptions::read(section),
        limits: Limits {
            records: number("batch_records").unwrap_or(500),
            bytes: bytes.unwrap_or(512 << 10),
            in_flight: 1,
        },
    }))
}

/// Whether the sink sets the header itself.
fn is_reserved(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(
        name,
        "host" | "content-type" | "content-length" | "content-encoding" | "transfer-encoding"
    ) || name.starts_with("webhook-")
}

impl HttpPlan {
    /// The media type of a request body, by format and form.
    pub(super) fn content_type(&self) -> &'static str {
        match (self.format, self.array) {
            (FormatName::CloudEvents, true) => "application/cloudevents-batch+json",
            (FormatName::Csv, _) => "text/csv; charset=utf-8; header=present",
            (format, true) if format.is_json() => "application/json",
            (format, false) if format.is_json() => "application/x-ndjson",
            _ => "text/plain; charset=utf-8",
        }
    }
}

impl Plan for HttpPlan {
    fn format(&self) -> FormatName {
        self.format
    }

    fn acknowledgement(&self) -> &'static str {
        "the endpoint returned a success status"
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    fn probe<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(probe(self))
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(std::future::ready(open(self, context)))
    }
}
