//! The text of the configuration that the answers result in. Questions without an answer are
//! represented by their examples, so that the answers can be checked one by one. Nothing here
//! performs I/O. Start reading at [`configuration`].

use std::fmt::Write as _;

use super::{
    facts::{ReferenceKind, SecretStore, Settings},
    questions::{Answers, ELASTIC_KEY, GRAPH_SECRET, HEC_TOKEN, KAFKA_PASSWORD, Key},
    receiver::Receiver,
};

/// The name of the sink in the new configuration.
pub(super) const SINK: &str = "siem";

/// The name of the credential that the tenant and a sink share.
const SHARED_CREDENTIAL: &str = "app";

/// The configuration in TOML.
pub(super) fn configuration(answers: &Answers, settings: &Settings) -> String {
    let cloud = match settings.cloud.split_once(',') {
        _ if settings.cloud == "global" => String::new(),
        Some((login, graph)) => {
            format!("cloud = {{ login_url = {}, graph_url = {} }}\n", quoted(login), quoted(graph))
        }
        None => format!("cloud = {}\n", quoted(&settings.cloud)),
    };
    let tenant = format!(
        "[[tenants]]\nname = {}\nid = {}\n{cloud}",
        quoted(answers.text(Key::TenantName)),
        quoted(answers.text(Key::Tenant))
    );

    // A sink can use only a shared credential.
    let credential = credential(answers, &settings.secrets);
    let tenant = if answers.receiver() == Receiver::Sentinel {
        format!(
            "[credentials.{SHARED_CREDENTIAL}]\n{credential}\n\n{tenant}credential = {}",
            quoted(SHARED_CREDENTIAL)
        )
    } else {
        format!("{tenant}[tenants.credential]\n{credential}")
    };

    format!(
        "[state]\ndirectory = {}\n\n[admin]\nlisten = {}\n\n{tenant}\n\n[[sinks]]\nname = {}\n{}\n",
        quoted(&settings.state_directory.display().to_string()),
        quoted(&settings.listen),
        quoted(SINK),
        sink(answers, &settings.secrets)
    )
}

/// The keys of the credential.
fn credential(answers: &Answers, secrets: &SecretStore) -> String {
    let client_id = quoted(answers.text(Key::ClientId));
    match answers.text(Key::Certificate) {
        "" => format!(
            "kind = \"client_secret\"\nclient_id = {client_id}\nclient_secret = {}",
            secrets.reference(GRAPH_SECRET)
        ),
        file => format!(
            "kind = \"certificate\"\nclient_id = {client_id}\ncertificate = {}",
            quoted(file)
        ),
    }
}

/// The keys of the sink, except its name.
fn sink(answers: &Answers, secrets: &SecretStore) -> String {
    let value = |key: Key| quoted(answers.text(key));

    match answers.receiver() {
        Receiver::Syslog => {
            let is_datagram = answers.text(Key::Receiver).starts_with("udp:");
            let lossy = if is_datagram { "\nlossy = true" } else { "" };
            let (address, format) = (value(Key::Receiver), value(Key::Format));
            format!("type = \"syslog\"\naddress = {address}\nformat = {format}{lossy}")
        }
        Receiver::Splunk => format!(
            "type = \"splunk_hec\"\nurl = {}\ntoken = {}",
            value(Key::Receiver),
            secrets.reference(HEC_TOKEN)
        ),
        Receiver::File => format!("type = \"file\"\npath = {}", value(Key::Receiver)),
        Receiver::Kafka => kafka(answers, secrets),
        Receiver::Elasticsearch => elasticsearch(answers, secrets),
        Receiver::Sentinel => format!(
            "type = \"sentinel\"\nurl = {}\nrule_id = {}\nstream = {}\ncredential = {}\nentra_tenant = {}",
            value(Key::SentinelUrl),
            value(Key::SentinelRule),
            value(Key::SentinelStream),
            quoted(SHARED_CREDENTIAL),
            value(Key::Tenant)
        ),
    }
}

fn elasticsearch(answers: &Answers, secrets: &SecretStore) -> String {
    let api_key = if answers.has_secret(Key::ElasticSecret) {
        format!("\napi_key = {}", secrets.reference(ELASTIC_KEY))
    } else {
        String::new()
    };
    let (url, index) =
        (quoted(answers.text(Key::ElasticUrl)), quoted(answers.text(Key::ElasticIndex)));
    format!("type = \"elasticsearch\"\nurl = {url}\nindex = {index}{api_key}")
}

fn kafka(answers: &Answers, secrets: &SecretStore) -> String {
    let brokers = answers.text(Key::Brokers).split(',').map(|broker| quoted(broker.trim()));
    let brokers = brokers.collect::<Vec<_>>().join(", ");
    let topic = quoted(answers.text(Key::Topic));
    let mut keys = format!("type = \"kafka\"\nbrokers = [{brokers}]\ntopic = {topic}");

    if answers.text(Key::KafkaTls) == "yes" {
        keys.push_str("\ntls = {}");
    }
    let user = answers.text(Key::KafkaUser);
    if !user.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(
            keys,
            "\nsasl = {{ mechanism = {}, username = {}, password = {} }}",
            quoted(answers.text(Key::KafkaMechanism)),
            quoted(user),
            secrets.reference(KAFKA_PASSWORD)
        );
    }
    keys
}

impl SecretStore {
    /// The reference to a secret in the configuration.
    fn reference(&self, name: &str) -> String {
        match self.reference {
            ReferenceKind::Credential => format!("{{ credential = {} }}", quoted(name)),
            ReferenceKind::File => {
                let path = self.directory.join(name);
                format!("{{ file = {} }}", quoted(&path.display().to_string()))
            }
        }
    }
}

/// A TOML basic string. The answers contain no control characters, which would also require
/// escapes.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
