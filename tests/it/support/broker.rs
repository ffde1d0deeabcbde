//! A real Apache Kafka: one node, KRaft, from the jars that `tests/run` fetches.

use std::{
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock},
    time::Duration,
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    message::Headers,
};

use super::{cache, eventually, free_port, fs};

pub struct Broker {
    pub address: String,
    _directory: tempfile::TempDir,
}

/// A consumed record: key, payload, and its headers as `name=value`.
#[derive(Debug)]
pub struct Consumed {
    pub key: String,
    pub payload: Vec<u8>,
    pub headers: Vec<String>,
}

static CHILD: Mutex<Option<Child>> = Mutex::new(None);

/// The broker that all tests share. It watches its standard input, and ends when the tests do.
pub fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    BROKER.get_or_init(Broker::start)
}

impl Broker {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (port, controller) = (free_port(), free_port());
        let d = directory.path().display().to_string();
        fs(directory.path().join("server.properties"), &properties(&d, port, controller));
        let classes = format!("{}/*", cache("KAFKA_JARS", "kafka").display());
        let tool = |args: &[&str]| {
            Command::new("java").args(["-cp", &classes]).args(args).output().unwrap()
        };
        let uuid = tool(&["kafka.tools.StorageTool", "random-uuid"]);
        let uuid = String::from_utf8(uuid.stdout).unwrap();
        let format = [
            "kafka.tools.StorageTool",
            "format",
            "-t",
            uuid.trim(),
            "-c",
            &format!("{d}/server.properties"),
            "--standalone",
        ];
        let formatted = tool(&format);
        assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
        let log = std::fs::File::create(directory.path().join("broker.log")).unwrap();
        // The shell ends the broker when the tests' end closes its standard input, however they end.
        let script = format!(
            "java -Xmx400m -cp '{classes}' kafka.Kafka {d}/server.properties & broker=$!; cat >/dev/null; kill -9 $broker"
        );
        let child = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        *CHILD.lock().unwrap() = Some(child);
        let broker = Self { address: format!("127.0.0.1:{port}"), _directory: directory };
        let consumer: BaseConsumer = broker.config().create().unwrap();
        eventually("the broker answers", || {
            consumer
                .fetch_metadata(None, Duration::from_secs(2))
                .is_ok_and(|m| !m.brokers().is_empty())
        });
        broker
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

    pub fn create_topic(&self, name: &str, max_message: usize) {
        let admin: AdminClient<DefaultClientContext> = self.config().create().unwrap();
        let max_message = max_message.to_string();
        let topic = NewTopic::new(name, 3, TopicReplication::Fixed(1))
            .set("max.message.bytes", &max_message);
        let created =
            super::runtime().block_on(admin.create_topics([&topic], &AdminOptions::new())).unwrap();
        created[0].as_ref().unwrap();
    }

    /// Everything that was committed to a topic, as it stands now.
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
            let polled = consumer.poll(Duration::from_secs(20)).expect("the broker answers");
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

fn properties(d: &str, port: u16, controller: u16) -> String {
    format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\nadvertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\nlog.dirs={d}/data\n\
         offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\nauto.create.topics.enable=false\n"
    )
}
