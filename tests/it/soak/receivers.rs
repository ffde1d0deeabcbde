//! The HTTP receivers of the soak. They store how often each event ID has arrived and drop the
//! records, so that their memory is bounded. Each is behind a proxy, and can refuse requests.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use serde_json::{Value, json};

use crate::support::{
    endpoint::{Endpoint, Request},
    faulty_proxy::FaultyProxy,
};

/// How often each event ID has arrived. An ID is represented by its first 32 digits.
pub type Arrivals = HashMap<u128, u32>;

/// Adds the event IDs of the records in a text.
pub fn add_ids(text: &str, arrivals: &mut Arrivals) {
    for rest in text.split("\"event_id\":\"").skip(1) {
        if let Some(id) = rest.get(..40) {
            add(id, arrivals);
        }
    }
}

/// Adds an event ID, and returns how often it has arrived.
fn add(id: &str, arrivals: &mut Arrivals) -> u32 {
    let id = u128::from_str_radix(&id[..32], 16).unwrap();
    let count = arrivals.entry(id).or_default();
    *count += 1;
    *count
}

/// What a receiver replies without storing anything.
#[derive(Clone, Copy, Debug)]
pub enum RequestRefusal {
    /// Each request receives this status.
    Every(u16),
    /// Every third request is refused because the server is busy.
    EveryThird,
}

#[derive(Default)]
pub struct ReceiverLog {
    pub arrivals: Arrivals,
    refusal: Option<RequestRefusal>,
    /// The index that does not exist for a while.
    refused_index: Option<String>,
    requests: usize,
    /// The documents that existed already.
    existing: usize,
}

type Handler = fn(&Request, &mut ReceiverLog) -> (u16, String);

/// An HTTP receiver behind a proxy.
pub struct WebReceiver {
    pub name: &'static str,
    /// The keys of the sink, without its URL.
    pub section: &'static str,
    /// The largest number of records of a batch, which an interruption may repeat.
    pub batch: usize,
    pub proxy: FaultyProxy,
    /// Closed connections and cut requests.
    pub interruptions: AtomicUsize,
    log: Arc<Mutex<ReceiverLog>>,
    _endpoint: Endpoint,
}

impl WebReceiver {
    /// One receiver for each HTTP sink of the soak.
    pub fn all() -> Vec<Arc<Self>> {
        [
            ("splunk", HEC_SECTION, 1_000, handle_hec as Handler),
            ("elastic", ELASTIC_SECTION, 0, handle_bulk as Handler),
            ("otlp", "type = \"otlp\"", 1_000, handle_otlp as Handler),
            ("webhook", "type = \"http\"\nbatch_records = 100", 100, handle_array as Handler),
        ]
        .into_iter()
        .map(|(name, section, batch, handler)| Arc::new(Self::new(name, section, batch, handler)))
        .collect()
    }

    fn new(name: &'static str, section: &'static str, batch: usize, handler: Handler) -> Self {
        let endpoint = Endpoint::new("");
        let log = Arc::<Mutex<ReceiverLog>>::default();
        let shared = Arc::clone(&log);
        endpoint.rule(move |request| {
            let log = &mut *shared.lock().unwrap();
            log.requests += 1;
            Some(refusal(log).unwrap_or_else(|| handler(request, log)))
        });
        let port = endpoint.url.rsplit(':').next().unwrap().parse().unwrap();
        let proxy = FaultyProxy::to(port);
        let interruptions = AtomicUsize::new(0);
        Self { name, section, batch, proxy, interruptions, log, _endpoint: endpoint }
    }

    pub fn set_refusal(&self, refusal: Option<RequestRefusal>) {
        self.log.lock().unwrap().refusal = refusal;
    }

    pub fn refuse_index(&self, index: Option<String>) {
        self.log.lock().unwrap().refused_index = index;
    }

    /// Closes all connections, so that the next requests use new ones.
    pub fn close_connections(&self) {
        self.interruptions.fetch_add(1, SeqCst);
        self.proxy.down();
        self.proxy.up();
    }

    pub fn arrivals(&self) -> Arrivals {
        self.log.lock().unwrap().arrivals.clone()
    }

    /// The number of distinct event IDs that have arrived.
    pub fn distinct(&self) -> usize {
        self.log.lock().unwrap().arrivals.len()
    }

    /// The documents that were sent again and existed already.
    pub fn existing(&self) -> usize {
        self.log.lock().unwrap().existing
    }
}

fn refusal(log: &ReceiverLog) -> Option<(u16, String)> {
    let busy = json!({ "text": "Server is busy", "code": 9 }).to_string();
    match log.refusal? {
        RequestRefusal::Every(status) => Some((status, "try again later".to_owned())),
        RequestRefusal::EveryThird => log.requests.is_multiple_of(3).then_some((503, busy)),
    }
}

const HEC_SECTION: &str =
    "type = \"splunk_hec\"\nacknowledgement = false\nindex = \"posture-{tenant.name}\"";
const ELASTIC_SECTION: &str = "type = \"elasticsearch\"\nindex = \"posture-{tenant.name}\"";

fn handle_hec(request: &Request, log: &mut ReceiverLog) -> (u16, String) {
    let events: Vec<Value> = serde_json::Deserializer::from_slice(&request.body)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let refused = events.iter().position(|event| is_refused(&event["index"], log));
    if let Some(number) = refused {
        let reply = json!({ "text": "Incorrect index", "code": 7, "invalid-event-number": number });
        return (400, reply.to_string());
    }

    for event in &events {
        add(event["event"]["event_id"].as_str().unwrap(), &mut log.arrivals);
    }
    (200, json!({ "text": "Success", "code": 0 }).to_string())
}

fn is_refused(index: &Value, log: &ReceiverLog) -> bool {
    log.refused_index.is_some() && index.as_str() == log.refused_index.as_deref()
}

fn handle_bulk(request: &Request, log: &mut ReceiverLog) -> (u16, String) {
    let text = String::from_utf8_lossy(&request.body);
    let lines: Vec<&str> = text.lines().collect();
    let item = |pair: &[&str]| {
        let action: Value = serde_json::from_str(pair[0]).unwrap();
        if is_refused(&action["create"]["_index"], log) {
            let error = json!({ "type": "index_not_found_exception", "reason": "no such index" });
            return json!({ "create": { "status": 404, "error": error } });
        }

        let id = u128::from_str_radix(&action["create"]["_id"].as_str().unwrap()[..32], 16);
        if log.arrivals.insert(id.unwrap(), 1).is_some() {
            log.existing += 1;
            let error = json!({ "type": "version_conflict_engine_exception", "reason": "exists" });
            return json!({ "create": { "status": 409, "error": error } });
        }
        json!({ "create": { "status": 201 } })
    };

    let items: Vec<Value> = lines.chunks(2).map(item).collect();
    let errors = items.iter().any(|item| item["create"]["status"] != 201);
    (200, json!({ "errors": errors, "items": items }).to_string())
}

fn handle_otlp(request: &Request, log: &mut ReceiverLog) -> (u16, String) {
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    for resource in list(&body, "resourceLogs") {
        for scope in list(&resource, "scopeLogs") {
            for record in list(&scope, "logRecords") {
                add_ids(record["body"]["stringValue"].as_str().unwrap(), &mut log.arrivals);
            }
        }
    }
    (200, "{}".to_owned())
}

fn handle_array(request: &Request, log: &mut ReceiverLog) -> (u16, String) {
    add_ids(&String::from_utf8_lossy(&request.body), &mut log.arrivals);
    (200, String::new())
}
