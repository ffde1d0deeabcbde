//! A hostile receiver: floods, cookies, and answers of any size and speed. The contract tests run
//! floods against every sink; the tests here are about single protocols.

mod http2;
mod kafka;
#[cfg(feature = "object_store")]
mod objects;
mod secrets;
mod texts;

use std::{io, path::Path};

use crate::support::{
    Workspace, counts,
    endpoint::Endpoint,
    eventually,
    hec::{Hec, TOKEN},
    hostile::{Connection, HostileServer, RAW_FLOODS, endless_reply, flood, read_until},
    ids,
    limits::ObservedDaemon,
    records,
    rsyslog::write_pki,
};

/// A workspace of one day with one sink.
fn workspace(section: &str) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    workspace.sink("attacked", section);
    workspace
}

/// What `status` reports about a sink that has failed: its state, and the message.
fn failure(workspace: &Workspace, sink: &str) -> Option<(String, String)> {
    let status = workspace.try_status()?;
    let found = status["sinks"].as_array()?.iter().find(|found| found["name"] == sink)?;
    assert_eq!(found["sent"], 0, "nothing is acknowledged: {found}");
    let message = found["error"]["message"].as_str()?;
    assert!(message.len() < 1_000, "{message}");
    Some((found["state"].as_str()?.to_owned(), message.to_owned()))
}

/// Runs a daemon until its sink reports a failure with this text, and asserts that the daemon keeps
/// its limits. Returns the state of the sink.
fn state_with(workspace: &mut Workspace, expected: &str) -> String {
    let daemon = ObservedDaemon::start(workspace);
    let mut state = String::new();
    eventually(&format!("the failure is reported: {expected}"), || {
        let (found, message) = failure(workspace, "attacked").unwrap_or_default();
        state = found;
        message.contains(expected)
    });
    daemon.end();
    state
}

/// See [`state_with`]; the failure clears without an operator.
fn assert_retried(workspace: &mut Workspace, expected: &str) {
    assert_eq!(state_with(workspace, expected), "retrying", "{expected}");
}

fn hec_section(workspace: &Workspace, url: &str) -> String {
    let token = workspace.secret("hec-secret", TOKEN);
    format!("type = \"splunk_hec\"\nurl = \"{url}\"\ntoken = {token}")
}

/// Attack: a collector, or a proxy in front of it, sets 50 other cookies with each response. At
/// most 8 KiB of cookies are returned, and everything is delivered.
///
/// Regression: every cookie was returned, in a header of up to 25 MB.
#[test]
fn cookies_of_a_collector_are_limited() {
    let hec = Hec::new();
    hec.acknowledge(1).flood_cookies();
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 20".to_owned();
    let section = hec_section(&workspace, &hec.url);
    workspace.sink("attacked", &section);
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);

    let longest = hec.received().longest_cookies;
    assert!((1..=8 << 10).contains(&longest), "{longest}");
    assert_eq!(counts(hec.ids().iter().map(String::as_str)), counts(ids(&records(&file))));
}

/// Attack: a collector returns thousands of acknowledgement states for a request. They are not
/// stored, and the request is not acknowledged.
#[test]
fn unrequested_acknowledgement_states_are_refused() {
    let endpoint = Endpoint::new("");
    let states: String = (1..15_000).map(|id| format!("\"{id}\":true,")).collect();
    endpoint.rule(move |request| {
        let is_poll = request.path.ends_with("/ack");
        let states = format!("{{\"acks\":{{{states}\"0\":true}}}}");
        Some((
            200,
            if is_poll { states } else { r#"{"text":"Success","code":0,"ackId":0}"#.to_owned() },
        ))
    });

    let mut workspace = workspace("type = \"stdout\"");
    let section = hec_section(&workspace, &endpoint.url);
    let timeout = "acknowledgement_timeout = \"1s\"";
    workspace.clear_sinks().sink("attacked", &format!("{section}\n{timeout}"));
    assert_retried(&mut workspace, "events were not acknowledged");
}

/// Attack: a cluster returns 300,000 or a million items for a few records. No more items are read
/// than records were sent, the body is limited, and the sink retries.
///
/// Regression: all items were stored, and a body above the limit parked the sink.
#[test]
fn bulk_replies_with_many_items_are_refused() {
    for (items, expected) in [
        (300_000, "the cluster returned more than"),
        (1_000_000, "cannot read the response of the cluster: the body is larger than"),
    ] {
        let endpoint = Endpoint::new("");
        let items = "{\"create\":{\"status\":201}},".repeat(items);
        let body = format!("{{\"errors\":false,\"items\":[{}]}}", items.trim_end_matches(','));
        endpoint.rule(move |_| Some((200, body.clone())));
        let mut workspace =
            workspace(&format!("type = \"elasticsearch\"\nurl = \"{}\"", endpoint.url));
        assert_retried(&mut workspace, expected);
    }
}

/// Attack: a cluster repeats the API key of a request until the limit of a response. Each
/// occurrence is redacted, with little memory.
///
/// Regression: every position of the text was stored as a match, which took 540 MB.
#[test]
fn repeated_credentials_take_little_memory() {
    let endpoint = Endpoint::new("");
    let body = TOKEN.repeat((7 << 20) / TOKEN.len());
    endpoint.rule(move |_| Some((200, body.clone())));
    let mut workspace = workspace("type = \"stdout\"");
    let key = workspace.secret("key-secret", TOKEN);
    let section = format!("type = \"elasticsearch\"\nurl = \"{}\"\napi_key = {key}", endpoint.url);
    workspace.clear_sinks().sink("attacked", &section);
    assert_retried(&mut workspace, "[redacted]");
}

/// Attack: a server answers with interim responses without an end. They occupy the worker of the
/// daemon, but a health check is answered.
///
/// Regression: the health endpoint had the same worker, and did not respond for seconds.
#[test]
fn endless_interim_responses_never_silence_health() {
    let server = HostileServer::new(|connection: &mut dyn Connection| {
        read_until(connection, b"\r\n\r\n")?;
        flood(connection, b"HTTP/1.1 100 Continue\r\n\r\n", 64 << 20)
    });
    let url = format!("http://127.0.0.1:{}", server.port);

    let mut graph = Workspace::against(&url);
    graph.file_sink("local");
    for mut workspace in [
        workspace(&format!("type = \"http\"\nurl = \"{url}\"")),
        workspace(&format!("type = \"otlp\"\nurl = \"{url}\"")),
        graph,
    ] {
        let before = server.attacks();
        let daemon = ObservedDaemon::start(&mut workspace);
        eventually("the attack has ended", || server.attacks() > before);
        daemon.end();
    }
}

/// Attack: as above, and without an end. While the attack is running, another sink delivers days
/// of history in many requests.
///
/// Regression: one worker ran all tasks, so every sink waited for this response.
#[test]
fn endless_interim_responses_delay_no_other_sink() {
    let server = HostileServer::new(|connection: &mut dyn Connection| {
        read_until(connection, b"\r\n\r\n")?;
        flood(connection, b"HTTP/1.1 100 Continue\r\n\r\n", usize::MAX)
    });
    let receiver = Endpoint::new("");
    let url = format!("http://127.0.0.1:{}", server.port);
    let mut workspace = workspace(&format!("type = \"http\"\nurl = \"{url}\""));
    workspace.extra = "initial_backfill_days = 20".to_owned();
    let section = format!("type = \"http\"\nurl = \"{}\"\nbatch_size = \"4KiB\"", receiver.url);
    workspace.sink("other", &section);

    let daemon = ObservedDaemon::start(&mut workspace);
    eventually("the other sink delivers", || receiver.accepted().len() > 50);
    assert_eq!(server.attacks(), 0, "the attack has ended before the delivery");
    daemon.end();
}

/// Attack: a receiver closes the connection in the middle of a response with status 200, or
/// announces more than it sends. The outcome is unknown, so the batch is sent again.
///
/// Regression: the response counted as one without a code, or as an acknowledgement.
#[test]
fn incomplete_responses_acknowledge_nothing() {
    let server = HostileServer::new(|connection: &mut dyn Connection| {
        read_until(connection, b"\r\n\r\n")?;
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"code\":0")?;
        // Unread data would reset the connection, and the client would not read the response.
        io::copy(connection, &mut io::sink()).map(drop)
    });
    let url = format!("http://127.0.0.1:{}", server.port);
    let prepared = workspace("type = \"stdout\"");
    let hec = hec_section(&prepared, &url);
    for section in [
        hec,
        format!("type = \"elasticsearch\"\nurl = \"{url}\""),
        format!("type = \"otlp\"\nurl = \"{url}\""),
    ] {
        let mut workspace = workspace(&section);
        assert_retried(&mut workspace, "cannot read the response of the ");
    }
}

/// A sink for a syslog receiver over TLS with the certificate in a directory.
fn syslog_over_tls(scheme: &str, port: u16, pki: &Path) -> Workspace {
    let ca_file = pki.join("ca.pem");
    workspace(&format!(
        "type = \"syslog\"\naddress = \"{scheme}://127.0.0.1:{port}\"\nca_file = \"{}\"",
        ca_file.display()
    ))
}

/// Attack: a RELP receiver, inside TLS, sends a reply without an end while messages are written.
/// The session ends after 16 KiB.
///
/// Regression: everything that arrived during a write was stored.
#[test]
fn endless_replies_over_tls_are_refused() {
    let pki = tempfile::tempdir().unwrap();
    write_pki(pki.path());
    let server = HostileServer::over_tls(pki.path(), &[], endless_reply);
    let mut workspace = syslog_over_tls("relps", server.port, pki.path());
    assert_eq!(state_with(&mut workspace, "the receiver does not speak RELP"), "parked");
}

/// Attack: a receiver repeats the reply to one message, so that each reply seems to be progress.
///
/// Regression: a repeated reply was ignored, and the sink read replies without an end.
#[test]
fn repeated_replies_end_the_session() {
    let server = HostileServer::new(|connection: &mut dyn Connection| {
        read_until(connection, b"commands=syslog\n")?;
        connection.write_all(b"1 rsp 6 200 OK\n")?;
        flood(connection, b"3 rsp 6 200 OK\n", 64 << 20)
    });
    let address = format!("relp://127.0.0.1:{}", server.port);
    let mut workspace = workspace(&format!("type = \"syslog\"\naddress = \"{address}\""));
    assert_retried(&mut workspace, "the receiver replied");
}

/// Attack: a receiver of syslog over TLS sends data without an end, behind which the end of the
/// connection is not noticed.
///
/// Regression: the data was ignored, and records counted as sent.
#[test]
fn data_of_syslog_receivers_is_limited() {
    let pki = tempfile::tempdir().unwrap();
    write_pki(pki.path());
    let server = HostileServer::over_tls(pki.path(), &[], RAW_FLOODS[0]);
    let mut workspace = syslog_over_tls("tls", server.port, pki.path());
    assert_retried(&mut workspace, "the receiver sent more than 64 KiB instead of nothing");
}
