//! Receivers of batches over HTTP, each with its own way to refuse.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{Line, Receiver, Sink, Workspace, ids_in, port_of, sink};
use crate::support::{
    CANARY,
    endpoint::{Endpoint, Request, entra_token},
};

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
    fn refuse(&self, control: &'static str) {
        self.taken.lock().unwrap().refused = Some(control);
    }
    fn limit(&self, bytes: usize) {
        self.taken.lock().unwrap().limit = Some(bytes);
    }
}

fn url_section(url: &str, _: &mut Workspace) -> String {
    format!("url = \"{url}\"")
}

fn sentinel_section(url: &str, workspace: &mut Workspace) -> String {
    let signing_in = workspace.entra_credential(url);
    format!(
        "url = \"{url}\"\nrule_id = \"dcr-0123456789abcdef\"\nstream = \"Custom-SecureScore_CL\"\n{signing_in}"
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
        return entra_token(&format!("{CANARY}-token"));
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
    let logs = &text["resourceLogs"][0]["scopeLogs"][0]["logRecords"];
    for log in logs.as_array().into_iter().flatten() {
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
