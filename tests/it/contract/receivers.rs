//! The receivers, each behind a line where it is reached by one.

use std::{
    net::UdpSocket,
    path::PathBuf,
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use serde_json::{Value, json};

use super::{Receiver, Sink};
use crate::{
    support::{
        CANARY, Workspace,
        broker::broker,
        endpoint::{Endpoint, Request},
        hec::{Hec, TOKEN},
        line::Line,
        rsyslog::Rsyslog,
        servers::{Collector, unique},
    },
    syslog::{cef_ids, tls_keys},
};

fn sink(row: &'static str, kind: &'static str, receiver: fn() -> Box<dyn Receiver>) -> Sink {
    Sink { row, kind, receiver, ordered: true, lossy: false, killed: 0, cut: 0 }
}

/// The ids in canonical JSON, whatever is around it.
fn ids_in(text: &str) -> Vec<String> {
    text.split("\"event_id\":\"")
        .skip(1)
        .filter_map(|rest| rest.get(..40))
        .map(str::to_owned)
        .collect()
}

// Files.

pub fn file() -> Sink {
    sink("`file`", "file", || Box::new(Lines::new()))
}

struct Lines(tempfile::TempDir);

impl Lines {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("there")).unwrap();
        Self(directory)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("there/records.jsonl")
    }
}

impl Receiver for Lines {
    fn section(&self, _: &mut Workspace) -> String {
        format!("path = \"{}\"", self.path().display())
    }
    fn arrived(&self) -> Vec<String> {
        ids_in(&std::fs::read_to_string(self.path()).unwrap_or_default())
    }
    fn octets(&self) -> usize {
        std::fs::metadata(self.path()).map_or(0, |file| file.len() as usize)
    }
    fn down(&self) -> bool {
        std::fs::rename(self.0.path().join("there"), self.0.path().join("away")).unwrap();
        true
    }
    fn up(&self) {
        std::fs::rename(self.0.path().join("away"), self.0.path().join("there")).unwrap();
    }
}

pub fn stdout() -> Sink {
    Sink { killed: 1_000, ..sink("`stdout`", "stdout", || Box::new(Stdout(Lines::new()))) }
}

/// A pipe would break with the process; a file keeps what was said.
struct Stdout(Lines);

impl Receiver for Stdout {
    fn section(&self, _: &mut Workspace) -> String {
        String::new()
    }
    fn arrived(&self) -> Vec<String> {
        self.0.arrived()
    }
    fn octets(&self) -> usize {
        self.0.octets()
    }
    fn down(&self) -> bool {
        false
    }
    fn prepare(&self, command: &mut Command) {
        let mut options = std::fs::OpenOptions::new();
        command.stdout(options.create(true).append(true).open(self.0.path()).unwrap());
    }
}

// Syslog.

/// More than lies in any buffer on the way.
const REPLAY: usize = 20_000;

pub fn syslog_tcp() -> Sink {
    let receiver = || Box::new(Syslog::new("tcp", |r| r.tcp, false)) as _;
    Sink { killed: 6_000, cut: 6_000 + REPLAY, ..sink("`syslog` tcp, tls", "syslog", receiver) }
}

pub fn syslog_tls() -> Sink {
    let receiver = || Box::new(Syslog::new("tls", |r| r.tls, true)) as _;
    Sink { killed: 6_000, cut: 6_000 + REPLAY, ..sink("`syslog` tcp, tls", "syslog", receiver) }
}

pub fn syslog_relp() -> Sink {
    let receiver = || Box::new(Syslog::new("relp", |r| r.relp, true)) as _;
    Sink { killed: 1_000, cut: 128, ..sink("`syslog` relp, relps", "syslog", receiver) }
}

pub fn syslog_relps() -> Sink {
    let receiver = || Box::new(Syslog::new("relps", |r| r.relps, true)) as _;
    Sink { killed: 1_000, cut: 128, ..sink("`syslog` relp, relps", "syslog", receiver) }
}

struct Syslog {
    rsyslog: Rsyslog,
    scheme: &'static str,
    line: Line,
    answers: bool,
}

impl Syslog {
    fn new(scheme: &'static str, port: fn(&Rsyslog) -> u16, answers: bool) -> Self {
        let rsyslog = Rsyslog::new();
        let line = Line::to(port(&rsyslog));
        Self { rsyslog, scheme, line, answers }
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
    fn answers(&self) -> bool {
        self.answers
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
    fn octets(&self) -> usize {
        std::fs::metadata(self.0.file("out.jsonl")).map_or(0, |file| file.len() as usize)
    }
    fn down(&self) -> bool {
        std::fs::rename(self.0.unix(), self.0.file("away.sock")).unwrap();
        true
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
    octets: Arc<AtomicUsize>,
}

impl Datagrams {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let (taken, octets) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
        let (keep, count) = (Arc::clone(&taken), Arc::clone(&octets));
        std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok(n) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
                keep.lock().unwrap().push(text);
                count.fetch_add(n, SeqCst);
            }
        });
        Self { port, taken, octets }
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
    fn octets(&self) -> usize {
        self.octets.load(SeqCst)
    }
    fn down(&self) -> bool {
        false
    }
}

// Splunk's collector.

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
        "url = \"http://127.0.0.1:{}\"\ntoken = {token}\nacknowledgement_timeout = \"5s\"",
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

fn port_of(url: &str) -> u16 {
    url.rsplit(':').next().unwrap().parse().unwrap()
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
    fn refuse(&self, control: &'static str) -> bool {
        self.hec.poison(&format!("\"id\":\"{control}\""));
        true
    }
    fn limit(&self, octets: usize) -> bool {
        self.hec.max_body(octets);
        true
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

// Kafka.

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
        broker().line.mend();
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

// Over HTTP.

pub fn elasticsearch() -> Sink {
    let receiver = || Box::new(Web::new(url_section, answer_bulk)) as _;
    sink("`elasticsearch`", "elasticsearch", receiver)
}

pub fn http() -> Sink {
    let receiver = || Box::new(Web::new(url_section, answer_array)) as _;
    Sink { killed: 500, cut: 500, ..sink("`http`", "http", receiver) }
}

pub fn sentinel() -> Sink {
    let receiver = || Box::new(Web::new(sentinel_section, answer_sentinel)) as _;
    Sink { killed: 1_000, cut: 1_000, ..sink("`sentinel`", "sentinel", receiver) }
}

pub fn otlp() -> Sink {
    let receiver = || Box::new(Web::new(url_section, answer_otlp)) as _;
    Sink { killed: 1_000, cut: 1_000, ..sink("`otlp`", "otlp", receiver) }
}

#[derive(Default)]
struct Taken {
    ids: Vec<String>,
    refused: Option<&'static str>,
    limit: Option<usize>,
}

type Answer = fn(&Request, &mut Taken) -> (u16, String);

struct Web {
    section: fn(&str, &mut Workspace) -> String,
    taken: Arc<Mutex<Taken>>,
    line: Line,
    _endpoint: Endpoint,
}

impl Web {
    fn new(section: fn(&str, &mut Workspace) -> String, answer: Answer) -> Self {
        let endpoint = Endpoint::new("");
        let taken = Arc::<Mutex<Taken>>::default();
        let keep = Arc::clone(&taken);
        endpoint.rule(move |request| {
            let taken = &mut *keep.lock().unwrap();
            if taken.limit.is_some_and(|limit| request.body.len() > limit) {
                return Some((413, "too large".to_owned()));
            }
            Some(answer(request, taken))
        });
        let line = Line::to(port_of(&endpoint.url));
        Self { section, taken, line, _endpoint: endpoint }
    }
}

impl Receiver for Web {
    fn section(&self, workspace: &mut Workspace) -> String {
        (self.section)(&format!("http://127.0.0.1:{}", self.line.port), workspace)
    }
    fn arrived(&self) -> Vec<String> {
        self.taken.lock().unwrap().ids.clone()
    }
    fn line(&self) -> Option<&Line> {
        Some(&self.line)
    }
    fn refuse(&self, control: &'static str) -> bool {
        self.taken.lock().unwrap().refused = Some(control);
        true
    }
    fn limit(&self, octets: usize) -> bool {
        self.taken.lock().unwrap().limit = Some(octets);
        true
    }
}

fn url_section(url: &str, _: &mut Workspace) -> String {
    format!("url = \"{url}\"")
}

fn sentinel_section(url: &str, workspace: &mut Workspace) -> String {
    let secret = workspace.secret("sink-secret", &format!("{CANARY}-sink"));
    workspace.head = format!(
        "[credentials.siem]\nkind = \"client_secret\"\nclient_id = \"99999999-2222-4333-8444-555555555555\"\nclient_secret = {secret}\n"
    );
    format!(
        "url = \"{url}\"\nrule_id = \"dcr-0123456789abcdef\"\nstream = \"Custom-SecureScore_CL\"\n\
         credential = \"siem\"\nentra_tenant = \"siem.example\"\nlogin_url = \"{url}\""
    )
}

impl Taken {
    fn refuses(&self, record: &str) -> bool {
        self.refused.is_some_and(|control| record.contains(&format!("\"id\":\"{control}\"")))
    }
}

fn answer_array(request: &Request, taken: &mut Taken) -> (u16, String) {
    let text = String::from_utf8_lossy(&request.body);
    if taken.refuses(&text) {
        return (422, "no such control here".to_owned());
    }
    taken.ids.extend(ids_in(&text));
    (200, String::new())
}

fn answer_sentinel(request: &Request, taken: &mut Taken) -> (u16, String) {
    if request.path.ends_with("/token") {
        let token = json!({ "access_token": format!("{CANARY}-token"), "expires_in": 3_599, "token_type": "Bearer" });
        return (200, token.to_string());
    }
    match answer_array(request, taken) {
        (200, body) => (204, body),
        (_, body) => (400, body),
    }
}

/// Takes what it does not refuse, and says only how many those are.
fn answer_otlp(request: &Request, taken: &mut Taken) -> (u16, String) {
    let text: Value = serde_json::from_slice(&request.body).unwrap();
    let mut rejected = 0;
    for log in text["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap() {
        let body = log["body"]["stringValue"].as_str().unwrap();
        if taken.refuses(body) {
            rejected += 1;
        } else {
            taken.ids.extend(ids_in(body));
        }
    }
    let partial = json!({ "rejectedLogRecords": rejected.to_string(), "errorMessage": "no" });
    let answer = if rejected > 0 { json!({ "partialSuccess": partial }) } else { json!({}) };
    (200, answer.to_string())
}

fn answer_bulk(request: &Request, taken: &mut Taken) -> (u16, String) {
    let text = String::from_utf8_lossy(&request.body);
    let lines: Vec<&str> = text.lines().collect();
    let items: Vec<Value> = lines
        .chunks(2)
        .map(|pair| {
            let action: Value = serde_json::from_str(pair[0]).unwrap();
            let id = action["create"]["_id"].as_str().unwrap().to_owned();
            let status = if taken.ids.contains(&id) {
                409
            } else if taken.refuses(pair[1]) {
                400
            } else {
                taken.ids.push(id);
                201
            };
            json!({ "create": { "status": status, "error": { "type": "mapper_parsing_exception", "reason": "failed to parse" } } })
        })
        .collect();
    let errors = items.iter().any(|item| item["create"]["status"] != 201);
    (200, json!({ "errors": errors, "items": items }).to_string())
}

// Objects.

#[cfg(feature = "object_store")]
mod objects {
    use super::*;
    use crate::support::{
        objects::{ACCOUNT, ACCOUNT_KEY, Bucket},
        servers::{azure, s3},
    };

    struct Objects {
        bucket: Bucket,
        section: fn(&mut Workspace, &str, u16) -> String,
        line: Line,
    }

    impl Receiver for Objects {
        fn section(&self, workspace: &mut Workspace) -> String {
            (self.section)(workspace, &self.bucket.name, self.line.port)
        }
        fn arrived(&self) -> Vec<String> {
            let records = self.bucket.records();
            records.iter().map(|r| r["event_id"].as_str().unwrap().to_owned()).collect()
        }
        fn line(&self) -> Option<&Line> {
            Some(&self.line)
        }
    }

    pub fn s3_section(workspace: &mut Workspace, bucket: &str, port: u16) -> String {
        let key = workspace.secret("s3-secret", &format!("{CANARY}-s3"));
        format!(
            "url = \"s3://{bucket}/scores\"\nendpoint = \"http://127.0.0.1:{port}\"\naccess_key_id = \"tests\"\nsecret_access_key = {key}"
        )
    }

    pub fn azure_section(workspace: &mut Workspace, container: &str, port: u16) -> String {
        let key = workspace.secret("azure-secret", ACCOUNT_KEY);
        format!(
            "url = \"az://{container}\"\nendpoint = \"http://127.0.0.1:{port}/{ACCOUNT}\"\naccount = \"{ACCOUNT}\"\naccount_key = {key}"
        )
    }

    pub fn in_s3() -> Box<dyn Receiver> {
        Box::new(Objects { bucket: Bucket::s3(), section: s3_section, line: Line::to(s3().port) })
    }

    pub fn in_azure() -> Box<dyn Receiver> {
        let line = Line::to(azure().port);
        Box::new(Objects { bucket: Bucket::azure(), section: azure_section, line })
    }
}

#[cfg(feature = "object_store")]
pub fn s3() -> Sink {
    Sink { ordered: false, ..sink("`object_store`", "object_store", objects::in_s3) }
}

#[cfg(feature = "object_store")]
pub fn azure_blob() -> Sink {
    Sink { ordered: false, ..sink("`object_store`", "object_store", objects::in_azure) }
}
