//! The configuration of a sink with `type = "kafka"`. Reading a section opens no connection and
//! reads no secret; faults are added to the section.

use std::{path::PathBuf, time::Duration};

use rdkafka::ClientConfig;
use secrecy::ExposeSecret;

use super::{
    properties::Properties,
    service::{is_topic_char, open, probe},
};
use crate::{
    format::FormatName,
    settings::{Key, SecretRef, Section, Shape, optional, required},
    sink::{
        BoxFuture, Context, FORMAT, Failure, Limits, Plan, Sink, chain, read_format,
        template::Template, web::read_client_certificate,
    },
};

/// The keys of this sink, besides those of all sinks.
pub(in crate::sink) const KEYS: &[Key] = &[
    required("brokers", Shape::Texts, "The bootstrap brokers, each `host:port`."),
    required(
        "topic",
        Shape::Text,
        "The topic, which must exist; may contain {tenant.name}, {tenant.id}, {kind} and {label.NAME}.",
    ),
    FORMAT,
    optional(
        "exactly_once",
        Shape::Bool,
        "Writes records and progress in transactions; default: true.",
    ),
    optional(
        "transactional_id",
        Shape::Text,
        "The transactional ID of the producer, which only one instance at a time may use; default: `secure-score-forwarder.TOPIC.SINK`.",
    ),
    optional(
        "progress_topic",
        Shape::Text,
        "The compacted topic that stores the progress, created if it does not exist (not with oauthbearer); default: `TRANSACTIONAL_ID.progress`.",
    ),
    optional(
        "transaction_timeout",
        Shape::Duration,
        "The time after which the cluster aborts an unfinished transaction; default: 60s.",
    ),
    optional(
        "compression",
        Shape::OneOf(&["zstd", "lz4", "snappy", "gzip", "none"]),
        "The compression of batches; default: zstd.",
    ),
    optional(
        "tls",
        Shape::Table(TLS),
        "TLS for connections to the brokers; `tls = {}` trusts the certificate authorities of the system.",
    ),
    optional("sasl", Shape::Table(SASL), "Authentication with the cluster."),
    optional(
        "properties",
        Shape::Map,
        "Additional properties of librdkafka, such as `{ \"linger.ms\" = \"50\" }`, except those that other keys set or that the guarantees of the sink depend on; default: none.",
    ),
];

const TLS: &[Key] = &[
    optional(
        "ca_file",
        Shape::File,
        "PEM file of the certificate authorities to trust instead of those of the system.",
    ),
    optional(
        "client_certificate",
        Shape::File,
        "PEM file of the client certificate chain, for mutual TLS.",
    ),
    optional("client_key", Shape::File, "PEM file of the client certificate's private key."),
];

const SASL: &[Key] = &[
    required(
        "mechanism",
        Shape::OneOf(&["plain", "scram-sha-256", "scram-sha-512", "oauthbearer"]),
        "The mechanism; oauthbearer, for Azure Event Hubs, also requires `credential` and `entra_tenant`.",
    ),
    optional("username", Shape::Text, "The user name."),
    optional("password", Shape::Secret, "The password."),
    optional(
        "resource",
        Shape::Text,
        "oauthbearer: the resource for which Entra tokens are requested; default: https:// and the host name of the first broker.",
    ),
];

/// librdkafka's name of the mechanism.
const OAUTHBEARER: &str = "OAUTHBEARER";

const TRANSACTION_TIMEOUT: Duration = Duration::from_mins(1);

/// A validated section.
#[derive(Clone, Debug)]
pub(super) struct KafkaPlan {
    /// `host:port,host:port`, as librdkafka expects it.
    pub brokers: String,
    /// The topic of a record.
    pub topic: Template,
    pub format: FormatName,
    pub delivery: DeliveryMode,
    /// The value of `compression.type` of librdkafka.
    pub compression: String,
    /// The properties that the operator adds to those of this plan.
    pub properties: Properties,
    tls: Option<Tls>,
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

#[derive(Clone, Debug)]
struct Tls {
    ca_file: Option<PathBuf>,
    client: Option<(PathBuf, PathBuf)>,
}

#[derive(Clone, Debug)]
enum Sasl {
    Password {
        mechanism: String,
        username: String,
        password: SecretRef,
    },
    /// The resource that tokens are requested for, a URL.
    Entra(String),
}

/// Reads a section. Returns `None` if it is not valid.
pub(in crate::sink) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    Some(Box::new(KafkaPlan::read(section)?))
}

fn read_brokers(section: &Section<'_>) -> Option<String> {
    let brokers = section.texts("brokers")?;
    let has_port = |broker: &&str| {
        broker
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };

    if brokers.is_empty()
        || !brokers.iter().all(has_port)
        || brokers.iter().any(|b| b.contains(','))
    {
        section.fault("brokers", "`brokers` must be a list of `host:port`");
        return None;
    }
    Some(brokers.join(","))
}

fn read_delivery(section: &Section<'_>) -> DeliveryMode {
    if section.bool("exactly_once") == Some(false) {
        for key in ["transactional_id", "progress_topic", "transaction_timeout"]
            .into_iter()
            .filter(|key| section.has(key))
        {
            section.fault(key, format!("`{key}` requires `exactly_once = true`"));
        }
        return DeliveryMode::AtLeastOnce;
    }

    let topic = section.text("topic").unwrap_or_default().replace(['{', '}'], "");
    let name = section.text("name").unwrap_or_default();
    let default_id = format!("secure-score-forwarder.{topic}.{name}");
    let transactional_id = section.text("transactional_id").unwrap_or(&default_id).to_owned();

    // By default, each sink has a separate topic, so that an open transaction of another producer
    // cannot hide its committed progress.
    let default_topic = format!("{transactional_id}.progress");
    let progress_topic = section.text("progress_topic").unwrap_or(&default_topic);
    if !is_topic_name(progress_topic) {
        section.fault("progress_topic", "`progress_topic` is not a valid topic name");
    }
    if Some(progress_topic) == section.text("topic") {
        section.fault("progress_topic", "`progress_topic` must differ from `topic`");
    }

    let timeout = section.duration("transaction_timeout").unwrap_or(TRANSACTION_TIMEOUT);
    if !(Duration::from_secs(5)..=Duration::from_mins(15)).contains(&timeout) {
        section.fault("transaction_timeout", "`transaction_timeout` must be from 5s to 15m");
    }

    let progress_topic = progress_topic.to_owned();
    DeliveryMode::ExactlyOnce { transactional_id, progress_topic, timeout }
}

fn read_tls(section: &Section<'_>) -> Tls {
    let client = read_client_certificate(section);
    Tls { ca_file: section.path("ca_file"), client }
}

fn read_sasl(section: &Section<'_>, first_broker: &str) -> Option<Sasl> {
    let mechanism = section.text("mechanism")?.to_ascii_uppercase();
    let (username, password) = (section.text("username"), section.secret("password"));

    if mechanism == OAUTHBEARER {
        for key in ["username", "password"].into_iter().filter(|key| section.has(key)) {
            section.fault(key, format!("`{key}` cannot be set with `mechanism = \"oauthbearer\"`"));
        }
        let default = format!("https://{first_broker}");
        let resource = section.text("resource").unwrap_or(&default);
        if url::Url::parse(resource).is_err() {
            section.fault("resource", "`resource` must be a URL");
            return None;
        }
        return Some(Sasl::Entra(resource.to_owned()));
    }

    if section.has("resource") {
        section.fault("resource", "`resource` requires `mechanism = \"oauthbearer\"`");
    }
    let (Some(username), Some(password)) = (username, password) else {
        section.fault("mechanism", "this mechanism requires `username` and `password`");
        return None;
    };
    Some(Sasl::Password { mechanism, username: username.to_owned(), password })
}

fn is_topic_name(name: &str) -> bool {
    name.len() <= 249 && name.chars().all(is_topic_char)
}

impl KafkaPlan {
    /// See [`read`].
    pub(super) fn read(section: &Section<'_>) -> Option<Self> {
        let brokers = read_brokers(section);
        let topic = Template::read(section, "topic");
        if let Some(topic) = &topic
            && !is_topic_name(&topic.literal())
        {
            section.fault(
                "topic",
                "`topic` must consist of at most 249 letters, digits, `.`, `_` and `-`",
            );
        }

        let delivery = read_delivery(section);
        let properties = Properties::read(section);
        let tls = section.section("tls").map(|section| read_tls(&section));
        let sasl = section.section("sasl");
        let brokers = brokers?;
        let first = brokers.split([':', ',']).next().unwrap_or_default();
        let sasl = sasl.and_then(|section| read_sasl(&section, first));

        Some(Self {
            topic: topic?,
            format: read_format(section, FormatName::Json),
            delivery,
            compression: section.text("compression").unwrap_or("zstd").to_owned(),
            properties,
            tls,
            sasl,
            brokers,
        })
    }

    /// The settings that all clients of the cluster share. This call reads the password. Fails with
    /// `Misconfigured` if the password cannot be read.
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

        match &self.sasl {
            None => {}
            Some(Sasl::Password { mechanism, username, password }) => {
                let password =
                    password.read().map_err(|error| Failure::misconfigured(chain(&error)))?;
                config
                    .set("sasl.mechanisms", mechanism)
                    .set("sasl.username", username)
                    .set("sasl.password", password.expose_secret());
            }
            Some(Sasl::Entra(_)) => {
                config.set("sasl.mechanisms", OAUTHBEARER);
            }
        }

        self.properties.apply(&mut config);
        Ok(config)
    }
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

    fn required_labels(&self) -> Vec<String> {
        self.topic.labels().map(str::to_owned).collect()
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
