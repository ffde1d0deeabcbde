//! `type = "splunk_hec"`.

use std::time::Duration;

use super::service::{open, probe};
use crate::{
    format::FormatName,
    settings::{Key, SecretRef, Section, Shape, optional, required},
    sink::{BoxFuture, Context, Failure, Limits, Plan, Sink, template::Template, web::read_url},
};

pub(in crate::sink) const KEYS: &[Key] = &[
    optional("url", Shape::Text, "The collector, such as https://splunk.example.com:8088."),
    optional("urls", Shape::Texts, "Several: the next is tried where one cannot take events."),
    required("token", Shape::Secret, "The collector's token."),
    optional(
        "index",
        Shape::Text,
        "The index to write to, which may name {tenant.name}, {tenant.id}, {kind} and {label.NAME}; else the token's own.",
    ),
    optional("sourcetype", Shape::Text, "Default `microsoft:securescore:<kind>`."),
    optional(
        "indexed_fields",
        Shape::Bool,
        "event_id, tenant_id, vendor_product, object and object_category as indexed fields; default true.",
    ),
    optional("gzip", Shape::Bool, "Compress the requests; default true."),
    optional(
        "ca_file",
        Shape::Text,
        "PEM file of the certificate authorities to trust instead of the system's.",
    ),
    optional(
        "acknowledgement",
        Shape::Bool,
        "Wait until the indexer says that events are stored: true demands it of the token, false does without; default: where the token has it.",
    ),
    optional(
        "acknowledgement_timeout",
        Shape::Duration,
        "Events not acknowledged by then are sent again; default 5m.",
    ),
];

#[derive(Debug)]
pub(super) struct HecPlan {
    /// At least one.
    pub urls: Vec<url::Url>,
    pub token: SecretRef,
    pub index: Option<Template>,
    pub sourcetype: Option<String>,
    pub fields: bool,
    pub gzip: bool,
    pub ca_file: Option<std::path::PathBuf>,
    pub acknowledgement: Acknowledgement,
    pub acknowledgement_timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acknowledgement {
    Required,
    /// Where the token has it.
    Auto,
    Off,
}

pub(in crate::sink) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    let urls = read_urls(section);
    let acknowledgement = match section.bool("acknowledgement") {
        Some(true) => Acknowledgement::Required,
        Some(false) => Acknowledgement::Off,
        None => Acknowledgement::Auto,
    };
    let timeout = section.duration("acknowledgement_timeout").unwrap_or(PATIENCE);
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

const PATIENCE: Duration = Duration::from_mins(5);

fn read_urls(section: &Section<'_>) -> Option<Vec<url::Url>> {
    let urls = match (section.text("url"), section.texts("urls")) {
        (Some(url), None) => vec![read_root(section, "url", url)],
        (None, Some(urls)) if !urls.is_empty() => {
            urls.into_iter().map(|url| read_root(section, "urls", url)).collect()
        }
        _ => {
            section.fault("url", "a collector wants either `url` or `urls`");
            return None;
        }
    };
    urls.into_iter().collect()
}

/// The collector's own path is known.
fn read_root(section: &Section<'_>, key: &str, text: &str) -> Option<url::Url> {
    let url = read_url(section, key, text)?;
    if !matches!(url.path(), "" | "/") {
        section.fault(key, format!("`{key}` must have no path: the collector's own is known"));
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
            Acknowledgement::Required => "the indexer acknowledged it",
            Acknowledgement::Auto => {
                "the indexer acknowledged it, or, where the token has no acknowledgement, the collector took it"
            }
            Acknowledgement::Off => "the collector took it",
        }
    }

    fn limits(&self) -> Limits {
        // 1 MB is what Splunk Cloud documents as the size to respect, before compression.
        Limits {
            records: 1_000,
            bytes: 512 << 10,
            // Without acknowledgement the proof comes with the answer, and nothing is in flight.
            in_flight: if self.acknowledgement == Acknowledgement::Off { 1 } else { 16 },
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
