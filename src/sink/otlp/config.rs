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

/// The default path of the endpoints for OpenTelemetry data, and those of the other signals.
const LOGS_PATH: &str = "/v1/logs";
const OTHER_SIGNALS: &[(&str, &str)] = &[
    ("/v1/traces", "traces"),
    ("/v1/metrics", "metrics"),
    ("/v1/profiles", "profiles"),
    ("/v1development/profiles", "profiles"),
];

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
        url.set_path(LOGS_PATH);
    }
    if let Some(signal) = other_signal(&url) {
        let message = format!("`url` has the path for {signal}, but this sink sends logs");
        let hint = format!("end the path with `{LOGS_PATH}`, or remove it");
        section.fault_with(&URL, message, Some(hint));
        return None;
    }

    Some(OtlpPlan {
        url,
        format: section.get(&FORMAT),
        headers,
        web: HttpReceiverOptions::read(section),
    })
}

/// The signal that the path of a URL is for, unless it is for logs or has another form. A proxy can
/// have its own path before that of the signal.
fn other_signal(url: &url::Url) -> Option<&'static str> {
    let path = url.path().trim_end_matches('/').to_ascii_lowercase();
    let found = OTHER_SIGNALS.iter().find(|(end, _)| path.ends_with(end));
    found.map(|(_, signal)| *signal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::with_section;

    /// Regression: a path for traces or metrics was accepted, and every batch was rejected.
    #[test]
    fn paths_of_other_signals_are_rejected() {
        for (path, expected) in [
            ("", Ok("/v1/logs")),
            ("/", Ok("/v1/logs")),
            ("/v1/logs", Ok("/v1/logs")),
            ("/otlp/v1/logs/", Ok("/otlp/v1/logs/")),
            ("/traces", Ok("/traces")),
            ("/v1/traces", Err("traces")),
            ("/v1/metrics/", Err("metrics")),
            ("/otlp/V1/Metrics", Err("metrics")),
            ("/v1development/profiles", Err("profiles")),
        ] {
            let text = format!("url = \"https://otel.example.com:4318{path}\"");
            let (plan, faults) = with_section(&text, KEYS, read);
            let found = plan.as_ref().map(|plan| plan.url.path());
            assert_eq!(found, expected.ok(), "{path}");

            let signals = expected.err().map(|signal| format!("has the path for {signal}, "));
            assert_eq!(faults.len(), usize::from(signals.is_some()), "{path}: {faults:?}");
            assert!(signals.is_none_or(|signal| faults[0].contains(&signal)), "{faults:?}");
        }
    }
}
