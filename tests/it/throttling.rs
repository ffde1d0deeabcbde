//! Requests to a Graph API that is busy, broken, unreachable or not authentic.

use std::sync::Arc;

use secure_score_forwarder::{
    config::Configuration,
    daemon::{Engine, Poller},
};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    state::sql,
    support::{
        TENANT, Workspace,
        faults::{Fault, FaultyApi},
        free_port, records, runtime, simulation,
    },
};

const SCORES: &str = "/secureScores";
const PROFILES: &str = "/secureScoreControlProfiles";

fn response(status: u16, body: &str) -> Fault {
    let json = ("content-type", "application/json".to_owned());
    Fault::Respond(status, vec![json], body.as_bytes().to_vec())
}

/// A tenant whose first poll reads this number of days, and a file sink.
pub fn against(api: &FaultyApi, days: u32) -> Workspace {
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = format!("initial_backfill_days = {days}");
    workspace.file_sink("local");
    workspace
}

#[test]
fn retries_a_503_on_a_new_connection() {
    for status in [503, 504] {
        let api = FaultyApi::new();
        let workspace = against(&api, 3);
        api.fail(SCORES, response(status, "{}"));
        workspace.run_ok(&["once"]);

        let requests = api.requests_with_ports();
        let scores: Vec<usize> =
            (0..requests.len()).filter(|index| requests[*index].0.contains(SCORES)).collect();
        let [failed, retry] = scores[..] else { panic!("{requests:?}") };
        let ports: Vec<u16> = requests[..retry].iter().map(|(_, port)| *port).collect();
        assert!(
            ports.contains(&requests[failed].1) && !ports.contains(&requests[retry].1),
            "{requests:?}"
        );
    }
}

/// In June 2024, Graph rejected the links that it had returned, for several days.
#[test]
fn works_around_broken_links_of_profiles() {
    let broken = r#"{"error":{"code":"BadRequest","message":"The query specified in the URI is not valid. Query option 'SkipToken' is not allowed."}}"#;
    for (times, last) in [(1, "$top=999"), (2, "$skip=")] {
        let api = FaultyApi::new();
        let workspace = against(&api, 3);
        for _ in 0..times {
            api.fail("secureScoreControlProfiles?$skiptoken", response(400, broken));
            api.fail("secureScoreControlProfiles?$top=999&$skiptoken", response(400, broken));
        }

        workspace.run_ok(&["once"]);
        let requests = api.requests();
        assert!(requests.iter().any(|path| path.contains(last)), "{last}: {requests:?}");
        let streamed = records(&workspace.path("local.jsonl"));
        let titled = streamed.iter().filter(|r| r["control"]["title"].is_string()).count();
        assert!(titled > 600, "{titled}: the catalog is complete");
    }
}

/// A gateway that adds a byte-order mark, in front of a Graph that limits `$top`.
const TOP_LIMIT: &str = "\u{feff}{\"error\":{\"code\":\"\",\"message\":\"The limit of '50' for Top query has been exceeded.\"}}";

/// Regression: a refused `$top` ended the search for a method of paging.
#[test]
fn works_around_a_limit_of_the_page_size() {
    let api = FaultyApi::new();
    let workspace = against(&api, 3);
    for path in [
        "secureScoreControlProfiles?$skiptoken",
        "secureScoreControlProfiles?$top=999",
        "secureScoreControlProfiles?$top=500",
        "secureScoreControlProfiles?$top=250",
        "secureScoreControlProfiles?$top=100",
        "secureScoreControlProfiles?$top=50",
    ] {
        api.fail(path, response(400, TOP_LIMIT));
    }

    workspace.run_ok(&["once"]);
    let requests = api.requests();
    assert!(requests.iter().any(|path| path.contains("$top=25&$skip=")), "{requests:?}");
    let streamed = records(&workspace.path("local.jsonl"));
    let titled = streamed.iter().filter(|r| r["control"]["title"].is_string()).count();
    assert!(titled > 600, "{titled}: the catalog is complete");
}

/// Regression: Graph's message was dropped, because its code was empty.
#[test]
fn reports_the_last_refusal_of_all_methods() {
    let api = FaultyApi::new();
    let workspace = against(&api, 3);
    for _ in 0..20 {
        api.fail("secureScoreControlProfiles?$", response(400, TOP_LIMIT));
    }

    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    let expected = "cannot read all pages: Graph refused `$top=5` and `$skip` with HTTP 400: The limit of '50' for Top query has been exceeded.";
    assert!(run.stderr.contains(expected), "{}", run.stderr);
    let profiles = api.requests().iter().filter(|path| path.contains(PROFILES)).count();
    assert!(profiles <= 10, "{profiles} requests");
}

/// Regression: other methods were tried only after HTTP 400, 410 and 501, and Graph's message was
/// lost if it was sent with HTTP 200.
#[test]
fn works_around_every_kind_of_refusal() {
    const BOO: &str = r#"{"error":{"message":"boo"}}"#;
    /// The requests until HTTP 500 has persisted.
    const ATTEMPTS: usize = 4;

    for (path, status, times) in [
        ("secureScores?$top=", 200, 1),
        ("secureScores?$top=", 405, 1),
        ("secureScores?$top=", 413, 1),
        ("secureScores?$top=", 422, 1),
        (PROFILES, 400, 1),
        ("secureScoreControlProfiles?$skiptoken", 404, 1),
        ("secureScoreControlProfiles?$skiptoken", 422, 1),
        ("secureScoreControlProfiles?$skiptoken", 500, ATTEMPTS),
    ] {
        let api = FaultyApi::new();
        let workspace = against(&api, 3);
        for _ in 0..times {
            api.fail(path, response(status, BOO));
        }

        let run = workspace.run_ok(&["once", "--log", "info"]);
        let (case, expected) = (format!("{path} {status}"), format!("HTTP {status}: boo"));
        assert!(run.stderr.contains(&expected), "{case}: {}", run.stderr);
        let streamed = records(&workspace.path("local.jsonl"));
        assert_eq!(streamed.iter().filter(|r| r["kind"] == "summary").count(), 3, "{case}");
        let titled = streamed.iter().filter(|r| r["control"]["title"].is_string()).count();
        assert!(titled > 600, "{case}: {titled}");
    }
}

#[test]
fn works_around_broken_links_of_scores() {
    let api = FaultyApi::new();
    let workspace = against(&api, 30);
    api.fail("secureScores?$top=10&$skiptoken", response(400, "{}"));

    workspace.run_ok(&["once"]);

    let summaries = records(&workspace.path("local.jsonl"));
    assert_eq!(summaries.iter().filter(|r| r["kind"] == "summary").count(), 30);
    assert!(api.requests().iter().any(|path| path.ends_with("secureScores?$top=90")));
}

#[test]
fn limits_the_rate_of_an_endless_collection() {
    let api = FaultyApi::new();
    let workspace = against(&api, 3);
    for page in 0..250 {
        let link = format!("{}/v1.0/security/secureScores?$skiptoken={page}", api.url);
        api.fail(SCORES, response(200, &format!(r#"{{"value":[],"@odata.nextLink":"{link}"}}"#)));
    }

    // At 100 requests per minute, 200 pages take about two minutes.
    let daemon = workspace.spawn(&["run"]);
    crate::support::eventually("the first pages are read", || {
        api.requests().iter().filter(|path| path.contains(SCORES)).count() > 20
    });
    let early = api.requests().len();
    assert!(early < 60, "the rate is limited: {early}");

    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

/// Regression: the error consisted of five phrases of libraries, without a hint.
#[test]
fn reports_a_refused_connection() {
    let mut workspace = Workspace::against(&format!("http://127.0.0.1:{}", free_port()));
    workspace.file_sink("local");
    let run = workspace.run(&["check", "--online"]);
    assert_eq!(run.code, 1);
    for part in [
        "no response from the token endpoint: the connection was refused: Connection refused",
        "hint: check `source.proxy`, and the firewalls between this host and Microsoft",
    ] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
}

#[test]
fn times_out_without_a_response() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut workspace = Workspace::against(&format!("http://{}", silent.local_addr().unwrap()));
    workspace.file_sink("local");
    let run = workspace.run(&["check", "--online"]);
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("no response from the token endpoint"), "{}", run.stdout);
    assert!(run.stdout.contains("timed out"), "{}", run.stdout);
}

#[test]
fn times_out_without_a_connection() {
    use socket2::{Domain, Socket, Type};

    // The backlog of this listener is full, so further connection requests are dropped.
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    listener.bind(&any.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let waiting: Vec<Socket> = (0..4)
        .map(|_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address);
            socket
        })
        .collect();

    let url = format!("http://{}", address.as_socket().unwrap());
    let mut workspace = Workspace::against(&url);
    workspace.file_sink("local");
    let start = std::time::Instant::now();
    let run = workspace.run(&["check", "--online"]);

    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("no response from the token endpoint"), "{}", run.stdout);
    assert!(start.elapsed().as_secs() >= 9, "the time limit applies: {}", run.stdout);
    drop(waiting);
}

#[test]
fn reports_a_failed_name_resolution() {
    // The label is too long for a DNS query, so no query leaves this host.
    let mut workspace = Workspace::against(&format!("https://{}.example", "x".repeat(64)));
    workspace.file_sink("local");
    let run = workspace.run(&["check", "--online"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stdout.contains("no response from the token endpoint"), "{}", run.stdout);
    for part in [": the name of the server cannot be resolved: ", "hint: check the DNS servers"] {
        assert!(run.stdout.contains(part), "{part}: {}", run.stdout);
    }
}

/// A TLS server in front of the API, with a valid or expired certificate for `name`. Returns its
/// URL and the PEM of its certificate authority.
fn with_tls(api: &FaultyApi, name: &str, expired: bool) -> (String, String) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};

    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(vec![]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.clone().self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(ca, ca_key);

    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if expired {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    }
    let certificate = params.signed_by(&key, &issuer).unwrap();

    secure_score_forwarder::net::install_crypto_provider();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));

    let target = api.url.trim_start_matches("http://").to_owned();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    // The thread ends with the test process.
    std::thread::spawn(move || {
        runtime().block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, target) = (acceptor.clone(), target.clone());
                tokio::spawn(async move {
                    let Ok(mut tls) = acceptor.accept(stream).await else { return };
                    let mut plain = TcpStream::connect(target).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
                });
            }
        });
    });
    (format!("https://127.0.0.1:{port}"), ca_pem)
}

#[test]
fn trusts_only_valid_tls_certificates() {
    let check = |name: &str, expired: bool, trusted: bool, expected: &str| {
        let api = FaultyApi::new();
        let (url, ca) = with_tls(&api, name, expired);
        let mut workspace = Workspace::against(&url);
        workspace.file_sink("local");
        if trusted {
            crate::support::write(workspace.path("ca.pem"), &ca);
            workspace.head =
                format!("[source]\nca_file = \"{}\"", workspace.path("ca.pem").display());
        }
        let run = workspace.run(&["check", "--online"]);
        assert!(run.stdout.contains(expected), "{expected}: {}", run.stdout);
        let is_untouched = api.requests().is_empty();
        assert_eq!(is_untouched, expected != "scope", "no request to an untrusted server");
    };

    check("127.0.0.1", false, false, "not trusted\n  hint: set `ca_file` to");
    check("graph.example.com", false, true, "valid for `graph.example.com`, not for `127.0.0.1`");
    check("127.0.0.1", true, true, "a certificate of the server expired on `2021-01-01T");
    // With valid TLS, the simulated service rejects the scope, which names another address.
    check("127.0.0.1", false, true, "scope");
}

#[test]
fn uses_the_configured_proxy() {
    let proxy = FaultyApi::new();
    let unreachable = format!("http://127.0.0.1:{}", free_port());
    let mut workspace = Workspace::against(&unreachable);
    workspace.file_sink("local");
    workspace.head = format!("[source]\nproxy = \"{}\"", proxy.url);
    let run = workspace.run(&["check", "--online"]);
    assert!(run.stdout.contains("AADSTS70011"), "the proxy's target responds: {}", run.stdout);
    assert!(proxy.requests()[0].ends_with(&format!("/{TENANT}/oauth2/v2.0/token")));
}

#[test]
fn logs_the_ids_that_support_needs() {
    let api = FaultyApi::new();
    let workspace = against(&api, 3);
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        ("request-id", "7e1a".to_owned()),
        ("x-ms-ags-diagnostic", "{\"ServerInfo\":1}".to_owned()),
    ];
    let body = br#"{"error":{"code":"AccessDenied","message":"no"}}"#;
    api.fail(SCORES, Fault::Respond(403, headers, body.to_vec()));

    let run = workspace.run(&["once", "--log", "warn"]);
    assert!(run.stderr.contains("(request-id `7e1a`)"), "{}", run.stderr);
    let message = "Graph returned an error or an incomplete response";
    let line = run.stderr.lines().find(|line| line.contains(message));
    let line = line.unwrap_or_else(|| panic!("{}", run.stderr));
    for part in
        ["status=403", "request_id=\"7e1a\"", "client_request_id=\"", "diagnostic=", "AccessDenied"]
    {
        assert!(line.contains(part), "{part}: {line}");
    }
}

/// Regression: with more tenants than are polled at the same time, waiting tenants were queued
/// again every minute.
#[test]
fn queues_a_waiting_tenant_only_once() {
    let tenants: Vec<String> =
        (0..20).map(|n| format!("aaaaaaaa-0000-4000-8000-{n:012x}")).collect();
    let mut simulation = simulation();
    simulation.tenants.extend(tenants.iter().cloned());
    let api = FaultyApi::of(simulation);
    let mut workspace = against(&api, 3);
    for (index, id) in tenants.iter().enumerate() {
        let (name, id): (&'static str, &'static str) =
            (format!("t{index}").leak(), id.clone().leak());
        workspace.tenants.push((name, id));
    }

    let configuration = Configuration::parse("c.toml", &workspace.configuration()).unwrap();
    runtime().block_on(async {
        let engine = Engine::build(configuration).unwrap();
        let mut poller = Poller::new(engine);
        for _ in 0..5 {
            poller.start_due();
            tokio::task::yield_now().await;
        }
        poller.idle().await;
        poller.start_due();
        poller.idle().await;
    });

    let requests = api.requests();
    assert_eq!(requests.iter().filter(|path| path.contains(SCORES)).count(), 21);
    assert_eq!(requests.iter().filter(|path| path.ends_with(PROFILES)).count(), 21);
}

/// Only the stored state shows when the last poll was, so a poll without it could be one too many.
#[test]
fn polls_wait_until_their_state_is_readable() {
    let api = FaultyApi::new();
    let workspace = against(&api, 3);
    let configuration = Configuration::parse("c.toml", &workspace.configuration()).unwrap();
    let polls = || api.requests().iter().filter(|path| path.contains(SCORES)).count();

    runtime().block_on(async {
        let mut poller = Poller::new(Engine::build(configuration).unwrap());
        sql(&workspace, "ALTER TABLE tenant RENAME COLUMN failures TO unreadable");
        poller.start_due();
        poller.idle().await;
        assert_eq!(polls(), 0);

        sql(&workspace, "ALTER TABLE tenant RENAME COLUMN unreadable TO failures");
        poller.start_due();
        poller.idle().await;
        assert_eq!(polls(), 1);
    });
}
