//! Keys that several types of sinks share: the format, and the files and the name for TLS. The
//! modules of the sinks include these groups in their keys. They must never declare keys for
//! certificates themselves, so that these have the same name and meaning in all sinks. Start
//! reading at [`TLS_KEYS`].

use std::path::PathBuf;

pub(super) use crate::settings::{AUTHORITY_KEYS, CA_FILE};
use crate::{
    format::FormatName,
    settings::{
        Choice, Choices, FILE, FLAG, FilePath, Flag, Key, KeyDefinition, KeyWithDefault, OneOf,
        Section, TEXT, Text, defaulted, keys, names, one_of, optional,
    },
};

keys! {
    /// The key of a sink whose receiver can have a certificate with another name.
    pub(super) const SERVER_NAME_KEYS;
    SERVER_NAME: Key<Text> = optional(
        "server_name",
        TEXT,
        "the host of the receiver's address",
        "The name in the certificate of the receiver.",
    )
    .example("receiver.example.com");
}

keys! {
    /// The keys of a sink that can use mutual TLS.
    pub(super) const TLS_KEYS;
    ..AUTHORITY_KEYS;
    CLIENT_CERTIFICATE: Key<FilePath> = optional(
        "client_certificate",
        FILE,
        "no client certificate",
        "A PEM file of the client certificate chain, for mutual TLS; requires `client_key`.",
    )
    .example("/etc/secure-score-forwarder/client.pem");
    CLIENT_KEY: Key<FilePath> = optional(
        "client_key",
        FILE,
        "no client certificate",
        "A PEM file of the client certificate's private key; requires `client_certificate`.",
    )
    .example("/etc/secure-score-forwarder/client.key");
}

keys! {
    /// The key of a sink whose requests can be compressed.
    pub(super) const GZIP_KEYS;
    GZIP: KeyWithDefault<Flag> = defaulted("gzip", FLAG.or(true), "Compresses requests.");
}

keys! {
    /// The format of a sink that can write a header line first.
    pub(super) const LINE_FORMAT_KEYS;
    LINE_FORMAT: KeyWithDefault<OneOf<FormatName>> =
        defaulted("format", one_of(LINE_FORMATS).or(JSON), "The format of a record.");
}

keys! {
    /// The format of a sink that cannot write a header line.
    pub(super) const FORMAT_KEYS;
    FORMAT: KeyWithDefault<OneOf<FormatName>> =
        defaulted("format", one_of(FORMATS).or(JSON), "The format of a record.");
}

/// The default format of most sinks.
pub(super) const JSON: Choice<FormatName> =
    Choice { name: FormatName::Json.as_str(), value: FormatName::Json };

/// The formats of records that are sent one by one: all except the last one, CSV, which requires a
/// header line.
pub(super) const FORMATS: &[&str] = match LINE_FORMATS.split_last() {
    Some((_csv, others)) => others,
    None => &[],
};

const LINE_FORMATS: &[&str] = names!(FormatName);

/// The names of the keys of a client certificate, in every sink.
pub const CLIENT_CERTIFICATE_NAME: &str = CLIENT_CERTIFICATE.name();
pub const CLIENT_KEY_NAME: &str = CLIENT_KEY.name();

/// The files for TLS, from [`TLS_KEYS`].
#[derive(Clone, Debug, Default)]
pub(super) struct TlsFiles {
    /// The PEM file of the certificate authorities; `None` means those of the system.
    pub ca_file: Option<PathBuf>,
    /// The paths of the client certificate and its private key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    /// Reads the keys. A client certificate without its private key, and the reverse, is a fault of
    /// the section.
    pub(super) fn read(section: &Section<'_>) -> Self {
        let client = match (section.get(&CLIENT_CERTIFICATE), section.get(&CLIENT_KEY)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => {
                let message = "`client_certificate` and `client_key` must be set together";
                section.fault(&CLIENT_CERTIFICATE, message);
                None
            }
        };
        Self { ca_file: section.get(&CA_FILE), client }
    }
}

impl Choices for FormatName {
    fn from_name(name: &str) -> Option<Self> {
        Self::parse(name)
    }
}

/// The keys that `[defaults.sinks]` can set in addition to those of all sinks. They apply to each
/// sink whose type has them.
pub const INHERITED_KEYS: &[KeyDefinition] = &[
    CA_FILE.define().in_defaults(),
    CLIENT_CERTIFICATE.define().in_defaults(),
    CLIENT_KEY.define().in_defaults(),
    GZIP.define().in_defaults(),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_formats_without_header_are_sent_singly() {
        for format in FormatName::ALL {
            let has_header = format.header_line().is_some();
            assert_eq!(FORMATS.contains(&format.as_str()), !has_header, "{format:?}");
        }
    }
}
