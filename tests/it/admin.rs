//! Metrics, health endpoints and the status page over HTTP; `layout` measures the page.

mod layout;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

use secure_score_forwarder::source::simulated::{Simulation, start};

use crate::support::{Process, Workspace, eventually, free_port};

/// A daemon with a status page.
struct Watched {
    workspace: Workspace,
    daemon: Process,
    address: SocketAddr,
}

impl Watched {
    /// Starts the daemon and waits until the page responds.
    fn start(mut workspace: Workspace) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        workspace.head = format!("[admin]\nlisten = \"{address}\"\n{}", workspace.head);
        let daemon = workspace.spawn(&["run"]);
        eventually("the page responds", || TcpStream::connect(address).is_ok());
        Self { workspace, daemon, address }
    }

    fn get(&self, path: &str) -> (u16, String, String) {
        send(self.address, &format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address))
    }

    fn body(&self, path: &str) -> String {
        self.get(path).2
    }

    /// Stops the daemon and returns its log.
    fn end(self) -> String {
        self.daemon.signal("TERM");
        let run = self.daemon.end();
        assert_eq!(run.code, 0, "{}", run.stderr);
        drop(self.workspace);
        run.stderr
    }
}

/// Sends a request and returns the status, the head and the body of the response.
pub fn send(address: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    // The server may reset the connection of a rejected request before it has read all of it.
    let _ = stream.write_all(request.as_bytes());
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    let response = String::from_utf8(response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, head.to_owned(), body.to_owned())
}

/// The output of `promtool check metrics`, which is empty if there is no problem.
fn promtool(metrics: &str) -> String {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let problems = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.success(), problems.is_empty(), "{problems}");
    problems
}

/// The value of a series, whose name and labels are given in the text format.
pub fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics
        .lines()
        .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    line.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[test]
fn metrics_describe_tenants_and_sinks() {
    let mut workspace = Workspace::new();
    workspace.credential = Some(format!(
        "[tenants.credential]\nkind = \"client_secret\"\nexpires = \"2126-01-31\"\n\
         client_id = \"11111111-2222-4333-8444-555555555555\"\nclient_secret = {{ file = \"{}\" }}",
        workspace.path("secret").display()
    ));
    workspace.extra = "initial_backfill_days = 5".to_owned();
    workspace.file_sink("local");
    let port = free_port();
    workspace.sink("far", &format!("type = \"syslog\"\naddress = \"tcp://127.0.0.1:{port}\""));
    let watched = Watched::start(workspace);
    let prefix = "secure_score_forwarder_";
    let read = |series: &str| value(&watched.body("/metrics"), &format!("{prefix}{series}"));
    eventually("one sink has five days and the other has a backlog of five", || {
        read("sink_backlog_entries{sink=\"local\",type=\"file\"}") == Some(0.0)
            && read("sink_backlog_entries{sink=\"far\",type=\"syslog\"}") == Some(5.0)
            && read("tenant_score_points{tenant=\"contoso\"}").is_some()
            && read("sink_failing{sink=\"far\",type=\"syslog\"}") == Some(1.0)
    });

    let metrics = watched.body("/metrics");
    let read = |series: &str| value(&metrics, &format!("{prefix}{series}"));
    let records = read("sink_records_total{sink=\"local\",type=\"file\"}").unwrap();
    let written = std::fs::read_to_string(watched.workspace.path("local.jsonl")).unwrap();
    assert_eq!(records as usize, written.lines().count());
    assert_eq!(read("sink_bytes_total{sink=\"local\",type=\"file\"}"), Some(written.len() as f64));
    assert!(read("sink_batches_total{sink=\"local\",type=\"file\"}").unwrap() >= 1.0);
    assert!(read("sink_retries_total{sink=\"far\",type=\"syslog\"}").unwrap() >= 1.0);
    assert!(
        read("sink_oldest_unsent_timestamp_seconds{sink=\"far\",type=\"syslog\"}").unwrap() > 1.0e9
    );
    assert_eq!(read("sink_oldest_unsent_timestamp_seconds{sink=\"local\",type=\"file\"}"), None);
    let polls = read("tenant_polls_total{tenant=\"contoso\"}").unwrap();
    assert_eq!(read("tenants{state=\"healthy\"}"), Some(1.0));
    assert_eq!(read("conditions{kind=\"sink_retrying\",severity=\"warning\"}"), Some(1.0));
    let next_poll = read("tenant_next_poll_timestamp_seconds{tenant=\"contoso\"}").unwrap();
    let expiry = read("tenant_credential_expiry_timestamp_seconds{tenant=\"contoso\"}").unwrap();
    assert!(next_poll > 1.0e9 && expiry > next_poll, "{next_poll} {expiry}");
    assert!(value(&metrics, "process_resident_memory_bytes").unwrap() > 1.0e6);
    assert!(read("checkpoint_size_bytes").unwrap() > 10_000.0);
    for task in ["poll", "request", "sink"] {
        assert_eq!(read(&format!("panics_total{{task=\"{task}\"}}")), Some(0.0), "{task}");
    }
    assert_eq!(promtool(&metrics), "");

    // There is one poll, unless a scheduled poll became due during the test.
    let log = watched.end();
    let logged = log.lines().filter(|line| line.contains(" poll completed ")).count();
    assert!(polls >= 1.0 && polls as usize == logged, "{polls}: {log}");
}

#[test]
fn failures_are_counted_by_cause() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    workspace.tenants =
        vec![("gone", "ffffffff-0000-4000-8000-00000000c0de"), ("contoso", crate::support::TENANT)];
    workspace.file_sink("local");
    workspace.head = "tenant_series = 2\n".to_owned();
    let watched = Watched::start(workspace);
    let failed =
        "secure_score_forwarder_tenant_poll_failures_total{tenant=\"gone\",cause=\"credential\"}";
    eventually("the failure is counted", || value(&watched.body("/metrics"), failed) == Some(1.0));
    assert_eq!(
        value(
            &watched.body("/metrics"),
            "secure_score_forwarder_poll_failures_total{cause=\"credential\"}"
        ),
        Some(1.0)
    );
    assert_eq!(promtool(&watched.body("/metrics")), "");
    let Watched { mut workspace, daemon, .. } = watched;
    daemon.signal("TERM");
    daemon.end();

    workspace.head = "tenant_series = 1\n".to_owned();
    let watched = Watched::start(workspace);
    eventually("the sums are exported", || {
        watched.body("/metrics").contains("secure_score_forwarder_tenants{state=\"failing\"} 1")
    });
    let metrics = watched.body("/metrics");
    assert!(!metrics.contains("{tenant="), "no series has a tenant label:\n{metrics}");
    watched.end();
}

#[test]
fn prometheus_scrapes_the_metrics() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    workspace.file_sink("local");
    let watched = Watched::start(workspace);

    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("prometheus.yml");
    let port = free_port();
    let target = format!(
        "scrape_configs:\n- job_name: forwarder\n  scrape_interval: 1s\n  static_configs:\n  - targets: ['{}']\n",
        watched.address
    );
    std::fs::write(&config, target).unwrap();

    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .args(["--log.level=warn"])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let _prometheus = Process::of(command);

    let address = SocketAddr::from(([127, 0, 0, 1], port));
    eventually("Prometheus has a series of the sink", || {
        TcpStream::connect(address).is_ok()
            && send(
                address,
                "GET /api/v1/query?query=secure_score_forwarder_sink_records_total HTTP/1.0\r\n\r\n",
            )
            .2
            .contains("\"sink\":\"local\"")
    });
    watched.end();
}

#[test]
fn the_page_shows_health_and_escapes_html() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 20".to_owned();
    workspace.tenants.push(("<script>alert(1)</script>", "ffffffff-0000-4000-8000-00000000c0de"));
    workspace.file_sink("local");
    let watched = Watched::start(workspace);
    eventually("the page shows scores, changes and the failure", || {
        let page = watched.body("/");
        let parts = ["class=\"spark\"", "1 of 2 tenants is current", "AADSTS90002"];
        // The states of the other tenant and of the sink.
        parts.iter().all(|part| page.contains(part)) && page.matches("badge healthy").count() == 2
    });

    let (status, head, page) = watched.get("/");
    assert_eq!(status, 200);
    assert!(head.contains("content-security-policy: default-src 'none'"), "{head}");
    assert!(!page.contains("<script") && page.contains("&lt;script&gt;alert(1)"), "{page}");
    assert!(watched.body("/?q=CONT").contains("<b>contoso</b>"));
    assert!(!watched.body("/?q=unknown").contains("<b>contoso</b>"));
    assert_eq!(watched.get("/?page=99999999999999999999").0, 200);

    let (code, _, reasons) = watched.get("/readyz");
    assert_eq!(code, 200, "one failing tenant does not affect readiness: {reasons}");
    assert!(reasons.starts_with("ready\n") && reasons.contains("AADSTS90002"), "{reasons}");
    let request = "GET /readyz HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    assert_eq!(send(watched.address, request).2, "ready\n");
    watched.end();
}

#[test]
fn many_tenants_are_split_into_pages() {
    const TENANTS: usize = 120;
    let runtime = crate::support::runtime();
    let ids: Vec<String> =
        (0..TENANTS).map(|number| format!("{number:08}-0000-4000-8000-00000000c0de")).collect();
    let simulation = Simulation { tenants: ids.clone(), ..crate::support::simulation() };
    let (api, serving) = runtime.block_on(start(simulation, 0)).unwrap();
    runtime.spawn(serving);

    let mut workspace = Workspace::against(&format!("http://{api}"));
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let secret = workspace.secret("app-secret", &format!("{}-client", crate::support::CANARY));

    let mut literal = format!(
        "[state]\ndirectory = \"{}\"\n[admin]\nlisten = \"{address}\"\n[source]\nrequests_per_second = 1000\n\
         [credentials.app]\nkind = \"client_secret\"\nclient_id = \"11111111-2222-4333-8444-555555555555\"\n\
         client_secret = {secret}\n\
         [[sinks]]\nname = \"local\"\ntype = \"file\"\npath = \"{}\"\nrecords = [\"summary\"]\n",
        workspace.state().display(),
        workspace.path("local.jsonl").display(),
    );
    for (number, id) in ids.iter().enumerate() {
        literal += &format!(
            "[[tenants]]\nname = \"customer-{number:04}\"\nid = \"{id}\"\ncredential = \"app\"\ninitial_backfill_days = 1\n\
             cloud = {{ login_url = \"http://{api}\", graph_url = \"http://{api}\" }}\n"
        );
    }
    workspace.literal = Some(literal);

    let daemon = workspace.spawn(&["run"]);
    let get =
        |path: &str| send(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")).2;
    eventually("all tenants are healthy", || {
        TcpStream::connect(address).is_ok()
            && value(&get("/metrics"), "secure_score_forwarder_tenants{state=\"healthy\"}")
                == Some(120.0)
    });

    let page = get("/?page=2");
    assert!(page.contains("120 tenants") && page.contains("page 2 of 2"), "{page}");
    assert!(page.contains("<b>customer-0119</b>") && !page.contains("<b>customer-0099</b>"));
    assert!(page.len() < 200_000, "{}", page.len());
    assert_eq!(get("/?q=0113").matches("<b>customer-").count(), 1);

    let metrics = get("/metrics");
    assert_eq!(metrics.matches("\nsecure_score_forwarder_tenant_polls_total{").count(), TENANTS);
    assert_eq!(promtool(&metrics), "");
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

#[test]
fn a_parked_sink_prevents_readiness() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let token = workspace.secret("hec-secret", "CANARY-5ecr3t-wrong");
    let hec = crate::support::hec::Hec::new();
    workspace
        .sink("splunk", &format!("type = \"splunk_hec\"\nurl = \"{}\"\ntoken = {token}", hec.url));
    let watched = Watched::start(workspace);
    eventually("the daemon is not ready", || watched.get("/readyz").0 == 503);
    assert!(watched.body("/readyz").contains("sink `splunk`: "), "{}", watched.body("/readyz"));
    assert_eq!(watched.get("/healthz").0, 200, "the process is alive");
    eventually("the page shows the state", || watched.body("/").contains(">parked<"));
    let metrics = watched.body("/metrics");
    assert!(
        metrics
            .contains("secure_score_forwarder_sink_parked{sink=\"splunk\",type=\"splunk_hec\"} 1")
    );
    watched.end();
}

#[test]
fn rejects_unsafe_requests_and_unknown_hosts() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    workspace.file_sink("local");
    workspace.head = "hosts = [\"collector.example\"]\n".to_owned();
    let watched = Watched::start(workspace);
    let host = format!("Host: {}\r\n", watched.address);
    let long = format!("GET / HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(40_000));
    for (request, status) in [
        (format!("GET /metrics HTTP/1.1\r\n{host}\r\n"), 200),
        (format!("HEAD / HTTP/1.1\r\n{host}\r\n"), 200),
        ("GET / HTTP/1.1\r\nHost: collector.example:80\r\n\r\n".to_owned(), 200),
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(), 421),
        ("GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(), 421),
        ("GET /metrics HTTP/1.0\r\n\r\n".to_owned(), 421),
        (format!("GET / HTTP/1.1\r\n{host}Host: evil.example\r\n\r\n"), 421),
        // Kubernetes probes use the address of the pod.
        ("GET /readyz HTTP/1.1\r\nHost: 10.1.2.3:9633\r\n\r\n".to_owned(), 200),
        (format!("POST / HTTP/1.1\r\n{host}Content-Length: 3\r\n\r\nabc"), 405),
        (format!("DELETE /metrics HTTP/1.1\r\n{host}\r\n"), 405),
        (format!("GET /../../etc/passwd HTTP/1.1\r\n{host}\r\n"), 404),
        (format!("GET /nothing HTTP/1.1\r\n{host}\r\n"), 404),
        (long, 431),
        ("nonsense\r\n\r\n".to_owned(), 400),
    ] {
        let response = send(watched.address, &request);
        assert_eq!(response.0, status, "{}\n{}", &request[..request.len().min(80)], response.1);
    }

    let head = send(watched.address, &format!("HEAD / HTTP/1.1\r\n{host}\r\n"));
    assert!(head.2.is_empty() && head.1.contains("content-length: "), "{head:?}");

    // Incomplete requests time out, and other clients are served while they wait.
    let mut slow: Vec<TcpStream> =
        (0..8).map(|_| TcpStream::connect(watched.address).unwrap()).collect();
    for stream in &mut slow {
        stream.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    }
    assert_eq!(watched.get("/").0, 200);
    let mut rest = Vec::new();
    slow[0].set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    slow[0].read_to_end(&mut rest).unwrap();
    watched.end();
}

#[test]
fn validates_the_address_of_the_page() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    workspace.head = "[admin]\nlisten = \"0.0.0.0:9633\"\n".to_owned();
    let run = workspace.run(&["check"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("without TLS and authentication"), "{}", run.stderr);
    assert!(run.stderr.contains("hint: listen on 127.0.0.1"), "{}", run.stderr);
    workspace.head = "[admin]\nlisten = \"localhost\"\n".to_owned();
    assert!(workspace.run(&["check"]).stderr.contains("must be an IP address and a port"));

    let in_use = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = in_use.local_addr().unwrap();
    workspace.head = format!("[admin]\nlisten = \"{address}\"\n");
    let run = workspace.run(&["run"]);
    assert_eq!(run.code, 2);
    assert!(
        run.stderr.contains(&format!(
            "cannot listen on `{address}` for the status page: Address already in use"
        )),
        "{}",
        run.stderr
    );
}

#[test]
fn an_unknown_host_gets_no_reasons() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    workspace.tenants = vec![("gone", "ffffffff-0000-4000-8000-00000000c0de")];
    workspace.file_sink("local");
    let watched = Watched::start(workspace);
    eventually("the poll has failed", || watched.get("/readyz").0 == 503);
    assert!(watched.body("/readyz").contains("polls of all tenants fail: tenant `gone`"));
    let request = "GET /readyz HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    let (status, _, body) = send(watched.address, request);
    assert_eq!((status, body.as_str()), (503, "not ready\n"));
    watched.end();
}

/// Prometheus sends the address of a target in the `Host` header if it has not discovered a name.
#[test]
fn the_local_address_is_a_permitted_host() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    workspace.file_sink("local");
    let port = free_port();
    workspace.head = format!("[admin]\nlisten = \"0.0.0.0:{port}\"\nhosts = [\"collector\"]\n");
    let daemon = workspace.spawn(&["run"]);
    let loopback = SocketAddr::from(([127, 0, 0, 1], port));
    eventually("the page responds", || TcpStream::connect(loopback).is_ok());
    let other = SocketAddr::from(([127, 8, 8, 8], port));
    for (host, status) in [("127.8.8.8", 200), ("collector", 200), ("10.1.2.3", 421)] {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
        assert_eq!(send(other, &request).0, status, "{host}");
    }
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

#[test]
fn an_unresolved_tenant_is_shown_as_failing() {
    let mut workspace = Workspace::new();
    workspace.tenants = vec![("lost", "unknown.example")];
    workspace.file_sink("local");
    let watched = Watched::start(workspace);
    eventually("the domain could not be resolved", || watched.get("/readyz").0 == 503);
    assert!(watched.body("/readyz").contains("polls of all tenants fail: tenant `lost`"));
    assert!(!watched.body("/").contains("<b>Healthy</b>"));
    let series = "secure_score_forwarder_tenant_failing{tenant=\"lost\"}";
    let metrics = watched.body("/metrics");
    assert_eq!(value(&metrics, series), Some(1.0), "{metrics}");
    watched.end();
}
