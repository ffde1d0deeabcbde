//! User information in the addresses and URLs of receivers, such as `user:password@host`.
//!
//! It is rejected, because addresses are shown in messages, in the log and on the status page. No
//! message may contain a rejected address. Start reading at [`has_no_user`].

use crate::{
    error::Explanation,
    settings::{Named, Section},
};

const HINT: &str =
    "remove the part before `@`; if the receiver requires a login, use the keys of the sink for it";

/// Whether a URL contains neither a user name nor a password.
pub(super) fn is_without_user(url: &url::Url) -> bool {
    url.username().is_empty() && url.password().is_none()
}

/// Why an address or a URL with user information is rejected, without its subject.
pub(super) fn user_rejection() -> Explanation {
    Explanation::new("must not contain a user name or a password").with_hint(HINT)
}

/// Whether an address, which contains `host:port`, has no user information. Otherwise, adds a fault
/// to the section, at the key. In such an address, `@` occurs only after user information.
pub(super) fn has_no_user(section: &Section<'_>, key: &impl Named, address: &str) -> bool {
    let has_user = address.contains('@');
    if has_user {
        reject_user(section, key);
    }
    !has_user
}

/// Adds the fault of a value with user information to the section, at the key.
pub(super) fn reject_user(section: &Section<'_>, key: &impl Named) {
    let Explanation { message, hint } = user_rejection();
    section.fault_with(key, format!("`{}` {message}", key.definition().name), hint);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        settings::{KeyDefinition, with_section},
        sink::{COMMON_KEYS, KINDS},
    };

    /// A type of sink, and a section with a user name and a password in one of its addresses.
    const SECTIONS: &[(&str, &str)] = &[
        ("syslog", "address = \"tcp://canary:canary@host:514\""),
        ("syslog", "address = \"relps://canary@host:2514\""),
        ("syslog", "address = \"canary:canary@tcp://host:514\""),
        ("splunk_hec", "url = \"https://canary:canary@host:8088\"\ntoken = { env = \"T\" }"),
        ("splunk_hec", "urls = [\"https://canary@host:8088\"]\ntoken = { env = \"T\" }"),
        ("elasticsearch", "url = \"https://canary:canary@host:9200\""),
        ("http", "url = \"http://canary:canary@127.0.0.1\""),
        ("otlp", "url = \"https://:canary@host:4318\""),
        (
            "sentinel",
            "url = \"https://canary@a.ingest.monitor.azure.com\"\nrule_id = \"dcr-1\"\nstream = \"Custom-A\"",
        ),
        #[cfg(feature = "email")]
        (
            "email",
            "server = \"canary:canary@host\"\nfrom = \"a@b.example\"\nto = [\"a@b.example\"]",
        ),
        #[cfg(feature = "kafka")]
        ("kafka", "brokers = [\"host:9092\", \"canary:canary@host:9092\"]\ntopic = \"t\""),
        #[cfg(feature = "kafka")]
        (
            "kafka",
            "brokers = [\"host:9092\"]\ntopic = \"t\"\nsasl = { mechanism = \"oauthbearer\", resource = \"https://canary@host\" }",
        ),
        #[cfg(feature = "object_store")]
        ("object_store", "url = \"s3://canary:canary@bucket/prefix\""),
        #[cfg(feature = "object_store")]
        ("object_store", "url = \"s3://bucket\"\nendpoint = \"https://canary:canary@host\""),
    ];

    /// Regression: the address of a syslog receiver could contain a password, which `check
    /// --show-effective` printed.
    #[test]
    fn user_information_is_rejected_without_repeating_it() {
        for (name, text) in SECTIONS {
            let kind = KINDS.iter().find(|kind| kind.name == *name).unwrap();
            let keys: Vec<KeyDefinition> = kind.keys.iter().chain(COMMON_KEYS).copied().collect();
            let text = format!("name = \"x\"\ntype = \"{name}\"\n{text}");

            let (_, faults) = with_section(&text, &keys, |section| (kind.read)(section).is_some());
            let reason = user_rejection().message;
            assert!(faults.iter().any(|fault| fault.ends_with(&reason)), "{text}: {faults:?}");
            assert!(!faults.concat().contains("canary"), "{faults:?}");
        }
    }
}
