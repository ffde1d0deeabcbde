//! How Graph is dealt with when it is busy, broken or not Graph at all.

use std::sync::Arc;

use secure_score_forwarder::{
    config::Configuration,
    daemon::{Engine, Poller},
};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{
    TENANT, Workspace,
    faults::{Fault, FaultyApi},
    free_port, records, runtime, simulation,
};

const SCORES: &str = "/secureScores";
const PROFILES: &str = "/secureScoreControlProfiles";

fn answer(status: u16, body: &str) -> Fault {
    let json = ("content-type", "application/json".to_owned());
    Fault::Answer(status, vec![json], body.as_bytes().to_vec())
}

fn against(api: &FaultyApi, days: u32) -> Workspace {
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = format!("initial_backfill_days = {days}");
    workspace.file_sink("local");
    workspace
}

#[test]
fn after_a_503_the_next_try_is_on_a_new_connection() {
    for status in [503, 504] {
        let api = FaultyApi::new();
        let workspace = against(&api, 3);
        api.fail(SCORES, answer(status, "{}"));
        workspace.run_ok(&["once"]);
        let seen = api.seen_from();
        let scores: Vec<usize> =
            (0..seen.len()).filter(|index| seen[*index].0.contains(SCORES)).collect();
        let [failed, again] = scores[..] else { panic!("{seen:?}") };
        let ports: Vec<u16> = seen[..again].iter().map(|(_, port)| *port).collect();
        assert!(ports.contains(&seen[failed].1) && !ports.contains(&seen[again].1), "{seen:?}");
    }
}

/// As for some days in June 2024: Graph refused the links that it gave itself.
#[test]
fn links_that_graph_does_not_follow_are_walked_around() {
    let broken = r#"{"error":{"code":"BadRequest","message":"The query specified in the URI is not valid. Query option 'SkipToken' is not allowed."}}"#;
    for (times, last) in [(1, "$top=999"), (2, "$skip=")] {
        let api = FaultyApi::new();
        let workspace = against(&api, 3);
        for _ in 0..times {
            api.fail("secureScoreControlProfiles?$skiptoken", answer(400, broken));
            api.fail("secureScoreControlProfiles?$top=999&$skiptoken", answer(400, broken));
        }
        workspace.run_ok(&["once"]);
        assert!(api.seen().iter().any(|path| path.contains(last)), "{last}: {:?}", api.seen());
        let streamed = records(&workspace.path("local.jsonl"));
        let titled = streamed.iter().filter(|r| r["control"]["title"].is_string()).count();
        assert!(titled > 600, "{titled}: the catalog is whole");
    }
}

#[test]
fn days_are_walked_around_a_broken_link_too() {
    let api = FaultyApi::new();
    let workspace = against(&api, 30);
    api.fail("secureScores?$top=10&$skiptoken", answer(400, "{}"));
    workspace.run_ok(&["once"]);
    let summaries = records(&workspace.path("local.jsonl"));
    assert_eq!(summaries.iter().filter(|r| r["kind"] == "summary").count(), 30);
    assert!(api.seen().iter().any(|path| path.ends_with("secureScores?$top=90")));
}

#[test]
fn a_collection_without_end_is_read_at_a_bearable_pace() {
    let api = FaultyApi::new();
    let workspace = against(&api, 3);
    for page in 0..250 {
        let link = format!("{}/v1.0/security/secureScores?$skiptoken={page}", api.url);
        api.fail(SCORES, answer(200, &format!(r#"{{"value":[],"@odata.nextLink":"{link}"}}"#)));
    }
    // A tenant is asked a hundred times a minute: two hundred pages would take that long.
    let daemon = workspace.spawn(&["run"]);
    crate::support::eventually("its first pages are read", || {
        api.seen().iter().filter(|path| path.contains(SCORES)).count() > 20
    });
    let early = api.seen().len();
    assert!(early < 60, "the pace is kept: {early}");
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

#[test]
fn nobody_at_the_other_end() {
    let mut workspace = Workspace::against(&format!("http://127.0.0.1:{}", free_port()));
    workspace.file_sink("local");
    let run = workspace.run(&["check", "--online"]);
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("the token endpoint did not answer"), "{}", run.stdout);
}

#[test]
fn a_server_that_takes_the_connection_and_says_nothing() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut workspace = Workspace::against(&format!("http://{}", silent.local_addr().unwrap()));
    workspace.file_sink("local");
    let run = workspace.run(&["check", "--online"]);
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("the token endpoint did not answer"), "{}", run.stdout);
    assert!(run.stdout.contains("timed out"), "{}", run.stdout);
}

#[test]
fn a_server_that_does_not_take_the_connection() {
    use socket2::{Domain, Socket, Type};
    let hole = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    hole.bind(&any.into()).unwrap();
    hole.listen(0).unwrap();
    let address = hole.local_addr().unwrap();
    // Its line is full, and who comes next is dropped without a word.
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
    let began = std::time::Instant::now();
    let run = workspace.run(&["check", "--online"]);
    assert_eq!(run.code, 1);
    assert!(run.stdout.contains("the token endpoint did not answer"), "{}", run.stdout);
    assert!(began.elapsed().as_secs() >= 9, "it was given its time: {}", run.stdout);
    drop(waiting);
}

#[test]
fn a_name_that_nobody_has() {
    // Too long a label for any resolver to ask about: nothing leaves this host.
    let mut workspace = Workspace::against(&format!("https://{}.example", "x".repeat(64)));
    workspace.file_sink("local");
    let run = workspace.run(&["check", "--online"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stdout.contains("the token endpoint did not answer"), "{}", run.stdout);
    assert!(run.stdout.contains("dns") || run.stdout.contains("lookup"), "{}", run.stdout);
}

/// A TLS server before the API, with a certificate for a name, valid until then or not.
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
    // Ends with the test's process.
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
fn tls_is_believed_only_where_it_proves_itself() {
    let check = |name: &str, expired: bool, trusted: bool, word: &str| {
        let api = FaultyApi::new();
        let (url, ca) = with_tls(&api, name, expired);
        let mut workspace = Workspace::against(&url);
        workspace.file_sink("local");
        if trusted {
            crate::support::fs(workspace.path("ca.pem"), &ca);
            workspace.head =
                format!("[source]\nca_file = \"{}\"", workspace.path("ca.pem").display());
        }
        let run = workspace.run(&["check", "--online"]);
        assert!(run.stdout.contains(word), "{word}: {}", run.stdout);
        assert_eq!(api.seen().is_empty(), word != "scope", "no token asked for in vain");
    };
    check("127.0.0.1", false, false, "UnknownIssuer");
    check("graph.example.com", false, true, "not valid for name");
    check("127.0.0.1", true, true, "expired");
    // Past TLS the simulated service minds the scope, which names another address.
    check("127.0.0.1", false, true, "scope");
}

#[test]
fn a_proxy_is_used_where_one_is_configured() {
    let proxy = FaultyApi::new();
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let mut workspace = Workspace::against(&nobody);
    workspace.file_sink("local");
    workspace.head = format!("[source]\nproxy = \"{}\"", proxy.url);
    let run = workspace.run(&["check", "--online"]);
    assert!(run.stdout.contains("AADSTS70011"), "the service behind it answered: {}", run.stdout);
    assert!(proxy.seen()[0].ends_with(&format!("/{TENANT}/oauth2/v2.0/token")));
}

#[test]
fn what_support_asks_for_is_in_the_log() {
    let api = FaultyApi::new();
    let workspace = against(&api, 3);
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        ("request-id", "7e1a".to_owned()),
        ("x-ms-ags-diagnostic", "{\"ServerInfo\":1}".to_owned()),
    ];
    let body = br#"{"error":{"code":"AccessDenied","message":"no"}}"#;
    api.fail(SCORES, Fault::Answer(403, headers, body.to_vec()));
    let run = workspace.run(&["once", "--log", "warn"]);
    assert!(run.stderr.contains("(request-id 7e1a)"), "{}", run.stderr);
    let line = run.stderr.lines().find(|line| line.contains("did not give a whole answer"));
    let line = line.unwrap_or_else(|| panic!("{}", run.stderr));
    for part in
        ["status=403", "request_id=\"7e1a\"", "client_request_id=\"", "diagnostic=", "AccessDenied"]
    {
        assert!(line.contains(part), "{part}: {line}");
    }
}

/// With more tenants than are polled at once, those that waited were queued again every minute.
#[test]
fn a_tenant_waits_in_line_once() {
    let tenants: Vec<String> =
        (0..20).map(|n| format!("aaaaaaaa-0000-4000-8000-{n:012x}")).collect();
    let mut simulation = simulation();
    simulation.tenants.extend(tenants.iter().cloned());
    let api = FaultyApi::before(simulation);
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
    let asked = api.seen().iter().filter(|path| path.contains(SCORES)).count();
    assert_eq!(asked, 21);
    assert_eq!(api.seen().iter().filter(|path| path.ends_with(PROFILES)).count(), 21);
}
