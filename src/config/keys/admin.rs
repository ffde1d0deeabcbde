//! The keys of `[admin]`: where the HTTP listener accepts requests, and how many metrics it
//! exports. The listener has no authentication, so no key may make it change anything. Start
//! reading at [`LISTEN`].

use crate::settings::{
    ExampleSection, Integer, Key, KeyWithDefault, TEXT, TEXTS, Text, Texts, defaulted, integer,
    keys, optional, required,
};

keys! {
    /// All keys of the section.
    pub(in crate::config) const KEYS;
    LISTEN: Key<Text> = required(
        "listen",
        TEXT,
        "The IP address and port to listen on, such as 127.0.0.1:9633; port 0 selects a free port. An address other than loopback requires `hosts`. With `unix:` and an absolute path, a Unix socket that only the user and the group of the service can use.",
    )
    .example("127.0.0.1:9633");
    HOSTS: Key<Texts> = optional(
        "hosts",
        TEXTS,
        "only loopback names and addresses",
        "Additional accepted values of the `Host` header; loopback names and addresses are always accepted.",
    )
    .example("[\"collector.example.com\"]");
    TENANT_SERIES: KeyWithDefault<Integer<usize>> = defaulted(
        "tenant_series",
        integer::<usize>(0, 100_000).or(1_000),
        "With more tenants than this, metrics have no series per tenant. A tenant has about ten series.",
    );
}

/// The section in the example file.
pub(in crate::config) const EXAMPLES: &[ExampleSection] = &[ExampleSection {
    about: "Metrics, health checks and the status page over HTTP. Without this section, the daemon does not listen for connections.",
    ..ExampleSection::NOT_SET
}];
