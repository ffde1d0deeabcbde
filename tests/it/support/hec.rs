//! An HEC receiver for tests, which implements Splunk's published table of status codes. It
//! validates what a real collector validates: the token, the envelope, the size and the encoding.

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

/// What the receiver has received so far.
#[derive(Default)]
pub struct Received {
    /// The events of accepted requests.
    pub events: Vec<Value>,
    pub requests: usize,
    pub accepted_requests: usize,
    /// The size of the largest accepted body before compression, in bytes.
    pub largest_body: usize,
    /// The channels of accepted requests, in the order of their first use.
    pub channels: Vec<String>,
    /// The number of polls for acknowledgements.
    pub ack_polls: usize,
    /// The length of the longest header with cookies, in bytes.
    pub longest_cookies: usize,
}

#[derive(Default)]
struct Rules {
    /// Responses, as status and body, that are returned without examining the request.
    script: VecDeque<(u16, String)>,
    /// Events that contain this text are rejected with code 6.
    poison: Option<String>,
    /// Bodies larger than this before compression, in bytes, are rejected with 413.
    max_body: Option<usize>,
    /// Whether the token has indexer acknowledgement.
    acks: bool,
    /// The number of polls for a request that return `false` before a poll returns `true`.
    ack_after: usize,
    /// Requests, by their number over all channels, that are never acknowledged.
    never_acknowledged: Vec<usize>,
    /// The cookie that the load balancer sets from now on.
    cookie: Option<String>,
    /// Whether each response sets 50 cookies with other names.
    floods_cookies: bool,
    cookies_set: usize,
    /// By channel and ackId: the number of the request, and the polls so far. An entry is removed
    /// when `true` was returned for it.
    pending: HashMap<String, HashMap<u64, (usize, usize)>>,
    next_ack_id: HashMap<String, u64>,
}

impl Received {
    fn note_cookies(&mut self, headers: &HeaderMap) {
        let length = headers.get("cookie").map_or(0, |cookies| cookies.len());
        self.longest_cookies = self.longest_cookies.max(length);
    }
}

impl Rules {
    fn restart(&mut self) {
        self.pending.clear();
        self.next_ack_id.clear();
        self.ack_after = 0;
    }
}

pub struct Hec {
    pub url: String,
    received: Arc<Mutex<Received>>,
    rules: Arc<Mutex<Rules>>,
    _runtime: Runtime,
}

type Shared = (Arc<Mutex<Received>>, Arc<Mutex<Rules>>);

impl Hec {
    pub fn new() -> Self {
        let runtime = super::runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());

        let (received, rules): Shared = Default::default();
        let router = Router::new()
            .route("/services/collector/event", post(accept_events))
            .route("/services/collector/ack", post(report_acknowledgements))
            .layer(DefaultBodyLimit::disable())
            .with_state((Arc::clone(&received), Arc::clone(&rules)));
        runtime.spawn(std::future::IntoFuture::into_future(axum::serve(listener, router)));
        Self { url, received, rules, _runtime: runtime }
    }

    /// Adds a response to the script for requests with events.
    pub fn respond_once(&self, status: u16, body: &str) -> &Self {
        self.rules.lock().unwrap().script.push_back((status, body.to_owned()));
        self
    }

    /// Rejects events that contain this text.
    pub fn poison(&self, text: &str) {
        self.rules.lock().unwrap().poison = Some(text.to_owned());
    }

    /// Rejects larger bodies, in bytes before compression.
    pub fn max_body(&self, bytes: usize) {
        self.rules.lock().unwrap().max_body = Some(bytes);
    }

    /// Enables indexer acknowledgement for the token. A request is acknowledged by the poll that
    /// follows `after` other polls for it.
    pub fn acknowledge(&self, after: usize) -> &Self {
        let mut rules = self.rules.lock().unwrap();
        (rules.acks, rules.ack_after) = (true, after);
        self
    }

    /// Never acknowledges this request, counted from 0 over all channels.
    pub fn never_acknowledge(&self, request: usize) -> &Self {
        self.rules.lock().unwrap().never_acknowledged.push(request);
        self
    }

    pub fn set_cookie(&self, cookie: &str) {
        self.rules.lock().unwrap().cookie = Some(cookie.to_owned());
    }

    /// Sets 50 other cookies with each response.
    pub fn flood_cookies(&self) {
        self.rules.lock().unwrap().floods_cookies = true;
    }

    /// Simulates a restart: ackIds count from 0, pending requests are unknown, and new
    /// requests are acknowledged by the first poll.
    pub fn restart(&self) {
        self.rules.lock().unwrap().restart();
    }

    /// Makes the load balancer send all requests to another node, which has no pending requests.
    pub fn switch_node(&self, cookie: &str) {
        let mut rules = self.rules.lock().unwrap();
        rules.cookie = Some(cookie.to_owned());
        rules.restart();
    }

    pub fn received(&self) -> std::sync::MutexGuard<'_, Received> {
        self.received.lock().unwrap()
    }

    /// The `event_id` of every accepted event, in order.
    pub fn ids(&self) -> Vec<String> {
        let received = self.received();
        received
            .events
            .iter()
            .map(|event| event["event"]["event_id"].as_str().unwrap().to_owned())
            .collect()
    }
}

async fn accept_events(
    State((received, rules)): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut rules = rules.lock().unwrap();
    let mut received = received.lock().unwrap();
    received.requests += 1;
    received.note_cookies(&headers);
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

    let events = match read_events(&plain, rules.poison.as_deref()) {
        Ok(events) => events,
        Err(rejection) => return rejection,
    };
    if events.is_empty() {
        return code(400, 5, "No data");
    }

    let number = received.accepted_requests;
    received.accepted_requests += 1;
    received.largest_body = received.largest_body.max(plain.len());
    received.events.extend(events);
    let channel = headers["x-splunk-request-channel"].to_str().unwrap().to_owned();
    if !received.channels.contains(&channel) {
        received.channels.push(channel.clone());
    }

    let mut response = json!({ "text": "Success", "code": 0 });
    if rules.acks {
        let next = rules.next_ack_id.entry(channel.clone()).or_default();
        let id = *next;
        *next += 1;
        rules.pending.entry(channel).or_default().insert(id, (number, 0));
        response["ackId"] = id.into();
    }
    with_cookie(&mut rules, response.to_string().into_response())
}

/// The events of a body, or the response that rejects the first invalid one.
fn read_events(body: &[u8], poison: Option<&str>) -> Result<Vec<Value>, Response> {
    let mut events = Vec::new();
    for (index, event) in
        serde_json::Deserializer::from_slice(body).into_iter::<Value>().enumerate()
    {
        let Ok(event) = event else { return Err(invalid(6, "Invalid data format", index)) };

        let is_poison = poison.is_some_and(|poison| event.to_string().contains(poison));
        if is_poison || !event["time"].is_number() {
            return Err(invalid(6, "Invalid data format", index));
        }
        if event["event"].is_null() {
            return Err(invalid(12, "Event field is required", index));
        }
        let is_flat =
            event["fields"].as_object().is_some_and(|fields| fields.values().all(Value::is_string));
        if !is_flat {
            return Err(invalid(15, "Error in handling indexed fields", index));
        }

        events.push(event);
    }
    Ok(events)
}

async fn report_acknowledgements(
    State((received, rules)): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let rules = &mut *rules.lock().unwrap();
    {
        let mut received = received.lock().unwrap();
        received.ack_polls += 1;
        received.note_cookies(&headers);
    }
    if headers["authorization"].to_str().unwrap() != format!("Splunk {TOKEN}") {
        return code(403, 4, "Invalid token");
    }
    if !rules.acks {
        return code(400, 14, "ACK is disabled");
    }

    let channel = headers["x-splunk-request-channel"].to_str().unwrap();
    let request: Value = serde_json::from_slice(&body).unwrap();
    let mut acks = serde_json::Map::new();
    let pending = rules.pending.entry(channel.to_owned()).or_default();
    for id in request["acks"].as_array().unwrap() {
        let id = id.as_u64().unwrap();
        let acknowledged = pending.get_mut(&id).is_some_and(|(number, polls)| {
            *polls += 1;
            *polls > rules.ack_after && !rules.never_acknowledged.contains(number)
        });
        if acknowledged {
            pending.remove(&id);
        }
        acks.insert(id.to_string(), acknowledged.into());
    }
    with_cookie(rules, json!({ "acks": acks }).to_string().into_response())
}

fn with_cookie(rules: &mut Rules, mut response: Response) -> Response {
    if let Some(cookie) = &rules.cookie {
        response.headers_mut().insert("set-cookie", cookie.parse().unwrap());
    }
    if rules.floods_cookies {
        for _ in 0..50 {
            let cookie = format!("c{}={}; Path=/", rules.cookies_set, "v".repeat(800));
            response.headers_mut().append("set-cookie", cookie.parse().unwrap());
            rules.cookies_set += 1;
        }
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
