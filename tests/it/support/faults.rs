//! An API that misbehaves as it is told. Before and after that it is the simulated tenant's proxy.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
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

/// What to answer instead of the truth.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Status, headers, body.
    Answer(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// The true answer, changed.
    Change(fn(String) -> String),
    /// The true answer, edited as JSON.
    Edit(fn(&mut serde_json::Value)),
    /// 500 MB of JSON that never ends.
    Flood,
    /// The connection breaks in the middle of the body.
    Cut,
}

/// The faults to come, by a part of the path that they wait for.
type Script = Arc<Mutex<VecDeque<(&'static str, Fault)>>>;

/// What was asked for, and from which port.
type Seen = Arc<Mutex<Vec<(String, u16)>>>;

pub struct FaultyApi {
    pub url: String,
    script: Script,
    seen: Seen,
    _runtime: Runtime,
}

#[derive(Clone)]
struct Shared {
    target: SocketAddr,
    address: SocketAddr,
    script: Script,
    seen: Seen,
    client: reqwest::Client,
}

impl FaultyApi {
    pub fn new() -> Self {
        Self::before(super::simulation())
    }

    pub fn before(simulation: Simulation) -> Self {
        let runtime = super::runtime();
        let (script, seen) = (Script::default(), Seen::default());
        let (target, serving) = runtime.block_on(start(simulation, 0)).unwrap();
        runtime.spawn(serving);
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let client = secure_score_forwarder::net::client(None).unwrap();
        let shared = Shared {
            target,
            address,
            script: Arc::clone(&script),
            seen: Arc::clone(&seen),
            client,
        };
        let router = Router::new().fallback(answer).with_state(shared);
        let router = router.into_make_service_with_connect_info::<SocketAddr>();
        runtime.spawn(std::future::IntoFuture::into_future(axum::serve(listener, router)));
        Self { url: format!("http://{address}"), script, seen, _runtime: runtime }
    }

    /// The next request whose path holds `path` gets this.
    pub fn fail(&self, path: &'static str, fault: Fault) -> &Self {
        self.script.lock().unwrap().push_back((path, fault));
        self
    }

    pub fn clear(&self) {
        self.script.lock().unwrap().clear();
        self.seen.lock().unwrap().clear();
    }

    /// Paths asked for so far.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|(path, _)| path.clone()).collect()
    }

    /// The same with the port that each came from.
    pub fn seen_from(&self) -> Vec<(String, u16)> {
        self.seen.lock().unwrap().clone()
    }
}

async fn answer(
    State(shared): State<Shared>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    shared.seen.lock().unwrap().push((path.clone(), from.port()));
    let fault = {
        let mut script = shared.script.lock().unwrap();
        let at = script.iter().position(|(waits_for, _)| path.contains(waits_for));
        at.and_then(|at| script.remove(at)).map(|(_, fault)| fault)
    };
    match fault {
        Some(Fault::Answer(status, headers, body)) => plain(status, &headers, body),
        Some(Fault::Flood) => flood(),
        Some(Fault::Cut) => cut(),
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
    // The scope names the API as the caller knows it.
    let body =
        String::from_utf8_lossy(&body).replace(&encoded(shared.address), &encoded(shared.target));
    let url = format!("http://{}{path}", shared.target);
    let answer =
        shared.client.request(parts.method, url).headers(headers).body(body).send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer
        .text()
        .await
        .unwrap()
        .replace(&shared.target.to_string(), &shared.address.to_string());
    plain(status, &[("content-type", "application/json".to_owned())], change(text).into_bytes())
}

fn encoded(address: SocketAddr) -> String {
    address.to_string().replace(':', "%3A")
}

fn plain(status: u16, headers: &[(&'static str, String)], body: Vec<u8>) -> Response {
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
