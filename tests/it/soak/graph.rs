//! A Graph API with small tenants. Their scores depend on a version, so that a poll after each
//! new version finds revisions. It injects faults into its responses.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use jiff::{SignedDuration, fmt::rfc2822::DateTimePrinter};
use secure_score_forwarder::{clock, model::Day, source::simulated::profiles_json};
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Runtime};

use crate::support::{TENANT, runtime};

/// The number of days that the API lists.
pub const DAYS: i32 = 3;
const CONTROLS: usize = 12;
/// A control changes its score once in this many versions.
const VERSIONS_PER_CHANGE: usize = 4;
/// Older days change once in this many versions.
const VERSIONS_PER_OLD_CHANGE: usize = 20;
const MAX_SCORE: usize = 10;

/// A fault of every second response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphFault {
    TooManyRequests,
    ServerError,
    CutBody,
    PartialContent,
    NullElements,
    DuplicateElements,
    /// The header `Date` of every response is ten minutes ahead.
    WrongDate,
}

impl GraphFault {
    pub const ALL: [Self; 7] = [
        Self::TooManyRequests,
        Self::ServerError,
        Self::CutBody,
        Self::PartialContent,
        Self::NullElements,
        Self::DuplicateElements,
        Self::WrongDate,
    ];
}

/// The state that the server and the test share.
pub struct GraphState {
    version: AtomicUsize,
    requests: AtomicUsize,
    fault: Mutex<Option<GraphFault>>,
    date_skew_s: AtomicI64,
    /// The profiles of all tenants.
    profiles: Vec<Value>,
}

impl GraphState {
    /// Changes the scores of all tenants.
    pub fn next_version(&self) {
        self.version.fetch_add(1, SeqCst);
    }

    pub fn set_fault(&self, fault: Option<GraphFault>) {
        let skew = if fault == Some(GraphFault::WrongDate) { 600 } else { 0 };
        self.date_skew_s.store(skew, SeqCst);
        *self.fault.lock().unwrap() = fault;
    }

    fn snapshot(&self, tenant: &str, day: Day, age: i32) -> Value {
        let version = self.version.load(SeqCst);
        let version = if age == 0 { version } else { version / VERSIONS_PER_OLD_CHANGE };
        let score = |number: usize| (version + number) / VERSIONS_PER_CHANGE % (MAX_SCORE + 1);
        let controls = self.profiles.iter().enumerate().map(|(number, profile)| {
            json!({
                "controlName": profile["id"], "controlCategory": profile["controlCategory"],
                "score": score(number), "scoreInPercentage": score(number) * 100 / MAX_SCORE,
                "description": format!("Measure {number} of the baseline."),
            })
        });

        json!({
            "id": format!("{tenant}_{day}"), "azureTenantId": tenant,
            "createdDateTime": format!("{day}T00:00:00Z"),
            "currentScore": (0..self.profiles.len()).map(score).sum::<usize>(),
            "maxScore": self.profiles.len() * MAX_SCORE,
            "controlScores": controls.collect::<Vec<_>>(),
        })
    }
}

pub struct SoakGraph {
    pub url: String,
    pub state: Arc<GraphState>,
    _runtime: Runtime,
}

impl SoakGraph {
    pub fn new() -> Self {
        let profile = |json: String| {
            let mut profile: Value = serde_json::from_str(&json).unwrap();
            profile["maxScore"] = MAX_SCORE.into();
            profile
        };
        let state = Arc::new(GraphState {
            version: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            fault: Mutex::default(),
            date_skew_s: AtomicI64::new(0),
            profiles: profiles_json(TENANT).into_iter().take(CONTROLS).map(profile).collect(),
        });

        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(respond).with_state(Arc::clone(&state));
        runtime.spawn(std::future::IntoFuture::into_future(axum::serve(listener, router)));
        Self { url, state, _runtime: runtime }
    }
}

/// Responds to a request. The token of a tenant is its ID.
async fn respond(State(state): State<Arc<GraphState>>, uri: Uri, headers: HeaderMap) -> Response {
    let is_second = state.requests.fetch_add(1, SeqCst) % 2 == 1;
    let fault = state.fault.lock().unwrap().filter(|_| is_second);
    let path = uri.path().trim_start_matches('/');
    if let Some((tenant, _)) = path.split_once("/oauth2/") {
        let token = json!({ "access_token": tenant, "expires_in": 3_599, "token_type": "Bearer" });
        return page(&state, StatusCode::OK, &token);
    }

    let body = if path.ends_with("/secureScores") {
        let token = headers["authorization"].to_str().unwrap();
        let tenant = token.rsplit(' ').next().unwrap();
        let today = Day::of(clock::now());
        let days = (0..DAYS).map(|age| state.snapshot(tenant, today.plus(-age), age));
        json!({ "value": days.collect::<Vec<_>>() })
    } else {
        json!({ "value": state.profiles })
    };
    match fault {
        Some(fault) => faulty(&state, fault, body),
        None => page(&state, StatusCode::OK, &body),
    }
}

fn page(state: &GraphState, status: StatusCode, body: &Value) -> Response {
    let skew = SignedDuration::from_secs(state.date_skew_s.load(SeqCst));
    let date = clock::now().checked_add(skew).unwrap();
    let date = DateTimePrinter::new().timestamp_to_rfc9110_string(&date).unwrap();
    let headers = [("content-type", "application/json".to_owned()), ("date", date)];
    (status, headers, body.to_string()).into_response()
}

/// The response with a fault.
fn faulty(state: &GraphState, fault: GraphFault, mut body: Value) -> Response {
    let error = |code: &str| json!({ "error": { "code": code, "message": "Try again later." } });
    match fault {
        GraphFault::TooManyRequests => {
            let mut response = page(state, StatusCode::TOO_MANY_REQUESTS, &error("429"));
            response.headers_mut().insert("retry-after", "2".parse().unwrap());
            return response;
        }
        GraphFault::ServerError => {
            return page(state, StatusCode::INTERNAL_SERVER_ERROR, &error("generalException"));
        }
        GraphFault::CutBody => return cut(&body.to_string()),
        GraphFault::PartialContent => return page(state, StatusCode::PARTIAL_CONTENT, &body),
        GraphFault::NullElements => body["value"].as_array_mut().unwrap().push(Value::Null),
        GraphFault::DuplicateElements => {
            let elements = body["value"].as_array_mut().unwrap();
            let first = elements[0].clone();
            elements.push(first);
        }
        GraphFault::WrongDate => {}
    }

    // The same fault in the list of controls; the catalog has no such list.
    let controls = body["value"][0].get_mut("controlScores").and_then(Value::as_array_mut);
    match (fault, controls) {
        (GraphFault::NullElements, Some(controls)) => controls.push(Value::Null),
        (GraphFault::DuplicateElements, Some(controls)) => {
            let first = controls[0].clone();
            controls.push(first);
        }
        _ => {}
    }
    page(state, StatusCode::OK, &body)
}

/// Half of a body, after which the connection is closed.
fn cut(body: &str) -> Response {
    let half = axum::body::Bytes::copy_from_slice(&body.as_bytes()[..body.len() / 2]);
    let parts = [Ok(half), Err(std::io::Error::other("cut"))];
    let stream = futures_util::stream::iter(parts);
    ([("content-type", "application/json")], Body::from_stream(stream)).into_response()
}
