//! The configuration of a sink with `type = "elasticsearch"`. Reading a section opens no connection
//! and reads no secret; faults are added to the section.

use super::service::{open, probe};
use crate::{
    format::FormatName,
    settings::{Key, SecretRef, Section, Shape, optional, required},
    sink::{
        BoxFuture, Context, Failure, Limits, Plan, Sink, read_format,
        template::Template,
        web::{CA_FILE, CLIENT_CERTIFICATE, CLIENT_KEY, GZIP, HttpReceiverOptions, read_url},
    },
};

/// The keys of this sink, besides those of all sinks.
pub(in crate::sink) const KEYS: &[Key] = &[
    required(
        "url",
        Shape::Text,
        "The URL of the cluster, such as https://elastic.example.com:9200.",
    ),
    optional(
        "index",
        Shape::Text,
        "The data stream or index; may contain {tenant.name}, {tenant.id}, {kind} and {label.NAME}; default: logs-microsoft.secure_score-default.",
    ),
    optional(
        "format",
        Shape::OneOf(&["ecs", "json", "ocsf"]),
        "The format of a record; default: ecs. Documents in every format have an `@timestamp`.",
    ),
    optional(
        "api_key",
        Shape::Secret,
        "The API key, as the base64 encoding of `id:key` that Kibana shows; instead of `username` and `password`.",
    ),
    optional("username", Shape::Text, "The user name; requires `password`."),
    optional("password", Shape::Secret, "The password of `username`."),
    optional(
        "batch_size",
        Shape::Size,
        "The size at which a request is sent, before compression; default: 2MiB.",
    ),
    GZIP,
    CA_FILE,
    CLIENT_CERTIFICATE,
    CLIENT_KEY,
];

/// A validated section.
#[derive(Clone, Debug)]
pub(super) struct ElasticPlan {
    /// The URL of the bulk API, which ends in `_bulk`.
    pub url: url::Url,
    /// The data stream or index of a record.
    pub index: Template,
    pub format: FormatName,
    pub login: Login,
    /// How the cluster is reached.
    pub web: HttpReceiverOptions,
    batch_bytes: usize,
}

/// How requests are authenticated.
#[derive(Clone, Debug)]
pub(super) enum Login {
    /// Requests contain no credential.
    None,
    /// The API key, as the base64 encoding of `id:key`.
    ApiKey(SecretRef),
    /// A user name and its password.
    Basic(String, SecretRef),
}

/// Reads a section. Returns `None` if it is not valid.
pub(in crate::sink) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    let url = section.text("url").and_then(|text| read_url(section, "url", text));
    let index = if section.has("index") {
        Template::read(section, "index")
    } else {
        Some(Template::constant("logs-microsoft.secure_score-default"))
    };
    if let Some(index) = &index
        && !index.literal().chars().all(is_index_char)
    {
        section
            .fault("index", "`index` must consist of lowercase letters, digits, `.`, `_` and `-`");
    }

    let (user, password) = (section.text("username"), section.secret("password"));
    let login = match (section.secret("api_key"), user, password) {
        (None, None, None) => Login::None,
        (Some(key), None, None) => Login::ApiKey(key),
        (None, Some(user), Some(password)) => Login::Basic(user.to_owned(), password),
        _ => {
            section.fault(
                "api_key",
                "`username` and `password` must be set together, and without `api_key`",
            );
            return None;
        }
    };

    let batch_bytes = section.size("batch_size").and_then(|size| usize::try_from(size).ok());
    if batch_bytes.is_some_and(|bytes| !(64 << 10..=64 << 20).contains(&bytes)) {
        section.fault("batch_size", "`batch_size` must be from 64KiB to 64MiB");
    }

    let mut url = url?;
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push("_bulk");
    }
    Some(Box::new(ElasticPlan {
        url,
        index: index?,
        format: read_format(section, FormatName::Ecs),
        login,
        web: HttpReceiverOptions::read(section),
        batch_bytes: batch_bytes.unwrap_or(2 << 20),
    }))
}

/// Whether the name of a data stream or index may contain the character.
pub(super) fn is_index_char(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-')
}

impl Plan for ElasticPlan {
    fn format(&self) -> FormatName {
        self.format
    }

    fn acknowledgement(&self) -> &'static str {
        "the cluster stored the document"
    }

    fn limits(&self) -> Limits {
        Limits { records: 2_000, bytes: self.batch_bytes, in_flight: 1 }
    }

    fn required_labels(&self) -> Vec<String> {
        self.index.labels().map(str::to_owned).collect()
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
