//! The text of the configuration that the answers result in. Questions without an answer are
//! represented by their examples, so that the answers can be checked one by one. Nothing here
//! performs I/O. Start reading at [`configuration`].

use std::fmt::Write as _;

use super::{
    facts::{ReferenceKind, SecretStore, Settings},
    questions::{Answers, ELASTIC_KEY, GRAPH_SECRET, HEC_TOKEN, KAFKA_PASSWORD, QuestionKey},
    receiver::Receiver,
};
use crate::settings::toml_string;

/// The name of the sink in the new configuration.
pub(super) const SINK: &str = "siem";

/// The name of the credential that the tenant and a sink share.
const SHARED_CREDENTIAL: &str = "app";

/// The configuration in TOML.
pub(super) fn configuration(answers: &Answers, settings: &Settings) -> String {
    let cloud = match settings.cloud.split_once(',') {
        _ if settings.cloud == "global" => String::new(),
        Some((login, graph)) => {
            let (login, graph) = (toml_string(login), toml_string(graph));
            format!("cloud = {{ login_url = {login}, graph_url = {graph} }}\n")
        }
        None => format!("cloud = {}\n", toml_string(&settings.cloud)),
    };
    let tenant = format!(
        "[[tenants]]\nname = {}\nid = {}\n{cloud}",
        toml_string(answers.text(QuestionKey::TenantName)),
        toml_string(answers.text(QuestionKey::Tenant))
    );

    // A sink can use only a shared credential.
    let credential = credential(answers, &settings.secrets);
    let tenant = if answers.receiver() == Receiver::Sentinel {
        format!(
            "[credentials.{SHARED_CREDENTIAL}]\n{credential}\n\n{tenant}credential = {}",
            toml_string(SHARED_CREDENTIAL)
        )
    } else {
        format!("{tenant}[tenants.credential]\n{credential}")
    };

    format!(
        "[state]\ndirectory = {}\n\n[admin]\nlisten = {}\n\n{tenant}\n\n[[sinks]]\nname = {}\n{}\n",
        toml_string(&settings.state_directory.display().to_string()),
        toml_string(&settings.listen),
        toml_string(SINK),
        sink(answers, &settings.secrets)
    )
}

/// The keys of the credential.
fn credential(answers: &Answers, secrets: &SecretStore) -> String {
    let client_id = toml_string(answers.text(QuestionKey::ClientId));
    match answers.text(QuestionKey::Certificate) {
        "" => format!(
            "kind = \"client_secret\"\nclient_id = {client_id}\nclient_secret = {}",
            secrets.reference(GRAPH_SECRET)
        ),
        file => format!(
            "kind = \"certificate\"\nclient_id = {client_id}\ncertificate = {}",
            toml_string(file)
        ),
    }
}

/// The keys of the sink, except its name.
fn sink(answers: &Answers, secrets: &SecretStore) -> String {
    let value = |key: QuestionKey| toml_string(answers.text(key));

    match answers.receiver() {
        Receiver::Syslog => {
            let is_datagram = answers.text(QuestionKey::Receiver).starts_with("udp:");
            let lossy = if is_datagram { "\nlossy = true" } else { "" };
            let (address, format) = (value(QuestionKey::Receiver), value(QuestionKey::Format));
            format!("type = \"syslog\"\naddress = {address}\nformat = {format}{lossy}")
        }
        Receiver::Splunk => format!(
            "type = \"splunk_hec\"\nurl = {}\ntoken = {}",
            value(QuestionKey::Receiver),
            secrets.reference(HEC_TOKEN)
        ),
        Receiver::File => format!("type = \"file\"\npath = {}", value(QuestionKey::Receiver)),
        Receiver::Kafka => kafka(answers, secrets),
        Receiver::Elasticsearch => elasticsearch(answers, secrets),
        Receiver::Sentinel => format!(
            "type = \"sentinel\"\nurl = {}\nrule_id = {}\nstream = {}\ncredential = {}\nentra_tenant = {}",
            value(QuestionKey::SentinelUrl),
            value(QuestionKey::SentinelRule),
            value(QuestionKey::SentinelStream),
            toml_string(SHARED_CREDENTIAL),
            value(QuestionKey::Tenant)
        ),
    }
}

fn elasticsearch(answers: &Answers, secrets: &SecretStore) -> String {
    let api_key = if answers.has_secret(QuestionKey::ElasticSecret) {
        format!("\napi_key = {}", secrets.reference(ELASTIC_KEY))
    } else {
        String::new()
    };
    let (url, index) = (
        toml_string(answers.text(QuestionKey::ElasticUrl)),
        toml_string(answers.text(QuestionKey::ElasticIndex)),
    );
    format!("type = \"elasticsearch\"\nurl = {url}\nindex = {index}{api_key}")
}

fn kafka(answers: &Answers, secrets: &SecretStore) -> String {
    let brokers = answers.text(QuestionKey::Brokers).split(',');
    let brokers: Vec<String> = brokers.map(|broker| toml_string(broker.trim())).collect();
    let brokers = brokers.join(", ");
    let topic = toml_string(answers.text(QuestionKey::Topic));
    let mut keys = format!("type = \"kafka\"\nbrokers = [{brokers}]\ntopic = {topic}");

    if answers.text(QuestionKey::KafkaTls) == "yes" {
        keys.push_str("\ntls = {}");
    }
    let user = answers.text(QuestionKey::KafkaUser);
    if !user.is_empty() {
        // Writing to a String cannot fail.
        let _ = write!(
            keys,
            "\nsasl = {{ mechanism = {}, username = {}, password = {} }}",
            toml_string(answers.text(QuestionKey::KafkaMechanism)),
            toml_string(user),
            secrets.reference(KAFKA_PASSWORD)
        );
    }
    keys
}

impl SecretStore {
    /// The reference to a secret in the configuration.
    fn reference(&self, name: &str) -> String {
        match self.reference {
            ReferenceKind::Credential => format!("{{ credential = {} }}", toml_string(name)),
            ReferenceKind::File => {
                let path = self.directory.join(name);
                format!("{{ file = {} }}", toml_string(&path.display().to_string()))
            }
        }
    }
}
