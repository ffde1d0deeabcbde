//! The configuration of a sink with `type = "splunk_hec"`. Reading a section opens no connection
//! and reads no secret; faults are added to the section.

use std::time::Duration;

use crate::{
    net::has_path_or_query,
    settings::{
        ExampleSection, FLAG, Flag, Key, KeyWithDefault, Named, SECRET, Secret, SecretRef, Section,
        TEXT, TEXTS, Text, Texts, Timespan, defaulted, duration, keys, optional, required,
    },
    sink::{
        Destination,
        destination::NameRule,
        shared_keys::{AUTHORITY_KEYS, GZIP_KEYS},
        web::{HttpReceiverOptions, read_url},
    },
};

keys! {
    /// The keys of this sink, besides those of all sinks.
    pub(in crate::sink) const KEYS;
    ..GZIP_KEYS;
    ..AUTHORITY_KEYS;
    URL: Key<Text> = optional(
        "url",
        TEXT,
        "`urls` is required",
        "The URL of the collector, such as https://splunk.example.com:8088.",
    )
    .example("https://splunk.example.com:8088");
    URLS: Key<Texts> = optional(
        "urls",
        TEXTS,
        "`url` is required",
        "The URLs of several collectors, instead of `url`; if a collector cannot accept events, the next one is used.",
    )
    .example("[\"https://splunk-1.example.com:8088\", \"https://splunk-2.example.com:8088\"]");
    TOKEN: Key<Secret> = required("token", SECRET, "The token of the collector.")
        .example("{ credential = \"hec-token\" }");
    INDEX: Key<Text> = optional(
        "index",
        TEXT,
        "the index of the token",
        "The index; may contain {tenant.name}, {tenant.id}, {kind} and {label.NAME}.",
    )
    .example("posture");
    SOURCETYPE: Key<Text> =
        optional("sourcetype", TEXT, "`microsoft:securescore:KIND`", "The source type.")
            .example("microsoft:securescore");
    INDEXED_FIELDS: KeyWithDefault<Flag> = defaulted(
        "indexed_fields",
        FLAG.or(true),
        "Sends event_id, tenant_id, vendor_product, object and object_category as indexed fields.",
    );
    ACKNOWLEDGEMENT: Key<Flag> = optional(
        "acknowledgement",
        FLAG,
        "waits if the token has indexer acknowledgement",
        "Waits until the indexer confirms the events: true requires a token with indexer acknowledgement, false disables waiting.",
    );
    ACKNOWLEDGEMENT_TIMEOUT: KeyWithDefault<Timespan> = defaulted(
        "acknowledgement_timeout",
        duration(Duration::from_secs(1), Duration::from_hours(1)).or(Duration::from_mins(5)),
        "The time after which events without an acknowledgement are sent again.",
    );
}

/// The sections in the example file.
pub(in crate::sink) const EXAMPLES: &[ExampleSection] = &[
    ExampleSection {
        name: "splunk",
        about: "The HTTP event collector of Splunk.",
        sets: &[URL.define()],
        omits: &[URLS.define()],
        ..ExampleSection::NOT_SET
    },
    ExampleSection {
        name: "splunk-cluster",
        about: "Several collectors with the same token.",
        sets: &[URLS.define()],
        ..ExampleSection::NOT_SET
    },
];

/// The names of indices, which are also those of directories. Source: the specification of
/// `indexes.conf`.
const INDEX_NAME: NameRule = NameRule {
    is_allowed: |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'),
    characters: "lowercase letters, digits, `_` and `-`",
    not_first: &['_', '-'],
    max_bytes: 255,
};

/// A validated section.
#[derive(Debug)]
pub(super) struct HecPlan {
    /// The URLs of the collectors, without a path; at least one.
    pub urls: Vec<url::Url>,
    /// The HEC token.
    pub token: SecretRef,
    /// The index of an event; `None` means the default of the token.
    pub index: Option<Destination>,
    /// The source type of all events; `None` means one per kind of record.
    pub sourcetype: Option<String>,
    /// `indexed_fields`: whether events have indexed fields.
    pub fields: bool,
    /// How the collectors are reached.
    pub web: HttpReceiverOptions,
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
pub(super) fn read(section: &Section<'_>) -> Option<HecPlan> {
    let urls = read_urls(section);
    let acknowledgement = match section.get(&ACKNOWLEDGEMENT) {
        Some(true) => AcknowledgementMode::Required,
        Some(false) => AcknowledgementMode::Off,
        None => AcknowledgementMode::Auto,
    };

    Some(HecPlan {
        urls: urls?,
        token: section.get(&TOKEN)?,
        index: Destination::read(section, &INDEX, INDEX_NAME),
        sourcetype: section.get(&SOURCETYPE).map(str::to_owned),
        fields: section.get(&INDEXED_FIELDS),
        web: HttpReceiverOptions::without_client_certificate(section),
        acknowledgement,
        acknowledgement_timeout: section.get(&ACKNOWLEDGEMENT_TIMEOUT),
    })
}

fn read_urls(section: &Section<'_>) -> Option<Vec<url::Url>> {
    let urls = match (section.get(&URL), section.get(&URLS)) {
        (Some(url), None) => vec![read_root(section, &URL, url)],
        (None, Some(urls)) if !urls.is_empty() => {
            urls.into_iter().map(|url| read_root(section, &URLS, url)).collect()
        }
        _ => {
            section.fault(&URL, "exactly one of `url` and `urls` is required");
            return None;
        }
    };
    urls.into_iter().collect()
}

/// Reads a URL without a path, because every collector has the same paths.
fn read_root(section: &Section<'_>, key: &impl Named, text: &str) -> Option<url::Url> {
    let url = read_url(section, key, text)?;
    if has_path_or_query(&url) {
        let name = key.definition().name;
        let message = format!(
            "`{name}` must not have a path or a query; the paths of the collector are added"
        );
        let hint = "remove everything after the host and the port";
        section.fault_with(key, message, Some(hint.to_owned()));
        return None;
    }
    Some(url)
}
