//! A HEC receiver for the tests, written from Splunk's published code table. It checks what a
//! real one checks: the token, the envelope, the size, the encoding.

use std::{
    collections::VecDeque,
    io::Read,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Runtime};

pub const TOKEN: &str = "CANARY-5ecr3t-hec-token";

#[derive(Default)]
pub struct Taken {
    pub events: Vec<Value>,
    pub requests: usize,
    pub largest: usize,
}

#[derive(Default)]
struct Rules {
    /// Answers to give before anything is looked at: status, body.
    script: VecDeque<(u16, String)>,
    /// Events that hold this text are refused with code 6.
    poison: Option<String>,
    /// Bodies larger than this, before compression, are refused with 413.
    max_body: Option<usize>,
}

pub struct Hec {
    pub url: String,
    taken: Arc<Mutex<Taken>>,
    rules: Arc<Mutex<Rules>>,
    _runtime: Runtime,
}

type Shared = (Arc<Mutex<Taken>>, Arc<Mutex<Rules>>);

impl Hec {
    pub fn new() -> Self {
        let runtime = super::runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (taken, rules): Shared = Default::default();
        let router = Router::new()
            .route("/services/collector/event", post(take))
            .layer(DefaultBodyLimit::disable())
            .with_state((Arc::clone(&taken), Arc::clone(&rules)));
        runtime.spawn(std::future::IntoFuture::into_future(axum::serve(listener, router)));
        Self { url, taken, rules, _runtime: runtime }
    }

    /// Answers the next request like this.
    pub fn answer(&self, status: u16, body: &str) -> &Self {
        self.rules.lock().unwrap().script.push_back((status, body.to_owned()));
        self
    }

    pub fn poison(&self, text: &str) {
        self.rules.lock().unwrap().poison = Some(text.to_owned());
    }

    pub fn max_body(&self, octets: usize) {
        self.rules.lock().unwrap().max_body = Some(octets);
    }

    pub fn taken(&self) -> std::sync::MutexGuard<'_, Taken> {
        self.taken.lock().unwrap()
    }

    /// The `event_id` of everything taken, in order.
    pub fn ids(&self) -> Vec<String> {
        let taken = self.taken();
        taken
            .events
            .iter()
            .map(|event| event["event"]["event_id"].as_str().unwrap().to_owned())
            .collect()
    }
}

async fn take(State((taken, rules)): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let mut rules = rules.lock().unwrap();
    let mut taken = taken.lock().unwrap();
    taken.requests += 1;
    if let Some((status, body)) = rules.script.pop_front() {
        return (StatusCode::from_u16(status).unwrap(), body).into_response();
    }
    match headers.get("authorization").map(|value| value.to_str().unwrap()) {
        None => return code(401, 2, "Token is required"),
        Some(value) if !value.starts_with("Splunk ") => {
            return code(401, 3, "Invalid authorization");
        }
        Some(value) if value != format!("Splunk {TOKEN}") => return code(403, 4, "Invalid token"),
        Some(_) => {}
    }
    let mut plain = Vec::new();
    match headers.get("content-encoding").map(|value| value.to_str().unwrap()) {
        None => plain.extend_from_slice(&body),
        Some("gzip") => drop(flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain).unwrap()),
        Some(_) => {
            return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "<html>Unsupported</html>")
                .into_response();
        }
    }
    if rules.max_body.is_some_and(|max| plain.len() > max) {
        return (StatusCode::PAYLOAD_TOO_LARGE, "<html>Request Entity Too Large</html>")
            .into_response();
    }
    let mut events = Vec::new();
    for (index, event) in
        serde_json::Deserializer::from_slice(&plain).into_iter::<Value>().enumerate()
    {
        let Ok(event) = event else { return invalid(6, "Invalid data format", index) };
        let poisoned =
            rules.poison.as_ref().is_some_and(|poison| event.to_string().contains(poison));
        if poisoned || !event["time"].is_number() {
            return invalid(6, "Invalid data format", index);
        }
        if event["event"].is_null() {
            return invalid(12, "Event field is required", index);
        }
        let flat =
            event["fields"].as_object().is_some_and(|fields| fields.values().all(Value::is_string));
        if !flat {
            return invalid(15, "Error in handling indexed fields", index);
        }
        events.push(event);
    }
    if events.is_empty() {
        return code(400, 5, "No data");
    }
    taken.largest = taken.largest.max(plain.len());
    taken.events.extend(events);
    code(200, 0, "Success")
}

fn code(status: u16, code: u32, text: &str) -> Response {
    (StatusCode::from_u16(status).unwrap(), json!({ "text": text, "code": code }).to_string())
        .into_response()
}

fn invalid(code: u32, text: &str, index: usize) -> Response {
    (
        StatusCode::BAD_REQUEST,
        json!({ "text": text, "code": code, "invalid-event-number": index }).to_string(),
    )
        .into_response()
}
