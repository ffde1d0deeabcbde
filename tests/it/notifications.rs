//! Notification sinks: chats, secret URLs of webhooks, and digests, against a local endpoint.

use std::path::PathBuf;

use serde_json::Value;

use crate::support::{CANARY, Workspace, endpoint::Endpoint, eventually, records, sorted_ids};

/// Selects what a notification sink receives by default, with the changes of earlier days.
pub const SELECTION: &str =
    "historical_changes = true\nstart_from = \"2020-01-01\"\nrecords = [\"change\", \"quality\"]";

/// The names of the severities in a heading, the most severe first.
const SEVERITIES: [&str; 5] = ["Critical", "High", "Medium", "Low", "Informational"];

/// A workspace of 30 days, and the file of a sink that receives the same records as the chat.
fn workspace() -> (Workspace, PathBuf) {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 30".to_owned();
    let file = workspace.path("reference.jsonl");
    workspace
        .sink("reference", &format!("type = \"file\"\npath = \"{}\"\n{SELECTION}", file.display()));
    (workspace, file)
}

/// Adds a chat whose webhook is a path of the endpoint that contains a secret.
fn add_chat(workspace: &mut Workspace, endpoint: &Endpoint, keys: &str) {
    let url = workspace.secret("hook-secret", &format!("{}/hook/{CANARY}-hook", endpoint.url));
    workspace.sink("chat", &format!("type = \"chat\"\nurl = {url}\ninterval = \"0s\"\n{keys}"));
}

fn bodies(endpoint: &Endpoint) -> Vec<Value> {
    let accepted = endpoint.accepted();
    accepted.iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
}

fn backlog(workspace: &Workspace) -> u64 {
    let status = workspace.status();
    let sinks = status["sinks"].as_array().unwrap().clone();
    sinks.iter().find(|sink| sink["name"] == "chat").unwrap()["backlog_entries"].as_u64().unwrap()
}

#[test]
fn teams_receives_cards_with_changes_and_problems() {
    let endpoint = Endpoint::with_status(202, "");
    let (mut workspace, file) = workspace();
    let keys = "service = \"teams\"\nhistorical_changes = true\nstart_from = \"2020-01-01\"";
    add_chat(&mut workspace, &endpoint, keys);
    workspace.run_ok(&["once"]);

    let mut sent = Vec::new();
    for body in bodies(&endpoint) {
        let card = &body["attachments"][0]["content"];
        assert!(card["type"] == "AdaptiveCard" && card["version"] == "1.4", "{card}");
        let elements = card["body"].as_array().unwrap();
        let headings: Vec<&Value> =
            elements.iter().filter(|element| element["id"].is_string()).collect();
        sent.extend(headings.iter().map(|heading| heading["id"].as_str().unwrap().to_owned()));

        let severity = |heading: &&Value| {
            let name = heading["text"].as_str().unwrap().split(' ').next().unwrap();
            SEVERITIES.iter().position(|severity| *severity == name).unwrap()
        };
        assert!(headings.iter().is_sorted_by_key(severity), "the most severe is first: {card}");
    }

    sent.sort();
    let expected = records(&file);
    assert!(!expected.is_empty());
    assert_eq!(sent, sorted_ids(&expected));
}

#[test]
fn slack_receives_blocks_and_is_retried() {
    let endpoint = Endpoint::new("ok");
    endpoint.respond_once(429, "rate_limited").respond_once(500, "");
    let (mut workspace, file) = workspace();
    add_chat(&mut workspace, &endpoint, &format!("service = \"slack\"\n{SELECTION}"));
    workspace.run_ok(&["once"]);

    let mut sent = Vec::new();
    for body in bodies(&endpoint) {
        let blocks = body["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50 && blocks[0]["type"] == "header");
        sent.extend(blocks[1..].iter().map(|block| block["block_id"].as_str().unwrap().to_owned()));
    }
    sent.sort();
    assert_eq!(sent, sorted_ids(&records(&file)));
}

/// Without `start_from`, a chat receives nothing about the days before it was added.
#[test]
fn a_new_chat_receives_no_history() {
    let endpoint = Endpoint::new("ok");
    let (mut workspace, file) = workspace();
    let keys = "service = \"slack\"\nhistorical_changes = true";
    add_chat(&mut workspace, &endpoint, keys);
    workspace.run_ok(&["once"]);

    let today = workspace.status()["tenants"][0]["newest_day"].clone();
    let is_recent =
        |record: &&Value| record["kind"] == "quality" || record["snapshot"]["date"] == today;
    let expected: Vec<Value> = records(&file).iter().filter(is_recent).cloned().collect();
    let sent: usize =
        bodies(&endpoint).iter().map(|body| body["blocks"].as_array().unwrap().len() - 1).sum();
    assert!(sent <= expected.len() && expected.len() < records(&file).len());
}

#[test]
fn a_template_has_one_request_per_record() {
    let endpoint = Endpoint::new("");
    let (mut workspace, file) = workspace();
    workspace.extra += "\nlabels = { customer = \"c \\\"17\\\"\" }";
    let template =
        r#"{"summary": "{title}", "custom": {"id": "{event_id}", "customer": "{label.customer}"}}"#;
    let keys = format!("service = \"template\"\ntemplate = '{template}'\n{SELECTION}");
    add_chat(&mut workspace, &endpoint, &keys);
    workspace.run_ok(&["once"]);

    let (sent, expected) = (bodies(&endpoint), records(&file));
    assert_eq!(sent.len(), expected.len());
    for (body, record) in sent.iter().zip(&expected) {
        assert_eq!(body["custom"]["id"], record["event_id"]);
        assert_eq!(body["custom"]["customer"], "c \"17\"");
        assert!(body["summary"].as_str().unwrap().ends_with(" in contoso"), "{body}");
    }
}

/// The endpoint repeats the path of the URL in its message. The support code searches all output
/// for it.
#[test]
fn a_secret_url_is_never_printed() {
    for keys in [
        "type = \"http\"",
        "type = \"chat\"\nservice = \"slack\"",
        "type = \"chat\"\nservice = \"teams\"",
    ] {
        let endpoint = Endpoint::new("");
        endpoint.rule(|request| Some((403, format!("no access to {}", request.path))));
        let (mut workspace, _) = workspace();
        let url = workspace.secret("hook-secret", &format!("{}/hook/{CANARY}-hook", endpoint.url));
        workspace.sink(
            "chat",
            &format!("{keys}\nurl = {url}\nhistorical_changes = true\nstart_from = \"2020-01-01\""),
        );

        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1);
        assert!(run.stderr.contains("HTTP 403: no access to [redacted]"), "{}", run.stderr);
        assert!(workspace.run(&["status"]).stdout.contains("[redacted]"));
        workspace.run(&["check", "--online"]);
    }
}

#[test]
fn a_plain_url_is_rejected_without_printing_it() {
    let (mut workspace, _) = workspace();
    let url = format!("https://hooks.example.com/{CANARY}");
    workspace.sink("chat", &format!("type = \"chat\"\nservice = \"slack\"\nurl = \"{url}\""));
    let run = workspace.run(&["check"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("must refer to a secret, not contain it"), "{}", run.stderr);

    // The scratch directory must not contain a secret at the end.
    workspace.clear_sinks();
    workspace.file_sink("local");
    workspace.write_configuration();
}

#[test]
fn a_digest_is_sent_when_due() {
    let endpoint = Endpoint::new("ok");
    let (mut workspace, _) = workspace();
    let keys = format!("service = \"slack\"\ndigest = \"0 0 29 2 *\"\n{SELECTION}");
    add_chat(&mut workspace, &endpoint, &keys);
    for _ in 0..2 {
        workspace.run_ok(&["once"]);
    }
    assert!(endpoint.accepted().is_empty() && backlog(&workspace) > 0);
}

/// The first attempts fail, so the digest stays due; then one message contains everything.
#[test]
fn a_digest_summarizes_everything_in_one_message() {
    let endpoint = Endpoint::new("");
    endpoint.respond_once(503, "").respond_once(429, "");
    let (mut workspace, file) = workspace();
    let template = r#"{"title": "{title}", "text": "{text}"}"#;
    let keys = format!(
        "service = \"template\"\ntemplate = '{template}'\ndigest = \"* * * * *\"\n{SELECTION}"
    );
    add_chat(&mut workspace, &endpoint, &keys);

    // The digest is due in the next minute, when all days are in the log.
    workspace.run(&["once"]);
    let daemon = workspace.spawn(&["run"]);
    eventually("the digest is sent", || !endpoint.accepted().is_empty());
    eventually("the cursors have moved", || backlog(&workspace) == 0);
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);

    let digest = &bodies(&endpoint)[0];
    let changes = records(&file).iter().filter(|record| record["kind"] == "change").count();
    let title = digest["title"].as_str().unwrap();
    let counted = if changes == 1 { "1 change".to_owned() } else { format!("{changes} changes") };
    assert!(title.starts_with(&format!("Secure Score digest: {counted}")), "{title}");
    assert!(digest["text"].as_str().unwrap().contains("\nBy kind: "), "{digest}");
}
