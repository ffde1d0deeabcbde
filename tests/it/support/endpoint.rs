//! An HTTP endpoint whose responses follow a script or a rule. It stores the requests that it
//! accepts, decompressed.

use std::{
    collections::VecDeque,
    io::Read,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use tokio::{net::TcpListener, runtime::Runtime};

#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

type Rule = Box<dyn FnMut(&Request) -> Option<(u16, String)> + Send>;

#[derive(Default)]
struct Inner {
    accepted: Vec<Request>,
    script: VecDeque<(u16, String)>,
    rule: Option<Rule>,
    /// The response to an accepted request.
    status: u16,
    body: String,
}

pub struct Endpoint {
    pub url: String,
    inner: Arc<Mutex<Inner>>,
    _runtime: Runtime,
}

/// Entra's response with a token.
pub fn entra_token(token: &str) -> (u16, String) {
    let body =
        serde_json::json!({ "access_token": token, "expires_in": 3_599, "token_type": "Bearer" });
    (200, body.to_string())
}

impl Endpoint {
    /// An endpoint that accepts requests with status 200 and this body.
    pub fn new(body: &str) -> Self {
        Self::with_status(200, body)
    }

    /// An endpoint that accepts requests with this status and this body.
    pub fn with_status(status: u16, body: &str) -> Self {
        let runtime = super::runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());

        let inner =
            Arc::new(Mutex::new(Inner { status, body: body.to_owned(), ..Inner::default() }));
        let router = Router::new()
            .fallback(handle)
            .layer(DefaultBodyLimit::disable())
            .with_state(Arc::clone(&inner));
        runtime.spawn(std::future::IntoFuture::into_future(axum::serve(listener, router)));
        Self { url, inner, _runtime: runtime }
    }

    /// Adds a response to the script. The request that receives it is not stored.
    pub fn respond_once(&self, status: u16, body: &str) -> &Self {
        self.inner.lock().unwrap().script.push_back((status, body.to_owned()));
        self
    }

    /// Sets the rule. If it returns a response for a request, that request is not stored.
    pub fn rule(&self, rule: impl FnMut(&Request) -> Option<(u16, String)> + Send + 'static) {
        self.inner.lock().unwrap().rule = Some(Box::new(rule));
    }

    /// The accepted requests, in order.
    pub fn accepted(&self) -> Vec<Request> {
        self.inner.lock().unwrap().accepted.clone()
    }
}

async fn handle(
    State(inner): State<Arc<Mutex<Inner>>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let inner = &mut *inner.lock().unwrap();
    let mut plain = Vec::new();
    match headers.get("content-encoding").map(|value| value.to_str().unwrap()) {
        None => plain.extend_from_slice(&body),
        Some("gzip") => drop(flate2::read::GzDecoder::new(&*body).read_to_end(&mut plain).unwrap()),
        Some(other) => panic!("{other}"),
    }

    let request = Request { path: uri.path().to_owned(), headers, body: plain };
    let scripted = inner.script.pop_front();
    let by_rule = || inner.rule.as_mut().and_then(|rule| rule(&request));
    if let Some((status, body)) = scripted.or_else(by_rule) {
        return (StatusCode::from_u16(status).unwrap(), body).into_response();
    }

    inner.accepted.push(request);
    // The clients of object stores require the ETag of the object that they have written.
    let status = StatusCode::from_u16(inner.status).unwrap();
    (status, [("etag", "\"1\"")], inner.body.clone()).into_response()
}
