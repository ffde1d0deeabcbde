//! The receiver for the `email` sink.

use super::{FaultyProxy, Receiver, SinkCase, Workspace, case};
use crate::support::{
    hostile::{Attack, SMTP_FLOODS},
    smtp::MailServer,
};

pub fn email() -> SinkCase {
    let receiver = || Box::new(MailReceiver::new()) as _;
    SinkCase {
        // The most severe record of an email is first.
        ordered: false,
        repeats_per_kill: 100,
        repeats_per_cut: 100,
        ..case("`email`", "email", receiver)
    }
}

struct MailReceiver {
    server: MailServer,
    proxy: FaultyProxy,
}

impl MailReceiver {
    fn new() -> Self {
        let server = MailServer::new();
        let proxy = FaultyProxy::to(server.port);
        Self { server, proxy }
    }
}

impl Receiver for MailReceiver {
    fn section(&self, _: &mut Workspace) -> String {
        format!(
            "server = \"127.0.0.1:{}\"\ntls = \"none\"\nfrom = \"score@contoso.example\"\nto = [\"soc@contoso.example\"]\nrecords = [\"control\", \"summary\", \"change\", \"quality\"]\nstart_from = \"2020-01-01\"",
            self.proxy.port
        )
    }
    fn arrived(&self) -> Vec<String> {
        let texts = self.server.mails().into_iter().map(|mail| mail.part("text/plain"));
        texts.flat_map(|text| event_ids(&text)).collect()
    }
    fn proxy(&self) -> Option<&FaultyProxy> {
        Some(&self.proxy)
    }
    fn floods(&self) -> &'static [Attack] {
        SMTP_FLOODS
    }
}

fn event_ids(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("Event ID: "));
    lines.map(|id| id.trim().to_owned()).collect()
}
