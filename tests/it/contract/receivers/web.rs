//! Receivers for the HTTP sinks. They differ in how they reject records.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{FaultyProxy, Receiver, SinkCase, Workspace, case, ids_in, port_of};
use crate::support::{
    CANARY,
    endpoint::{Endpoint, Request, entra_token},
};

pub fn elasticsearch() -> SinkCase {
    let receiver = || Box::new(Web::new(url_section, handle_bulk)) as _;
    case("`elasticsearch`", "elasticsearch", receiver)
}

pub fn http() -> SinkCase {
    let receiver = || Box::new(Web::new(url_section, handle_array)) as _;
    SinkCase { repeats_per_kill: 500, repeats_per_cut: 500, ..case("`http`", "http", receiver) }
}

pub fn sentinel() -> SinkCase {
    let receiver = || Box::new(Web::new(sentinel_section, handle_sentinel)) as _;
    SinkCase {
        repeats_per_kill: 1_000,
        repeats_per_cut: 1_000,
        ..case("`sentinel`", "sentinel", receiver)
    }
}

pub fn otlp() -> SinkCase {
    let receiver = || Box::new(Web::new(url_section, handle_otlp)) as _;
    SinkCase { repeats_per_kill: 1_000, repeats_per_cut: 1_000, ..case("`otlp`", "otlp", receiver) }
}

/// The state of a receiver.
#[derive(Default)]
struct ReceiverState {
    ids: Vec<String>,
    /// The control whose records are rejected.
    rejected: Option<&'static str>,
    /// The maximum size of a request, in bytes.
    limit: Option<usize>,
}

/// Handles a request, and returns the status and the body of the response.
type Handler = fn(&Request, &mut ReceiverState) -> (u16, String);

/// An HTTP receiver behind a proxy.
struct Web {
    section: fn(&str, &mut Workspace) -> String,
    state: Arc<Mutex<ReceiverState>>,
    proxy: FaultyProxy,
    _endpoint: Endpoint,
}

impl Web {
    fn new(section: fn(&str, &mut Workspace) -> String, handler: Handler) -> Self {
        let endpoint = Endpoint::new("");
        let state = Arc::<Mutex<ReceiverState>>::default();
        let shared = Arc::clone(&state);
        endpoint.rule(move |request| {
            let state = &mut *shared.lock().unwrap();
            if state.limit.is_some_and(|limit| request.body.len() > limit) {
                return Some((413, "too large".to_owned()));
            }
            Some(handler(request, state))
        });
        let proxy = FaultyProxy::to(port_of(&endpoint.url));
        Self { section, state, proxy, _endpoint: endpoint }
    }
}

impl Receiver for Web {
    fn section(&self, workspace: &mut Workspace) -> String {
        (self.section)(&format!("http://127.0.0.1:{}", self.proxy.port), workspace)
    }
    fn arrived(&self) -> Vec<String> {
        self.state.lock().unwrap().ids.clone()
    }
    fn proxy(&self) -> Option<&FaultyProxy> {
        Some(&self.proxy)
    }
    fn reject(&self, control: &'static str) {
        self.state.lock().unwrap().rejected = Some(control);
    }
    fn limit(&self, bytes: usize) {
        self.state.lock().unwrap().limit = Some(bytes);
    }
}

fn url_section(url: &str, _: &mut Workspace) -> String {
    format!("url = \"{url}\"")
}

fn sentinel_section(url: &str, workspace: &mut Workspace) -> String {
    let credential = workspace.entra_credential(url);
    format!(
        "url = \"{url}\"\nrule_id = \"dcr-0123456789abcdef\"\nstream = \"Custom-SecureScore_CL\"\n{credential}"
    )
}

impl ReceiverState {
    fn rejects(&self, record: &str) -> bool {
        self.rejected.is_some_and(|control| record.contains(&format!("\"id\":\"{control}\"")))
    }
}

fn handle_array(request: &Request, state: &mut ReceiverState) -> (u16, String) {
    let text = String::from_utf8_lossy(&request.body);
    if state.rejects(&text) {
        return (422, "unknown control".to_owned());
    }
    state.ids.extend(ids_in(&text));
    (200, String::new())
}

fn handle_sentinel(request: &Request, state: &mut ReceiverState) -> (u16, String) {
    if request.path.ends_with("/token") {
        return entra_token(&format!("{CANARY}-token"));
    }
    match handle_array(request, state) {
        (200, body) => (204, body),
        (_, body) => (400, body),
    }
}

/// Stores the accepted records, and reports only the number of the rejected ones.
fn handle_otlp(request: &Request, state: &mut ReceiverState) -> (u16, String) {
    let text: Value = serde_json::from_slice(&request.body).unwrap();
    let mut rejected = 0;
    let logs = &text["resourceLogs"][0]["scopeLogs"][0]["logRecords"];
    for log in logs.as_array().into_iter().flatten() {
        let body = log["body"]["stringValue"].as_str().unwrap();
        if state.rejects(body) {
            rejected += 1;
        } else {
            state.ids.extend(ids_in(body));
        }
    }

    let partial = json!({ "rejectedLogRecords": rejected.to_string(), "errorMessage": "no" });
    let response = if rejected > 0 { json!({ "partialSuccess": partial }) } else { json!({}) };
    (200, response.to_string())
}

fn handle_bulk(request: &Request, state: &mut ReceiverState) -> (u16, String) {
    let text = String::from_utf8_lossy(&request.body);
    let lines: Vec<&str> = text.lines().collect();

    let items: Vec<Value> = lines
        .chunks(2)
        .map(|pair| {
            let action: Value = serde_json::from_str(pair[0]).unwrap();
            let id = action["create"]["_id"].as_str().unwrap().to_owned();
            let status = if state.ids.contains(&id) {
                409
            } else if state.rejects(pair[1]) {
                400
            } else {
                state.ids.push(id);
                201
            };
            json!({ "create": { "status": status, "error": { "type": "mapper_parsing_exception", "reason": "failed to parse" } } })
        })
        .collect();

    let errors = items.iter().any(|item| item["create"]["status"] != 201);
    (200, json!({ "errors": errors, "items": items }).to_string())
}
