//! A real broker.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Line, Receiver, Sink, Workspace, ids_in, sink};
use crate::support::{broker::broker, servers::unique};

pub fn kafka() -> Sink {
    let receiver = || Box::new(Kafka::new("")) as _;
    Sink { ordered: false, ..sink("`kafka`", "kafka", receiver) }
}

pub fn kafka_at_least_once() -> Sink {
    let receiver = || Box::new(Kafka::new("exactly_once = false")) as _;
    let row = "`kafka`, `exactly_once = false`";
    Sink { ordered: false, killed: 5_000, cut: 5_000, ..sink(row, "kafka", receiver) }
}

/// The broker says under which address it is reached, so all share one line, by turns.
struct Kafka {
    topic: String,
    extra: &'static str,
    _turn: MutexGuard<'static, ()>,
}

impl Kafka {
    fn new(extra: &'static str) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        broker().line.repair();
        let topic = unique("contract");
        broker().create_topic(&topic, 1 << 20);
        Self { topic, extra, _turn: turn }
    }
}

impl Receiver for Kafka {
    fn section(&self, _: &mut Workspace) -> String {
        let address = format!("127.0.0.1:{}", broker().line.port);
        format!("brokers = [\"{address}\"]\ntopic = \"{}\"\n{}", self.topic, self.extra)
    }
    fn arrived(&self) -> Vec<String> {
        let consumed = broker().consume(&self.topic);
        consumed.iter().flat_map(|m| ids_in(&String::from_utf8_lossy(&m.payload))).collect()
    }
    fn line(&self) -> Option<&Line> {
        Some(&broker().line)
    }
}
