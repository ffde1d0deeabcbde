//! The keys of `[source]`: the proxy, the certificate authorities and the limits of requests to
//! Microsoft. They apply to all tenants together, so a key of a single tenant must not be declared
//! here. Start reading at [`PROXY`].

use crate::settings::{
    AUTHORITY_KEYS, ExampleSection, Integer, Key, KeyWithDefault, SECRET, Secret, Size, TEXT, Text,
    defaulted, integer, keys, optional, size,
};

keys! {
    /// All keys of the section.
    pub(in crate::config) const KEYS;
    ..AUTHORITY_KEYS;
    PROXY: Key<Text> = optional(
        "proxy",
        TEXT,
        "no proxy",
        "The proxy for requests to Microsoft, as http://host:port or https://host:port. Requests to the Azure Instance Metadata Service never use it.",
    )
    .example("https://proxy.example.com:3129");
    PROXY_USER: Key<Text> = optional(
        "proxy_user",
        TEXT,
        "no authentication",
        "The user name for the proxy; requires `proxy_password`.",
    )
    .example("forwarder");
    PROXY_PASSWORD: Key<Secret> = optional(
        "proxy_password",
        SECRET,
        "no authentication",
        "The password for the proxy; requires `proxy_user`, and a proxy over https or on a loopback address.",
    );
    REQUESTS_PER_SECOND: KeyWithDefault<Integer<u32>> = defaulted(
        "requests_per_second",
        integer::<u32>(1, 1_000).or(50),
        "The maximum number of requests to Graph per second, for all tenants together.",
    );
    BYTES_IN_FLIGHT: KeyWithDefault<Size> = defaulted(
        "bytes_in_flight",
        size(8 << 20, 4 << 30).or(32 << 20),
        "The memory for responses from Graph, for all tenants together. A response that is larger than half of it is rejected.",
    );
}

/// The section in the example file.
pub(in crate::config) const EXAMPLES: &[ExampleSection] = &[ExampleSection {
    about: "The connection to Microsoft Graph and to Entra, for all tenants together.",
    ..ExampleSection::SET
}];
