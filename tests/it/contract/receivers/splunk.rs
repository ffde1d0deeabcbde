//! Receivers for Splunk's HTTP Event Collector: one that implements the documented status codes,
//! and an independent implementation.

use super::{FaultyProxy, Receiver, SinkCase, Workspace, case, port_of};
use crate::support::{
    false_replies::FOREIGN_REPLIES,
    hec::{Hec, TOKEN},
    hostile::{Attack, HTTP_FLOODS},
    servers::Collector,
};

pub fn hec() -> SinkCase {
    let receiver = || Box::new(ProxiedHec::new(false)) as _;
    SinkCase {
        repeats_per_kill: 1_000,
        repeats_per_cut: 1_000,
        ..case("`splunk_hec` without indexer acknowledgement", "splunk_hec", receiver)
    }
}

pub fn hec_acknowledged() -> SinkCase {
    let receiver = || Box::new(ProxiedHec::new(true)) as _;
    SinkCase {
        repeats_per_kill: 16_000,
        repeats_per_cut: 16_000,
        ..case("`splunk_hec` with indexer acknowledgement", "splunk_hec", receiver)
    }
}

fn hec_section(workspace: &mut Workspace, proxy: &FaultyProxy) -> String {
    let token = workspace.secret("hec-secret", TOKEN);
    format!(
        "url = \"http://127.0.0.1:{}\"\ntoken = {token}\nacknowledgement_timeout = \"30s\"",
        proxy.port
    )
}

/// The receiver of [`crate::support::hec`] behind a proxy.
struct ProxiedHec {
    hec: Hec,
    proxy: FaultyProxy,
}

impl ProxiedHec {
    fn new(acknowledged: bool) -> Self {
        let hec = Hec::new();
        if acknowledged {
            hec.acknowledge(1);
        }
        let proxy = FaultyProxy::to(port_of(&hec.url));
        Self { hec, proxy }
    }
}

impl Receiver for ProxiedHec {
    fn section(&self, workspace: &mut Workspace) -> String {
        hec_section(workspace, &self.proxy)
    }
    fn arrived(&self) -> Vec<String> {
        self.hec.ids()
    }
    fn proxy(&self) -> Option<&FaultyProxy> {
        Some(&self.proxy)
    }
    fn reject(&self, control: &'static str) {
        self.hec.poison(&format!("\"id\":\"{control}\""));
    }
    fn limit(&self, bytes: usize) {
        self.hec.max_body(bytes);
    }
    fn floods(&self) -> &'static [Attack] {
        HTTP_FLOODS
    }
    fn false_replies(&self) -> Vec<Attack> {
        FOREIGN_REPLIES.to_vec()
    }
}

/// This receiver groups the records of a request by source type, so they are not in order.
pub fn hec_collector() -> SinkCase {
    let receiver = || Box::new(ProxiedCollector::new(false)) as _;
    SinkCase {
        ordered: false,
        repeats_per_kill: 1_000,
        repeats_per_cut: 1_000,
        ..case("`splunk_hec` without indexer acknowledgement", "splunk_hec", receiver)
    }
}

pub fn hec_collector_acknowledged() -> SinkCase {
    let receiver = || Box::new(ProxiedCollector::new(true)) as _;
    SinkCase {
        ordered: false,
        repeats_per_kill: 8_000,
        repeats_per_cut: 8_000,
        ..case("`splunk_hec` with indexer acknowledgement", "splunk_hec", receiver)
    }
}

/// An independent implementation behind a proxy.
struct ProxiedCollector {
    collector: Collector,
    proxy: FaultyProxy,
}

impl ProxiedCollector {
    fn new(acknowledged: bool) -> Self {
        let collector = Collector::new(acknowledged);
        let proxy = FaultyProxy::to(collector.server.port);
        Self { collector, proxy }
    }
}

impl Receiver for ProxiedCollector {
    fn section(&self, workspace: &mut Workspace) -> String {
        hec_section(workspace, &self.proxy)
    }
    fn arrived(&self) -> Vec<String> {
        self.collector.ids()
    }
    fn proxy(&self) -> Option<&FaultyProxy> {
        Some(&self.proxy)
    }
    fn floods(&self) -> &'static [Attack] {
        HTTP_FLOODS
    }
}
