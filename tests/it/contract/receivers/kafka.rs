//! A real Kafka broker.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{FaultyProxy, Receiver, SinkCase, Workspace, case, ids_in};
use crate::support::{
    broker::broker,
    hostile::{Attack, KAFKA_FLOODS},
    servers::unique,
};

pub fn kafka() -> SinkCase {
    let receiver = || Box::new(Kafka::new("")) as _;
    SinkCase { ordered: false, ..case("`kafka`", "kafka", receiver) }
}

pub fn kafka_at_least_once() -> SinkCase {
    let receiver = || Box::new(Kafka::new("exactly_once = false")) as _;
    let row = "`kafka`, `exactly_once = false`";
    SinkCase {
        ordered: false,
        repeats_per_kill: 5_000,
        repeats_per_cut: 5_000,
        ..case(row, "kafka", receiver)
    }
}

/// A topic of the shared broker. The broker advertises the address of its proxy to clients, so all
/// tests use the same proxy, one after the other.
struct Kafka {
    topic: String,
    extra: &'static str,
    _turn: MutexGuard<'static, ()>,
}

impl Kafka {
    fn new(extra: &'static str) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        broker().proxy.reset();
        let topic = unique("contract");
        broker().create_topic(&topic, 1 << 20);
        Self { topic, extra, _turn: turn }
    }
}

impl Receiver for Kafka {
    fn section(&self, _: &mut Workspace) -> String {
        let address = format!("127.0.0.1:{}", broker().proxy.port);
        format!("brokers = [\"{address}\"]\ntopic = \"{}\"\n{}", self.topic, self.extra)
    }
    fn arrived(&self) -> Vec<String> {
        let messages = broker().consume(&self.topic);
        messages.iter().flat_map(|m| ids_in(&String::from_utf8_lossy(&m.payload))).collect()
    }
    fn proxy(&self) -> Option<&FaultyProxy> {
        Some(&broker().proxy)
    }
    fn floods(&self) -> &'static [Attack] {
        KAFKA_FLOODS
    }
}
