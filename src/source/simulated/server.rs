//! The HTTP server of the simulated tenant. It listens on a loopback address only.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Form, Router,
    body::Body,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{
    Control, Richness, controls, day::snapshot, profiles::profiles, simulated_load::SimulatedLoad,
};
use crate::model::{DAYS_AT_SOURCE, Day};

/// The tenants and credentials of a simulation.
#[derive(Clone, Debug)]
pub struct Simulation {
    /// The GUIDs of the tenants.
    pub tenants: Vec<String>,
    /// A verified domain of the first tenant.
    pub domain: String,
    /// The client ID that the token endpoint accepts.
    pub client_id: String,
    /// The client secret that the token endpoint accepts.
    pub client_secret: String,
    /// The newest day; `None` means the UTC date at each request.
    pub today: Option<Day>,
    /// The delay of each response of Graph.
    pub latency: Duration,
}

/// The number of days that the server lists, as Microsoft does.
const RETENTION_DAYS: usize = DAYS_AT_SOURCE.unsigned_abs() as usize;
const PROFILES_PER_PAGE: usize = 200;

impl Simulation {
    /// One tenant, with a random client secret.
    pub fn contoso() -> Self {
        Self {
            tenants: vec!["3f5c1d2e-0000-4000-8000-00000000c0de".to_owned()],
            domain: "contoso.example".to_owned(),
            client_id: "11111111-2222-4333-8444-555555555555".to_owned(),
            client_secret: uuid::Uuid::new_v4().simple().to_string(),
            today: None,
            latency: Duration::ZERO,
        }
    }

    /// Adds `count` tenants.
    #[must_use]
    pub fn with_tenants(mut self, count: usize) -> Self {
        let ids = (1..=count).map(|n| format!("{n:08x}-0000-4000-8000-00000000c0de"));
        self.tenants.extend(ids);
        self
    }
}

struct Shared {
    load: SimulatedLoad,
    simulation: Simulation,
    controls: Vec<Control>,
    address: SocketAddr,
    /// The tenant of each issued token.
    tokens: Mutex<HashMap<String, String>>,
    /// The index of the first item that each opaque skip token refers to.
    skips: Mutex<HashMap<String, usize>>,
}

type Parameters = HashMap<String, String>;

/// Binds the port (0 for any) and returns the address and the server, which runs until the future
/// is dropped.
///
/// # Errors
///
/// Fails if the port cannot be bound.
pub async fn start(
    simulation: Simulation,
    port: u16,
) -> std::io::Result<(SocketAddr, impl Future<Output = std::io::Result<()>>)> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    let address = listener.local_addr()?;

    let (tokens, skips) = (Mutex::default(), Mutex::default());
    let simulated_load = SimulatedLoad::default();
    let shared = Arc::new(Shared {
        load: simulated_load,
        simulation,
        controls: controls(),
        address,
        tokens,
        skips,
    });

    let router = Router::new()
        .route("/{tenant}/oauth2/v2.0/token", post(token))
        .route("/{tenant}/v2.0/.well-known/openid-configuration", get(openid_configuration))
        .route("/v1.0/security/secureScores", get(scores))
        .route("/v1.0/security/secureScoreControlProfiles", get(catalog))
        .route("/simulation/load", get(request_counts))
        .with_state(shared);
    Ok((address, std::future::IntoFuture::into_future(axum::serve(listener, router))))
}

async fn token(
    State(shared): State<Arc<Shared>>,
    Path(tenant): Path<String>,
    Form(form): Form<Parameters>,
) -> Response {
    let simulation = &shared.simulation;
    let is = |key: &str, value: &str| form.get(key).is_some_and(|sent| sent == value);

    let Some(guid) = guid_of(simulation, &tenant) else {
        return rejected("invalid_request", 90_002, "Tenant not found.");
    };
    if !is("client_id", &simulation.client_id) {
        return rejected(
            "unauthorized_client",
            700_016,
            "Application was not found in the directory.",
        );
    }
    if !is("client_secret", &simulation.client_secret) {
        return rejected("invalid_client", 7_000_215, "Invalid client secret provided.");
    }
    if !is("grant_type", "client_credentials")
        || !is("scope", &format!("http://{}/.default", shared.address))
    {
        return rejected(
            "invalid_scope",
            70_011,
            "The provided value for the input parameter 'scope' isn't valid.",
        );
    }

    let token = format!("simulated.{}", uuid::Uuid::new_v4().simple());
    lock(&shared.tokens).insert(token.clone(), guid.to_owned());
    json_response(
        StatusCode::OK,
        &json!({ "token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": token }),
    )
}

async fn openid_configuration(
    State(shared): State<Arc<Shared>>,
    Path(tenant): Path<String>,
) -> Response {
    match guid_of(&shared.simulation, &tenant) {
        Some(guid) => json_response(
            StatusCode::OK,
            &json!({ "issuer": format!("http://{}/{guid}/v2.0", shared.address) }),
        ),
        None => rejected("invalid_tenant", 90_002, "Tenant not found."),
    }
}

async fn scores(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<Parameters>,
    headers: HeaderMap,
) -> Response {
    let Some(tenant) = tenant_of_token(&shared, &headers) else { return unauthorized() };
    let _request = shared.load.begin(&tenant);
    tokio::time::sleep(shared.simulation.latency).await;

    let top = query.get("$top").and_then(|top| top.parse().ok()).unwrap_or(RETENTION_DAYS);
    let today = shared.simulation.today.unwrap_or_else(|| Day::of(crate::clock::now()));
    let first = first_index(&shared, &query);
    let last = (first + top).min(RETENTION_DAYS);
    let days = (first..last).filter_map(|back| i32::try_from(back).ok());
    let value: Vec<Value> = days
        .map(|back| {
            let richness = if back == 0 { Richness::Rich } else { Richness::Poor };
            snapshot(&tenant, &shared.controls, today.plus(-back), richness)
        })
        .collect();
    page(&shared, "secureScores", &query, &value, (last < RETENTION_DAYS).then_some(last))
}

async fn catalog(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<Parameters>,
    headers: HeaderMap,
) -> Response {
    let Some(tenant) = tenant_of_token(&shared, &headers) else { return unauthorized() };
    let _request = shared.load.begin(&tenant);
    tokio::time::sleep(shared.simulation.latency).await;

    let all = profiles(&tenant, &shared.controls);
    let first = first_index(&shared, &query);
    let value: Vec<Value> = all.iter().skip(first).take(PROFILES_PER_PAGE).cloned().collect();
    let last = first + value.len();
    page(&shared, "secureScoreControlProfiles", &query, &value, (last < all.len()).then_some(last))
}

/// The counts of requests, for tests and benchmarks of the throttle.
async fn request_counts(State(shared): State<Arc<Shared>>) -> Response {
    json_response(StatusCode::OK, &shared.load.to_json())
}

/// A page of a collection. Its nextLink is opaque: the skip token contains no index.
fn page(
    shared: &Shared,
    collection: &str,
    query: &Parameters,
    value: &[Value],
    next: Option<usize>,
) -> Response {
    let base = format!("http://{}/v1.0", shared.address);
    let mut body = json!({ "@odata.context": format!("{base}/$metadata#security/{collection}"), "value": value });

    if let Some(next) = next {
        let skip = uuid::Uuid::new_v4().to_string();
        let top = query.get("$top").map(|top| format!("$top={top}&")).unwrap_or_default();
        body["@odata.nextLink"] =
            format!("{base}/security/{collection}?{top}$skiptoken={skip}").into();
        lock(&shared.skips).insert(skip, next);
    }
    json_response(StatusCode::OK, &body)
}

/// The index of the first item of the requested page.
fn first_index(shared: &Shared, query: &Parameters) -> usize {
    let skip = query.get("$skiptoken").and_then(|skip| lock(&shared.skips).get(skip).copied());
    skip.or_else(|| query.get("$skip")?.parse().ok()).unwrap_or(0)
}

/// The tenant of the request's bearer token.
fn tenant_of_token(shared: &Shared, headers: &HeaderMap) -> Option<String> {
    let bearer = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
    lock(&shared.tokens).get(bearer).cloned()
}

fn guid_of<'a>(simulation: &'a Simulation, tenant: &str) -> Option<&'a str> {
    let first = simulation.tenants.first().filter(|_| tenant == simulation.domain);
    first.or_else(|| simulation.tenants.iter().find(|guid| *guid == tenant)).map(String::as_str)
}

/// An error of the token endpoint in Entra's format.
fn rejected(error: &str, code: u32, text: &str) -> Response {
    let description = format!(
        "AADSTS{code}: {text}\r\nTrace ID: 0\r\nCorrelation ID: 0\r\nTimestamp: 2026-01-01 00:00:00Z"
    );
    let body = json!({ "error": error, "error_description": description, "error_codes": [code], "trace_id": "0", "correlation_id": "0" });
    json_response(
        if code == 7_000_215 { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST },
        &body,
    )
}

fn unauthorized() -> Response {
    let inner =
        json!({ "date": "2026-01-01T00:00:00", "request-id": "0", "client-request-id": "0" });
    let error = json!({ "code": "InvalidAuthenticationToken", "message": "Access token is empty or unknown.", "innerError": inner });
    json_response(StatusCode::UNAUTHORIZED, &json!({ "error": error }))
}

fn json_response(status: StatusCode, body: &Value) -> Response {
    let content_type =
        [(header::CONTENT_TYPE, "application/json;odata.metadata=minimal;charset=utf-8")];
    (status, content_type, Body::from(body.to_string())).into_response()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
