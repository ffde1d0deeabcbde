//! Texts of a receiver in its responses, and what it learns about the host. See decision 0065.

use serde_json::json;

use crate::{
    attacks::tenant::texts::assert_visible,
    support::{Workspace, endpoint::Endpoint, hec::TOKEN, records_of_kinds, terminal::on_terminal},
};

/// Sequences and characters that control a terminal, hide text or reorder it, and a second line.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;PWNED\u{7}\u{9b}31m\u{202e}\u{e0041}\r\nerror: forged";

/// Attack: a receiver explains its refusal with control characters. They reach neither a terminal
/// nor a log, and the text stays on its line.
///
/// Regression: C1, bidirectional and invisible characters were kept in the message.
#[test]
fn messages_of_receivers_are_visible() {
    let in_json = |value: serde_json::Value| value.to_string();
    for (kind, status, body) in [
        ("http", 403, HOSTILE.to_owned()),
        ("otlp", 403, in_json(json!({ "code": 3, "message": HOSTILE }))),
        ("splunk_hec", 403, in_json(json!({ "code": 4, "text": HOSTILE }))),
        ("elasticsearch", 403, in_json(json!({ "error": { "type": "t", "reason": HOSTILE } }))),
    ] {
        let endpoint = Endpoint::new("");
        endpoint.rule(move |_| Some((status, body.clone())));
        let mut workspace = Workspace::new();
        workspace.extra = "initial_backfill_days = 1".to_owned();
        let token = workspace.secret("hec-secret", TOKEN);
        let token = if kind == "splunk_hec" { format!("token = {token}") } else { String::new() };
        let section = format!("type = \"{kind}\"\nurl = \"{}\"\n{token}", endpoint.url);
        workspace.sink("hostile", &section);

        let run = workspace.run(&["once", "--log", "info"]);
        assert_eq!(run.code, 1, "{kind}: {}", run.stderr);
        assert!(run.stderr.contains("PWNED"), "{kind}: {}", run.stderr);
        for command in ["once", "status", "status --json", "check --online", "test-sink hostile"] {
            let words: Vec<&str> = command.split(' ').collect();
            let run = workspace.run(&words);
            let shown = on_terminal(&workspace, command);
            for output in [&run.stdout, &run.stderr, &shown] {
                assert_visible(&format!("{kind}: {command}"), output);
                assert!(!output.lines().any(|line| line.starts_with("error: forged")), "{output}");
            }
        }
    }
}

/// Attack: a receiver collects where secrets and state are stored on the host of the collector.
///
/// Regression: the record about a failed poll contained the path of the token file.
#[test]
fn records_name_no_file_of_the_host() {
    let mut workspace = Workspace::new();
    let token = workspace.path("absent token").display().to_string();
    workspace.credential = Some(format!(
        "[tenants.credential]\nkind = \"workload_identity\"\n\
         client_id = \"11111111-2222-4333-8444-555555555555\"\ntoken_file = \"{token}\""
    ));
    let file = workspace.file_sink("local");
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains(&token), "the operator needs the path: {}", run.stderr);

    let records = records_of_kinds(&file, &["quality"]);
    assert_eq!(records.len(), 1, "{records:?}");
    let details = records[0]["quality"]["details"].as_str().unwrap();
    assert!(details.contains("`[path]`"), "{details}");
    let directory = workspace.path("").display().to_string();
    assert!(!records[0].to_string().contains(directory.trim_end_matches('/')), "{records:?}");
}
