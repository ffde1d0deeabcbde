//! Receivers for the HTTP sinks. They differ in how they reject records.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{FaultyProxy, Receiver, SinkCase, Workspace, case, ids_in, port_of};
use crate::support::{
    CANARY,
    endpoint::{Endpoint, Request, entra_token},
    false_replies::{FOREIGN_REPLIES, INCOMPLETE_REPLIES},
    hostile::{Attack, HTTP_FLOODS},
};

pub fn elasticsearch() -> SinkCase {
    let receiver = || Box::new(Web::new(url_section, handle_bulk)) as _;
    case("`elasticsearch`", "elasticsearch", receiver)
}

pub fn http() -> SinkCase {
    let receiver = || Box::new(Web::accepting_any_success(url_section, handle_array)) as _;
    SinkCase { repeats_per_kill: 500, repeats_per_cut: 500, ..case("`http`", "http", receiver) }
}

pub fn chat_teams() -> SinkCase {
    let receiver = || Box::new(Web::new(teams_section, handle_teams)) as _;
    message("`chat`, `service = \"teams\"`", receiver)
}

pub fn chat_slack() -> SinkCase {
    let receiver = || Box::new(Web::new(slack_section, handle_slack)) as _;
    message("`chat`, `service = \"slack\"`", receiver)
}

pub fn chat_template() -> SinkCase {
    let receiver = || Box::new(Web::accepting_any_success(template_section, handle_array)) as _;
    let case = chat("`chat`, `service = \"template\"`", receiver);
    SinkCase { repeats_per_kill: 50, repeats_per_cut: 50, ..case }
}

/// A chat with messages, in which the most severe record is first.
fn message(row: &'static str, receiver: fn() -> Box<dyn Receiver>) -> SinkCase {
    SinkCase { ordered: false, ..chat(row, receiver) }
}

/// A chat, whose messages hold up to 20 records.
fn chat(row: &'static str, receiver: fn() -> Box<dyn Receiver>) -> SinkCase {
    SinkCase { repeats_per_kill: 20, repeats_per_cut: 20, ..case(row, "chat", receiver) }
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
    false_replies: &'static [Attack],
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
        Self { section, state, proxy, false_replies: FOREIGN_REPLIES, _endpoint: endpoint }
    }

    /// A receiver that acknowledges with any success, so that only incomplete ones and pages are
    /// false.
    fn accepting_any_success(
        section: fn(&str, &mut Workspace) -> String,
        handler: Handler,
    ) -> Self {
        Self { false_replies: INCOMPLETE_REPLIES, ..Self::new(section, handler) }
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
    fn floods(&self) -> &'static [Attack] {
        HTTP_FLOODS
    }
    fn false_replies(&self) -> Vec<Attack> {
        self.false_replies.to_vec()
    }
}

fn url_section(url: &str, _: &mut Workspace) -> String {
    format!("url = \"{url}\"")
}

fn teams_section(url: &str, workspace: &mut Workspace) -> String {
    chat_section("teams", url, workspace)
}

fn slack_section(url: &str, workspace: &mut Workspace) -> String {
    chat_section("slack", url, workspace)
}

fn template_section(url: &str, workspace: &mut Workspace) -> String {
    let template = r#"{"control": {"id": "{control.id}"}, "event_id": "{event_id}"}"#;
    format!("{}\ntemplate = '{template}'", chat_section("template", url, workspace))
}

/// The keys with which a chat receives the same records as the other sinks, without pauses.
fn chat_section(service: &str, url: &str, workspace: &Workspace) -> String {
    let url = workspace.secret("hook-secret", &format!("{url}/{CANARY}-hook"));
    format!(
        "service = \"{service}\"\nurl = {url}\ninterval = \"0s\"\nrecords = [\"control\", \"summary\", \"change\", \"quality\"]\nstart_from = \"2020-01-01\""
    )
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

fn handle_teams(request: &Request, state: &mut ReceiverState) -> (u16, String) {
    assert!(request.body.len() < 28_000, "{} bytes", request.body.len());
    state.ids.extend(ids_after("\"id\":\"", &request.body));
    (202, String::new())
}

fn handle_slack(request: &Request, state: &mut ReceiverState) -> (u16, String) {
    state.ids.extend(ids_after("\"block_id\":\"", &request.body));
    (200, "ok".to_owned())
}

/// The event IDs that follow a text.
fn ids_after(before: &str, body: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(body);
    text.split(before).skip(1).map(|rest| rest[..40].to_owned()).collect()
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
            if state.ids.contains(&id) {
                let kind = "version_conflict_engine_exception";
                let error = json!({ "type": kind, "reason": "exists" });
                return json!({ "create": { "status": 409, "error": error } });
            }
            if state.rejects(pair[1]) {
                let error = json!({ "type": "mapper_parsing_exception", "reason": "no" });
                return json!({ "create": { "status": 400, "error": error } });
            }
            state.ids.push(id);
            json!({ "create": { "status": 201 } })
        })
        .collect();

    let errors = items.iter().any(|item| item["create"]["status"] != 201);
    (200, json!({ "errors": errors, "items": items }).to_string())
}
