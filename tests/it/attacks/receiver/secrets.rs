//! A receiver that repeats the request in its response: its headers, its path and its body, in
//! several encodings. The secrets in them must not appear in any output or file.

use std::{
    fmt::Write as _,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use crate::{
    admin::send,
    notifications::SELECTION,
    support::{
        CANARY, Workspace,
        endpoint::{Endpoint, Request, entra_token},
        eventually, free_port, records,
    },
};

/// A part of every secret that contains no character that an encoding changes.
const PART: &str = "5ecr3t";

/// An encoding of a response.
type Encoding = fn(&str) -> String;

/// The encodings in which the receiver repeats a request. The last one cuts it within its first
/// secret.
const ENCODINGS: [Encoding; 5] = [
    str::to_owned,
    |text| {
        let text = serde_json::json!(text).to_string().replace('/', "\\/");
        format!("{{\"error\":{{\"code\":\"Forbidden\",\"message\":{text}}}}}")
    },
    |text| {
        text.bytes().fold(String::new(), |mut out, byte| {
            let _ = write!(out, "%{byte:02x}");
            out
        })
    },
    |text| text.chars().flat_map(|c| [c, '\0']).collect(),
    |text| {
        let end = text.find(PART).map_or(40, |at| at + PART.len());
        text[..end.min(text.len())].to_owned()
    },
];

/// The secrets of a request first, because messages are cut.
fn repeated(request: &Request) -> String {
    let header = |name: &str| {
        let value = request.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let secrets = ["authorization", "x-api-key", "cookie"].map(header).join(" ");
    format!("{} {} {:?}", secrets.trim(), request.path, request.headers)
}

/// An endpoint that issues tokens of Entra, and rejects all other requests with what they contain.
fn repeating(encoding: Encoding) -> Endpoint {
    let endpoint = Endpoint::new("");
    endpoint.rule(move |request| {
        if request.path.ends_with("/oauth2/v2.0/token") {
            return Some(entra_token(&format!("{CANARY}-access-token")));
        }
        Some((403, encoding(&repeated(request))))
    });
    endpoint
}

/// A workspace with one sink for each kind of secret, and the file of another sink. Also returns
/// the number of sinks that fail.
fn attacked(url: &str) -> (Workspace, PathBuf, usize) {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 30".to_owned();
    let secret =
        |name: &str| workspace.secret(&format!("{name}-secret"), &format!("{CANARY}-{name}"));
    let header = format!("headers = {{ X-Api-Key = {} }}", secret("header"));
    let hook = format!("{url}/T000/{CANARY}-hook?sig={CANARY}-sig");
    let hook = workspace.secret("hook-secret", &hook);

    let sections = [
        format!("type = \"splunk_hec\"\nurl = \"{url}\"\ntoken = {}", secret("hec")),
        format!("type = \"elasticsearch\"\nurl = \"{url}\"\napi_key = {}", secret("elastic")),
        format!(
            "type = \"elasticsearch\"\nurl = \"{url}\"\nusername = \"score\"\npassword = {}",
            secret("basic")
        ),
        format!("type = \"http\"\nurl = \"{url}/hook\"\n{header}"),
        format!("type = \"otlp\"\nurl = \"{url}/v1/logs\"\n{header}"),
        format!("type = \"http\"\nurl = {hook}"),
        format!("type = \"chat\"\nservice = \"slack\"\nurl = {hook}\n{SELECTION}"),
    ];
    let credential = workspace.entra_credential(url);
    let sentinel = format!(
        "type = \"sentinel\"\nurl = \"{url}\"\nrule_id = \"dcr-0123456789abcdef\"\nstream = \"Custom-SecureScore_CL\"\n{credential}"
    );

    let file = workspace.file_sink("local");
    let failing = sections.len() + 1;
    for (index, section) in sections.into_iter().chain([sentinel]).enumerate() {
        workspace.sink(&format!("attacked-{index}"), &section);
    }
    (workspace, file, failing)
}

/// Asserts that a text contains no secret. The parts of a percent-encoded one are decoded, and the
/// replacements of invisible characters are removed.
fn assert_no_secret(what: &str, text: &str) {
    let decoded = url::form_urlencoded::parse(text.as_bytes())
        .flat_map(|(name, value)| [name.into_owned(), value.into_owned()])
        .collect::<String>();
    for text in [text, &decoded, &text.replace('\u{fffd}', "")] {
        assert!(!text.to_ascii_lowercase().contains(PART), "{what}: {text}");
    }
}

/// How many sinks report a failure from which a secret was removed.
fn redacted_failures(workspace: &Workspace) -> usize {
    let Some(status) = workspace.try_status() else { return 0 };
    let is_redacted = |sink: &&serde_json::Value| {
        sink["error"]["message"].as_str().is_some_and(|text| text.contains("[redacted]"))
    };
    status["sinks"].as_array().unwrap().iter().filter(is_redacted).count()
}

fn assert_no_secret_in(path: &Path) {
    assert_no_secret(&path.display().to_string(), &std::fs::read_to_string(path).unwrap());
}

/// Attack: each receiver repeats the request in its response with status 403.
///
/// Regression: the token of each sink was in the log, in `status`, in the checkpoint and in the
/// records of other sinks.
#[test]
fn receivers_that_repeat_requests_disclose_nothing() {
    for encoding in ENCODINGS {
        let endpoint = repeating(encoding);
        let (workspace, file, failing) = attacked(&endpoint.url);

        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1, "{}", run.stderr);
        assert_no_secret("log", &run.stderr);
        assert_eq!(redacted_failures(&workspace), failing, "{}", run.stderr);

        for arguments in [&["status"][..], &["status", "--json"], &["check", "--online"]] {
            let run = workspace.run(arguments);
            assert_no_secret(&arguments.join(" "), &(run.stdout + &run.stderr));
        }
        assert!(!records(&file).is_empty());
        assert_no_secret_in(&file);
    }
}

/// Attack: as above, while a daemon with the status page is running.
#[test]
fn pages_never_show_repeated_secrets() {
    let endpoint = repeating(ENCODINGS[1]);
    let (mut workspace, file, failing) = attacked(&endpoint.url);
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    workspace.head = format!("\n[admin]\nlisten = \"{address}\"\n\n{}", workspace.head);

    let daemon = workspace.spawn(&["run"]);
    eventually("all sinks have failed", || redacted_failures(&workspace) == failing);
    for path in ["/", "/readyz", "/metrics"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
        let (status, _, body) = send(address, &request);
        assert!([200, 503].contains(&status), "{path}: {status}");
        assert_no_secret(path, &body);
    }

    let run = daemon.kill();
    assert_no_secret("log", &run.stderr);
    assert_no_secret_in(&file);
}

/// Attack: a mail server repeats the password, plain and in Base64.
#[cfg(feature = "email")]
#[test]
fn mail_servers_that_repeat_passwords_disclose_nothing() {
    use base64::{Engine, engine::general_purpose::STANDARD};

    use crate::support::smtp::MailServer;

    let password = format!("{CANARY}-mail");
    let encoded = STANDARD.encode(format!("\0score\0{password}"));
    for reply in [format!("535 5.7.8 no {password}"), format!("535-x\r\n535 no {encoded}")] {
        let server = MailServer::new();
        for _ in 0..20 {
            server.reply_once("AUTH", &reply);
        }
        let mut workspace = super::workspace("type = \"stdout\"");
        let secret = workspace.secret("mail-secret", &password);
        workspace.clear_sinks().sink(
            "mail",
            &format!(
                "type = \"email\"\nserver = \"127.0.0.1:{}\"\ntls = \"none\"\nfrom = \"score@contoso.example\"\nto = [\"a@contoso.example\"]\nusername = \"score\"\npassword = {secret}",
                server.port
            ),
        );

        let run = workspace.run(&["check", "--online"]);
        let output = run.stdout + &run.stderr;
        assert!(output.contains("535") && output.contains("[redacted]"), "{output}");
        assert!(!output.contains(&encoded[12..]), "{output}");
    }
}

/// Attack: a store repeats the headers of a request, in XML.
#[cfg(feature = "object_store")]
#[test]
fn stores_that_repeat_requests_disclose_nothing() {
    let endpoint = Endpoint::new("");
    endpoint.rule(move |request| {
        if request.path.ends_with("/oauth2/v2.0/token") {
            return Some(entra_token(&format!("{CANARY}-access-token")));
        }
        let message = format!("no access with {}", repeated(request));
        let code = "<Code>AuthenticationFailed</Code>";
        Some((403, format!("<Error>{code}<Message>{message}</Message></Error>")))
    });

    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let credential = workspace.entra_credential(&endpoint.url);
    let section = format!(
        "type = \"object_store\"\nurl = \"az://scores\"\naccount = \"tests\"\nendpoint = \"{}\"\n{credential}",
        endpoint.url
    );
    workspace.sink("attacked", &section);

    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains("no access with Bearer [redacted]"), "{}", run.stderr);
    assert!(workspace.run(&["status"]).stdout.contains("[redacted]"));
}
