//! A sign-in service that verifies secrets, assertions, PKCE, device codes and refresh tokens as
//! Entra does, in front of the Graph API of the simulated tenant.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey},
};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use secure_score_forwarder::source::simulated::start;
use serde_json::{Value, json};
use tokio::{net::TcpListener, runtime::Runtime};

use super::CANARY;

pub type Form = HashMap<String, String>;

/// What the service has received and issued, and how it responds.
#[derive(Default)]
pub struct EntraState {
    /// The tenant and the form of every token request.
    pub token_requests: Vec<(String, Form)>,
    /// The permissions in the tokens of apps.
    pub roles: Vec<&'static str>,
    /// The permissions in the tokens of users.
    pub scopes: Vec<&'static str>,
    /// The public keys (DER of RSAPublicKey) of the app registration, by thumbprint.
    pub certificates: HashMap<String, Vec<u8>>,
    /// The challenge and the redirect URI of each issued code.
    codes: HashMap<String, (String, String)>,
    refresh_tokens: Vec<String>,
    used_assertions: Vec<String>,
    pub device_polls: usize,
    /// The error description that the authorization endpoint returns instead of a code.
    pub denied: Option<&'static str>,
    /// Status and `WWW-Authenticate` of the response to the next request to Graph.
    pub challenge: Option<(u16, String)>,
    /// Seconds by which the server's clock is ahead.
    pub skew: i64,
    /// The number of issued codes and tokens.
    issued: usize,
}

pub struct Entra {
    pub url: String,
    pub state: Arc<Mutex<EntraState>>,
    _runtime: Runtime,
}

#[derive(Clone)]
struct Shared {
    address: SocketAddr,
    target: SocketAddr,
    state: Arc<Mutex<EntraState>>,
    client: reqwest::Client,
}

impl Entra {
    pub fn new() -> Self {
        let runtime = super::runtime();
        let (target, serving) = runtime.block_on(start(super::simulation(), 0)).unwrap();
        runtime.spawn(serving);

        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(EntraState {
            roles: vec!["SecurityEvents.Read.All"],
            scopes: vec!["SecurityEvents.Read.All"],
            ..EntraState::default()
        }));
        let client = secure_score_forwarder::net::client(None).unwrap();
        let shared = Shared { address, target, state: state.clone(), client };
        let router = Router::new().fallback(handle).with_state(shared);
        runtime.spawn(std::future::IntoFuture::into_future(axum::serve(listener, router)));
        Self { url: format!("http://{address}"), state, _runtime: runtime }
    }

    /// The tenant and the form of every token request.
    pub fn token_requests(&self) -> Vec<(String, Form)> {
        self.state.lock().unwrap().token_requests.clone()
    }
}

async fn handle(State(shared): State<Shared>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let query: Form = request
        .uri()
        .query()
        .map(|query| url::form_urlencoded::parse(query.as_bytes()).into_owned().collect())
        .unwrap_or_default();
    let tenant = path.split('/').nth(1).unwrap_or_default().to_owned();
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let form: Form = url::form_urlencoded::parse(&body).into_owned().collect();

    if path.ends_with("/oauth2/v2.0/token") {
        let mut state = shared.state.lock().unwrap();
        state.token_requests.push((tenant.clone(), form.clone()));
        return grant(&mut state, &tenant, &form, &format!("http://{}{path}", shared.address));
    }
    if path.ends_with("/oauth2/v2.0/authorize") {
        return authorize(&mut shared.state.lock().unwrap(), &query);
    }
    if path.ends_with("/oauth2/v2.0/devicecode") {
        let body = json!({ "device_code": "device-1", "user_code": "ABCD-EFGH", "verification_uri": "http://localhost/device", "expires_in": 900, "interval": 1, "message": "x" });
        return (StatusCode::OK, body.to_string()).into_response();
    }
    graph(&shared, &parts, &path).await
}

/// The response of the token endpoint.
fn grant(state: &mut EntraState, tenant: &str, form: &Form, audience: &str) -> Response {
    let get = |key: &str| form.get(key).map(String::as_str).unwrap_or_default();
    let is_user = match get("grant_type") {
        "client_credentials" => {
            let authenticated = match form.get("client_assertion") {
                Some(jwt) => check_assertion(state, jwt, get("client_id"), audience),
                None => (get("client_secret") == format!("{CANARY}-client"))
                    .then_some(())
                    .ok_or("AADSTS7000215: Invalid client secret provided."),
            };
            if let Err(reason) = authenticated {
                return rejected("invalid_client", reason);
            }
            false
        }

        "authorization_code" => {
            let Some((challenge, redirect)) = state.codes.remove(get("code")) else {
                return rejected("invalid_grant", "AADSTS54005: the code was redeemed already.");
            };
            let verifier = digest(&SHA256, get("code_verifier").as_bytes());
            if URL_SAFE_NO_PAD.encode(verifier) != challenge || get("redirect_uri") != redirect {
                return rejected("invalid_grant", "AADSTS501481: the verifier does not match.");
            }
            true
        }
        "urn:ietf:params:oauth:grant-type:device_code" => {
            state.device_polls += 1;
            if state.device_polls < 3 {
                return rejected("authorization_pending", "AADSTS70016: pending.");
            }
            true
        }

        "refresh_token" => {
            if !state.refresh_tokens.iter().any(|known| known == get("refresh_token")) {
                return rejected("invalid_grant", "AADSTS700082: The refresh token has expired.");
            }
            true
        }
        _ => return rejected("unsupported_grant_type", "AADSTS70003: no."),
    };

    state.issued += 1;
    let claims = if is_user {
        json!({ "tid": tenant, "scp": state.scopes.join(" "), "n": state.issued })
    } else {
        json!({ "tid": tenant, "roles": state.roles, "n": state.issued })
    };
    let token = format!("{CANARY}.{}.x", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let mut body = json!({ "token_type": "Bearer", "expires_in": 3599, "access_token": token });
    if is_user {
        let refresh = format!("{CANARY}-refresh-{}", state.issued);
        body["refresh_token"] = refresh.clone().into();
        state.refresh_tokens.push(refresh);
    }
    (StatusCode::OK, body.to_string()).into_response()
}

/// Verifies what Entra verifies: PS256, the thumbprint of a registered certificate, the audience,
/// the lifetime, and that the assertion has not been used before.
fn check_assertion(
    state: &mut EntraState,
    jwt: &str,
    client_id: &str,
    audience: &str,
) -> Result<(), &'static str> {
    let parts: Vec<&str> = jwt.split('.').collect();
    let part = |index: usize| URL_SAFE_NO_PAD.decode(parts[index]).unwrap();
    if parts[0] == "federated" {
        return Ok(());
    }

    let header: Value = serde_json::from_slice(&part(0)).unwrap();
    let claims: Value = serde_json::from_slice(&part(1)).unwrap();
    let key = header["x5t#S256"].as_str().and_then(|print| state.certificates.get(print));
    let key = key.ok_or("AADSTS700027: the certificate is not registered.")?;
    let signed = &jwt[..parts[0].len() + 1 + parts[1].len()];
    if header["alg"] != "PS256"
        || UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key)
            .verify(signed.as_bytes(), &part(2))
            .is_err()
    {
        return Err("AADSTS700027: the signature is invalid.");
    }

    let now = secure_score_forwarder::clock::now().as_second();
    let time = |claim: &str| claims[claim].as_i64().unwrap();
    let (not_before, expires) = (time("nbf"), time("exp"));
    // The assertion must be valid on a server whose clock is one minute behind, for at most ten
    // minutes.
    if !(not_before <= now - 60 && now < expires && expires - not_before <= 600) {
        return Err("AADSTS700024: the assertion is not within its valid time range.");
    }

    if claims["aud"] != audience || claims["iss"] != client_id || claims["sub"] != client_id {
        return Err("AADSTS700023: the audience is wrong.");
    }

    let id = claims["jti"].as_str().unwrap().to_owned();
    if state.used_assertions.contains(&id) {
        return Err("AADSTS50013: the assertion was used already.");
    }
    state.used_assertions.push(id);
    Ok(())
}

/// The response of the authorization endpoint: a redirect with a code or an error.
fn authorize(state: &mut EntraState, query: &Form) -> Response {
    let redirect = query["redirect_uri"].clone();
    // A loopback redirect is registered; Entra ignores its port.
    assert!(redirect.starts_with("http://localhost:"), "{redirect}");
    assert_eq!(query["code_challenge_method"], "S256");

    let mut location = url::Url::parse(&redirect).unwrap();
    let mut parameters = vec![("state", query["state"].clone())];
    if let Some(reason) = state.denied {
        parameters.push(("error", "access_denied".to_owned()));
        parameters.push(("error_description", reason.to_owned()));
    } else {
        state.issued += 1;
        let code = format!("{CANARY}-code-{}", state.issued);
        state.codes.insert(code.clone(), (query["code_challenge"].clone(), redirect));
        parameters.push(("code", code));
    }

    location.query_pairs_mut().extend_pairs(parameters);
    (StatusCode::FOUND, [("location", location.to_string())]).into_response()
}

/// Forwards a request to the Graph API of the simulation. The simulation's token is for the tenant
/// of the caller's token.
async fn graph(shared: &Shared, parts: &axum::http::request::Parts, path: &str) -> Response {
    let (challenge, skew) = {
        let mut state = shared.state.lock().unwrap();
        (state.challenge.take(), state.skew)
    };
    if let Some((status, challenge)) = challenge {
        let body =
            r#"{"error":{"code":"InvalidAuthenticationToken","message":"insufficient claims"}}"#;
        let status = StatusCode::from_u16(status).unwrap();
        let headers =
            [("www-authenticate", challenge), ("content-type", "application/json".into())];
        return (status, headers, body).into_response();
    }

    let bearer = parts.headers["authorization"].to_str().unwrap();
    let claims = URL_SAFE_NO_PAD.decode(bearer.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let tenant = claims["tid"].as_str().unwrap();

    let target = format!("http://{}", shared.target);
    let form = [
        ("grant_type", "client_credentials".to_owned()),
        ("client_id", "11111111-2222-4333-8444-555555555555".to_owned()),
        ("client_secret", format!("{CANARY}-client")),
        ("scope", format!("{target}/.default")),
    ];
    let token = shared.client.post(format!("{target}/{tenant}/oauth2/v2.0/token")).form(&form);
    let token: Value =
        serde_json::from_str(&token.send().await.unwrap().text().await.unwrap()).unwrap();

    let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let read = shared
        .client
        .get(format!("{target}{path}{query}"))
        .bearer_auth(token["access_token"].as_str().unwrap_or_default());
    let read = read.send().await.unwrap();
    let status = StatusCode::from_u16(read.status().as_u16()).unwrap();
    let text = read.text().await.unwrap();
    let text = text.replace(&shared.target.to_string(), &shared.address.to_string());

    let date = secure_score_forwarder::clock::now()
        .checked_add(jiff::SignedDuration::from_secs(skew))
        .unwrap();
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date);
    let headers = [("content-type", "application/json".to_owned()), ("date", date.unwrap())];
    (status, headers, Body::from(text)).into_response()
}

fn rejected(error: &str, description: &str) -> Response {
    let body = json!({ "error": error, "error_description": description });
    (StatusCode::BAD_REQUEST, body.to_string()).into_response()
}
