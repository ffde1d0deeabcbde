//! A HEC receiver for the tests, written from Splunk's published code table. It checks what a
//! real one checks: the token, the envelope, the size, the encoding.

use std::{
    collections::{HashMap, VecDeque},
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
    /// Of these, taken.
    pub accepted: usize,
    pub largest: usize,
    /// Channels that were used, in order of their first use.
    pub channels: Vec<String>,
    /// Questions for acknowledgements.
    pub questions: usize,
}

#[derive(Default)]
struct Rules {
    /// Answers to give before anything is looked at: status, body.
    script: VecDeque<(u16, String)>,
    /// Events that hold this text are refused with code 6.
    poison: Option<String>,
    /// Bodies larger than this, before compression, are refused with 413.
    max_body: Option<usize>,
    /// The token has indexer acknowledgement.
    acks: bool,
    /// Questions that a request is answered `false` before it is answered `true`.
    ack_after: usize,
    /// Requests, by their number over all channels, that are never acknowledged.
    never: Vec<usize>,
    /// What the load balancer sets from now on.
    cookie: Option<String>,
    /// By channel, and then by ackId: the request's number, and the questions so far. Gone when
    /// `true` was said.
    promised: HashMap<String, HashMap<u64, (usize, usize)>>,
    next_ack: HashMap<String, u64>,
}

impl Rules {
    fn restart(&mut self) {
        self.promised.clear();
        self.next_ack.clear();
        self.ack_after = 0;
    }
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
            .route("/services/collector/ack", post(acknowledge))
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

    pub fn max_body(&self, bytes: usize) {
        self.rules.lock().unwrap().max_body = Some(bytes);
    }

    /// The token has indexer acknowledgement; each request is acknowledged at the question after
    /// so many.
    pub fn acknowledge(&self, after: usize) -> &Self {
        let mut rules = self.rules.lock().unwrap();
        (rules.acks, rules.ack_after) = (true, after);
        self
    }

    /// This request, counted from 0, is never acknowledged.
    pub fn forget(&self, request: usize) -> &Self {
        self.rules.lock().unwrap().never.push(request);
        self
    }

    pub fn cookie(&self, cookie: &str) {
        self.rules.lock().unwrap().cookie = Some(cookie.to_owned());
    }

    /// As after a restart: counting begins anew, nothing promised is known, and what is new is
    /// acknowledged at once.
    pub fn restart(&self) {
        self.rules.lock().unwrap().restart();
    }

    /// From now on the load balancer sends everybody to another node, which has promised nothing.
    pub fn another_node(&self, cookie: &str) {
        let mut rules = self.rules.lock().unwrap();
        rules.cookie = Some(cookie.to_owned());
        rules.restart();
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
    let number = taken.accepted;
    taken.accepted += 1;
    taken.largest = taken.largest.max(plain.len());
    taken.events.extend(events);
    let channel = headers["x-splunk-request-channel"].to_str().unwrap().to_owned();
    if !taken.channels.contains(&channel) {
        taken.channels.push(channel.clone());
    }
    let mut answer = json!({ "text": "Success", "code": 0 });
    if rules.acks {
        let next = rules.next_ack.entry(channel.clone()).or_default();
        let id = *next;
        *next += 1;
        rules.promised.entry(channel).or_default().insert(id, (number, 0));
        answer["ackId"] = id.into();
    }
    with_cookie(&rules, answer.to_string().into_response())
}

async fn acknowledge(
    State((taken, rules)): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let rules = &mut *rules.lock().unwrap();
    taken.lock().unwrap().questions += 1;
    if headers["authorization"].to_str().unwrap() != format!("Splunk {TOKEN}") {
        return code(403, 4, "Invalid token");
    }
    if !rules.acks {
        return code(400, 14, "ACK is disabled");
    }
    let channel = headers["x-splunk-request-channel"].to_str().unwrap();
    let question: Value = serde_json::from_slice(&body).unwrap();
    let mut acks = serde_json::Map::new();
    let promised = rules.promised.entry(channel.to_owned()).or_default();
    for id in question["acks"].as_array().unwrap() {
        let id = id.as_u64().unwrap();
        let acked = promised.get_mut(&id).is_some_and(|(number, asked)| {
            *asked += 1;
            *asked > rules.ack_after && !rules.never.contains(number)
        });
        if acked {
            promised.remove(&id);
        }
        acks.insert(id.to_string(), acked.into());
    }
    with_cookie(rules, json!({ "acks": acks }).to_string().into_response())
}

fn with_cookie(rules: &Rules, mut response: Response) -> Response {
    if let Some(cookie) = &rules.cookie {
        response.headers_mut().insert("set-cookie", cookie.parse().unwrap());
    }
    response
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
