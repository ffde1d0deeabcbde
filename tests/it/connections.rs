//! Failures of connections to receivers: a receiver that expects TLS, although the sink uses plain
//! text, and one that cannot be reached.

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use crate::support::{CANARY, Run, Workspace, endpoint::Endpoint, free_port, rsyslog::Rsyslog};

const EXPECTS_TLS: &str = "the server expects TLS on this port";

/// A server that replies to a TLS handshake, and closes every other connection without a reply.
/// Returns its port.
fn silent_tls_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut header = [0; 5];
                if stream.read_exact(&mut header).is_ok() && header[0] == 22 {
                    let _ = stream.write_all(&[22, 3, 3, 0, 1]);
                    let _ = stream.read_to_end(&mut Vec::new());
                }
            });
        }
    });
    port
}

/// A workspace of one day with one sink.
fn workspace(section: &str) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    workspace.sink("tested", section);
    workspace
}

fn assert_expects_tls(run: &Run, output: &str, code: i32) {
    assert_eq!(run.code, code, "{}{}", run.stdout, run.stderr);
    assert!(output.contains(EXPECTS_TLS), "{}{}", run.stdout, run.stderr);
    assert!(output.contains("hint: use TLS: "), "{}{}", run.stdout, run.stderr);
}

/// Regression: servers that close a connection in plain text without a TLS alert were reported as
/// `connection closed before message completed` or `BrokerTransportFailure`, and syslog over TCP
/// was reported to accept the connection.
#[test]
fn the_online_check_recognizes_receivers_that_expect_tls() {
    let port = silent_tls_server();
    for section in [
        format!("type = \"http\"\nurl = \"http://127.0.0.1:{port}\""),
        format!("type = \"elasticsearch\"\nurl = \"http://localhost:{port}\""),
        format!("type = \"syslog\"\naddress = \"tcp://127.0.0.1:{port}\""),
        format!("type = \"syslog\"\naddress = \"relp://127.0.0.1:{port}\""),
        format!("type = \"kafka\"\nbrokers = [\"127.0.0.1:{port}\"]\ntopic = \"score\""),
    ] {
        let run = workspace(&section).run(&["check", "--online"]);
        assert_expects_tls(&run, &run.stdout, 1);
    }
}

#[cfg(feature = "object_store")]
#[test]
fn an_object_store_may_expect_tls() {
    let port = silent_tls_server();
    let mut workspace = workspace("type = \"stdout\"");
    let key = workspace.secret("s3-secret", &format!("{CANARY}-s3"));
    workspace.clear_sinks().sink(
        "tested",
        &format!(
            "type = \"object_store\"\nurl = \"s3://bucket\"\nendpoint = \"http://127.0.0.1:{port}\"\nregion = \"eu-west-1\"\naccess_key_id = \"tests\"\nsecret_access_key = {key}"
        ),
    );
    let run = workspace.run(&["check", "--online"]);
    assert_expects_tls(&run, &run.stdout, 1);
}

/// Regression: `test-sink` reported that one test record was delivered, and a run counted the first
/// records as sent.
#[test]
fn nothing_counts_as_sent_without_tls() {
    for scheme in ["tcp", "relp"] {
        let address = format!("{scheme}://127.0.0.1:{}", silent_tls_server());
        let workspace = workspace(&format!("type = \"syslog\"\naddress = \"{address}\""));
        let run = workspace.run(&["test-sink", "tested"]);
        assert_expects_tls(&run, &run.stderr, 2);

        let run = workspace.run(&["once"]);
        assert_expects_tls(&run, &run.stderr, 1);
        assert_eq!(workspace.status()["sinks"][0]["sent"], 0);
    }
}

/// A real receiver: it closes the connection only after it has received something.
#[test]
fn rsyslog_with_tls_is_recognized() {
    let rsyslog = Rsyslog::new();
    for (scheme, port) in [("tcp", rsyslog.tls), ("relp", rsyslog.relps)] {
        let address = format!("{scheme}://127.0.0.1:{port}");
        let workspace = workspace(&format!("type = \"syslog\"\naddress = \"{address}\""));
        let run = workspace.run(&["check", "--online"]);
        assert_expects_tls(&run, &run.stdout, 1);
    }
    assert!(rsyslog.messages().is_empty());
}

/// The empty lines with which a receiver in plain text is examined are not stored.
#[test]
fn the_examination_leaves_no_record_at_a_receiver() {
    let rsyslog = Rsyslog::new();
    let address = format!("tcp://127.0.0.1:{}", rsyslog.tcp);
    let workspace = workspace(&format!("type = \"syslog\"\naddress = \"{address}\""));
    workspace.run_ok(&["check", "--online"]);
    workspace.run_ok(&["test-sink", "tested"]);
    let messages = rsyslog.expect(1);
    assert_eq!(messages.len(), 1, "only the test record is stored: {messages:?}");
}

/// Regression: `Connection refused` had no hint.
#[test]
fn an_unreachable_receiver_has_a_hint() {
    let port = free_port();
    for section in [
        format!("type = \"http\"\nurl = \"http://127.0.0.1:{port}\""),
        format!("type = \"syslog\"\naddress = \"tcp://127.0.0.1:{port}\""),
        format!("type = \"syslog\"\naddress = \"relp://127.0.0.1:{port}\""),
        format!("type = \"kafka\"\nbrokers = [\"127.0.0.1:{port}\"]\ntopic = \"score\""),
    ] {
        let run = workspace(&section).run(&["check", "--online"]);
        assert_eq!(run.code, 1, "{}", run.stdout);
        assert!(run.stdout.contains("Connection refused"), "{}", run.stdout);
        assert!(run.stdout.contains("hint: check that the receiver is running"), "{}", run.stdout);
    }
}

/// Regression: a webhook that does not implement HEAD was reported as failing, without a reason.
#[test]
fn a_webhook_need_not_implement_head() {
    let endpoint = Endpoint::new("");
    endpoint.rule(|_| Some((501, String::new())));
    let mut workspace = workspace("type = \"stdout\"");
    let url = workspace.secret("hook-secret", &format!("{}/{CANARY}-hook", endpoint.url));
    workspace
        .clear_sinks()
        .sink("teams", &format!("type = \"chat\"\nservice = \"teams\"\nurl = {url}"));
    let run = workspace.run_ok(&["check", "--online"]);
    assert!(run.stdout.contains("Teams returned HTTP 501 for a HEAD request"), "{}", run.stdout);
}

/// Regression: `check` accepted a password in the address of a syslog receiver, and printed it.
#[test]
fn user_information_in_an_address_is_rejected() {
    let mut workspace = workspace("type = \"stdout\"");
    for section in [
        format!("type = \"syslog\"\naddress = \"tcp://user:{CANARY}-address@127.0.0.1:514\""),
        format!("type = \"otlp\"\nurl = \"https://user:{CANARY}-address@127.0.0.1:4318\""),
    ] {
        workspace.clear_sinks().sink("tested", &section);
        for arguments in [&["check"][..], &["check", "--show-effective"]] {
            let run = workspace.run(arguments);
            assert_eq!(run.code, 2, "{}", run.stdout);
            let reason = "must not contain a user name or a password";
            assert!(run.stderr.contains(reason), "{}", run.stderr);
        }
    }

    // The scratch directory must not contain a secret at the end.
    workspace.clear_sinks();
    workspace.file_sink("local");
    workspace.write_configuration();
}
