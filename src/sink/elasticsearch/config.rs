//! The configuration of a sink with `type = "elasticsearch"`. Reading a section opens no connection
//! and reads no secret; faults are added to the section.

use crate::{
    format::FormatName,
    settings::{
        Choice, ExampleSection, Key, KeyWithDefault, OneOf, SECRET, Secret, SecretRef, Section,
        Size, TEXT, Text, defaulted, keys, one_of, optional, required, size,
    },
    sink::{
        Destination,
        destination::NameRule,
        shared_keys::{GZIP_KEYS, TLS_KEYS},
        web::{HttpReceiverOptions, read_url},
    },
};

keys! {
    /// The keys of this sink, besides those of all sinks.
    pub(in crate::sink) const KEYS;
    ..GZIP_KEYS;
    ..TLS_KEYS;
    URL: Key<Text> =
        required("url", TEXT, "The URL of the cluster, such as https://elastic.example.com:9200.")
            .example("https://elastic.example.com:9200");
    INDEX: KeyWithDefault<Text> = defaulted(
        "index",
        TEXT.or("logs-microsoft.secure_score-default"),
        "The data stream or index; may contain {tenant.name}, {tenant.id}, {kind} and {label.NAME}.",
    );
    FORMAT: KeyWithDefault<OneOf<FormatName>> = defaulted(
        "format",
        one_of(&["ecs", "json", "ocsf"]).or(ECS),
        "The format of a record. Documents in every format have an `@timestamp`.",
    );
    API_KEY: Key<Secret> = optional(
        "api_key",
        SECRET,
        "no API key",
        "The API key, as the base64 encoding of `id:key` that Kibana shows; instead of `username` and `password`.",
    )
    .example("{ credential = \"elastic-key\" }");
    USERNAME: Key<Text> =
        optional("username", TEXT, "no user name", "The user name; requires `password`.")
            .example("forwarder");
    PASSWORD: Key<Secret> =
        optional("password", SECRET, "no password", "The password of `username`.")
            .example("{ credential = \"opensearch-password\" }");
    BATCH_SIZE: KeyWithDefault<Size> = defaulted(
        "batch_size",
        size(64 << 10, 64 << 20).or(2 << 20),
        "The size at which a request is sent, before compression.",
    );
}

/// The sections in the example file.
pub(in crate::sink) const EXAMPLES: &[ExampleSection] = &[
    ExampleSection {
        name: "elastic",
        about: "Elasticsearch, with an API key.",
        omits: &[USERNAME.define(), PASSWORD.define()],
        ..ExampleSection::NOT_SET
    },
    ExampleSection {
        name: "opensearch",
        about: "OpenSearch, with a user name and a password.",
        sets: &[
            URL.define().example("https://opensearch.example.com:9200"),
            USERNAME.define(),
            PASSWORD.define(),
        ],
        ..ExampleSection::NOT_SET
    },
];

/// The default format.
const ECS: Choice<FormatName> = Choice { name: FormatName::Ecs.as_str(), value: FormatName::Ecs };

/// The names of data streams and indices. Source: the API reference of Elasticsearch, "Create an
/// index".
const INDEX_NAME: NameRule = NameRule {
    is_allowed: |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-'),
    characters: "lowercase letters, digits, `.`, `_` and `-`",
    // A name that begins with a dot is that of a hidden or a system index.
    not_first: &['.', '_', '-'],
    max_bytes: 255,
};

/// A validated section.
#[derive(Clone, Debug)]
pub(super) struct ElasticPlan {
    /// The URL of the bulk API, which ends in `_bulk`.
    pub url: url::Url,
    /// The data stream or index of a record.
    pub index: Destination,
    pub format: FormatName,
    pub login: Login,
    /// How the cluster is reached.
    pub web: HttpReceiverOptions,
    /// The size of the records of a request, before compression.
    pub batch_bytes: usize,
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
pub(super) fn read(section: &Section<'_>) -> Option<ElasticPlan> {
    let url = section.get(&URL).and_then(|text| read_url(section, &URL, text));
    let index = Destination::read(section, &INDEX, INDEX_NAME);
    let (user, password) = (section.get(&USERNAME), section.get(&PASSWORD));
    let login = match (section.get(&API_KEY), user, password) {
        (None, None, None) => Login::None,
        (Some(key), None, None) => Login::ApiKey(key),
        (None, Some(user), Some(password)) => Login::Basic(user.to_owned(), password),
        _ => {
            section.fault(
                &API_KEY,
                "`username` and `password` must be set together, and without `api_key`",
            );
            return None;
        }
    };

    let mut url = url?;
    // The URL of the cluster, with or without the path of the bulk API.
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty();
    }
    if !url.path().ends_with("/_bulk")
        && let Ok(mut path) = url.path_segments_mut()
    {
        path.push("_bulk");
    }
    Some(ElasticPlan {
        url,
        index: index?,
        format: section.get(&FORMAT),
        login,
        web: HttpReceiverOptions::read(section),
        batch_bytes: section.get(&BATCH_SIZE),
    })
}
