//! The configuration of a sink with `type = "splunk_hec"`. Reading a section opens no connection
//! and reads no secret; faults are added to the section.

use std::time::Duration;

use super::service::{open, probe};
use crate::{
    format::FormatName,
    settings::{Key, SecretRef, Section, Shape, optional, required},
    sink::{BoxFuture, Context, Failure, Limits, Plan, Sink, template::Template, web::read_url},
};

/// The keys of this sink, besides those of all sinks.
pub(in crate::sink) const KEYS: &[Key] = &[
    optional(
        "url",
        Shape::Text,
        "The URL of the collector, such as https://splunk.example.com:8088.",
    ),
    optional(
        "urls",
        Shape::Texts,
        "The URLs of several collectors, instead of `url`; if a collector cannot accept events, the next one is used.",
    ),
    required("token", Shape::Secret, "The token of the collector."),
    optional(
        "index",
        Shape::Text,
        "The index; may contain {tenant.name}, {tenant.id}, {kind} and {label.NAME}; default: the index of the token.",
    ),
    optional("sourcetype", Shape::Text, "The source type; default: `microsoft:securescore:KIND`."),
    optional(
        "indexed_fields",
        Shape::Bool,
        "Sends event_id, tenant_id, vendor_product, object and object_category as indexed fields; default: true.",
    ),
    optional("gzip", Shape::Bool, "Compresses requests; default: true."),
    optional(
        "ca_file",
        Shape::File,
        "PEM file of the certificate authorities to trust instead of those of the system.",
    ),
    optional(
        "acknowledgement",
        Shape::Bool,
        "Waits until the indexer confirms the events: true requires a token with indexer acknowledgement, false disables waiting; default: waits if the token has indexer acknowledgement.",
    ),
    optional(
        "acknowledgement_timeout",
        Shape::Duration,
        "The time after which events without an acknowledgement are sent again; default: 5m.",
    ),
];

const ACKNOWLEDGEMENT_TIMEOUT: Duration = Duration::from_mins(5);

/// A validated section.
#[derive(Debug)]
pub(super) struct HecPlan {
    /// The URLs of the collectors, without a path; at least one.
    pub urls: Vec<url::Url>,
    /// The HEC token.
    pub token: SecretRef,
    /// The index of an event; `None` means the default of the token.
    pub index: Option<Template>,
    /// The source type of all events; `None` means one per kind of record.
    pub sourcetype: Option<String>,
    /// `indexed_fields`: whether events have indexed fields.
    pub fields: bool,
    /// Whether request bodies are compressed.
    pub gzip: bool,
    /// The PEM file of the certificate authorities; `None` means those of the system.
    pub ca_file: Option<std::path::PathBuf>,
    pub acknowledgement: AcknowledgementMode,
    /// How long to wait for the acknowledgement of one request before it is sent again.
    pub acknowledgement_timeout: Duration,
}

/// Whether a request waits for indexer acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AcknowledgementMode {
    /// Waits; a response without an ackId is a failure that is retried.
    Required,
    /// Waits if the collector returns an ackId.
    Auto,
    /// Never waits: a success response is the acknowledgement.
    Off,
}

/// Reads a section. Returns `None` if it is not valid.
pub(in crate::sink) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    let urls = read_urls(section);
    let acknowledgement = match section.bool("acknowledgement") {
        Some(true) => AcknowledgementMode::Required,
        Some(false) => AcknowledgementMode::Off,
        None => AcknowledgementMode::Auto,
    };

    let timeout = section.duration("acknowledgement_timeout").unwrap_or(ACKNOWLEDGEMENT_TIMEOUT);
    if !(Duration::from_secs(1)..=Duration::from_hours(1)).contains(&timeout) {
        section.fault("acknowledgement_timeout", "`acknowledgement_timeout` must be from 1s to 1h");
    }

    Some(Box::new(HecPlan {
        urls: urls?,
        token: section.secret("token")?,
        index: section.has("index").then(|| Template::read(section, "index")).flatten(),
        sourcetype: section.text("sourcetype").map(str::to_owned),
        fields: section.bool("indexed_fields").unwrap_or(true),
        gzip: section.bool("gzip").unwrap_or(true),
        ca_file: section.path("ca_file"),
        acknowledgement,
        acknowledgement_timeout: timeout,
    }))
}

fn read_urls(section: &Section<'_>) -> Option<Vec<url::Url>> {
    let urls = match (section.text("url"), section.texts("urls")) {
        (Some(url), None) => vec![read_root(section, "url", url)],
        (None, Some(urls)) if !urls.is_empty() => {
            urls.into_iter().map(|url| read_root(section, "urls", url)).collect()
        }
        _ => {
            section.fault("url", "exactly one of `url` and `urls` is required");
            return None;
        }
    };
    urls.into_iter().collect()
}

/// Reads a URL without a path, because every collector has the same paths.
fn read_root(section: &Section<'_>, key: &str, text: &str) -> Option<url::Url> {
    let url = read_url(section, key, text)?;
    if !matches!(url.path(), "" | "/") {
        section.fault(
            key,
            format!("`{key}` must not have a path; the paths of the collector are added"),
        );
        return None;
    }
    Some(url)
}

impl Plan for HecPlan {
    fn timeout(&self) -> Duration {
        self.acknowledgement_timeout + Duration::from_mins(15)
    }

    fn format(&self) -> FormatName {
        FormatName::Json
    }

    fn acknowledgement(&self) -> &'static str {
        match self.acknowledgement {
            AcknowledgementMode::Required => "the indexer acknowledged the record",
            AcknowledgementMode::Auto => {
                "the indexer acknowledged the record or, if the token has no indexer acknowledgement, the collector accepted it"
            }
            AcknowledgementMode::Off => "the collector accepted the record",
        }
    }

    fn limits(&self) -> Limits {
        // Splunk Cloud documents 1 MB before compression as the limit of a request.
        Limits {
            records: 1_000,
            bytes: 512 << 10,
            // Without indexer acknowledgement the response is the acknowledgement, so no batch
            // remains in flight.
            in_flight: if self.acknowledgement == AcknowledgementMode::Off { 1 } else { 16 },
        }
    }

    fn required_labels(&self) -> Vec<String> {
        self.index.iter().flat_map(|index| index.labels().map(str::to_owned)).collect()
    }

    fn probe<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(probe(self))
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(open(self, context))
    }
}
