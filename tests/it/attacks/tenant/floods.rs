//! Floods: responses that are small as text and large in memory, in both collections, at the token
//! endpoint, and in the metadata of the sign-in service.

use std::{
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::Uri,
    response::{IntoResponse, Response},
};
use secure_score_forwarder::{clock, model::Day};
use serde_json::Value;
use tokio::{net::TcpListener, runtime::Runtime};

use crate::{
    admin::send,
    support::{
        OTHER, Process, Run, Workspace, eventually, free_port,
        limits::{MAX_HEALTH_TIME, MAX_MEMORY_KIB, peak_memory_kib},
        runtime, summaries,
    },
};

/// A function that generates the text of a flood, and its description.
type Flood = (fn() -> String, &'static str);

/// Sizes just below those of the largest response, snapshot, profile and token response that are
/// read, in bytes.
const RESPONSE: usize = (16 << 20) - 1_024;
const SNAPSHOT: usize = (8 << 20) - 1_024;
const PROFILE: usize = (1 << 20) - 1_024;
const TOKEN_RESPONSE: usize = (1 << 20) - 1_024;

const SCORES: &str = "/secureScores?";
const PROFILES: &str = "/secureScoreControlProfiles";
const TOKEN: &str = "/oauth2/v2.0/token";

/// What the server does with a request.
enum Reply {
    /// Responds with this JSON.
    Json(String),
    /// Never responds.
    Nothing,
}

/// Determines the response to a request by its path and its query; `None` for a harmless one.
type Rule = Box<dyn FnMut(&str) -> Option<Reply> + Send>;

/// A server in the place of Microsoft's, for one tenant.
struct HostileServer {
    url: String,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

struct Shared {
    rule: Mutex<Rule>,
    requests: Mutex<Vec<String>>,
}

impl HostileServer {
    /// A server with harmless responses.
    fn new() -> Self {
        let runtime = runtime();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());

        let harmless: Rule = Box::new(|_| None);
        let shared = Arc::new(Shared { rule: Mutex::new(harmless), requests: Mutex::default() });
        let router = Router::new().fallback(handle).with_state(Arc::clone(&shared));
        runtime.spawn(std::future::IntoFuture::into_future(axum::serve(listener, router)));
        Self { url, shared, _runtime: runtime }
    }

    fn rule(&self, rule: impl FnMut(&str) -> Option<Reply> + Send + 'static) {
        *self.shared.rule.lock().unwrap() = Box::new(rule);
    }

    /// Responds with this JSON to every request whose path contains `part`.
    fn respond(&self, part: &'static str, json: String) {
        self.rule(move |path| path.contains(part).then(|| Reply::Json(json.clone())));
    }

    /// The number of requests whose path contains `part`.
    fn requests(&self, part: &str) -> usize {
        let requests = self.shared.requests.lock().unwrap();
        requests.iter().filter(|path| path.contains(part)).count()
    }
}

async fn handle(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    let path = uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    shared.requests.lock().unwrap().push(path.clone());
    let reply = (*shared.rule.lock().unwrap())(&path);

    let json = match reply {
        Some(Reply::Json(json)) => json,
        Some(Reply::Nothing) => std::future::pending().await,
        None if path.contains(TOKEN) => r#"{"access_token":"a","expires_in":3599}"#.to_owned(),
        None => r#"{"value":[]}"#.to_owned(),
    };
    ([("content-type", "application/json")], json).into_response()
}

/// A daemon that polls a harmless tenant and one of a hostile server.
struct Attacked {
    workspace: Workspace,
    /// `None` between two starts.
    daemon: Option<Process>,
    address: SocketAddr,
    /// The records of both tenants.
    file: PathBuf,
}

impl Attacked {
    /// `id` is the GUID or the domain of the hostile tenant.
    fn start(server: &HostileServer, id: &str) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut workspace = Workspace::new();
        workspace.extra = "initial_backfill_days = 3".to_owned();
        workspace.head = format!(
            "\n[admin]\nlisten = \"{address}\"\n\n[[tenants]]\nname = \"hostile\"\nid = \"{id}\"\n\
             cloud = {{ login_url = \"{url}\", graph_url = \"{url}\" }}\n\
             initial_backfill_days = 3\n\n[tenants.credential]\nkind = \"client_secret\"\n\
             client_id = \"11111111-2222-4333-8444-555555555555\"\n\
             client_secret = {{ file = \"{secret}\" }}\n",
            url = server.url,
            secret = workspace.path("secret").display(),
        );

        let file = workspace.file_sink("local");
        let mut attacked = Self { workspace, daemon: None, address, file };
        attacked.start_daemon();
        attacked
    }

    /// Starts the daemon, and waits until it accepts commands.
    fn start_daemon(&mut self) {
        self.daemon = Some(self.workspace.spawn(&["run"]));
        eventually("the page responds", || TcpStream::connect(self.address).is_ok());
        eventually("the harmless tenant is polled", || {
            self.workspace.run(&["poll", "--tenant", "contoso"]).code == 0
        });
    }

    /// Polls the hostile tenant, and asserts that the command or the status reports this text.
    fn poll(&self, expected: &str) -> Run {
        let run = self.workspace.run(&["poll", "--tenant", "hostile"]);
        let status = self.workspace.run(&["status", "--json"]).stdout;
        assert!(
            run.stderr.contains(expected) || status.contains(expected),
            "{expected}: {}{status}",
            run.stderr
        );
        run
    }

    /// The status of the hostile tenant.
    fn hostile(&self) -> Value {
        let status = self.workspace.status();
        let tenants = status["tenants"].as_array().unwrap();
        tenants.iter().find(|tenant| tenant["name"] == "hostile").unwrap().clone()
    }

    /// Asserts that the process has used little memory, has delivered the days of the harmless
    /// tenant, and can be stopped.
    fn assert_unharmed(mut self, health: HealthMonitor) {
        let longest = health.longest_time();
        assert!(longest < MAX_HEALTH_TIME, "the health endpoint took {longest:?}");
        let daemon = self.daemon.take().unwrap();
        let peak = peak_memory_kib(daemon.id());
        assert!(peak < MAX_MEMORY_KIB, "the process has used {peak} KiB");

        eventually("the harmless tenant is delivered", || summaries(&self.file) >= 3);
        daemon.signal("TERM");
        assert_eq!(daemon.end().code, 0);
    }
}

/// Requests `/healthz` again and again in a thread.
struct HealthMonitor {
    is_stopped: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl HealthMonitor {
    fn start(address: SocketAddr) -> Self {
        let is_stopped = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&is_stopped);
        let thread = std::thread::spawn(move || {
            let request = format!("GET /healthz HTTP/1.1\r\nHost: {address}\r\n\r\n");
            let mut longest = Duration::ZERO;
            while !stopped.load(Relaxed) {
                let start = Instant::now();
                let (status, _, body) = send(address, &request);
                assert_eq!(status, 200, "{body}");
                longest = longest.max(start.elapsed());
                std::thread::sleep(Duration::from_millis(5));
            }
            longest
        });
        Self { is_stopped, thread }
    }

    /// Stops, and returns the time of the slowest response.
    fn longest_time(self) -> Duration {
        self.is_stopped.store(true, Relaxed);
        self.thread.join().unwrap()
    }
}

/// As many copies of an element, which ends in a comma, as have this size, between two texts.
fn filled(before: &str, element: &str, after: &str, bytes: usize) -> String {
    let elements = element.repeat(bytes / element.len());
    format!("{before}{elements}{}{after}", element.trim_end_matches(','))
}

/// A page with one item, in which a list or an object between two texts is filled.
fn filled_item(before: &str, element: &str, after: &str, bytes: usize) -> String {
    filled(&format!(r#"{{"value":[{before}"#), element, &format!("{after}]}}"), bytes)
}

fn nested(bytes: usize) -> String {
    format!("{}{}", "[".repeat(bytes / 2), "]".repeat(bytes / 2))
}

/// Regression: a page of zeros took 4 GiB, and the health endpoint did not respond for 40 seconds.
///
/// Attack: a page of 16 MiB lists millions of items, or an item has millions of elements. The page
/// or the item is rejected before it takes memory, or a value is removed from it, and nothing else
/// is delayed.
#[test]
fn floods_of_scores_are_rejected() {
    let server = HostileServer::new();
    let attacked = Attacked::start(&server, OTHER);
    let health = HealthMonitor::start(attacked.address);

    let many = "more than 1,000 items in a page";
    let pages: [Flood; 5] = [
        (|| filled(r#"{"value":["#, "0,", "]}", RESPONSE), many),
        (|| filled(r#"{"value":["#, "{},", "]}", RESPONSE), many),
        (|| filled(r#"{"value":["#, r#""","#, "]}", RESPONSE), many),
        (|| filled("[", "0,", "]", RESPONSE), "not the expected JSON"),
        (|| "[".repeat(RESPONSE), "not the expected JSON"),
    ];
    let lists: [Flood; 3] = [
        (
            || filled_item(r#"{"controlScores":["#, "{},", "]}", SNAPSHOT),
            "more than 5,000 controls in a snapshot",
        ),
        (
            || filled_item(r#"{"averageComparativeScores":["#, "{},", "]}", SNAPSHOT),
            "1 snapshot rejected",
        ),
        (
            || filled_item(r#"{"enabledServices":["#, r#""","#, "]}", SNAPSHOT),
            "1 snapshot rejected",
        ),
    ];

    let values: [Flood; 5] = [
        (|| filled_item("{", r#""f":0,"#, "}", SNAPSHOT), "more than 65,536 fields in an object"),
        (
            || filled_item(r#"{"controlScores":[{"score":["#, r#"{"a":0},"#, "]}]}", SNAPSHOT),
            "1 snapshot rejected",
        ),
        (|| format!(r#"{{"value":[{{"x":{}}}]}}"#, nested(PROFILE)), "1 snapshot rejected"),
        (|| format!(r#"{{"value":[{{"id":"{}"}}]}}"#, "x".repeat(SNAPSHOT)), "1 snapshot rejected"),
        (
            || format!(r#"{{"value":[{{"id":"{}"}}]}}"#, "x".repeat(RESPONSE)),
            "more than 8,388,608 bytes in a snapshot",
        ),
    ];
    for (flood, expected) in pages.into_iter().chain(lists).chain(values) {
        server.respond(SCORES, flood());
        attacked.poll(expected);
    }
    attacked.assert_unharmed(health);
}

/// Regression: a catalog of 16 MiB with millions of items or decisions took 2 GiB.
///
/// Attack: as for the scores, in the control profiles. The catalog of the last poll remains in use.
#[test]
fn floods_of_profiles_are_rejected() {
    let server = HostileServer::new();
    let attacked = Attacked::start(&server, OTHER);
    let health = HealthMonitor::start(attacked.address);

    let floods: [Flood; 6] = [
        (|| filled(r#"{"value":["#, "0,", "]}", RESPONSE), "more than 1,000 items in a page"),
        (|| filled(r#"{"value":["#, "{},", "]}", RESPONSE), "more than 1,000 items in a page"),
        (
            || filled_item(r#"{"id":"A","controlStateUpdates":["#, "0,", "]}", PROFILE),
            "more than 1,000 decisions in a control profile",
        ),
        (
            || filled_item(r#"{"id":"A","#, r#""f":0,"#, "}", PROFILE),
            "more than 65,536 fields in an object",
        ),
        (
            || format!(r#"{{"value":[{{"id":"A","x":{}}}]}}"#, nested(PROFILE)),
            "more than 64 levels of nesting in a value",
        ),
        (
            || format!(r#"{{"value":[{{"id":"A","title":"{}"}}]}}"#, "x".repeat(RESPONSE)),
            "the body is larger than 8,388,608 bytes",
        ),
    ];
    for (flood, expected) in floods {
        server.respond(PROFILES, flood());
        // A value with too many levels, and decisions that are too many, are removed from their
        // profile.
        let is_complete = ["levels of nesting", "decisions in a control profile"]
            .iter()
            .any(|part| expected.contains(part));
        assert_eq!(attacked.poll(expected).code, i32::from(!is_complete), "{expected}");
    }

    let link = format!("{}/v1.0/security{PROFILES}?$skiptoken=", server.url);
    let mut pages = 0;
    server.rule(move |path| {
        pages += usize::from(path.contains(PROFILES));
        let profiles = [r#"{"id":"A"}"#; 1_000].join(",");
        let page = format!(r#"{{"value":[{profiles}],"@odata.nextLink":"{link}{pages}"}}"#);
        path.contains(PROFILES).then_some(Reply::Json(page))
    });
    attacked.poll("more than 5,000 control profiles in a catalog");
    attacked.assert_unharmed(health);
}

/// Regression: each copy of a day was kept until the end of the poll.
///
/// Attack: many pages list the same day again and again, with texts that cannot be compressed. One
/// copy of the day is kept.
#[test]
fn copies_of_a_day_are_not_kept() {
    const PAGES: usize = 20;
    const COPIES: usize = 900;

    let server = HostileServer::new();
    let attacked = Attacked::start(&server, OTHER);
    let health = HealthMonitor::start(attacked.address);

    let day = Day::of(clock::now());
    let letters = std::iter::repeat_with(fastrand::alphanumeric);
    let filler: String = letters.take(17 << 10).collect();
    let copy = format!(
        r#"{{"id":"{OTHER}_{day}","azureTenantId":"{OTHER}","createdDateTime":"{day}T00:00:00Z",
            "currentScore":1,"maxScore":2,"controlScores":[],"filler":"{filler}"}}"#
    );
    let copies = vec![copy.as_str(); COPIES].join(",");
    let link = format!("{}/v1.0/security{SCORES}$skiptoken=", server.url);
    let mut pages = 0;
    server.rule(move |path| {
        if !path.contains(SCORES) {
            return None;
        }
        pages += 1;
        let next = if pages < PAGES { format!("{link}{pages}") } else { String::new() };
        Some(Reply::Json(format!(r#"{{"value":[{copies}],"@odata.nextLink":"{next}"}}"#)))
    });

    let run = attacked.poll("tenant `hostile`: 1 new day");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(server.requests(SCORES) >= PAGES);
    attacked.assert_unharmed(health);
}

/// Regression: each rejected item became an entry of the log and a condition.
///
/// Attack: a page lists as many items of another tenant as possible. The first ones are reported,
/// and the others counted.
#[test]
fn rejected_items_are_counted() {
    let server = HostileServer::new();
    let attacked = Attacked::start(&server, OTHER);
    let items = (0..1_000).map(|number| format!(r#"{{"id":"{number}"}}"#));
    let items = items.collect::<Vec<_>>().join(",");
    server.respond(SCORES, format!(r#"{{"value":[{items}]}}"#));
    attacked.poll("980 more snapshots were rejected");

    let status = attacked.workspace.status();
    let conditions = status["conditions"].as_array().unwrap();
    let about = conditions.iter().filter(|condition| condition["name"] == "hostile");
    assert!(about.count() <= 25, "{status}");

    server.respond(SCORES, r#"{"value":[]}"#.to_owned());
    assert_eq!(attacked.poll("hostile").code, 0);
    let status = attacked.workspace.status().to_string();
    assert!(!status.contains("more snapshots were rejected"), "{status}");
    let health = HealthMonitor::start(attacked.address);
    attacked.assert_unharmed(health);
}

/// Regression: a list in the place of the lifetime of a token was stored as a value.
///
/// Attack: the token endpoint and the metadata of the sign-in service respond with floods. Nothing
/// of them is stored except the fields that are needed.
#[test]
fn floods_of_the_sign_in_service_are_rejected() {
    let server = HostileServer::new();
    server.respond(TOKEN, String::new());
    let attacked = Attacked::start(&server, OTHER);
    let health = HealthMonitor::start(attacked.address);

    let floods: [Flood; 6] = [
        (
            || filled(r#"{"access_token":"a","expires_in":["#, r#"{"a":0},"#, "]}", TOKEN_RESPONSE),
            "the response contains no token",
        ),
        (|| filled("[", "0,", "]", TOKEN_RESPONSE), "the response contains no token"),
        (|| nested(TOKEN_RESPONSE), "the response contains no token"),
        (|| filled("{", r#""f":0,"#, "}", TOKEN_RESPONSE), "the response contains no token"),
        (
            || format!(r#"{{"access_token":"{}","expires_in":9}}"#, "x".repeat(TOKEN_RESPONSE)),
            "more than 16,384 bytes in a token",
        ),
        (|| filled("[", "0,", "]", RESPONSE), "the body is larger than 1,048,576 bytes"),
    ];
    for (flood, expected) in floods {
        server.respond(TOKEN, flood());
        assert_eq!(attacked.poll(expected).code, 1);
    }
    attacked.assert_unharmed(health);

    let server = HostileServer::new();
    let metadata = filled(r#"{"issuer":["#, r#"{"a":0},"#, "]}", TOKEN_RESPONSE);
    server.respond("openid-configuration", metadata);
    let attacked = Attacked::start(&server, "hostile.example");
    let health = HealthMonitor::start(attacked.address);
    attacked.poll("no tenant of this cloud has the domain `hostile.example`");
    attacked.assert_unharmed(health);
}

/// Regression: a process that was killed polled the same tenant immediately after its start.
///
/// Attack: the process is killed for its memory during each poll of one tenant, so that no other
/// tenant is polled either. After a start, such a tenant waits, and its condition explains why.
#[test]
fn a_tenant_waits_after_a_kill() {
    let server = HostileServer::new();
    server.rule(|path| path.contains(SCORES).then_some(Reply::Nothing));
    let mut attacked = Attacked::start(&server, OTHER);
    eventually("both tenants are polled", || {
        server.requests(SCORES) > 0 && summaries(&attacked.file) == 3
    });
    let before = server.requests(SCORES);

    attacked.daemon.take().unwrap().kill();
    attacked.start_daemon();
    eventually("the status explains the wait", || {
        let message = attacked.hostile()["error"]["message"].clone();
        message.as_str().is_some_and(|text| text.contains("was killed during the last poll"))
    });
    attacked.workspace.run_ok(&["poll", "--tenant", "contoso"]);
    assert_eq!(server.requests(SCORES), before, "the tenant is not polled again");

    let status = attacked.workspace.status();
    let conditions = status["conditions"].as_array().unwrap();
    let condition = conditions.iter().find(|condition| condition["name"] == "hostile").unwrap();
    assert_eq!(condition["severity"], "warning");
    assert!(condition["hint"].as_str().unwrap().contains("memory limit"), "{condition}");

    // An operator can request the poll, after which nothing is left of the kill.
    server.rule(|_| None);
    attacked.workspace.run_ok(&["poll", "--tenant", "hostile"]);
    assert_eq!(attacked.hostile()["error"], Value::Null);
    let health = HealthMonitor::start(attacked.address);
    attacked.assert_unharmed(health);
}

/// A daemon that is stopped during a poll does not delay the next one.
#[test]
fn a_stop_during_a_poll_delays_nothing() {
    let server = HostileServer::new();
    server.rule(|path| path.contains(SCORES).then_some(Reply::Nothing));
    let mut attacked = Attacked::start(&server, OTHER);
    eventually("the tenant is polled", || server.requests(SCORES) > 0);
    let before = server.requests(SCORES);

    let daemon = attacked.daemon.take().unwrap();
    let stopped = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
    assert!(stopped.elapsed() < Duration::from_secs(5), "{:?}", stopped.elapsed());
    attacked.start_daemon();
    eventually("the tenant is polled again", || server.requests(SCORES) > before);
}
