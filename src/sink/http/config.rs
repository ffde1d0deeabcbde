//! The configuration of a sink with `type = "http"`. Reading a section opens no connection and
//! reads no secret; faults are added to the section.

use reqwest::header::HeaderName;

use super::signature::check_secret;
use crate::{
    format::FormatName,
    settings::{
        ExampleSection, Integer, Key, KeyWithDefault, OneOf, SECRETS, Secret, SecretRef, Secrets,
        Section, Size, TextOrSecret, checked_secret, choices, defaulted, integer, keys, one_of,
        optional, required, size, text_or_secret,
    },
    sink::{
        Limits,
        shared_keys::{GZIP_KEYS, LINE_FORMAT, LINE_FORMAT_KEYS, TLS_KEYS},
        web::{HttpReceiverOptions, ReceiverUrl, check_secret_url},
    },
};

keys! {
    /// The keys of this sink, besides those of all sinks.
    pub(in crate::sink) const KEYS;
    ..LINE_FORMAT_KEYS;
    ..GZIP_KEYS;
    ..TLS_KEYS;
    URL: Key<TextOrSecret> = required(
        "url",
        text_or_secret(check_secret_url),
        "The URL that batches are posted to, or a reference to a secret that contains it.",
    )
    .example("https://hooks.example.com/secure-score");
    BODY: Key<OneOf<BodyForm>> = optional(
        "body",
        one_of(BodyForm::NAMES),
        "`array` for JSON formats, otherwise `lines`",
        "The body of a request: `array` is a JSON array; `lines` has one record per line.",
    );
    HEADERS: Key<Secrets> = optional(
        "headers",
        SECRETS,
        "no additional headers",
        "Additional headers, by reference: X-Api-Key = { credential = \"name\" }.",
    )
    .example("{ X-Api-Key = { credential = \"hook-key\" } }");
    SIGNING_SECRET: Key<Secret> = optional(
        "signing_secret",
        checked_secret(check_secret),
        "requests are not signed",
        "The secret for signing requests according to Standard Webhooks: `whsec_` and 24 to 64 random bytes in base64, or a text of at least 32 random characters.",
    )
    .example("{ credential = \"hook-secret\" }");
    OLD_SIGNING_SECRET: Key<Secret> = optional(
        "old_signing_secret",
        checked_secret(check_secret),
        "one signature",
        "The previous `signing_secret` during a rotation; requests are signed with both.",
    )
    .example("{ credential = \"hook-secret-old\" }");
    BATCH_RECORDS: KeyWithDefault<Integer<usize>> = defaulted(
        "batch_records",
        integer::<usize>(1, 100_000).or(500),
        "The maximum number of records in a request.",
    );
    BATCH_SIZE: KeyWithDefault<Size> = defaulted(
        "batch_size",
        size(1 << 10, 64 << 20).or(512 << 10),
        "The size at which a request is sent, before compression.",
    );
}

/// The section in the example file.
pub(in crate::sink) const EXAMPLES: &[ExampleSection] = &[ExampleSection {
    name: "webhook",
    about: "Any endpoint for batches of records.",
    ..ExampleSection::NOT_SET
}];

choices! {
    /// The form of a request body.
    pub(super) enum BodyForm {
        /// A JSON array of records.
        Array = "array",
        /// One record per line.
        Lines = "lines",
    }
}

/// A validated section.
#[derive(Clone, Debug)]
pub(super) struct HttpPlan {
    /// The endpoint: `https`, or `http` to a loopback address.
    pub url: ReceiverUrl,
    pub format: FormatName,
    pub body: BodyForm,
    /// Additional headers; their values are secrets.
    pub headers: Vec<(HeaderName, SecretRef)>,
    /// The current secret and the previous one; empty if requests are not signed.
    pub signing_secrets: Vec<SecretRef>,
    /// How the endpoint is reached.
    pub web: HttpReceiverOptions,
    pub limits: Limits,
}

/// Reads a section. Returns `None` if it is not valid.
pub(super) fn read(section: &Section<'_>) -> Option<HttpPlan> {
    let url = ReceiverUrl::read(section, &URL);
    let format = section.get(&LINE_FORMAT);
    let default_body = if format.is_json() { BodyForm::Array } else { BodyForm::Lines };
    let body = section.get(&BODY).unwrap_or(default_body);
    if body == BodyForm::Array && !format.is_json() {
        section.fault(&BODY, "`body = \"array\"` requires a JSON format");
    }

    let mut headers = Vec::new();
    for (name, secret) in section.get(&HEADERS).unwrap_or_default() {
        match name.parse::<HeaderName>() {
            Ok(name) if !is_reserved(&name) => headers.push((name, secret)),
            _ => section.fault(&HEADERS, format!("the header `{name}` cannot be set")),
        }
    }

    let old = section.get(&OLD_SIGNING_SECRET);
    if old.is_some() && !section.has(&SIGNING_SECRET) {
        section.fault(&OLD_SIGNING_SECRET, "`old_signing_secret` requires `signing_secret`");
    }

    Some(HttpPlan {
        url: url?,
        format,
        body,
        headers,
        signing_secrets: section.get(&SIGNING_SECRET).into_iter().chain(old).collect(),
        web: HttpReceiverOptions::read(section),
        limits: Limits {
            records: section.get(&BATCH_RECORDS),
            bytes: section.get(&BATCH_SIZE),
            in_flight: 1,
        },
    })
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
        match (self.format, self.body) {
            (FormatName::CloudEvents, BodyForm::Array) => "application/cloudevents-batch+json",
            (FormatName::Csv, _) => "text/csv; charset=utf-8; header=present",
            (format, BodyForm::Array) if format.is_json() => "application/json",
            (format, BodyForm::Lines) if format.is_json() => "application/x-ndjson",
            _ => "text/plain; charset=utf-8",
        }
    }
}
