//! Several hostile tenants at the same time: what each of them may use is limited, and so is what
//! all of them use together.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, Uri},
    response::{IntoResponse, Response},
};
use secure_score_forwarder::{clock, model::Day};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{Workspace, eventually, limits::ObservedDaemon, runtime};

/// As many polls as run at the same time.
const TENANTS: usize = 8;
/// The requested days, fewer than those of a backfill, which takes the permits of several polls.
const DAYS: i32 = 10;
const DAYS_PER_PAGE: i32 = 2;
const CONTROLS: usize = 7;
/// Below the limit for a text, in bytes.
const DESCRIPTION: usize = 780_000;

/// The texts of a snapshot, which cannot be compressed by much.
type Texts = Arc<Vec<String>>;

fn snapshot(tenant: &str, day: Day, texts: &[String]) -> Value {
    let controls = texts.iter().enumerate().map(|(number, text)| {
        json!({
            "controlName": format!("C{number}"), "controlCategory": "Identity", "score": 1,
            "description": text,
        })
    });
    json!({
        "id": format!("{tenant}_{day}"), "azureTenantId": tenant,
        "createdDateTime": format!("{day}T00:00:00Z"), "currentScore": 10, "maxScore": 100,
        "controlScores": controls.collect::<Vec<_>>(),
    })
}

/// Lists days without an end. The token of a tenant is its ID.
async fn handle(State(texts): State<Texts>, uri: Uri, headers: HeaderMap) -> Response {
    let host = headers["host"].to_str().unwrap();
    let path = uri.path().trim_start_matches('/');
    let body = if let Some((tenant, _)) = path.split_once("/oauth2/") {
        json!({"access_token": tenant, "expires_in": 3599})
    } else if path.ends_with("/secureScores") {
        let query = uri.query().unwrap_or_default();
        let skipped = query.split("skiptoken=").nth(1).and_then(|days| days.parse().ok());
        let skipped: i32 = skipped.unwrap_or_default();
        let token = headers["authorization"].to_str().unwrap();
        let tenant = token.rsplit(' ').next().unwrap();

        let today = Day::of(clock::now());
        let days = (skipped..skipped + DAYS_PER_PAGE).map(|day| today.plus(-day));
        let value: Vec<Value> = days.map(|day| snapshot(tenant, day, &texts)).collect();
        let next = format!("http://{host}{}?$skiptoken={}", uri.path(), skipped + DAYS_PER_PAGE);
        json!({"value": value, "@odata.nextLink": next})
    } else {
        json!({"value": []})
    };
    ([("content-type", "application/json")], body.to_string()).into_response()
}

/// Attack: as many tenants as are polled at the same time list days whose texts are just below the
/// limits, on pages without an end.
///
/// Regression: only the memory of each tenant was limited, and eight of them took 623 MB.
#[test]
fn hostile_tenants_share_the_memory() {
    let runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let text = || std::iter::repeat_with(fastrand::alphanumeric).take(DESCRIPTION).collect();
    let texts: Texts = Arc::new(std::iter::repeat_with(text).take(CONTROLS).collect());
    let router = Router::new().fallback(handle).with_state(texts);
    runtime.spawn(std::future::IntoFuture::into_future(axum::serve(listener, router)));

    let mut workspace = Workspace::against(&url);
    workspace.tenants.clear();
    for number in 0..TENANTS {
        workspace.head += &format!(
            "\n[[tenants]]\nname = \"tenant-{number}\"\n\
             id = \"3f5c1d2e-0000-4000-8000-0000000000{number:02}\"\n\
             initial_backfill_days = {DAYS}\n\
             cloud = {{ login_url = \"{url}\", graph_url = \"{url}\" }}\n\
             [tenants.credential]\nkind = \"client_secret\"\n\
             client_id = \"11111111-2222-4333-8444-555555555555\"\n\
             client_secret = {{ file = \"{}\" }}\n",
            workspace.path("secret").display()
        );
    }
    workspace.file_sink("local");

    let daemon = ObservedDaemon::start(&mut workspace);
    eventually("every tenant has been polled", || {
        let status = workspace.try_status().unwrap_or_default();
        let tenants = status["tenants"].as_array().cloned().unwrap_or_default();
        tenants.len() == TENANTS && tenants.iter().all(|tenant| !tenant["last_attempt"].is_null())
    });
    daemon.end();
}
