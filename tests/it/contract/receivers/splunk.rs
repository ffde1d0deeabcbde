//! Splunk's protocol: a receiver after its code table, and one of somebody else's making.

use super::{Line, Receiver, Sink, Workspace, port_of, sink};
use crate::support::{
    hec::{Hec, TOKEN},
    servers::Collector,
};

pub fn hec() -> Sink {
    let receiver = || Box::new(HecBehind::new(false)) as _;
    Sink { killed: 1_000, cut: 1_000, ..sink("`splunk_hec` without", "splunk_hec", receiver) }
}

pub fn hec_acknowledged() -> Sink {
    let receiver = || Box::new(HecBehind::new(true)) as _;
    Sink {
        killed: 16_000,
        cut: 16_000,
        ..sink("`splunk_hec` acknowledged", "splunk_hec", receiver)
    }
}

fn hec_section(workspace: &mut Workspace, line: &Line) -> String {
    let token = workspace.secret("hec-secret", TOKEN);
    format!(
        "url = \"http://127.0.0.1:{}\"\ntoken = {token}\nacknowledgement_timeout = \"30s\"",
        line.port
    )
}

struct HecBehind {
    hec: Hec,
    line: Line,
}

impl HecBehind {
    fn new(acknowledged: bool) -> Self {
        let hec = Hec::new();
        if acknowledged {
            hec.acknowledge(1);
        }
        let line = Line::to(port_of(&hec.url));
        Self { hec, line }
    }
}

impl Receiver for HecBehind {
    fn section(&self, workspace: &mut Workspace) -> String {
        hec_section(workspace, &self.line)
    }
    fn arrived(&self) -> Vec<String> {
        self.hec.ids()
    }
    fn line(&self) -> Option<&Line> {
        Some(&self.line)
    }
    fn refuse(&self, control: &'static str) {
        self.hec.poison(&format!("\"id\":\"{control}\""));
    }
    fn limit(&self, bytes: usize) {
        self.hec.max_body(bytes);
    }
}

/// What a request holds it files by source type.
pub fn hec_collector() -> Sink {
    let receiver = || Box::new(CollectorBehind::new(false)) as _;
    Sink {
        ordered: false,
        killed: 1_000,
        cut: 1_000,
        ..sink("`splunk_hec` without", "splunk_hec", receiver)
    }
}

pub fn hec_collector_acknowledged() -> Sink {
    let receiver = || Box::new(CollectorBehind::new(true)) as _;
    Sink {
        ordered: false,
        killed: 8_000,
        cut: 8_000,
        ..sink("`splunk_hec` acknowledged", "splunk_hec", receiver)
    }
}

/// A receiver of somebody else's making.
struct CollectorBehind {
    collector: Collector,
    line: Line,
}

impl CollectorBehind {
    fn new(acknowledged: bool) -> Self {
        let collector = Collector::new(acknowledged);
        let line = Line::to(collector.server.port);
        Self { collector, line }
    }
}

impl Receiver for CollectorBehind {
    fn section(&self, workspace: &mut Workspace) -> String {
        hec_section(workspace, &self.line)
    }
    fn arrived(&self) -> Vec<String> {
        self.collector.ids()
    }
    fn line(&self) -> Option<&Line> {
        Some(&self.line)
    }
}
