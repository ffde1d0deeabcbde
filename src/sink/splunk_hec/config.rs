//! `type = "splunk_hec"`.

use super::service::open;
use crate::{
    format::FormatName,
    settings::{Key, SecretRef, Section, Shape, later, optional, required},
    sink::{BoxFuture, Context, Failure, Limits, Plan, Sink},
};

pub(in crate::sink) const KEYS: &[Key] = &[
    required("url", Shape::Text, "The collector, such as https://splunk.example.com:8088."),
    required("token", Shape::Secret, "The collector's token."),
    optional("index", Shape::Text, "The index to write to; else the token's own."),
    optional("sourcetype", Shape::Text, "Default `microsoft:securescore:<kind>`."),
    optional("gzip", Shape::Bool, "Compress the requests; default true."),
    optional(
        "ca_file",
        Shape::Text,
        "PEM file of the certificate authorities to trust instead of the system's.",
    ),
    optional(
        "acknowledgement",
        Shape::OffOnly,
        "Wait until the indexer says that events are stored.",
    ),
    later("acknowledgement_timeout"),
    later("urls"),
];

#[derive(Debug)]
pub(super) struct HecPlan {
    pub url: url::Url,
    pub token: SecretRef,
    pub index: Option<String>,
    pub sourcetype: Option<String>,
    pub gzip: bool,
    pub ca_file: Option<std::path::PathBuf>,
}

pub(in crate::sink) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    let url = read_url(section)?;
    Some(Box::new(HecPlan {
        url,
        token: section.secret("token")?,
        index: section.text("index").map(str::to_owned),
        sourcetype: section.text("sourcetype").map(str::to_owned),
        gzip: section.bool("gzip").unwrap_or(true),
        ca_file: section.path("ca_file"),
    }))
}

/// The event endpoint. The token goes there, so https, or http to this host alone.
fn read_url(section: &Section<'_>) -> Option<url::Url> {
    let mut url = match url::Url::parse(section.text("url")?) {
        Ok(url) => url,
        Err(error) => {
            section.fault("url", format!("`url` is not a URL: {error}"));
            return None;
        }
    };
    if !crate::net::is_safe_url(&url) {
        section.fault("url", "`url` must be https, or http to a loopback address");
        return None;
    }
    if !matches!(url.path(), "" | "/") {
        section.fault("url", "`url` must have no path: the collector's own is known");
        return None;
    }
    url.set_path("/services/collector/event");
    Some(url)
}

impl Plan for HecPlan {
    fn format(&self) -> FormatName {
        FormatName::Json
    }

    fn limits(&self) -> Limits {
        // 1 MB is what Splunk Cloud documents as the size to respect, before compression.
        Limits { records: 1_000, octets: 512 << 10, in_flight: 1 }
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(std::future::ready(open(self, context)))
    }
}
