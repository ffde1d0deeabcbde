//! Syslog by every way, to a real rsyslog; by UDP to a socket that reads.

use std::{
    net::UdpSocket,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use super::{Line, Receiver, Sink, Workspace, sink};
use crate::{
    support::rsyslog::Rsyslog,
    syslog::{cef_ids, tls_keys},
};

/// More than lies in any buffer on the way.
const REPLAY: usize = 20_000;

pub fn syslog_tcp() -> Sink {
    let receiver = || Box::new(Syslog::new("tcp", |r| r.tcp)) as _;
    Sink { killed: 6_000, cut: 6_000 + REPLAY, ..sink("`syslog` tcp, tls", "syslog", receiver) }
}

pub fn syslog_tls() -> Sink {
    let receiver = || Box::new(Syslog::new("tls", |r| r.tls)) as _;
    Sink { killed: 6_000, cut: 6_000 + REPLAY, ..sink("`syslog` tcp, tls", "syslog", receiver) }
}

pub fn syslog_relp() -> Sink {
    let receiver = || Box::new(Syslog::new("relp", |r| r.relp)) as _;
    Sink { killed: 1_000, cut: 128, ..sink("`syslog` relp, relps", "syslog", receiver) }
}

pub fn syslog_relps() -> Sink {
    let receiver = || Box::new(Syslog::new("relps", |r| r.relps)) as _;
    Sink { killed: 1_000, cut: 128, ..sink("`syslog` relp, relps", "syslog", receiver) }
}

struct Syslog {
    rsyslog: Rsyslog,
    scheme: &'static str,
    line: Line,
}

impl Syslog {
    fn new(scheme: &'static str, port: fn(&Rsyslog) -> u16) -> Self {
        let rsyslog = Rsyslog::new();
        let line = Line::to(port(&rsyslog));
        Self { rsyslog, scheme, line }
    }
}

impl Receiver for Syslog {
    fn section(&self, _: &mut Workspace) -> String {
        let keys = if matches!(self.scheme, "tls" | "relps") {
            tls_keys(&self.rsyslog, "client")
        } else {
            String::new()
        };
        let replay = if self.scheme.starts_with("relp") {
            String::new()
        } else {
            format!("replay_on_reconnect = {REPLAY}")
        };
        format!("address = \"{}://127.0.0.1:{}\"\n{keys}\n{replay}", self.scheme, self.line.port)
    }
    fn arrived(&self) -> Vec<String> {
        cef_ids(&self.rsyslog.messages())
    }
    fn line(&self) -> Option<&Line> {
        Some(&self.line)
    }
}

pub fn syslog_unix() -> Sink {
    let receiver = || Box::new(Local(Rsyslog::new())) as _;
    Sink { killed: 500, ..sink("`syslog` unix", "syslog", receiver) }
}

struct Local(Rsyslog);

impl Receiver for Local {
    fn section(&self, _: &mut Workspace) -> String {
        format!("address = \"unix://{}\"", self.0.unix().display())
    }
    fn arrived(&self) -> Vec<String> {
        cef_ids(&self.0.messages())
    }
    fn bytes(&self) -> usize {
        std::fs::metadata(self.0.file("out.jsonl")).map_or(0, |file| file.len() as usize)
    }
    fn down(&self) {
        std::fs::rename(self.0.unix(), self.0.file("away.sock")).unwrap();
    }
    fn up(&self) {
        std::fs::rename(self.0.file("away.sock"), self.0.unix()).unwrap();
    }
}

pub fn syslog_udp() -> Sink {
    let receiver = || Box::new(Datagrams::new()) as _;
    Sink { killed: 500, lossy: true, ..sink("`syslog` udp", "syslog", receiver) }
}

struct Datagrams {
    port: u16,
    taken: Arc<Mutex<Vec<String>>>,
    bytes: Arc<AtomicUsize>,
}

impl Datagrams {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let (taken, bytes) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
        let (keep, count) = (Arc::clone(&taken), Arc::clone(&bytes));
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok(n) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
                keep.lock().unwrap().push(text);
                count.fetch_add(n, SeqCst);
            }
        });
        Self { port, taken, bytes }
    }
}

impl Receiver for Datagrams {
    fn section(&self, _: &mut Workspace) -> String {
        format!(
            "address = \"udp://127.0.0.1:{}\"\nlossy = true\nmax_message = \"60KiB\"",
            self.port
        )
    }
    fn arrived(&self) -> Vec<String> {
        let id = |message: &String| message.split(" externalId=").nth(1).unwrap()[..40].to_owned();
        self.taken.lock().unwrap().iter().map(id).collect()
    }
    fn bytes(&self) -> usize {
        self.bytes.load(SeqCst)
    }
}
