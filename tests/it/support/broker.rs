//! A real Apache Kafka broker: one node in KRaft mode, from the JAR files that `tests/run --all`
//! downloads.

use std::{
    process::Command,
    sync::{Mutex, OnceLock},
    time::Duration,
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::Headers,
    producer::{BaseProducer, Producer},
};

use super::{
    cache, eventually, faulty_proxy::FaultyProxy, free_port, rsyslog::write_pki, servers::Server,
    write,
};

pub struct Broker {
    /// The listener without TLS and authentication.
    pub address: String,
    /// The listener with TLS, for [`USER`].
    pub secure: String,
    /// A proxy in front of another listener without TLS. A test can inject faults into its
    /// connections.
    pub proxy: FaultyProxy,
    /// The listener with `OAUTHBEARER`. It accepts unsigned tokens.
    pub oauthbearer: String,
    directory: tempfile::TempDir,
    server: Mutex<Option<Server>>,
}

/// The user of the listener with TLS, who can authenticate with SCRAM and PLAIN.
pub const USER: &str = "forwarder";
pub const PASSWORD: &str = "CANARY-5ecr3t-kafka";

/// A consumed record: its key, its payload, and its headers as `name=value`.
#[derive(Debug)]
pub struct Consumed {
    pub key: String,
    pub payload: Vec<u8>,
    pub headers: Vec<String>,
}

/// The broker that all tests share. It stops when the tests end; see [`Server`].
pub fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(Broker::start)
}

impl Broker {
    /// Starts a broker for one test. It does not create topics automatically.
    pub fn start() -> Self {
        Self::start_with("auto.create.topics.enable=false")
    }

    /// Starts a broker for one test, with an additional line in `server.properties`.
    pub fn start_with(property: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let d = directory.path().display().to_string();
        write_pki(directory.path());
        let file = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
        write(directory.path().join("keystore.pem"), &(file("server.key") + &file("server.pem")));

        let [port, controller, secure, behind, oauthbearer] = std::array::from_fn(|_| free_port());
        let proxy = FaultyProxy::to(behind);
        let ports = Ports { port, controller, secure, behind, proxy: proxy.port, oauthbearer };
        let properties = properties(&d, &ports) + property + "\n";
        write(directory.path().join("server.properties"), &properties);

        let classes = format!("{}/*", cache("KAFKA_JARS", "kafka").display());
        let tool = |args: &[&str]| {
            Command::new("java").args(["-cp", &classes]).args(args).output().unwrap()
        };
        let uuid = tool(&["kafka.tools.StorageTool", "random-uuid"]);
        let uuid = String::from_utf8(uuid.stdout).unwrap();
        let user = format!("SCRAM-SHA-512=[name={USER},password={PASSWORD}]");
        let config = format!("{d}/server.properties");
        let format = ["kafka.tools.StorageTool", "format", "-t", uuid.trim(), "-c", &config];
        let formatted = tool(&[&format[..], &["--standalone", "--add-scram", &user]].concat());
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));

        let broker = Self {
            address: format!("127.0.0.1:{port}"),
            secure: format!("127.0.0.1:{secure}"),
            proxy,
            oauthbearer: format!("127.0.0.1:{oauthbearer}"),
            directory,
            server: Mutex::new(None),
        };
        broker.start_server();
        broker
    }

    pub fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn start_server(&self) {
        let classes = format!("{}/*", cache("KAFKA_JARS", "kafka").display());
        let properties = self.file("server.properties");
        let command = format!("java -Xmx400m -cp '{classes}' kafka.Kafka {properties}");
        let port = self.address.rsplit(':').next().unwrap().parse().unwrap();
        let log = self.directory.path().join("broker.log");
        *self.server.lock().unwrap() = Some(Server::start(port, &log, &command));

        let consumer: BaseConsumer = self.config().create().unwrap();
        eventually("the broker responds", || {
            consumer
                .fetch_metadata(None, Duration::from_secs(2))
                .is_ok_and(|m| !m.brokers().is_empty())
        });

        // The first transactional producer makes the broker create the topic of its coordinator.
        // On a busy disk, that may take longer than the retries of `once`.
        eventually("the broker serves transactions", || {
            let producer: BaseProducer =
                self.config().set("transactional.id", "first").create().unwrap();
            producer.init_transactions(Duration::from_secs(10)).is_ok()
        });
    }

    /// Kills the broker and starts it again with the stored data.
    pub fn crash(&self) {
        drop(self.server.lock().unwrap().take());
        self.start_server();
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.address)
            .set("group.id", "tests")
            .set("enable.auto.commit", "false");
        config.set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg);
        config
    }

    /// Creates a topic with three partitions and a maximum size of a message, in bytes.
    pub fn create_topic(&self, name: &str, max_message: usize) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().unwrap();
        let max_message = max_message.to_string();
        let topic = NewTopic::new(name, 3, TopicReplication::Fixed(1))
            .set("max.message.bytes", &max_message);
        let created =
            super::runtime().block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
        created[0].as_ref().unwrap();

        // The broker may not report the metadata of a created topic immediately.
        let consumer: BaseConsumer = self.config().create().unwrap();
        eventually("the topic exists", || {
            let metadata = consumer.fetch_metadata(Some(name), Duration::from_secs(2));
            metadata.is_ok_and(|m| {
                m.topics().iter().any(|t| t.error().is_none() && t.partitions().len() == 3)
            })
        });
    }

    /// Requests the metadata of a topic as producers do, which may create it.
    pub fn request_metadata(&self, name: &str) {
        let producer: BaseProducer = self.config().create().unwrap();
        let _ = producer.client().fetch_metadata(Some(name), Duration::from_secs(20));
    }

    pub fn has_topic(&self, name: &str) -> bool {
        let consumer: BaseConsumer = self.config().create().unwrap();
        let metadata = consumer.fetch_metadata(None, Duration::from_secs(20)).unwrap();
        metadata.topics().iter().any(|topic| topic.name() == name)
    }

    /// All records of a topic as soon as at least this many are visible: the broker confirms a
    /// transaction before consumers can read its records.
    pub fn consume_at_least(&self, topic: &str, count: usize) -> Vec<Consumed> {
        let mut consumed = Vec::new();
        eventually(&format!("{count} records of `{topic}` are visible"), || {
            consumed = self.consume(topic);
            consumed.len() >= count
        });
        consumed
    }

    /// All records of a topic that are visible when this is called. Those of a transaction that was
    /// just confirmed may not be visible yet; see [`Self::consume_at_least`].
    pub fn consume(&self, topic: &str) -> Vec<Consumed> {
        let mut config = self.config();
        config.set("enable.partition.eof", "true").set("isolation.level", "read_committed");
        let consumer: BaseConsumer = config.create().unwrap();
        let partitions = {
            let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(20)).unwrap();
            metadata.topics()[0].partitions().len()
        };
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions as i32 {
            assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&assignment).unwrap();

        let (mut consumed, mut ended) = (Vec::new(), 0);
        while ended < partitions {
            let polled = consumer.poll(Duration::from_secs(20)).expect("the broker responds");
            let message = match polled {
                Err(rdkafka::error::KafkaError::PartitionEOF(_)) => {
                    ended += 1;
                    continue;
                }
                other => other.unwrap(),
            };

            let headers = message
                .headers()
                .map(|h| h.iter().map(|h| format!("{}={}", h.key, text(h.value))).collect());
            consumed.push(Consumed {
                key: text(message.key()),
                payload: message.payload().unwrap().to_vec(),
                headers: headers.unwrap_or_default(),
            });
        }
        consumed
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap()
}

struct Ports {
    port: u16,
    controller: u16,
    secure: u16,
    behind: u16,
    proxy: u16,
    oauthbearer: u16,
}

fn properties(d: &str, ports: &Ports) -> String {
    let Ports { port, controller, secure, behind, proxy, oauthbearer } = ports;
    let listener = "listener.name.sasl_ssl";
    let module = "org.apache.kafka.common.security";
    format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},SASL_SSL://127.0.0.1:{secure},BEHIND://127.0.0.1:{behind},ENTRA://127.0.0.1:{oauthbearer}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{secure},BEHIND://127.0.0.1:{proxy},ENTRA://127.0.0.1:{oauthbearer}\n\
         controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,BEHIND:PLAINTEXT,ENTRA:SASL_PLAINTEXT\n\
         ssl.keystore.type=PEM\nssl.keystore.location={d}/keystore.pem\nsasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN\n\
         {listener}.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;\n\
         {listener}.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";\n\
         listener.name.entra.sasl.enabled.mechanisms=OAUTHBEARER\n\
         listener.name.entra.oauthbearer.sasl.jaas.config={module}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";\n\
         log.dirs={d}/data\n\
         offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\ntransaction.state.log.num.partitions=1\n\
         transaction.abort.timed.out.transaction.cleanup.interval.ms=500\n\
         share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\nshare.coordinator.state.topic.num.partitions=1\n\
         group.initial.rebalance.delay.ms=0\n"
    )
}
