//! The syslog sink, against a real rsyslog and a real syslog-ng.

use std::{
    io::Read,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use crate::support::{
    Workspace, eventually,
    faults::{Fault, FaultyApi},
    ids, records, records_of_kinds,
    rsyslog::Rsyslog,
    syslog_ng::SyslogNg,
};

fn workspace(section: &str) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5".to_owned();
    workspace.sink("siem", &format!("type = \"syslog\"\n{section}"));
    workspace
}

fn tls(rsyslog: &Rsyslog, certificate: &str) -> String {
    format!("address = \"tls://127.0.0.1:{}\"\n{}", rsyslog.tls, tls_keys(rsyslog, certificate))
}

/// The TLS keys of a sink that presents one of the certificates of [`Rsyslog`].
pub fn tls_keys(rsyslog: &Rsyslog, certificate: &str) -> String {
    let file = |name: &str| rsyslog.file(name).display().to_string();
    format!(
        "server_name = \"server.test\"\nca_file = \"{}\"\nclient_certificate = \"{}\"\nclient_key = \"{}\"",
        file("ca.pem"),
        file(&format!("{certificate}.pem")),
        file(&format!("{certificate}.key")),
    )
}

/// The event ID (`externalId`) of every CEF message, in order.
pub fn cef_ids(messages: &[serde_json::Value]) -> Vec<String> {
    let id = |message: &serde_json::Value| {
        let text = message["msg"].as_str().unwrap();
        assert!(text.trim_start().starts_with("CEF:0|Microsoft|Secure Score|1.0|"), "{text}");
        text.split(" externalId=").nth(1).unwrap()[..40].to_owned()
    };
    messages.iter().map(id).collect()
}

#[test]
fn tcp_delivers_every_record_in_order() {
    let rsyslog = Rsyslog::new();
    let mut workspace =
        workspace(&format!("address = \"tcp://127.0.0.1:{}\"\nfacility = \"local3\"", rsyslog.tcp));
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let expected = records(&file);
    let messages = rsyslog.expect(expected.len());
    assert_eq!(cef_ids(&messages), ids(&expected).collect::<Vec<_>>());

    let message = &messages[0];
    assert_eq!((&message["app"], &message["msgid"]), (&"secure-score".into(), &"control".into()));
    let pri: u32 = message["pri"].as_str().unwrap().parse().unwrap();
    assert_eq!(pri / 8, 19, "local3");
    let observed = expected[0]["observed_time"].as_str().unwrap();
    assert_eq!(
        message["ts"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap(),
        observed.parse::<jiff::Timestamp>().unwrap()
    );
}

#[test]
fn delivers_json_with_newline_framing() {
    let rsyslog = Rsyslog::new();
    let mut workspace = workspace(&format!(
        "address = \"tcp://127.0.0.1:{}\"\nframing = \"newline\"\nformat = \"json\"",
        rsyslog.tcp
    ));
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let expected = records(&file);
    let messages = rsyslog.expect(expected.len());
    let received: Vec<serde_json::Value> = messages
        .iter()
        .map(|m| serde_json::from_str(m["msg"].as_str().unwrap().trim_start()).unwrap())
        .collect();
    assert_eq!(received, expected);
}

#[test]
fn delivers_over_tls_with_a_client_certificate() {
    let rsyslog = Rsyslog::new();
    let mut workspace = workspace(&tls(&rsyslog, "client"));
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let expected = records(&file);
    assert_eq!(cef_ids(&rsyslog.expect(expected.len())), ids(&expected).collect::<Vec<_>>());
}

/// A TLS 1.3 server rejects a certificate after the client's handshake has succeeded and its first
/// write has been sent. That write must not count as delivered.
#[test]
fn a_rejected_client_certificate_delivers_nothing() {
    let rsyslog = Rsyslog::new();
    let workspace = workspace(&tls(&rsyslog, "rogue"));
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    assert!(
        run.stderr.contains("sink `siem`: 0 records delivered, then stopped:"),
        "{}",
        run.stderr
    );
    assert_eq!(workspace.status()["sinks"][0]["backlog_entries"], 5);
    assert!(rsyslog.messages().is_empty());

    // `check --online` must not report a usable connection either.
    let run = workspace.run(&["check", "--online"]);
    assert_eq!(run.code, 1, "{}", run.stdout);
    assert!(!run.stdout.contains("accepts the connection"), "{}", run.stdout);
}

#[test]
fn rejects_a_server_with_another_name() {
    let rsyslog = Rsyslog::new();
    let workspace = workspace(&tls(&rsyslog, "client").replace("server.test", "other.test"));
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    let fault = "the server's certificate is valid for `server.test`, `localhost`, `127.0.0.1`, not for `other.test`";
    assert!(run.stderr.contains(fault), "{}", run.stderr);
    assert!(run.stderr.contains("\n  hint: use a name in the certificate"), "{}", run.stderr);
}

#[test]
fn delivers_over_udp_if_loss_is_accepted() {
    let rsyslog = Rsyslog::new();
    let section = format!(
        "address = \"udp://127.0.0.1:{}\"\nlossy = true\nmax_message = \"8KiB\"\nrecords = [\"summary\"]",
        rsyslog.udp
    );
    let workspace = workspace(&section);
    workspace.run_ok(&["once"]);
    assert_eq!(cef_ids(&rsyslog.expect(5)).len(), 5);
}

#[test]
fn delivers_to_the_local_daemon() {
    let rsyslog = Rsyslog::new();
    let mut workspace = workspace(&format!(
        "address = \"unix://{}\"\nfacility = \"local1\"",
        rsyslog.unix().display()
    ));
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let expected = records(&file);
    let messages = rsyslog.expect(expected.len());
    assert_eq!(cef_ids(&messages), ids(&expected).collect::<Vec<_>>());
    assert_eq!(messages[0]["pri"].as_str().unwrap().parse::<u32>().unwrap() / 8, 17);
    assert_eq!(messages[0]["app"], "secure-score");
}

/// Regression: records that the local daemon had accepted before it stopped were sent again with
/// the rest of their batch.
#[test]
fn a_restarted_local_daemon_receives_the_rest() {
    let mut workspace = workspace("");
    let path = workspace.path("daemon.sock");
    workspace.clear_sinks();
    workspace.sink("siem", &format!("type = \"syslog\"\naddress = \"unix://{}\"", path.display()));

    let daemon = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let process = workspace.spawn(&["run"]);
    let mut buffer = vec![0; 64 << 10];
    let mut next = |daemon: &std::os::unix::net::UnixDatagram| {
        let length = daemon.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let accepted: Vec<String> = (0..40).map(|_| next(&daemon)).collect();

    drop(daemon);
    std::fs::remove_file(&path).unwrap();
    eventually("the failure is reported", || {
        workspace
            .try_status()
            .is_some_and(|status| status["sinks"][0]["error"]["message"].is_string())
    });
    assert!(workspace.status()["sinks"][0]["sent"].as_u64().unwrap() >= 40);

    let daemon = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    assert!(!accepted.contains(&next(&daemon)));
    drop(daemon);
    process.kill();
}

#[test]
fn an_oversize_message_becomes_a_dead_letter() {
    let rsyslog = Rsyslog::new();
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 1".to_owned();
    workspace.sink(
        "siem",
        &format!(
            "type = \"syslog\"\naddress = \"tcp://127.0.0.1:{}\"\nformat = \"json\"",
            rsyslog.tcp
        ),
    );
    let file = workspace.file_sink("local");

    api.fail(
        "/secureScores",
        Fault::Change(|text| {
            let mut page: serde_json::Value = serde_json::from_str(&text).unwrap();
            page["value"][0]["controlScores"][3]["implementationStatus"] =
                "long ".repeat(2_000).into();
            page.to_string()
        }),
    );
    assert_eq!(workspace.run(&["once"]).code, 1, "dead letters make a run incomplete");

    // The other sinks receive an observation about it; the sink itself does not.
    let observations = records_of_kinds(&file, &["quality"]);
    assert_eq!((observations.len(), &observations[0]["quality"]["subject"]), (1, &"siem".into()));
    let expected = records(&file).len() - 2;
    assert_eq!(rsyslog.expect(expected).len(), expected);
    assert_eq!(workspace.status()["sinks"][0]["rejected"], 1);
}

#[test]
fn a_recovered_receiver_receives_the_backlog() {
    let rsyslog = Rsyslog::new();
    let port = crate::support::free_port();
    let mut workspace = workspace(&format!("address = \"tcp://127.0.0.1:{port}\""));
    let file = workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    eventually("the file is complete", || {
        std::fs::read_to_string(&file)
            .is_ok_and(|text| text.matches("\"kind\":\"summary\"").count() == 5)
    });

    // The receiver starts: a relay to the real one.
    let relay = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let target = rsyslog.tcp;
    std::thread::spawn(move || {
        for stream in relay.incoming().flatten() {
            let mut upstream = std::net::TcpStream::connect(("127.0.0.1", target)).unwrap();
            std::thread::spawn(move || std::io::copy(&mut { stream }, &mut upstream));
        }
    });

    let expected = records(&file);
    assert_eq!(cef_ids(&rsyslog.expect(expected.len())), ids(&expected).collect::<Vec<_>>());
    eventually("everything counts as delivered", || workspace.is_delivered());
    daemon.signal("TERM");
    let run = daemon.end();
    assert_eq!(run.code, 0);

    let recoveries: Vec<&str> =
        run.stderr.lines().filter(|line| line.contains("sink recovered")).collect();
    assert_eq!(recoveries.len(), 1, "each outage ends once: {}", run.stderr);
    let fields = format!("records={}", expected.len());
    assert!(recoveries[0].contains(&fields), "{}", run.stderr);
    assert!(recoveries[0].contains("outage="), "{}", run.stderr);
}

#[test]
fn delivers_rfc3164_with_and_without_tag() {
    let rsyslog = Rsyslog::new();
    let address = format!("address = \"tcp://127.0.0.1:{}\"\nmessage = \"rfc3164\"", rsyslog.tcp);
    let mut workspace = workspace(&format!("{address}\ntimestamp = \"rfc3339\""));
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let expected = records(&file);
    let messages = rsyslog.expect(expected.len());
    assert_eq!(cef_ids(&messages), ids(&expected).collect::<Vec<_>>());
    assert_eq!(messages[0]["app"], "secure-score");
    let observed = expected[0]["observed_time"].as_str().unwrap();
    assert_eq!(
        messages[0]["ts"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap(),
        observed.parse::<jiff::Timestamp>().unwrap()
    );

    // Without a tag, rsyslog parses `CEF` as the tag, which collectors of CEF expect.
    workspace.sink("bare", &format!("type = \"syslog\"\n{address}\ntag = false"));
    workspace.run_ok(&["once"]);
    let messages = rsyslog.expect(2 * expected.len());
    let bare = messages.last().unwrap();
    assert_eq!(bare["app"], "CEF");
    assert!(bare["msg"].as_str().unwrap().starts_with("0|Microsoft|Secure Score|1.0|"));
}

#[test]
fn syslog_ng_reads_octet_counting_and_newlines() {
    let server = SyslogNg::new();
    let mut workspace = workspace(&format!("address = \"tcp://127.0.0.1:{}\"", server.counted));
    workspace.sink(
        "lines",
        &format!("type = \"syslog\"\naddress = \"tcp://127.0.0.1:{}\"\nframing = \"newline\"\nmessage = \"rfc3164\"", server.lines),
    );
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let expected = records(&file);

    // Only RFC 5424 has a MSGID.
    let messages = server.expect(2 * expected.len());
    let (counted, lines): (Vec<_>, Vec<_>) =
        messages.into_iter().partition(|message| message["msgid"] != "");
    assert_eq!(cef_ids(&counted), ids(&expected).collect::<Vec<_>>());
    assert_eq!(cef_ids(&lines), ids(&expected).collect::<Vec<_>>());
}

#[test]
fn truncates_long_messages_if_configured() {
    let rsyslog = Rsyslog::new();
    let mut workspace = workspace(&format!(
        "address = \"tcp://127.0.0.1:{}\"\nmax_message = \"700B\"\noversize = \"truncate\"\ntexts = \"full\"",
        rsyslog.tcp
    ));
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let expected = records(&file);
    let messages = rsyslog.expect(expected.len());
    assert_eq!(cef_ids(&messages), ids(&expected).collect::<Vec<_>>());

    let truncated = messages
        .iter()
        .filter(|m| m["msg"].as_str().unwrap().ends_with(" secureScoreTruncated=true"))
        .count();
    assert!(truncated > 200);
    let status = workspace.status();
    let sink = status["sinks"].as_array().unwrap().iter().find(|s| s["name"] == "siem").unwrap();
    assert_eq!((&sink["truncated"], &sink["rejected"]), (&truncated.into(), &0.into()));
}

/// Data that the receiver's kernel acknowledged but its process never read is lost, and no sender
/// can detect this. The last confirmed records are therefore sent again on the next connection.
#[test]
fn replays_unread_records_after_a_receiver_crash() {
    let rsyslog = Rsyslog::new();
    let relay = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = relay.local_addr().unwrap().port();
    let target = rsyslog.tcp;
    std::thread::spawn(move || {
        for (connection, mut stream) in relay.incoming().flatten().enumerate() {
            let mut upstream = std::net::TcpStream::connect(("127.0.0.1", target)).unwrap();
            if connection == 0 {
                // Reads nothing, and closes the connection after the kernel has accepted data. The
                // elapsed time itself is tested: the sender counts unread data as confirmed, which
                // this side of the connection cannot observe.
                std::thread::sleep(std::time::Duration::from_millis(300));
                continue;
            }
            std::thread::spawn(move || std::io::copy(&mut stream, &mut upstream));
        }
    });

    let mut workspace =
        workspace(&format!("address = \"tcp://127.0.0.1:{port}\"\nreplay_on_reconnect = 20000"));
    workspace.extra = "initial_backfill_days = 60".to_owned();
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);

    let expected = records(&file);
    let received = cef_ids(&rsyslog.expect(expected.len()));
    let distinct: std::collections::HashSet<&String> = received.iter().collect();
    let missing = ids(&expected).filter(|id| !distinct.contains(&(*id).to_owned())).count();
    assert_eq!(missing, 0);
}

/// A receiver that reads everything, and closes a connection in good order when it has been idle.
struct ClosingReceiver {
    port: u16,
    received: Arc<Mutex<Vec<u8>>>,
    /// The number of connections that it has closed.
    closed: Arc<AtomicUsize>,
}

impl ClosingReceiver {
    fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let received = Arc::<Mutex<Vec<u8>>>::default();
        let closed = Arc::<AtomicUsize>::default();

        let (stored, count) = (Arc::clone(&received), Arc::clone(&closed));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                stream.set_read_timeout(Some(std::time::Duration::from_millis(700))).unwrap();
                let mut buffer = vec![0; 64 << 10];
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    stored.lock().unwrap().extend_from_slice(&buffer[..length]);
                }
                drop(stream);
                count.fetch_add(1, SeqCst);
            }
        });
        Self { port, received, closed }
    }

    fn ids(&self) -> Vec<String> {
        let received = self.received.lock().unwrap();
        let text = String::from_utf8_lossy(&received).into_owned();
        let ids = text.split("\"event_id\":\"").skip(1);
        ids.filter_map(|rest| rest.get(..40)).map(str::to_owned).collect()
    }
}

/// Regression: the last confirmed records were sent again, with a warning, after a receiver or a
/// load balancer had closed an idle connection.
#[test]
fn an_idle_connection_that_ends_repeats_nothing() {
    let receiver = ClosingReceiver::new();
    let address = format!("tcp://127.0.0.1:{}", receiver.port);
    let mut workspace = workspace(&format!("address = \"{address}\"\nformat = \"json\""));
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    let daemon = workspace.spawn(&["run"]);
    for (closed, days) in [(1, 3), (2, 5), (3, 7)] {
        if days > 3 {
            let days = days.to_string();
            eventually("the backfill has finished", || {
                workspace.run(&["backfill", "--days", &days]).code == 0
            });
        }
        eventually("the days are delivered", || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            text.matches("\"kind\":\"summary\"").count() == days && workspace.is_delivered()
        });
        eventually("the idle connection is closed", || receiver.closed.load(SeqCst) == closed);
    }

    daemon.signal("TERM");
    let run = daemon.end();
    assert_eq!(run.code, 0);
    assert!(!run.stderr.contains("WARN"), "{}", run.stderr);
    assert_eq!(receiver.ids(), ids(&records(&file)).collect::<Vec<_>>());
}
