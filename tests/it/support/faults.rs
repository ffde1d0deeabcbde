//! A proxy in front of the simulated API, which responds to selected requests with a fault.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use secure_score_forwarder::source::simulated::{Simulation, start};
use tokio::{net::TcpListener, runtime::Runtime};

/// What the proxy does with a request instead of forwarding it unchanged.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Responds with this status, these headers and this body.
    Respond(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Forwards the request and changes the text of the response.
    Change(fn(String) -> String),
    /// Forwards the request and edits the JSON of the response.
    Edit(fn(&mut serde_json::Value)),
    /// Responds with 500 MiB of incomplete JSON.
    Flood,
    /// Closes the connection in the middle of the body.
    Cut,
    /// Never responds.
    Hang,
}

/// The queued faults, each with the part of a path that it applies to.
type Faults = Arc<Mutex<VecDeque<(&'static str, Fault)>>>;

/// The path and the client port of every request.
type Requests = Arc<Mutex<Vec<(String, u16)>>>;

pub struct FaultyApi {
    pub url: String,
    faults: Faults,
    requests: Requests,
    date_skew_s: Arc<AtomicI64>,
    _runtime: Runtime,
}

#[derive(Clone)]
struct Shared {
    target: SocketAddr,
    address: SocketAddr,
    faults: Faults,
    requests: Requests,
    /// The seconds by which the header `Date` of a forwarded response is ahead.
    date_skew_s: Arc<AtomicI64>,
    client: reqwest::Client,
}

impl FaultyApi {
    pub fn new() -> Self {
        Self::of(super::simulation())
    }

    pub fn of(simulation: Simulation) -> Self {
        let runtime = super::runtime();
        let (faults, requests) = (Faults::default(), Requests::default());
        let (target, serving) = runtime.block_on(start(simulation, 0)).unwrap();
        runtime.spawn(serving);

        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let client = secure_score_forwarder::net::client(None).unwrap();
        let date_skew_s = Arc::new(AtomicI64::new(0));
        let shared = Shared {
            target,
            address,
            faults: Arc::clone(&faults),
            requests: Arc::clone(&requests),
            date_skew_s: Arc::clone(&date_skew_s),
            client,
        };
        let router = Router::new().fallback(handle).with_state(shared);
        let router = router.into_make_service_with_connect_info::<SocketAddr>();
        runtime.spawn(std::future::IntoFuture::into_future(axum::serve(listener, router)));
        let url = format!("http://{address}");
        Self { url, faults, requests, date_skew_s, _runtime: runtime }
    }

    /// Applies the fault to the next request whose path contains `path`.
    pub fn fail(&self, path: &'static str, fault: Fault) -> &Self {
        self.faults.lock().unwrap().push_back((path, fault));
        self
    }

    /// Sets the seconds by which the clock of the API is ahead.
    pub fn set_date_skew(&self, seconds: i64) {
        self.date_skew_s.store(seconds, Ordering::Relaxed);
    }

    /// Removes the queued faults and the recorded requests.
    pub fn clear(&self) {
        self.faults.lock().unwrap().clear();
        self.requests.lock().unwrap().clear();
    }

    /// The paths of all requests.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().iter().map(|(path, _)| path.clone()).collect()
    }

    /// The paths of all requests, each with the port of the client.
    pub fn requests_with_ports(&self) -> Vec<(String, u16)> {
        self.requests.lock().unwrap().clone()
    }
}

async fn handle(
    State(shared): State<Shared>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    shared.requests.lock().unwrap().push((path.clone(), from.port()));
    let fault = {
        let mut faults = shared.faults.lock().unwrap();
        let index = faults.iter().position(|(part, _)| path.contains(part));
        index.and_then(|index| faults.remove(index)).map(|(_, fault)| fault)
    };

    match fault {
        Some(Fault::Respond(status, headers, body)) => response(status, &headers, body),
        Some(Fault::Flood) => flood(),
        Some(Fault::Cut) => cut(),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Change(change)) => forward(&shared, request, &path, change).await,
        Some(Fault::Edit(edit)) => {
            let change = |text: String| {
                let mut page = serde_json::from_str(&text).unwrap();
                edit(&mut page);
                page.to_string()
            };
            forward(&shared, request, &path, change).await
        }
        None => forward(&shared, request, &path, |text| text).await,
    }
}

/// Forwards the request and changes the text of the response.
async fn forward(
    shared: &Shared,
    request: Request,
    path: &str,
    change: impl Fn(String) -> String,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let mut headers = parts.headers;
    headers.remove("host");
    headers.remove("accept-encoding");
    headers.remove("content-length");

    // The scope contains the address of the API, which for the caller is the address of this proxy.
    let body =
        String::from_utf8_lossy(&body).replace(&encoded(shared.address), &encoded(shared.target));
    let url = format!("http://{}{path}", shared.target);
    let forwarded =
        shared.client.request(parts.method, url).headers(headers).body(body).send().await.unwrap();
    let status = forwarded.status().as_u16();
    let text = forwarded
        .text()
        .await
        .unwrap()
        .replace(&shared.target.to_string(), &shared.address.to_string());
    let date = secure_score_forwarder::clock::now()
        .checked_add(jiff::SignedDuration::from_secs(shared.date_skew_s.load(Ordering::Relaxed)))
        .unwrap();
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date);
    let headers = [("content-type", "application/json".to_owned()), ("date", date.unwrap())];
    response(status, &headers, change(text).into_bytes())
}

fn encoded(address: SocketAddr) -> String {
    address.to_string().replace(':', "%3A")
}

fn response(status: u16, headers: &[(&'static str, String)], body: Vec<u8>) -> Response {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, value.parse().unwrap());
    }
    (StatusCode::from_u16(status).unwrap(), map, body).into_response()
}

fn flood() -> Response {
    let chunk = axum::body::Bytes::from(vec![b' '; 1 << 20]);
    let chunks = (0..500).map(move |_| Ok::<_, std::io::Error>(chunk.clone()));
    ([("content-type", "application/json")], Body::from_stream(futures_util::stream::iter(chunks)))
        .into_response()
}

fn cut() -> Response {
    let parts =
        [Ok(axum::body::Bytes::from_static(b"{\"value\":[")), Err(std::io::Error::other("cut"))];
    ([("content-type", "application/json")], Body::from_stream(futures_util::stream::iter(parts)))
        .into_response()
}
