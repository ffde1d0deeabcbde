//! The API fails for a long time, responds very slowly, or must be read for many tenants at once.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use secure_score_forwarder::source::simulated::{Simulation, start};

use crate::{
    admin::send,
    support::{
        Workspace, counts, eventually,
        faults::{Fault, FaultyApi},
        ids, records, runtime, simulation, summaries,
    },
};

const SCORES: &str = "/secureScores";

/// All requests fail, with different statuses. Each poll makes only a few requests, and a daemon
/// makes one poll and then waits for minutes. Afterward, every day is delivered once.
#[test]
fn an_unstable_api_receives_few_requests() {
    /// Requests of one poll: the first one and its repetitions.
    const MAX_REQUESTS: usize = 5;

    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    for number in 0..400 {
        let status = [500, 502, 503, 504][number % 4];
        api.fail(SCORES, Fault::Respond(status, Vec::new(), b"<html>".to_vec()));
    }

    for polls in 1..=2 {
        assert_eq!(workspace.run(&["once"]).code, 1);
        let requests = api.requests().iter().filter(|path| path.contains(SCORES)).count();
        assert!(
            requests > 0 && requests <= polls * MAX_REQUESTS,
            "{requests} requests in {polls} polls"
        );
    }

    // A daemon makes at most one poll, and then waits. The elapsed time itself is tested: in this
    // time, a daemon that does not wait makes several polls.
    let requests = || api.requests().iter().filter(|path| path.contains(SCORES)).count();
    let before = requests();
    let daemon = workspace.spawn(&["run"]);
    eventually("the daemon runs", || !workspace.status()["daemon"].is_null());
    std::thread::sleep(Duration::from_secs(30));
    assert!(requests() <= before + MAX_REQUESTS, "{} after {before}", requests());

    // One more failure after the recovery does not fail a poll.
    api.clear();
    api.fail(SCORES, Fault::Respond(503, Vec::new(), Vec::new()));
    eventually("a poll succeeds", || workspace.run(&["poll"]).code == 0);
    eventually("three days are acknowledged", || summaries(&file) == 3 && workspace.is_delivered());
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
    let all = records(&file);
    assert!(counts(ids(&all)).values().all(|count| *count == 1));
}

/// A server that sends the head of a response, and then one byte per second. Returns its URL, and
/// the number of its connections.
fn dripping_server() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&connections);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            count.fetch_add(1, SeqCst);
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4_096]);
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n";
                let mut is_open = stream.write_all(head.as_bytes()).is_ok();
                while is_open {
                    std::thread::sleep(Duration::from_secs(1));
                    is_open = stream.write_all(b" ").is_ok();
                }
            });
        }
    });
    (url, connections)
}

/// A response of one byte per second is cut off, although the connection is never idle.
#[test]
fn a_response_that_drips_is_cut_off() {
    let (url, connections) = dripping_server();
    let mut workspace = Workspace::against(&url);
    workspace.extra = "initial_backfill_days = 1".to_owned();
    workspace.file_sink("local");
    let began = Instant::now();
    let run = workspace.run(&["check", "--online"]);
    let attempts = connections.load(SeqCst);
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(run.stdout.contains("the body arrives at less than"), "{}", run.stdout);
    assert!(attempts > 0, "no request was sent");
    // Each attempt takes half a minute, within the limit of two minutes for a request.
    let limit = Duration::from_secs(60) * u32::try_from(attempts).unwrap();
    assert!(began.elapsed() < limit, "{attempts} attempts in {:?}", began.elapsed());
    assert!(began.elapsed() > Duration::from_secs(20), "{:?}", began.elapsed());
}

/// Hundreds of tenants are added with one reload while another tenant is read. The requests per
/// tenant stay within Microsoft's limits, and every tenant is delivered once.
#[test]
fn many_tenants_can_be_added_at_once() {
    const TENANTS: usize = 300;
    /// Each poll reads at least the three newest days.
    const DAYS: usize = 3;

    let added: Vec<String> =
        (0..TENANTS).map(|n| format!("aaaaaaaa-0000-4000-8000-{n:012x}")).collect();
    let mut simulated = simulation();
    simulated.tenants.extend(added.iter().cloned());
    let (_runtime, address) = serve(simulated);
    let mut workspace = Workspace::against(&format!("http://{address}"));
    workspace.extra = format!("initial_backfill_days = {DAYS}");
    let file = workspace.path("local.jsonl");
    let section =
        format!("type = \"file\"\npath = \"{}\"\nrecords = [\"summary\"]", file.display());
    workspace.sink("local", &section);
    let daemon = workspace.spawn(&["run"]);
    eventually("the first tenant is delivered", || summaries(&file) == DAYS);

    // A backfill of the first tenant begins together with the reload.
    let backfill = workspace.spawn(&["backfill", "--days", "40", "--tenant", "contoso"]);
    for (index, id) in added.iter().enumerate() {
        workspace.tenants.push((format!("t{index}").leak(), id.clone().leak()));
    }
    workspace.run_ok(&["reload"]);
    backfill.end();
    eventually("every added tenant is delivered", || {
        summaries(&file) >= DAYS * (TENANTS + 1) && workspace.is_delivered()
    });
    workspace.run_ok(&["backfill", "--days", "40", "--tenant", "contoso"]);
    eventually("the first tenant is complete", || {
        summaries(&file) == 40 + DAYS * TENANTS && workspace.is_delivered()
    });

    let request = "GET /simulation/load HTTP/1.1\r\nHost: simulation\r\nConnection: close\r\n\r\n";
    let load: serde_json::Value = serde_json::from_str(&send(address, request).2).unwrap();
    assert_eq!(load["tenants"], TENANTS + 1, "{load}");
    assert!(load["max_concurrent"].as_u64().unwrap() <= 4, "{load}");
    assert!(load["max_per_minute"].as_u64().unwrap() <= 150, "{load}");
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
    let all = records(&file);
    assert!(counts(ids(&all)).values().all(|count| *count == 1));
}

/// Starts a simulated API. Returns its runtime and its address.
fn serve(simulation: Simulation) -> (tokio::runtime::Runtime, SocketAddr) {
    let runtime = runtime();
    let (address, serving) = runtime.block_on(start(simulation, 0)).unwrap();
    runtime.spawn(serving);
    (runtime, address)
}
