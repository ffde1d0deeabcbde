//! An attacker on the network: credentials in the clear, token endpoints and metadata services.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use crate::support::{
    CANARY, OTHER, Process, Run, Workspace,
    endpoint::Endpoint,
    eventually,
    faults::{Fault, FaultyApi},
    summaries,
};

/// Numbers that no genuine server states, as JSON.
const NUMBERS: [&str; 11] = [
    "0",
    "-1",
    "-0.5",
    "2147483648",
    "9223372036854775807",
    "18446744073709551615",
    "1e308",
    "-1e308",
    "\"18446744073709551616\"",
    "\"NaN\"",
    "null",
];

/// Days as JSON. The first two are valid, and the most extreme ones.
const DAYS: [&str; 8] = [
    "\"0001-01-01\"",
    "\"9999-12-31\"",
    "\"0000-12-31\"",
    "\"10000-01-01\"",
    "\"-009999-01-01\"",
    "\"NaN\"",
    "4000000",
    "-4000000",
];

/// The path of the token endpoint of the tenant [`OTHER`].
const OTHER_TOKENS: &str = "aaaaaaaa-0000-4000-8000-00000000c0de/oauth2/";

/// A response with a token that Graph rejects, and a number as one of its members.
fn token(member: &str, number: &str) -> String {
    format!("{{\"access_token\":\"x\",\"token_type\":\"Bearer\",\"{member}\":{number}}}")
}

/// A workspace with one tenant, which has three days.
fn against(api: &FaultyApi) -> (Workspace, std::path::PathBuf) {
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    (workspace, file)
}

/// Polls a tenant of a running daemon until something holds. The daemon must never end.
fn poll_until(
    (workspace, daemon): (&Workspace, &mut Process),
    tenant: &str,
    what: &str,
    holds: impl Fn() -> bool,
) {
    eventually(what, || {
        workspace.run(&["poll", "--tenant", tenant]);
        assert!(daemon.is_running(), "the daemon has ended: {what}");
        holds()
    });
}

fn end(daemon: Process) {
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}

/// Regression: a server in the place of one tenant's token endpoint states a lifetime that is
/// negative, huge or not a number. The process ended, and with it the polls and deliveries of all
/// tenants. A lifetime is now at most a day, and the other tenants are not affected.
#[test]
fn lifetimes_of_tokens_never_end_the_daemon() {
    let api = FaultyApi::new();
    let (mut workspace, file) = against(&api);
    workspace.tenants.push(("other", OTHER));
    for number in NUMBERS {
        let headers = vec![("content-type", "application/json".to_owned())];
        let body = token("expires_in", number).into_bytes();
        api.fail(OTHER_TOKENS, Fault::Respond(200, headers, body));
    }

    let mut daemon = workspace.spawn(&["run"]);
    eventually("the other tenant is delivered", || summaries(&file) >= 3);
    poll_until((&workspace, &mut daemon), "other", "a genuine token is issued", || {
        let requests = api.requests();
        let tokens = requests.iter().filter(|path| path.contains(OTHER_TOKENS)).count();
        tokens > NUMBERS.len()
    });
    eventually("both tenants are delivered", || summaries(&file) == 6);
    end(daemon);
}

/// Regression: a service in the place of the metadata service of Azure states an end or a lifetime
/// of a token out of range. The process ended. The tenant of that identity now fails, and the
/// others are polled and delivered.
#[test]
fn metadata_services_never_end_the_daemon() {
    let api = FaultyApi::new();
    let (mut workspace, file) = against(&api);
    workspace.head = format!(
        "[[tenants]]\nname = \"hostile\"\nid = \"{OTHER}\"\n\
         cloud = {{ login_url = \"{url}\", graph_url = \"{url}\" }}\n\
         [tenants.credential]\nkind = \"managed_identity\"\n",
        url = api.url
    );

    let members = ["expires_in", "expires_on"];
    let numbers = members.into_iter().flat_map(|member| NUMBERS.map(|number| (member, number)));
    let mut responses = numbers.clone().cycle();
    let sent = Arc::new(AtomicUsize::new(0));
    let metadata = Endpoint::new("");
    let count = Arc::clone(&sent);
    metadata.rule(move |_| {
        count.fetch_add(1, SeqCst);
        responses.next().map(|(member, number)| (200, token(member, number)))
    });

    let mut command = workspace.command(&["run"]);
    command.env("AZURE_POD_IDENTITY_AUTHORITY_HOST", &metadata.url);
    let mut daemon = Process::of(command);
    eventually("the other tenant is delivered", || summaries(&file) == 3);
    poll_until((&workspace, &mut daemon), "hostile", "every number was sent", || {
        sent.load(SeqCst) >= numbers.clone().count()
    });

    let status = workspace.status();
    assert_eq!(status["tenants"][0]["name"], "hostile", "{status}");
    assert!(status["tenants"][0]["error"]["message"].is_string(), "{status}");
    assert!(status["tenants"][1]["error"].is_null(), "{status}");
    end(daemon);
}

/// Regression: a program with access to the control socket, or a command of another version, sends
/// days and numbers out of range. The process ended. Each request now has a response, and no other
/// work is affected.
#[test]
fn days_out_of_range_never_end_the_daemon() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
    let mut daemon = workspace.spawn(&["run"]);
    eventually("the daemon delivers", || summaries(&file) == 3);

    // `null` is a valid day of a baseline.
    let numbers = NUMBERS.into_iter().filter(|number| *number != "null");
    for (index, day) in DAYS.into_iter().chain(numbers).enumerate() {
        let baseline = format!(r#""tenant":"contoso","name":"b","day":{day},"targets":"""#);
        for request in [
            format!("{{\"backfill_tenants\":{{\"first_day\":{day},\"tenants\":[]}}}}"),
            format!("{{\"baseline\":{{{baseline}}}}}"),
            replay(day, "\"2026-11-22\""),
            replay("\"2026-11-22\"", day),
            replay(day, day),
        ] {
            let response = send(&workspace, &request);
            let is_rejected = response.starts_with("{\"error\":");
            assert!(!response.is_empty() && (is_rejected || index < 2), "{request}: {response}");
            assert!(daemon.is_running(), "{request}");
        }
    }

    workspace.run_ok(&["poll"]);
    eventually("everything is delivered", || workspace.is_delivered());
    end(daemon);
}

/// A request to send days to the sink again, with the days as JSON.
fn replay(first: &str, last: &str) -> String {
    let days = format!("\"first_day\":{first},\"last_day\":{last}");
    format!("{{\"replay\":{{\"sink\":\"local\",{days},\"tenants\":[]}}}}")
}

/// Sends a line to the control socket, and returns the response.
fn send(workspace: &Workspace, request: &str) -> String {
    let mut stream = UnixStream::connect(workspace.state().join("control.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    stream.write_all(format!("{request}\n").as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

const URL_RULE: &str = "`url` must use https, or http to a loopback address";

/// Sinks with the credential `SECRET` for a receiver in plain text on `HOST`, and their fault.
const IN_PLAIN_TEXT: &[(&str, &str)] = &[
    ("type = \"splunk_hec\"\nurl = \"http://HOST:8088\"\ntoken = SECRET", URL_RULE),
    ("type = \"elasticsearch\"\nurl = \"http://HOST:9200\"\napi_key = SECRET", URL_RULE),
    ("type = \"http\"\nurl = \"http://HOST/\"\nheaders = { X = SECRET }", URL_RULE),
    ("type = \"otlp\"\nurl = \"http://HOST:4318\"\nheaders = { X = SECRET }", URL_RULE),
    #[cfg(feature = "email")]
    (
        "type = \"email\"\nserver = \"HOST\"\ntls = \"none\"\nfrom = \"a@b.example\"\nto = [\"a@b.example\"]\nusername = \"u\"\npassword = SECRET",
        "`tls = \"none\"` requires a server on a loopback address",
    ),
    #[cfg(feature = "kafka")]
    (
        "type = \"kafka\"\nbrokers = [\"HOST:9092\"]\ntopic = \"t\"\nsasl = { mechanism = \"plain\", username = \"u\", password = SECRET }",
        "`sasl` requires `tls`",
    ),
    #[cfg(feature = "kafka")]
    (
        "type = \"kafka\"\nbrokers = [\"127.0.0.1:9092\", \"HOST:9092\"]\ntopic = \"t\"\nsasl = { mechanism = \"scram-sha-512\", username = \"u\", password = SECRET }",
        "`sasl` requires `tls`",
    ),
    #[cfg(feature = "object_store")]
    (
        "type = \"object_store\"\nurl = \"s3://b\"\nendpoint = \"http://HOST\"\naccess_key_id = \"i\"\nsecret_access_key = SECRET",
        "`endpoint` must use https, or http to a loopback address",
    ),
];

/// Regression: an attacker reads the traffic of the host. A configuration that sends a credential
/// in plain text beyond this host is rejected before anything is sent, whichever sender it is for,
/// and the fault names the key.
#[test]
fn credentials_in_plain_text_are_refused() {
    let secret = |workspace: &Workspace| workspace.secret("sink-secret", &format!("{CANARY}-x"));
    for (section, fault) in IN_PLAIN_TEXT {
        for host in ["receiver.example.com", "localhost.example.com", "169.254.169.254"] {
            let mut workspace = Workspace::new();
            let section = section.replace("SECRET", &secret(&workspace)).replace("HOST", host);
            workspace.sink("siem", &section);
            for args in [["check"], ["once"]] {
                let run = workspace.run(&args);
                assert_eq!(run.code, 2, "{section}: {}", run.stderr);
                assert!(run.stderr.contains(fault), "{section}: {}", run.stderr);
            }
        }
    }
}

/// Regression: the same for what is configured outside the sinks: the proxy, the endpoints of a
/// cloud, and those of a managed identity in the environment.
#[test]
fn credentials_for_microsoft_are_never_in_plain_text() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    let password = workspace.secret("proxy-secret", &format!("{CANARY}-proxy"));
    workspace.head = format!(
        "[source]\nproxy = \"http://proxy.example.com:3128\"\nproxy_user = \"u\"\nproxy_password = {password}\n"
    );
    let run = workspace.run(&["check"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(run.stderr.contains("`source.proxy` must use https"), "{}", run.stderr);

    let mut remote = Workspace::against("http://login.example.com");
    remote.file_sink("local");
    let run = remote.run(&["check"]);
    assert_eq!(run.code, 2, "{}", run.stderr);
    assert!(run.stderr.contains("`cloud.login_url` must be https://host"), "{}", run.stderr);

    workspace.head.clear();
    workspace.credential = Some("[tenants.credential]\nkind = \"managed_identity\"".to_owned());
    for (name, value) in [
        ("IDENTITY_ENDPOINT", "http://identity.example.com/msi/token"),
        ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://metadata.example.com"),
    ] {
        let mut command = workspace.command(&["check"]);
        if name == "IDENTITY_ENDPOINT" {
            command.env("IDENTITY_HEADER", format!("{CANARY}-header"));
        }
        let run = Run::of(command.env(name, value).output().unwrap());
        assert_eq!(run.code, 2, "{}", run.stderr);
        let fault = format!("environment variable `{name}` must be https, or http to a loopback");
        assert!(run.stderr.contains(&fault), "{}", run.stderr);
    }
}

/// Regression: the URL of a webhook is a secret of its own. It was checked only when the sink was
/// opened; `check` and every start now reject one that would be sent in plain text.
#[test]
fn webhooks_in_plain_text_are_refused() {
    for sink in ["type = \"http\"", "type = \"chat\"\nservice = \"slack\""] {
        let mut workspace = Workspace::new();
        let hook = format!("http://hooks.example.com/{CANARY}");
        let url = workspace.secret("hook-secret", &hook);
        workspace.sink("hook", &format!("{sink}\nurl = {url}"));
        for args in [["check"], ["once"]] {
            let run = workspace.run(&args);
            assert_eq!(run.code, 2, "{sink}: {}", run.stderr);
            let part = "must use https, or http to a loopback address";
            assert!(run.stderr.contains(part), "{sink}: {}", run.stderr);
        }
    }

    // In the configuration itself, a webhook of a known service is a warning.
    let mut workspace = Workspace::new();
    workspace.sink("hook", "type = \"http\"\nurl = \"https://hooks.slack.com/services/T0/B0/x\"");
    let run = workspace.run_ok(&["check"]);
    for part in ["warning: ", "the URL of a webhook", "refer to it"] {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
    assert_eq!(workspace.run(&["check", "--strict"]).code, 2);
}

/// Regression: an attacker guesses a short key, and forges signed requests. Keys that can be
/// guessed are rejected, with a hint that generates a strong one.
#[test]
fn keys_that_can_be_guessed_are_refused() {
    let user = "[credentials.me]\nkind = \"user\"\nclient_id = \"11111111-2222-4333-8444-555555555555\"\ntoken_key = KEY\n";
    let hook = "type = \"http\"\nurl = \"https://127.0.0.1:1\"\nsigning_secret = KEY";
    for (head, sink) in [(user, "type = \"stdout\""), ("", hook)] {
        let mut workspace = Workspace::new();
        let key = workspace.secret("key-secret", "s3cret");
        workspace.head = head.replace("KEY", &key);
        workspace.sink("out", &sink.replace("KEY", &key));
        let run = workspace.run(&["check"]);
        assert_eq!(run.code, 2, "{head}{sink}: {}", run.stderr);
        for part in ["has fewer than 32 characters", "openssl rand -base64 32"] {
            assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
        }

        workspace.secret("key-secret", "correct horse battery staple again");
        assert_eq!(workspace.run(&["check"]).code, 0);
    }
}
