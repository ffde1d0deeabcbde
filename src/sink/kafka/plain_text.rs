//! Decides to which brokers a credential may be sent without TLS: only to those on this host.
//!
//! The configuration names the first brokers, and the cluster names the brokers of all later
//! connections, so both are checked. Records without a credential may be sent to any broker. Start
//! reading at [`refuse_plain_text`]. See decision 0066.

use rdkafka::metadata::Metadata;

use crate::{
    foreign_text::ForeignText,
    net::CredentialChannel,
    settings::{Named, Section},
    sink::Failure,
};

/// The maximum number of characters of a broker's host in a message.
const MAX_HOST_CHARS: usize = 253;

/// Adds a fault at the key if one of the brokers, which are `host:port,host:port`, is on another
/// host.
pub(super) fn refuse_plain_text(section: &Section<'_>, key: &impl Named, brokers: &str) {
    let mut hosts = brokers.split(',').map(|broker| {
        let host = broker.rsplit_once(':').map_or(broker, |(host, _)| host);
        without_brackets(host)
    });
    if hosts.all(is_on_this_host) {
        return;
    }

    let message =
        "`sasl` requires `tls`, because the credential would be sent in plain text to `brokers`";
    let hint = "set `tls = {}`, or `tls = { ca_file = \"/path\" }`, and use the port for TLS";
    section.fault_with(key, message.to_owned(), Some(hint.to_owned()));
}

/// Checks the brokers that the cluster names. Fails with `Misconfigured` if one of them is on
/// another host.
pub(super) fn check_brokers(metadata: &Metadata) -> Result<(), Failure> {
    let mut hosts = metadata.brokers().iter().map(|broker| without_brackets(broker.host()));
    let Some(host) = hosts.find(|host| !is_on_this_host(host)) else { return Ok(()) };

    let host = ForeignText::new(host).for_message(MAX_HOST_CHARS);
    Err(Failure::Misconfigured {
        reason: format!(
            "the cluster names the broker `{host}`, to which the credential would be sent in plain text"
        ),
        hint: Some("set `tls`, or let the brokers advertise a loopback address".into()),
    })
}

fn without_brackets(host: &str) -> &str {
    host.trim_matches(['[', ']'])
}

fn is_on_this_host(host: &str) -> bool {
    CredentialChannel::PlainText(host).is_confidential()
}

#[cfg(test)]
mod tests {
    use crate::{
        settings::{KeyDefinition, with_section},
        sink::{
            common_keys::NAME,
            kafka::{KEYS, read},
        },
    };

    /// Regression: credentials were sent in plain text to any broker.
    #[test]
    fn credentials_require_tls_beyond_this_host() {
        let password = "username = \"u\", password = { env = \"P\" }";
        let known: Vec<KeyDefinition> = KEYS.iter().copied().chain([NAME.define()]).collect();
        for mechanism in ["plain", "scram-sha-256", "scram-sha-512", "oauthbearer"] {
            let keys = if mechanism == "oauthbearer" { "" } else { password };
            for (brokers, tls, is_valid) in [
                ("\"kafka.example.com:9092\"", "", false),
                ("\"127.0.0.1:9092\", \"10.0.0.1:9092\"", "", false),
                ("\"localhost.example.com:9092\"", "", false),
                ("\"127.0.0.1:9092\", \"localhost:9093\", \"[::1]:9094\"", "", true),
                ("\"kafka.example.com:9093\"", "tls = {}", true),
            ] {
                let text = format!(
                    "name = \"lake\"\nbrokers = [{brokers}]\ntopic = \"t\"\n{tls}\nsasl = {{ mechanism = \"{mechanism}\", {keys} }}\n"
                )
                .replace(",  }", " }");
                let (_, faults) = with_section(&text, &known, |section| read(section).is_some());
                let refused = faults.iter().any(|fault| fault.starts_with("`sasl` requires `tls`"));
                assert_eq!(refused, !is_valid, "{text}: {faults:?}");
                assert_eq!(faults.is_empty(), is_valid, "{text}: {faults:?}");
            }
        }
    }
}
