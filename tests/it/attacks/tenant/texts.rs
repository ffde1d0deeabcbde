//! Texts of a tenant that control a terminal, hide other text, or are links, mentions or formulas.
//! See decision 0065.

use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};

use crate::{
    admin::send,
    support::{
        Workspace,
        endpoint::Endpoint,
        eventually,
        faults::{Fault, FaultyApi},
        free_port,
        terminal::on_terminal,
    },
};

const SCORES: &str = "/secureScores?";
const PROFILES: &str = "/secureScoreControlProfiles";

/// The control whose name, catalog entry and decision are hostile.
const CONTROL: &str = "OneAdmin";
/// Sequences that clear the screen, set the title, ring and change the color, DEL, and characters
/// that reorder text or are invisible.
const HIDDEN: &str = "\u{1b}[2J\u{1b}]0;PWNED\u{7}\u{9b}31m\u{7f}\u{202e}\u{2066}\u{200b}\u{e0041}";
/// Formulas, mentions, links, HTML and Markdown.
const MARKUP: &str = "=1+1;=cmd|'/c calc'!A0,@SUM(A1)|＝1;-x @channel [x](https://evil.example) \
    <https://evil.example|y> www.evil.example <!here> <img src=x onerror=alert(1)> `c` *b*";

fn name() -> String {
    format!("{CONTROL}{HIDDEN}")
}

fn text() -> String {
    format!("{MARKUP}\r\n{HIDDEN}\u{2028}end")
}

/// Replaces texts in a page of snapshots or profiles.
fn poison(page: &mut Value) {
    for item in page["value"].as_array_mut().unwrap() {
        replace(item, &["title", "service", "tier", "remediation", "userImpact", "actionUrl"]);
        if item["id"] == CONTROL {
            item["id"] = json!(name());
            item["controlStateUpdates"] = json!([{
                "assignedTo": text(), "comment": text(), "state": "Ignored", "updatedBy": text(),
                "updatedDateTime": "2026-03-02T09:30:00Z",
            }]);
        }

        let scores = item.get_mut("controlScores").and_then(Value::as_array_mut);
        for score in scores.into_iter().flatten() {
            replace(score, &["implementationStatus", "description"]);
            if score["controlName"] == CONTROL {
                score["controlName"] = json!(name());
            }
        }
    }
}

fn replace(object: &mut Value, keys: &[&str]) {
    for key in keys.iter().filter(|key| object[**key].is_string()).copied().collect::<Vec<_>>() {
        object[key] = json!(text());
    }
}

/// A hostile tenant, and receivers that quote its texts.
struct Attacked {
    workspace: Workspace,
    _api: FaultyApi,
    _receivers: [Endpoint; 2],
}

impl Attacked {
    /// Polls three days, and delivers them to a cluster that rejects the hostile control, to a
    /// receiver that rejects everything, and to a CSV file.
    fn new() -> Self {
        let api = FaultyApi::new();
        for _ in 0..200 {
            api.fail(SCORES, Fault::Edit(poison)).fail(PROFILES, Fault::Edit(poison));
        }
        let (cluster, rejecting) = (Endpoint::new(""), Endpoint::new(""));
        cluster.rule(|request| Some((200, bulk_response(&request.body))));
        rejecting.rule(|_| Some((403, text())));

        let mut workspace = Workspace::against(&api.url);
        workspace.extra = "initial_backfill_days = 3".to_owned();
        let url = &cluster.url;
        workspace.sink("cluster", &format!("type = \"elasticsearch\"\nurl = \"{url}\""));
        let url = &rejecting.url;
        workspace.sink("rejecting", &format!("type = \"http\"\nurl = \"{url}/x\""));
        let path = workspace.path("records.csv").display().to_string();
        workspace.sink("csv", &format!("type = \"file\"\npath = \"{path}\"\nformat = \"csv\""));

        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1, "{}", run.stderr);
        assert!(run.stderr.contains(" rejected (dead letters)"), "{}", run.stderr);
        workspace.run_ok(&["baseline", "set"]);
        Self { workspace, _api: api, _receivers: [cluster, rejecting] }
    }
}

/// A response of the bulk API that rejects the hostile control, and quotes its texts.
fn bulk_response(body: &[u8]) -> String {
    let body = String::from_utf8_lossy(body).into_owned();
    let lines: Vec<&str> = body.lines().collect();
    let items: Vec<Value> = lines
        .chunks(2)
        .map(|pair| {
            let is_hostile = pair[1].contains(CONTROL);
            let reason = format!("failed to parse [{}]", text());
            let error = json!({ "type": "mapper_parsing_exception", "reason": reason });
            if is_hostile {
                json!({ "create": { "status": 400, "error": error } })
            } else {
                json!({ "create": { "status": 201 } })
            }
        })
        .collect();
    let errors = items.iter().any(|item| item["create"]["status"] == 400);
    json!({ "errors": errors, "items": items }).to_string()
}

/// Panics if an output contains a character that controls a terminal, or hides or reorders text.
pub fn assert_visible(what: &str, output: &str) {
    let is_hidden = |c: char| {
        let code = u32::from(c);
        let is_layout = matches!(c, '\n' | '\t');
        c.is_control() && !is_layout
            || (0x2028..=0x202e).contains(&code)
            || (0x2060..=0x206f).contains(&code)
            || [0x61c, 0x200b, 0x200e, 0x200f, 0xfeff].contains(&code)
            || (0xe0000..=0xe0fff).contains(&code)
    };
    let found: Vec<char> = output.chars().filter(|c| is_hidden(*c)).collect();
    assert!(found.is_empty(), "{what}: {found:?}\n{}", output.escape_debug());
}

/// The text of a Markdown document with an `x` in place of each character that is escaped.
fn without_escapes(markdown: &str) -> String {
    let mut chars = markdown.chars();
    let mut interpreted = String::new();
    while let Some(c) = chars.next() {
        let is_escape = c == '\\' && chars.next().is_some();
        interpreted.push(if is_escape { 'x' } else { c });
    }
    interpreted
}

/// Commands whose output is text for people, documents, or JSON. The last one sends again what was
/// rejected.
const COMMANDS: [&str; 23] = [
    "status",
    "status --json",
    "fetch --days 1 --output table",
    "fetch --days 1 --output csv",
    "fetch --days 1 --output json",
    "fetch --days 1 --output jsonl",
    "baseline show --json",
    "baseline diff",
    "baseline diff --json",
    "report --format html",
    "report --format markdown",
    "report --format csv",
    "report --format json",
    "dead-letters list",
    "dead-letters list --ungrouped",
    "dead-letters list --json",
    "state verify",
    "state verify --json",
    "check --online",
    "check --online --json",
    "once --log info --log-format text",
    "once --log info --log-format json",
    "dead-letters retry --sink cluster",
];

/// Commands whose output is data that another command can read again.
const DATA: [&str; 3] = ["fetch --days 1 --output raw", "state export", "baseline show"];

fn run(workspace: &Workspace, command: &str) -> (String, String) {
    let words: Vec<&str> = command.split(' ').collect();
    let run = workspace.run(&words);
    assert!(matches!(run.code, 0 | 1), "{command}: {}{}", run.stdout, run.stderr);
    (run.stdout, run.stderr)
}

/// Attack: names, titles, comments and messages of receivers that quote them clear the screen,
/// change the title of the window, or reverse the text of the line. A terminal receives visible
/// escapes instead.
///
/// Regression: `baseline show`, `fetch`, `report`, `state export` and `status` passed some on.
#[test]
fn hostile_texts_never_control_a_terminal() {
    let attacked = Attacked::new();
    for command in COMMANDS.into_iter().chain(DATA) {
        // The progress bar of `fetch` is drawn on standard error.
        let is_drawn = command.starts_with("fetch");
        let redirection = if is_drawn { " 2>/dev/null" } else { "" };
        let output = on_terminal(&attacked.workspace, &format!("{command}{redirection}"));
        assert_visible(command, &output);
        assert!(!output.is_empty(), "{command}");
    }
    let shown = on_terminal(&attacked.workspace, "baseline show");
    assert!(shown.contains("OneAdmin\\u{1b}[2J\\u{1b}]0;PWNED\\u{7}\\u{9b}31m"), "{shown}");
}

/// Attack: as above, while the output is redirected to a file that a person opens later, or to a
/// log. Only data that another command reads again is unchanged.
#[test]
fn hostile_texts_are_visible_in_files() {
    let attacked = Attacked::new();
    for command in COMMANDS {
        let (stdout, stderr) = run(&attacked.workspace, command);
        assert_visible(command, &stdout);
        assert_visible(command, &stderr);
        if command.ends_with("json") && !command.starts_with("once") {
            let document = serde_json::from_str::<Value>(&stdout);
            assert!(document.is_ok(), "{command}: {stdout}");
        }
        if command.ends_with("--log-format json") {
            let mut lines = stderr.lines().filter(|line| line.starts_with('{'));
            assert!(lines.all(|line| serde_json::from_str::<Value>(line).is_ok()), "{stderr}");
        }
    }

    let letters = run(&attacked.workspace, "dead-letters list --json").0;
    let letters: Value = serde_json::from_str(&letters).unwrap();
    let id = letters["dead_letters"][0]["event_id"].as_str().unwrap();
    let (shown, _) = run(&attacked.workspace, &format!("dead-letters show {id}"));
    assert_visible("dead-letters show", &shown);
    assert!(shown.contains("failed to parse [=1+1"), "{shown}");
}

/// The values of records and of snapshots are not changed: data is data.
#[test]
fn hostile_values_are_kept_in_data() {
    let attacked = Attacked::new();
    let (json, _) = run(&attacked.workspace, "fetch --days 1 --output json");
    let records: Value = serde_json::from_str(&json).unwrap();
    let controls = || records.as_array().unwrap().iter().filter(|r| r["kind"] == "control");
    assert!(controls().any(|record| record["control"]["id"] == name()));
    assert!(controls().any(|record| record["control"]["title"] == text()));

    for command in ["state export", "fetch --days 1 --output raw"] {
        let (lines, _) = run(&attacked.workspace, command);
        let snapshots = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let has_name = |snapshot: &Value| {
            let scores = snapshot["controlScores"].as_array().unwrap();
            scores.iter().any(|score| score["controlName"] == name())
        };
        let found = snapshots.filter(has_name).count();
        assert!(found > 0 && found == lines.lines().count(), "{command}");
    }

    // The targets can be set again from what `baseline show` prints.
    let (targets, _) = run(&attacked.workspace, "baseline show");
    assert!(targets.contains(&name()), "{targets}");
    let file = attacked.workspace.path("targets");
    std::fs::write(&file, &targets).unwrap();
    let file = file.display().to_string();
    attacked.workspace.run_ok(&["baseline", "set", "--file", &file]);
    let (again, _) = run(&attacked.workspace, "baseline show");
    assert_eq!(again.lines().count(), targets.lines().count());
}

/// Attack: titles and comments are links and mentions in a ticket or a wiki, HTML, or formulas in a
/// spreadsheet, also in one whose separator is `;`.
///
/// Regression: links without brackets and mentions were active in Markdown, and a formula after a
/// `;`, or with a full-width sign, in CSV.
#[test]
fn documents_contain_no_links_or_formulas() {
    let attacked = Attacked::new();
    let (markdown, _) = run(&attacked.workspace, "report --format markdown");
    assert!(markdown.contains("evil"), "{markdown}");
    let interpreted = without_escapes(&markdown);
    for active in ["](", "://", "www.", "@", "<", "`", "*"] {
        assert!(!interpreted.contains(active), "{active}: {markdown}");
    }

    let (page, _) = run(&attacked.workspace, "report --format html");
    for active in ["<img", "href=\"javascript", "<https:"] {
        assert!(!page.contains(active), "{active}: {page}");
    }

    let fetched = run(&attacked.workspace, "fetch --days 1 --output csv").0;
    let records = std::fs::read_to_string(attacked.workspace.path("records.csv")).unwrap();
    for lines in [fetched, records] {
        assert!(lines.contains("'=1+1;'=cmd|"), "{lines}");
        for line in lines.lines() {
            for separator in [',', ';', '|'] {
                let cells = line.split(separator);
                let starts = cells.map(|cell| cell.trim_start_matches([' ', '"']));
                let is_formula = |cell: &str| cell.starts_with(['=', '+', '@', '＝']);
                assert!(!starts.clone().any(is_formula), "{separator}: {line}");
                let is_text = |cell: &str| cell.starts_with("-x");
                assert!(!starts.clone().any(is_text), "{separator}: {line}");
            }
        }
    }
}

/// Attack: as above, against the status page, the health endpoints and the metrics.
#[test]
fn endpoints_show_no_hidden_characters() {
    let mut attacked = Attacked::new();
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let workspace = &mut attacked.workspace;
    workspace.head = format!("[admin]\nlisten = \"{address}\"\n");
    let daemon = workspace.spawn(&["run", "--log-format", "text"]);
    eventually("the server responds", || TcpStream::connect(address).is_ok());

    let get =
        |path: &str| send(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")).2;
    eventually("the rejecting sink is reported", || get("/readyz").contains("HTTP 403"));
    for (path, expected) in [
        ("/readyz", "403: =1+1"),
        ("/", "failed to parse [=1+1"),
        ("/metrics", "secure_score_forwarder_sink_dead_letters"),
        ("/healthz", "alive"),
    ] {
        let body = get(path);
        assert_visible(path, &body);
        assert!(body.contains(expected), "{path}: {body}");
    }

    daemon.signal("TERM");
    let run = daemon.end();
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_visible("log", &run.stderr);
}
