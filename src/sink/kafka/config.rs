//! The configuration of a sink with `type = "kafka"`. Reading a section opens no connection and
//! reads no secret; faults are added to the section.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rdkafka::ClientConfig;

use super::{
    fencing::Fencing,
    plain_text::refuse_plain_text,
    properties::Properties,
    sasl::{MECHANISM, RESOURCE, SASL_KEYS, Sasl},
    service::{open, probe},
};
use crate::{
    files::{self, FileError},
    format::FormatName,
    settings::{
        ExampleSection, FLAG, Flag, Key, KeyWithDefault, MAP, Map, OneOf, Section, SubSection,
        TEXT, TEXTS, Text, Texts, Timespan, choices, defaulted, duration, keys, one_of, optional,
        required, section,
    },
    sink::{
        BoxFuture, Context, Destination, Failure, Limits, Plan, Sink,
        address::has_no_user,
        common_keys::{CREDENTIAL, ENTRA_TENANT, NAME},
        destination::NameRule,
        shared_keys::{FORMAT, FORMAT_KEYS, TLS_KEYS, TlsFiles},
    },
};

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
    tls: Option<TlsFiles>,
    sasl: Option<Sasl>,
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

/// Reads a section. Returns `None` if it is not valid.
pub(in crate::sink) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    Some(Box::new(KafkaPlan::read(section)?))
}

fn read_brokers(section: &Section<'_>) -> Option<String> {
    let brokers = section.get(&BROKERS)?;
    let has_port = |broker: &&str| {
        broker
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };

    if !brokers.iter().all(|broker| has_no_user(section, &BROKERS, broker)) {
        return None;
    }
    if brokers.is_empty()
        || !brokers.iter().all(has_port)
        || brokers.iter().any(|b| b.contains(','))
    {
        section.fault(&BROKERS, "`brokers` must be a list of `host:port`");
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
    /// See [`read`].
    pub(super) fn read(section: &Section<'_>) -> Option<Self> {
        let brokers = read_brokers(section);
        let delivery = read_delivery(section);
        let topic = Destination::read(section, &TOPIC, TOPIC_NAME).map(|topic| match &delivery {
            DeliveryMode::ExactlyOnce { progress_topic, .. } => topic.other_than(progress_topic),
            DeliveryMode::AtLeastOnce => topic,
        });
        let properties = Properties::read(section);
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
    pub(super) fn client_config(&self, sink: &str) -> Result<ClientConfig, Failure> {
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

impl Plan for KafkaPlan {
    fn timeout(&self) -> Duration {
        let transaction = match &self.delivery {
            DeliveryMode::ExactlyOnce { timeout, .. } => *timeout,
            DeliveryMode::AtLeastOnce => Duration::ZERO,
        };
        transaction + Duration::from_mins(15)
    }

    fn format(&self) -> FormatName {
        self.format
    }

    fn acknowledgement(&self) -> &'static str {
        match self.delivery {
            DeliveryMode::ExactlyOnce { .. } => "the cluster committed the transaction",
            DeliveryMode::AtLeastOnce => "all in-sync replicas stored the record",
        }
    }

    fn limits(&self) -> Limits {
        match self.delivery {
            // A transaction requires several round trips, regardless of its number of records.
            DeliveryMode::ExactlyOnce { .. } => {
                Limits { records: 10_000, bytes: 12 << 20, in_flight: 1 }
            }
            DeliveryMode::AtLeastOnce => Limits { records: 5_000, bytes: 4 << 20, in_flight: 1 },
        }
    }

    fn stores_progress(&self) -> bool {
        matches!(self.delivery, DeliveryMode::ExactlyOnce { .. })
    }

    fn exclusive_resource(&self) -> Option<String> {
        match &self.delivery {
            DeliveryMode::ExactlyOnce { transactional_id, .. } => {
                Some(format!("the transactional ID `{transactional_id}`"))
            }
            DeliveryMode::AtLeastOnce => None,
        }
    }

    fn token_resource(&self) -> Option<&str> {
        match &self.sasl {
            Some(Sasl::Entra(resource)) => Some(resource),
            _ => None,
        }
    }

    fn destination(&self) -> Option<&Destination> {
        Some(&self.topic)
    }

    fn probe<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(probe(self, context))
    }

    /// Opens the sink without transactions, because they would fence a running daemon.
    fn open_for_test<'a>(
        &'a self,
        context: &'a Context,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(async move {
            let plan = Self { delivery: DeliveryMode::AtLeastOnce, ..self.clone() };
            open(&plan, context).await
        })
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(open(self, context))
    }
}
