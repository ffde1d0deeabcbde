//! Every kind of credential, against services that are as strict as the real ones.

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use secrecy::ExposeSecret;
use secure_score_forwarder::{
    foreign_text::PeerSecrets,
    settings::SecretRef,
    source::{
        Certificate, CertificateChain, ClientSecret, Clients, Cloud, Credential, GraphHttpOptions,
        ManagedIdentity, ManagedIdentityHost, ManagedIdentityId, SourceError, TokenRequestContext,
        WorkloadIdentity,
    },
    wire::Token,
};
use serde_json::json;

use crate::{
    login::{sign_in, user},
    support::{
        CANARY, Run, TENANT, Workspace,
        entra::Entra,
        records,
        registration::{Registration, SCRIPTS},
        write,
    },
};

pub const APP: &str = "11111111-2222-4333-8444-555555555555";
/// Every service issues tokens that are valid for longer than this.
const MIN_LIFETIME: Duration = Duration::from_mins(50);

/// Creates a self-signed RSA certificate that is valid for this number of days. Returns the PEM
/// file with the certificate and the key; `cert.pem` contains only the certificate.
pub fn certificate(workspace: &Workspace, name: &str, days: u32) -> std::path::PathBuf {
    let (key, cert) = (workspace.path("key-secret.pem"), workspace.path("cert.pem"));
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=forwarder",
        "-days",
        &days.to_string(),
        "-keyout",
        path(&key),
        "-out",
        path(&cert),
    ]);
    let both = std::fs::read_to_string(&key).unwrap() + &std::fs::read_to_string(&cert).unwrap();
    let file = workspace.path(name);
    write(&file, &both);
    file
}

pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub fn openssl(args: &[&str]) {
    let output = Command::new("openssl").args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Adds a certificate to the app registration.
pub fn register(entra: &Entra, pem: &Path) {
    let der = CertificateDer::from_pem_slice(&std::fs::read(pem).unwrap()).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&der).unwrap();
    let key = parsed.public_key().subject_public_key.data.to_vec();
    let thumbprint = URL_SAFE_NO_PAD.encode(digest(&SHA256, &der));
    entra.state.lock().unwrap().certificates.insert(thumbprint, key);
}

pub fn against(entra: &Entra) -> Workspace {
    let mut workspace = Workspace::against(&entra.url);
    workspace.extra = "initial_backfill_days = 3".to_owned();
    workspace.file_sink("local");
    workspace
}

/// Requests a token for a tenant with a credential.
pub fn request_token(
    credential: &dyn Credential,
    cloud: &Cloud,
    tenant: &str,
) -> Result<Token, SourceError> {
    let clients = &Clients::new(&GraphHttpOptions::default()).unwrap();
    let sent = &PeerSecrets::of_tenant();
    let context = TokenRequestContext { clients, cloud, tenant, claims: None, sent };
    crate::support::runtime().block_on(credential.token(context))
}

pub fn cloud(url: &str) -> Cloud {
    Cloud { login_url: url.parse().unwrap(), graph_url: url.parse().unwrap() }
}

#[test]
fn reads_a_federated_token_for_each_request() {
    let entra = Entra::new();
    let workspace = against(&entra);
    let file = workspace.path("federated-secret");
    let credential = WorkloadIdentity { client_id: APP.into(), token_file: file.clone() };
    let cloud = cloud(&entra.url);
    let token = || request_token(&credential, &cloud, TENANT);

    for text in ["federated.1.x\n", "federated.2.x"] {
        write(&file, text);
        token().unwrap();
        assert_eq!(entra.token_requests().pop().unwrap().1["client_assertion"], text.trim());
    }
    for bad in ["", "two words.a.b", "not-a-token"] {
        write(&file, bad);
        assert!(token().unwrap_err().to_string().contains("does not contain a JWT"), "{bad}");
    }
}

#[test]
fn reads_the_variables_of_azure_sdks() {
    let entra = Entra::new();
    let mut workspace = against(&entra);
    workspace.credential = Some("[tenants.credential]\nkind = \"environment\"".to_owned());
    let run = Run::of(workspace.command(&["once"]).output().unwrap());
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("`AZURE_CLIENT_ID` is not set"), "{}", run.stderr);

    let mut command = workspace.command(&["once"]);
    command.env("AZURE_CLIENT_ID", APP).env("AZURE_CLIENT_SECRET", format!("{CANARY}-client"));
    let run = Run::of(command.output().unwrap());
    assert_eq!(run.code, 0, "{}", run.stderr);

    write(workspace.path("federated-secret"), "federated.1.x");
    let mut command = workspace.command(&["once"]);
    command
        .env("AZURE_CLIENT_ID", APP)
        .env("AZURE_FEDERATED_TOKEN_FILE", workspace.path("federated-secret"));
    let run = Run::of(command.output().unwrap());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(entra.token_requests().pop().unwrap().1.contains_key("client_assertion"));
}

#[test]
fn gets_tokens_on_three_kinds_of_hosts() {
    use axum::{Router, extract::Request, http::StatusCode, response::IntoResponse, routing::get};

    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("0a.key");
    write(&key, "a2V5");
    let realm = format!("Basic realm={}", key.display());
    let token =
        |expiry: &str| format!(r#"{{"access_token":"{CANARY}","token_type":"Bearer",{expiry}}}"#);
    let in_an_hour = secure_score_forwarder::clock::now().as_second() + 3_600;
    let in_seconds = token(&format!(r#""expires_on":"{in_an_hour}""#));
    let as_date = token(r#""expires_on":"2099-01-01 00:00:00""#);

    let busy = std::sync::atomic::AtomicBool::new(true);
    let imds = move |request: Request| {
        let is_valid = request.headers().get("metadata").is_some_and(|v| v == "true")
            && request
                .uri()
                .query()
                .unwrap()
                .contains("api-version=2018-02-01&resource=http%3A%2F%2F")
            && request.uri().query().unwrap().ends_with("&client_id=me");
        // The service rejects the first request, as it does while a machine starts.
        let response = if busy.swap(false, std::sync::atomic::Ordering::Relaxed) {
            (StatusCode::GONE, String::new())
        } else if is_valid {
            (StatusCode::OK, in_seconds.clone())
        } else {
            (StatusCode::BAD_REQUEST, String::new())
        };
        std::future::ready(response)
    };

    let app_service = move |request: Request| {
        let is_valid = request.headers().get("x-identity-header").is_some_and(|v| v == CANARY)
            && request.uri().query().unwrap().contains("api-version=2019-08-01");
        std::future::ready((
            if is_valid { StatusCode::OK } else { StatusCode::UNAUTHORIZED },
            as_date.clone(),
        ))
    };

    let arc_token = token(r#""expires_in":"3600""#);
    let arc = move |request: Request| {
        let authorized = request.headers().get("authorization").is_some_and(|v| v == "Basic a2V5");
        std::future::ready(if authorized {
            (StatusCode::OK, arc_token.clone()).into_response()
        } else {
            (StatusCode::UNAUTHORIZED, [("www-authenticate", realm.clone())]).into_response()
        })
    };

    let imds = Arc::new(imds);
    let router = Router::new()
        .route(
            "/metadata/identity/oauth2/token",
            get(move |r: Request| {
                let imds = imds.clone();
                async move { imds(r).await }
            }),
        )
        .route("/msi/token", get(app_service))
        .route("/arc", get(arc));

    let clients = Clients::new(&GraphHttpOptions {
        // An unreachable proxy: requests to a metadata service must not use it.
        proxy: Some("http://127.0.0.1:9".parse().unwrap()),
        ..GraphHttpOptions::default()
    })
    .unwrap();

    crate::support::runtime().block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(std::future::IntoFuture::into_future(axum::serve(listener, router)));
        let at = |path: &str| format!("{url}{path}").parse().unwrap();
        let cloud = cloud(&url);

        for (host, identity) in [
            (ManagedIdentityHost::Imds(at("")), ManagedIdentityId::Client("me".into())),
            (
                ManagedIdentityHost::AppService {
                    endpoint: at("/msi/token"),
                    header: CANARY.into(),
                },
                ManagedIdentityId::System,
            ),
            (ManagedIdentityHost::Arc(at("/arc")), ManagedIdentityId::System),
        ] {
            let debug = format!("{host:?}");
            let key_directory = directory.path().to_owned();
            let identity = ManagedIdentity { identity, host, key_directory };
            let context = TokenRequestContext {
                clients: &clients,
                cloud: &cloud,
                tenant: TENANT,
                claims: None,
                sent: &PeerSecrets::of_tenant(),
            };

            let token = identity.token(context).await.unwrap();
            assert_eq!(token.access_token.expose_secret(), CANARY, "{debug}");
            assert!(token.expires_in.get() > MIN_LIFETIME && !debug.contains(CANARY), "{debug}");
        }
    });
}

#[test]
fn answers_a_claims_challenge_with_a_new_token() {
    use base64::engine::general_purpose::STANDARD;

    let entra = Entra::new();
    let workspace = against(&entra);
    let claims = r#"{"access_token":{"nbf":{"essential":true,"value":"1795341600"}}}"#;
    for status in [401, 403] {
        let challenge = format!(
            "Bearer realm=\"\", error=\"insufficient_claims\", claims=\"{}\"",
            STANDARD.encode(claims)
        );
        entra.state.lock().unwrap().challenge = Some((status, challenge));
        workspace.run_ok(&["once"]);
        let requests = entra.token_requests();
        assert_eq!(requests.last().unwrap().1.get("claims").map(String::as_str), Some(claims));
    }
    assert_eq!(
        records(&workspace.path("local.jsonl")).iter().filter(|r| r["kind"] == "summary").count(),
        3
    );
}

#[test]
fn requests_one_token_for_many_pages() {
    let entra = Entra::new();
    let mut workspace = against(&entra);
    workspace.extra = "initial_backfill_days = 90".to_owned();
    workspace.run_ok(&["once"]);
    assert_eq!(entra.token_requests().len(), 1);
}

#[test]
fn check_online_reports_missing_and_excessive_permissions() {
    let entra = Entra::new();
    let workspace = against(&entra);
    let run = workspace.run_ok(&["check", "--online"]);
    assert!(
        run.stdout.contains("tenant `contoso`: signed in and read a snapshot; the newest day is `"),
        "{}",
        run.stdout
    );

    entra.state.lock().unwrap().roles = vec!["SecurityEvents.Read.All", "Directory.ReadWrite.All"];
    let run = workspace.run_ok(&["check", "--online"]);
    assert!(
        run.stdout
            .contains("the token grants more permissions than required: `Directory.ReadWrite.All`"),
        "{}",
        run.stdout
    );

    entra.state.lock().unwrap().roles = vec![];
    let run = workspace.run(&["check", "--online"]);
    assert_eq!(run.code, 1);
    for part in ["does not grant `SecurityEvents.Read.All`", "hint: run `consent-url`"] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }

    entra.state.lock().unwrap().roles = vec!["SecurityEvents.Read.All"];
    entra.state.lock().unwrap().skew = 600;
    let run = workspace.run(&["check", "--online"]);
    assert_eq!(run.code, 1);
    for part in ["the clock of this host is ", " behind Microsoft's", "NTP"] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
}

#[test]
fn prints_a_consent_link_per_tenant() {
    let entra = Entra::new();
    let mut workspace = against(&entra);
    let run = workspace.run_ok(&["consent-url"]);
    assert_eq!(
        run.stdout,
        format!(
            "{}/{TENANT}/adminconsent?client_id={APP}&redirect_uri=http%3A%2F%2Flocalhost\n",
            entra.url
        )
    );

    // Entra compares the redirect URI with the registered one as text, so it is not changed.
    let own = "https://portal.example.com/consent";
    let run = workspace.run_ok(&["consent-url", "--redirect-uri", own]);
    assert!(run.stdout.ends_with("&redirect_uri=https%3A%2F%2Fportal.example.com%2Fconsent\n"));
    assert!(!run.stderr.contains("localhost"), "{}", run.stderr);
    let run = workspace.run(&["consent-url", "--redirect-uri", "http://portal.example.com"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("hint: use https://, or http://localhost"), "{}", run.stderr);

    workspace.credential = Some("[tenants.credential]\nkind = \"managed_identity\"".to_owned());
    let run = workspace.run(&["consent-url", "--tenant", "contoso"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("bf394140-e372-4bf9-a898-299cfc7564e5"), "{}", run.stderr);
}

/// Regression: the link redirected to a URI that the registration scripts did not register, so that
/// Entra rejected it (AADSTS50011).
#[test]
fn registration_scripts_register_the_redirect_uri() {
    let entra = Entra::new();
    let link = against(&entra).run_ok(&["consent-url"]).stdout;
    let url: url::Url = link.trim().parse().unwrap();
    let (_, redirect) = url.query_pairs().find(|(key, _)| key == "redirect_uri").unwrap();

    for script in SCRIPTS {
        let registration = Registration::new(&json!({}));
        registration.run(script, &[]);
        let directory = registration.directory();
        let registered = &directory["applications"][0]["web"]["redirectUris"];
        assert_eq!(registered, &json!([redirect]), "{script:?}: {directory}");
    }
}

/// The certified OpenID provider verifies assertions as RFC 7523 requires.
#[test]
fn a_certified_provider_accepts_secret_and_assertion() {
    let entra = Entra::new();
    let workspace = against(&entra);
    let pem = certificate(&workspace, "app-secret.pem", 365);
    let provider = crate::support::provider::Provider::start(
        &workspace.path("cert.pem"),
        &format!("{CANARY}-client"),
    );

    let cloud = cloud(&provider.url);
    let cloud = Cloud { graph_url: "https://graph.microsoft.com".parse().unwrap(), ..cloud };
    let tenant = crate::support::provider::TENANT;

    let right = SecretRef::File(workspace.path("secret"));
    write(workspace.path("wrong-secret"), "wrong");
    let wrong = SecretRef::File(workspace.path("wrong-secret"));
    let secret = |secret| ClientSecret { client_id: "secret-app".into(), secret, expires: None };
    let certificate =
        |id: &str| Certificate::new(id.into(), pem.clone(), None, None, CertificateChain::Omit);

    let request = |credential: &dyn Credential| request_token(credential, &cloud, tenant);
    assert!(request(&secret(right)).unwrap().expires_in.get() > MIN_LIFETIME);
    assert!(matches!(request(&secret(wrong)), Err(SourceError::TokenRejected(_))));
    // The provider rejects a repeated assertion, so two requests need two assertions.
    for _ in 0..2 {
        request(&certificate("certificate-app")).unwrap();
    }
    let unregistered = request(&certificate("secret-app"));
    assert!(matches!(unregistered, Err(SourceError::TokenRejected(_))));
}

/// [`Run::of`] asserts that no output contains the secret or a token.
#[test]
fn the_trace_log_contains_no_credential() {
    let entra = Entra::new();
    let mut workspace = against(&entra);
    let run = workspace.run_ok(&["once", "--log", "trace"]);
    assert!(run.stderr.contains("poll completed"), "the level is applied: {}", run.stderr);

    let pem = certificate(&workspace, "app-secret.pem", 365);
    register(&entra, &pem);
    workspace.credential = Some(format!(
        "[tenants.credential]\nkind = \"certificate\"\nclient_id = \"{APP}\"\ncertificate = \"{}\"",
        pem.display()
    ));
    let run = workspace.run_ok(&["once", "--log", "trace"]);
    let assertion = &entra.token_requests().pop().unwrap().1["client_assertion"];
    for part in assertion.split('.').skip(1) {
        assert!(!run.stderr.contains(part));
    }

    workspace.head = user(&workspace, true);
    workspace.credential = Some("credential = \"me\"".to_owned());
    assert_eq!(sign_in(&workspace, &["--log", "trace"]).0.code, 0);
    workspace.run_ok(&["once", "--log", "trace"]);
    workspace.run_ok(&["check", "--online", "--log", "trace"]);
}
