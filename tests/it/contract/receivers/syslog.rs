//! Receivers for every syslog transport: a real rsyslog, and for UDP a socket of the test.

use std::{
    net::UdpSocket,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use super::{FaultyProxy, Receiver, SinkCase, Workspace, case};
use crate::{
    support::{
        hostile::{Attack, RAW_FLOODS, RELP_FLOODS},
        rsyslog::Rsyslog,
    },
    syslog::{cef_ids, tls_keys},
};

/// A replay window with more records than all buffers between the processes can hold.
const REPLAY: usize = 20_000;

pub fn syslog_tcp() -> SinkCase {
    let receiver = || Box::new(Syslog::new("tcp", |r| r.tcp)) as _;
    SinkCase {
        repeats_per_kill: 6_000,
        repeats_per_cut: 6_000 + REPLAY,
        ..case("`syslog` tcp, tls", "syslog", receiver)
    }
}

pub fn syslog_tls() -> SinkCase {
    let receiver = || Box::new(Syslog::new("tls", |r| r.tls)) as _;
    SinkCase {
        repeats_per_kill: 6_000,
        repeats_per_cut: 6_000 + REPLAY,
        ..case("`syslog` tcp, tls", "syslog", receiver)
    }
}

pub fn syslog_relp() -> SinkCase {
    let receiver = || Box::new(Syslog::new("relp", |r| r.relp)) as _;
    SinkCase {
        repeats_per_kill: 1_000,
        repeats_per_cut: 128,
        ..case("`syslog` relp, relps", "syslog", receiver)
    }
}

pub fn syslog_relps() -> SinkCase {
    let receiver = || Box::new(Syslog::new("relps", |r| r.relps)) as _;
    SinkCase {
        repeats_per_kill: 1_000,
        repeats_per_cut: 128,
        ..case("`syslog` relp, relps", "syslog", receiver)
    }
}

struct Syslog {
    rsyslog: Rsyslog,
    scheme: &'static str,
    proxy: FaultyProxy,
}

impl Syslog {
    fn new(scheme: &'static str, port: fn(&Rsyslog) -> u16) -> Self {
        let rsyslog = Rsyslog::new();
        let proxy = FaultyProxy::to(port(&rsyslog));
        Self { rsyslog, scheme, proxy }
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

        format!("address = \"{}://127.0.0.1:{}\"\n{keys}\n{replay}", self.scheme, self.proxy.port)
    }
    fn arrived(&self) -> Vec<String> {
        cef_ids(&self.rsyslog.messages())
    }
    fn proxy(&self) -> Option<&FaultyProxy> {
        Some(&self.proxy)
    }
    fn floods(&self) -> &'static [Attack] {
        if self.scheme == "relp" { RELP_FLOODS } else { RAW_FLOODS }
    }
}

pub fn syslog_unix() -> SinkCase {
    let receiver = || Box::new(Local(Rsyslog::new())) as _;
    SinkCase { repeats_per_kill: 500, ..case("`syslog` unix", "syslog", receiver) }
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
        std::fs::rename(self.0.unix(), self.0.file("absent.sock")).unwrap();
    }
    fn up(&self) {
        std::fs::rename(self.0.file("absent.sock"), self.0.unix()).unwrap();
    }
}

pub fn syslog_udp() -> SinkCase {
    let receiver = || Box::new(Datagrams::new()) as _;
    SinkCase { repeats_per_kill: 500, lossy: true, ..case("`syslog` udp", "syslog", receiver) }
}

struct Datagrams {
    port: u16,
    messages: Arc<Mutex<Vec<String>>>,
    bytes: Arc<AtomicUsize>,
}

impl Datagrams {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();

        let (messages, bytes) =
            (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
        let (received, count) = (Arc::clone(&messages), Arc::clone(&bytes));
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok(n) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
                received.lock().unwrap().push(text);
                count.fetch_add(n, SeqCst);
            }
        });
        Self { port, messages, bytes }
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
        self.messages.lock().unwrap().iter().map(id).collect()
    }
    fn bytes(&self) -> usize {
        self.bytes.load(SeqCst)
    }
}
