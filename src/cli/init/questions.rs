//! The questions of `init` as a table, and the answers. Nothing here reads a file or a terminal.
//! Start reading at [`QUESTIONS`].

use std::{collections::BTreeMap, path::Path};

use secrecy::SecretString;

use super::{facts::HostFacts, receiver::Receiver};
use crate::error::Explanation;

/// A question of the interview.
pub(super) struct Question {
    pub key: QuestionKey,
    /// The name of the answer in the summary.
    pub label: &'static str,
    pub prompt: &'static str,
    pub input: Input,
    pub default: DefaultAnswer,
    /// Whether the question is asked after these answers.
    pub applies: fn(&Answers, &HostFacts<'_>) -> bool,
    /// Why an answer is rejected, in addition to the check of the configuration that it results in.
    pub check: fn(&str, &HostFacts<'_>) -> Result<(), Explanation>,
    /// A valid answer, used to validate the configuration until the operator answers.
    pub example: &'static str,
}

/// Identifies a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum QuestionKey {
    Tenant,
    TenantName,
    ClientId,
    Certificate,
    ClientSecret,
    Receiver,
    Format,
    HecToken,
    Brokers,
    Topic,
    KafkaTls,
    KafkaUser,
    KafkaMechanism,
    KafkaPassword,
    ElasticUrl,
    ElasticIndex,
    ElasticSecret,
    SentinelUrl,
    SentinelRule,
    SentinelStream,
    ReceiverDirectory,
    StateDirectory,
    ConfigurationDirectory,
    SecretsDirectory,
}

/// How an answer is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Text,
    /// The path of a file, relative to the working directory.
    File,
    YesOrNo,
    /// Without echo; stored in the file of this name.
    Secret(&'static str),
}

/// What an empty answer means.
#[derive(Clone, Copy)]
pub(super) enum DefaultAnswer {
    /// It is rejected.
    Required,
    /// There is no such value, for example no password.
    Absent,
    Text(&'static str),
    Computed(fn(&Answers) -> String),
}

/// The answers that were given so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers(BTreeMap<QuestionKey, Answer>);

#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Empty if the value is absent.
    Text(String),
    Secret(SecretString),
    /// The file of the secret exists, and is used.
    ExistingSecret,
}

/// The names of the secrets, which are the names of their files and of the systemd credentials.
pub(super) const GRAPH_SECRET: &str = "graph-secret";
pub(super) const HEC_TOKEN: &str = "hec-token";
pub(super) const KAFKA_PASSWORD: &str = "kafka-password";
pub(super) const ELASTIC_KEY: &str = "elastic-key";

/// All questions in the order in which they are asked.
pub(super) const QUESTIONS: &[Question] = &[
    text(QuestionKey::Tenant, "Tenant", "Tenant (GUID or verified domain)", "tenant.example"),
    Question {
        default: DefaultAnswer::Computed(name_of_tenant),
        ..text(QuestionKey::TenantName, "Name in records", "Name of the tenant in records", "main")
    },
    text(
        QuestionKey::ClientId,
        "Client ID",
        "Client ID of the application",
        "00000000-0000-0000-0000-000000000000",
    ),
    Question {
        input: Input::File,
        default: DefaultAnswer::Absent,
        check: |answer, facts| match answer {
            "" => Ok(()),
            file => (facts.examine_certificate)(Path::new(file)),
        },
        ..text(
            QuestionKey::Certificate,
            "Certificate",
            "File with the certificate and key of the application (PEM or PFX); leave empty to use a client secret",
            "",
        )
    },
    Question {
        applies: |answers, _| answers.text(QuestionKey::Certificate).is_empty(),
        ..secret(
            QuestionKey::ClientSecret,
            "Client secret",
            "Value of the client secret",
            GRAPH_SECRET,
        )
    },
    Question {
        default: DefaultAnswer::Text("/var/log/secure-score/records.jsonl"),
        check: |answer, _| Receiver::of(answer).map(|_| ()).ok_or_else(Receiver::unsupported),
        ..text(QuestionKey::Receiver, "Receiver", Receiver::PROMPT, "/records.jsonl")
    },
    Question {
        default: DefaultAnswer::Text("cef"),
        applies: |answers, _| answers.receiver() == Receiver::Syslog,
        ..text(
            QuestionKey::Format,
            "Format",
            "Format: cef, leef, json, ecs, ocsf (the rsyslog and syslog-ng configurations in this package require json)",
            "cef",
        )
    },
    Question {
        applies: |answers, _| answers.receiver() == Receiver::Splunk,
        ..secret(QuestionKey::HecToken, "HEC token", "HEC token", HEC_TOKEN)
    },
    Question {
        applies: is_kafka,
        ..text(
            QuestionKey::Brokers,
            "Brokers",
            "Brokers of the cluster: HOST:9092, separated by commas",
            "kafka.example.com:9092",
        )
    },
    Question {
        default: DefaultAnswer::Text("secure-score"),
        applies: is_kafka,
        ..text(QuestionKey::Topic, "Topic", "Topic, which must exist", "secure-score")
    },
    Question {
        default: DefaultAnswer::Text("yes"),
        input: Input::YesOrNo,
        applies: is_kafka,
        check: is_yes_or_no,
        ..text(QuestionKey::KafkaTls, "TLS", "Do the brokers require TLS? yes or no", "no")
    },
    Question {
        default: DefaultAnswer::Absent,
        applies: is_kafka,
        ..text(
            QuestionKey::KafkaUser,
            "User",
            "User name for SASL; leave empty if the cluster requires none",
            "",
        )
    },
    Question {
        default: DefaultAnswer::Text("scram-sha-512"),
        applies: has_kafka_user,
        check: |answer, _| match answer {
            // It requires a credential instead of a password.
            "oauthbearer" => Err(Explanation::new("`init` does not support this mechanism")
                .with_hint(
                    "enter plain, scram-sha-256 or scram-sha-512; see docs/how-to/kafka.md",
                )),
            _ => Ok(()),
        },
        ..text(
            QuestionKey::KafkaMechanism,
            "Mechanism",
            "Mechanism: plain, scram-sha-256 or scram-sha-512",
            "plain",
        )
    },
    Question {
        applies: has_kafka_user,
        ..secret(QuestionKey::KafkaPassword, "Password", "Password of this user", KAFKA_PASSWORD)
    },
    Question {
        applies: is_elastic,
        ..text(
            QuestionKey::ElasticUrl,
            "URL",
            "URL of the cluster, such as https://elastic.example.com:9200",
            "https://elastic.example.com:9200",
        )
    },
    Question {
        default: DefaultAnswer::Text("logs-microsoft.secure_score-default"),
        applies: is_elastic,
        ..text(QuestionKey::ElasticIndex, "Index", "Data stream or index", "logs")
    },
    Question {
        default: DefaultAnswer::Absent,
        applies: is_elastic,
        ..secret(
            QuestionKey::ElasticSecret,
            "API key",
            "API key, as Kibana shows it; leave empty if the cluster requires none",
            ELASTIC_KEY,
        )
    },
    Question {
        applies: is_sentinel,
        ..text(
            QuestionKey::SentinelUrl,
            "URL",
            "Logs ingestion URL of the data collection rule or endpoint",
            "https://dce.ingest.monitor.azure.com",
        )
    },
    Question {
        applies: is_sentinel,
        ..text(
            QuestionKey::SentinelRule,
            "Rule",
            "Immutable ID of the data collection rule, dcr-…",
            "dcr-0",
        )
    },
    Question {
        default: DefaultAnswer::Text("Custom-SecureScore_CL"),
        applies: is_sentinel,
        ..text(
            QuestionKey::SentinelStream,
            "Stream",
            "Stream that the rule declares",
            "Custom-S_CL",
        )
    },
    Question {
        default: DefaultAnswer::Text("yes"),
        input: Input::YesOrNo,
        applies: |answers, facts| is_missing(QuestionKey::ReceiverDirectory, answers, facts),
        check: is_yes_or_no,
        ..text(
            QuestionKey::ReceiverDirectory,
            "Directory of the file",
            "Create the directory of the file",
            "no",
        )
    },
    Question {
        default: DefaultAnswer::Text("yes"),
        input: Input::YesOrNo,
        applies: |answers, facts| is_missing(QuestionKey::StateDirectory, answers, facts),
        check: is_yes_or_no,
        ..text(QuestionKey::StateDirectory, "State directory", "Create the state directory", "no")
    },
    Question {
        default: DefaultAnswer::Text("yes"),
        input: Input::YesOrNo,
        applies: |answers, facts| is_missing(QuestionKey::ConfigurationDirectory, answers, facts),
        check: is_yes,
        ..text(
            QuestionKey::ConfigurationDirectory,
            "Configuration directory",
            "Create the directory of the configuration",
            "yes",
        )
    },
    Question {
        default: DefaultAnswer::Text("yes"),
        input: Input::YesOrNo,
        applies: |answers, facts| {
            is_missing(QuestionKey::SecretsDirectory, answers, facts) && answers.has_new_secret()
        },
        check: is_yes,
        ..text(
            QuestionKey::SecretsDirectory,
            "Secrets directory",
            "Create the directory for secrets",
            "yes",
        )
    },
];

/// A required answer that is always asked for.
const fn text(
    key: QuestionKey,
    label: &'static str,
    prompt: &'static str,
    example: &'static str,
) -> Question {
    Question {
        key,
        label,
        prompt,
        input: Input::Text,
        default: DefaultAnswer::Required,
        applies: |_, _| true,
        check: |_, _| Ok(()),
        example,
    }
}

/// A required secret, which is stored in a file.
const fn secret(
    key: QuestionKey,
    label: &'static str,
    prompt: &'static str,
    file: &'static str,
) -> Question {
    Question { input: Input::Secret(file), ..text(key, label, prompt, "") }
}

fn is_kafka(answers: &Answers, _: &HostFacts<'_>) -> bool {
    answers.receiver() == Receiver::Kafka
}

fn has_kafka_user(answers: &Answers, facts: &HostFacts<'_>) -> bool {
    is_kafka(answers, facts) && !answers.text(QuestionKey::KafkaUser).is_empty()
}

fn is_elastic(answers: &Answers, _: &HostFacts<'_>) -> bool {
    answers.receiver() == Receiver::Elasticsearch
}

fn is_sentinel(answers: &Answers, _: &HostFacts<'_>) -> bool {
    answers.receiver() == Receiver::Sentinel
}

fn is_yes_or_no(answer: &str, _: &HostFacts<'_>) -> Result<(), Explanation> {
    match answer {
        "yes" | "no" => Ok(()),
        _ => Err(Explanation::new("the answer is neither yes nor no").with_hint("enter yes or no")),
    }
}

/// For a directory without which a file cannot be stored.
fn is_yes(answer: &str, facts: &HostFacts<'_>) -> Result<(), Explanation> {
    match answer {
        "no" => Err(Explanation::new("the files cannot be stored without this directory")
            .with_hint("enter yes, or press Ctrl-C to stop")),
        answer => is_yes_or_no(answer, facts),
    }
}

/// Whether the directory that a question offers to create is missing.
fn is_missing(key: QuestionKey, answers: &Answers, facts: &HostFacts<'_>) -> bool {
    facts.missing_directory(key, answers).is_some()
}

/// The first part of a domain.
fn name_of_tenant(answers: &Answers) -> String {
    let id = answers.text(QuestionKey::Tenant);
    id.split_once('.').map_or("main", |(first, _)| first).to_owned()
}

impl Question {
    /// The answer that an empty line means; `None` if an answer is required.
    pub(super) fn default(&self, answers: &Answers) -> Option<String> {
        match self.default {
            DefaultAnswer::Required => None,
            DefaultAnswer::Absent => Some(String::new()),
            DefaultAnswer::Text(text) => Some(text.to_owned()),
            DefaultAnswer::Computed(compute) => Some(compute(answers)),
        }
    }

    /// The answer that a line means, which is not empty.
    pub(super) fn read(&self, line: &str, working_directory: &Path) -> Answer {
        match self.input {
            Input::Secret(_) => Answer::Secret(SecretString::from(line)),
            Input::File => Answer::Text(working_directory.join(line).display().to_string()),
            Input::YesOrNo => Answer::Text(match line.to_ascii_lowercase().as_str() {
                "y" | "yes" => "yes".to_owned(),
                "n" | "no" => "no".to_owned(),
                _ => line.to_owned(),
            }),
            Input::Text => Answer::Text(line.to_owned()),
        }
    }
}

impl Answers {
    pub(super) fn get(&self, key: QuestionKey) -> Option<&Answer> {
        self.0.get(&key)
    }

    /// The text of an answer, or the example of its question until it is given.
    pub(super) fn text(&self, key: QuestionKey) -> &str {
        match self.get(key) {
            Some(Answer::Text(text)) => text,
            _ => QUESTIONS.iter().find(|question| question.key == key).map_or("", |q| q.example),
        }
    }

    pub(super) fn receiver(&self) -> Receiver {
        Receiver::of(self.text(QuestionKey::Receiver)).unwrap_or(Receiver::File)
    }

    /// Whether the configuration refers to a secret that can be absent.
    pub(super) fn has_secret(&self, key: QuestionKey) -> bool {
        matches!(self.get(key), Some(Answer::Secret(_) | Answer::ExistingSecret))
    }

    pub(super) fn set(&mut self, key: QuestionKey, answer: Answer) {
        self.0.insert(key, answer);
    }

    pub(super) fn remove(&mut self, key: QuestionKey) {
        self.0.remove(&key);
    }

    fn has_new_secret(&self) -> bool {
        self.0.values().any(|answer| matches!(answer, Answer::Secret(_)))
    }
}
