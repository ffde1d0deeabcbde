//! The configuration of a sink with `type = "kafka"`. Reading a section opens no connection and
//! reads no secret; faults are added to the section.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rdkafka::ClientConfig;

use super::{
    fencing::Fencing,
    plain_text::refuse_plain_text,
    properties::Properties,
    sasl::{MECHANISM, RESOURCE, SASL_KEYS, Sasl},
};
use crate::{
    files::{self, FileError},
    format::FormatName,
    model::SinkName,
    net::{AddressFault, HostPort},
    settings::{
        ExampleSection, FLAG, Flag, Key, KeyWithDefault, MAP, Map, OneOf, Section, SubSection,
        TEXT, TEXTS, Text, Texts, Timespan, choices, defaulted, duration, keys, one_of, optional,
        required, section,
    },
    sink::{
        Destination, Failure,
        address::has_no_user,
        common_keys::{CREDENTIAL, ENTRA_TENANT, NAME},
        destination::NameRule,
        shared_keys::{FORMAT, FORMAT_KEYS, TLS_KEYS, TlsFiles},
    },
};

/// The end of the transactional ID of `test-sink` and `check --online`.
const TEST_SUFFIX: &str = ".test";

/// The maximum size of a PEM file in bytes.
const MAX_PEM_BYTES: u64 = 4 << 20;

keys! {
    /// The keys of this sink, besides those of all sinks.
    pub(in crate::sink) const KEYS;
    ..FORMAT_KEYS;
    BROKERS: Key<Texts> = required("brokers", TEXTS, "The bootstrap brokers, each `host:port`.")
        .example("[\"kafka-1.example.com:9092\"]");
    TOPIC: Key<Text> = required(
        "topic",
        TEXT,
        "The topic, which must exist; may contain {tenant.name}, {tenant.id}, {kind} and {label.NAME}.",
    )
    .example("secure-score");
    EXACTLY_ONCE: KeyWithDefault<Flag> = defaulted(
        "exactly_once",
        FLAG.or(true),
        "Writes records and progress in transactions.",
    );
    TRANSACTIONAL_ID: Key<Text> = optional(
        "transactional_id",
        TEXT,
        "`secure-score-forwarder.TOPIC.SINK`",
        "The transactional ID of the producer, which only one instance at a time may use.",
    )
    .example("secure-score-forwarder.secure-score.lake");
    PROGRESS_TOPIC: Key<Text> = optional(
        "progress_topic",
        TEXT,
        "`TRANSACTIONAL_ID.progress`",
        "The compacted topic that stores the progress, created if it does not exist (not with `oauthbearer`).",
    )
    .example("secure-score-forwarder.secure-score.lake.progress");
    TRANSACTION_TIMEOUT: KeyWithDefault<Timespan> = defaulted(
        "transaction_timeout",
        duration(Duration::from_secs(5), Duration::from_mins(15)).or(Duration::from_mins(1)),
        "The time after which the cluster aborts an unfinished transaction.",
    );
    COMPRESSION: KeyWithDefault<OneOf<Compression>> = defaulted(
        "compression",
        one_of(Compression::NAMES).or(Compression::Zstd.choice()),
        "The compression of batches.",
    );
    TLS: Key<SubSection> = optional(
        "tls",
        section(TLS_KEYS),
        "no encryption",
        "TLS for connections to the brokers; `tls = {}` trusts the certificate authorities of the system.",
    );
    SASL: Key<SubSection> = optional(
        "sasl",
        section(SASL_KEYS),
        "no authentication",
        "Authentication with the cluster.",
    );
    PROPERTIES: Key<Map> = optional(
        "properties",
        MAP,
        "no additional properties",
        "Additional properties of librdkafka, such as `{ \"linger.ms\" = \"50\" }`, except those that other keys set or that the guarantees of the sink depend on.",
    )
    .example("{ \"linger.ms\" = \"50\", \"client.id\" = \"secure-score\" }");
}

/// The sections in the example file.
pub(in crate::sink) const EXAMPLES: &[ExampleSection] = &[
    ExampleSection {
        name: "lake",
        about: "A cluster of Apache Kafka, in builds with the feature `kafka`, which is on by default.",
        omits: &[RESOURCE.define()],
        ..ExampleSection::NOT_SET
    },
    ExampleSection {
        name: "event-hub",
        about: "Azure Event Hubs, with tokens of Entra. The credential requires the role Azure Event Hubs Data Owner.",
        sets: &[
            BROKERS.define().example("[\"contoso.servicebus.windows.net:9093\"]"),
            TLS.define().example("{}"),
            SASL.define(),
            MECHANISM.define().example("oauthbearer"),
            RESOURCE.define(),
            CREDENTIAL.define(),
            ENTRA_TENANT.define(),
        ],
        ..ExampleSection::NOT_SET
    },
];

choices! {
    /// The compression of batches, as librdkafka names it.
    pub(super) enum Compression {
        Zstd = "zstd",
        Lz4 = "lz4",
        Snappy = "snappy",
        Gzip = "gzip",
        None = "none",
    }
}

/// The names of topics. Source: `org.apache.kafka.common.internals.Topic`.
const TOPIC_NAME: NameRule = NameRule {
    is_allowed: |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'),
    characters: "letters, digits, `.`, `_` and `-`",
    not_first: &[],
    max_bytes: 249,
};

/// A validated section.
#[derive(Clone, Debug)]
pub(super) struct KafkaPlan {
    /// `host:port,host:port`, as librdkafka expects it.
    pub brokers: String,
    /// The topic of a record.
    pub topic: Destination,
    pub format: FormatName,
    pub delivery: DeliveryMode,
    pub compression: Compression,
    /// The properties that the operator adds to those of this plan.
    pub properties: Properties,
    /// Shared by all producers of the sink.
    pub fencing: Arc<Fencing>,
    /// How the sink authenticates; `None` means without a credential.
    pub sasl: Option<Sasl>,
    tls: Option<TlsFiles>,
}

/// How batches are written.
#[derive(Clone, Debug)]
pub(super) enum DeliveryMode {
    /// By an idempotent producer, without transactions.
    AtLeastOnce,
    /// In transactions that also contain the progress.
    ExactlyOnce {
        /// The ID of the producer. A later producer with the same ID fences an earlier one.
        transactional_id: String,
        /// The compacted topic that stores the progress.
        progress_topic: String,
        /// The time after which the cluster aborts a transaction.
        timeout: Duration,
    },
}

fn read_brokers(section: &Section<'_>) -> Option<String> {
    let brokers = section.get(&BROKERS)?;
    if !brokers.iter().all(|broker| has_no_user(section, &BROKERS, broker)) {
        return None;
    }
    if brokers.is_empty() {
        section.fault(&BROKERS, "`brokers` must be a list of `host:port`: it is empty");
        return None;
    }

    let fault = |broker: &&str| HostPort::parse(broker).err();
    if let Some((broker, fault)) = brokers.iter().find_map(|broker| Some((broker, fault(broker)?)))
    {
        let message =
            format!("`brokers` must be a list of `host:port`, and `{broker}` is not one: {fault}");
        let hint = match fault {
            AddressFault::NoPort => {
                Some(format!("add the port, such as `{}:9092`", broker.trim_end_matches(':')))
            }
            AddressFault::Several => Some("write each broker as a separate string".to_owned()),
            AddressFault::Scheme => Some("remove the scheme, and set `tls` for TLS".to_owned()),
            _ => None,
        };
        section.fault_with(&BROKERS, message, hint);
        return None;
    }
    Some(brokers.join(","))
}

fn read_delivery(section: &Section<'_>) -> DeliveryMode {
    if !section.get(&EXACTLY_ONCE) {
        let keys =
            [TRANSACTIONAL_ID.define(), PROGRESS_TOPIC.define(), TRANSACTION_TIMEOUT.define()];
        for key in keys.into_iter().filter(|key| section.has(key)) {
            section.fault(&key, format!("`{}` requires `exactly_once = true`", key.name));
        }
        return DeliveryMode::AtLeastOnce;
    }

    let topic = section.get(&TOPIC).unwrap_or_default().replace(['{', '}'], "");
    let name = section.get(&NAME).unwrap_or_default();
    let default_id = format!("secure-score-forwarder.{topic}.{name}");
    let transactional_id = section.get(&TRANSACTIONAL_ID).unwrap_or(&default_id).to_owned();

    // By default, each sink has a separate topic, so that an open transaction of another producer
    // cannot hide its committed progress.
    let default_topic = format!("{transactional_id}.progress");
    let progress_topic = section.get(&PROGRESS_TOPIC).unwrap_or(&default_topic);
    if !is_topic_name(progress_topic) {
        section.fault(&PROGRESS_TOPIC, "`progress_topic` is not a valid topic name");
    }
    if Some(progress_topic) == section.get(&TOPIC) {
        section.fault(&PROGRESS_TOPIC, "`progress_topic` must differ from `topic`");
    }

    DeliveryMode::ExactlyOnce {
        transactional_id,
        progress_topic: progress_topic.to_owned(),
        timeout: section.get(&TRANSACTION_TIMEOUT),
    }
}

fn is_topic_name(name: &str) -> bool {
    name.len() <= TOPIC_NAME.max_bytes && name.chars().all(TOPIC_NAME.is_allowed)
}

impl KafkaPlan {
    /// Reads a section. Returns `None` if it is not valid.
    pub(super) fn read(section: &Section<'_>) -> Option<Self> {
        let brokers = read_brokers(section);
        let delivery = read_delivery(section);
        let topic = Destination::read(section, &TOPIC, TOPIC_NAME).map(|topic| match &delivery {
            DeliveryMode::ExactlyOnce { progress_topic, .. } => topic.other_than(progress_topic),
            DeliveryMode::AtLeastOnce => topic,
        });
        let properties = Properties::read(section, &PROPERTIES);
        let tls = section.get(&TLS).map(|tls| TlsFiles::read(&tls));
        let brokers = brokers?;
        let first = brokers.split([':', ',']).next().unwrap_or_default();
        let sasl = section.get(&SASL).and_then(|sasl| Sasl::read(&sasl, first));
        if section.has(&SASL) && tls.is_none() {
            refuse_plain_text(section, &SASL, &brokers);
        }

        Some(Self {
            topic: topic?,
            format: section.get(&FORMAT),
            delivery,
            compression: section.get(&COMPRESSION),
            properties,
            tls,
            sasl,
            brokers,
            fencing: Arc::default(),
        })
    }

    /// The same plan for a test while a daemon may be running: with a separate transactional ID,
    /// so that the producer of the daemon is not fenced.
    pub(super) fn for_test(&self) -> Self {
        let delivery = match &self.delivery {
            DeliveryMode::AtLeastOnce => DeliveryMode::AtLeastOnce,
            DeliveryMode::ExactlyOnce { transactional_id, progress_topic, timeout } => {
                DeliveryMode::ExactlyOnce {
                    transactional_id: format!("{transactional_id}{TEST_SUFFIX}"),
                    progress_topic: progress_topic.clone(),
                    timeout: *timeout,
                }
            }
        };
        Self { delivery, ..self.clone() }
    }

    /// The first broker, as `host:port`, if it is reached in plain text.
    pub(super) fn first_plain_broker(&self) -> Option<&str> {
        let first = self.brokers.split(',').next();
        first.filter(|_| self.tls.is_none())
    }

    /// Whether a credential is sent in plain text.
    pub(super) fn has_plain_credential(&self) -> bool {
        self.tls.is_none() && self.sasl.is_some()
    }

    /// The settings that all clients of the cluster share. This call reads the password. Fails with
    /// `Misconfigured` if the password or a file for TLS cannot be used.
    pub(super) fn client_config(&self, sink: &SinkName) -> Result<ClientConfig, Failure> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", format!("secure-score-forwarder-{sink}"));

        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);

        if let Some(tls) = &self.tls {
            check_files(tls).map_err(|error| Failure::misconfigured_by(&error))?;
            let shown = |path: &PathBuf| path.display().to_string();
            // The OpenSSL in librdkafka has no default location for the certificate authorities of
            // this host. With `probe`, it searches the usual locations.
            config.set("ssl.ca.location", tls.ca_file.as_ref().map_or("probe".to_owned(), shown));
            if let Some((certificate, key)) = &tls.client {
                config
                    .set("ssl.certificate.location", shown(certificate))
                    .set("ssl.key.location", shown(key));
            }
        }

        if let Some(sasl) = &self.sasl {
            sasl.apply(&mut config)?;
        }

        self.properties.apply(&mut config);
        self.properties.limit_responses(&mut config);
        if self.has_plain_credential() {
            // No connection to a broker that the cluster names is opened before it is checked.
            config.set("enable.sparse.connections", "true");
        }
        Ok(config)
    }
}

/// Checks the files for TLS before librdkafka opens them, which would wait for a FIFO and read a
/// private key that all users can change.
fn check_files(tls: &TlsFiles) -> Result<(), FileError> {
    if let Some(authorities) = &tls.ca_file {
        files::read_limited(authorities, MAX_PEM_BYTES)?;
    }
    if let Some((certificate, key)) = &tls.client {
        files::read_limited(certificate, MAX_PEM_BYTES)?;
        files::read_secret(key, MAX_PEM_BYTES)?;
    }
    Ok(())
}
