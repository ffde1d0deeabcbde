//! The members in `docs/how-to/automate-with-json.md` are those of the documents that the commands
//! print. A table has exactly the members of its document; a cell that describes objects names each
//! of their members. Start reading at [`assert_documented`].

use std::collections::BTreeSet;

use serde_json::Value;

use super::{blocks, read};
use crate::support::{
    Run, Workspace, eventually,
    hec::{Hec, TOKEN},
};

const PAGE: &str = "docs/how-to/automate-with-json.md";

/// The required arguments of the commands with `--json`.
const REQUIRED: &[(&str, &[&str])] = &[
    ("replay", &["--sink", "local", "--from", "2026-11-22"]),
    ("test-sink", &["local"]),
    ("dead-letters show", &["5d0c"]),
    ("dead-letters retry", &["5d0c"]),
    ("dead-letters discard", &["5d0c"]),
];

/// A row of a table: the members in its first cell, and what its second cell states.
struct Row {
    members: BTreeSet<String>,
    meaning: String,
}

/// The section of the page with this heading.
fn section(heading: &str) -> String {
    let page = read(PAGE);
    let mut sections = page.split("\n#").map(|text| text.trim_start_matches('#').trim_start());
    let found = sections.find(|text| text.lines().next() == Some(heading));
    found.unwrap_or_else(|| panic!("{PAGE} has no section {heading}")).to_owned()
}

/// The rows of the table in a section.
fn rows(heading: &str) -> Vec<Row> {
    let section = section(heading);
    let lines = section.lines().skip_while(|line| !line.starts_with("|---"));
    let rows = lines.skip(1).take_while(|line| line.starts_with('|')).map(|line| {
        let (members, meaning) = line.trim_matches('|').split_once('|').unwrap();
        Row { members: in_backticks(members), meaning: meaning.to_owned() }
    });
    rows.collect()
}

/// The line of a section that begins with this text.
fn line(heading: &str, start: &str) -> String {
    let section = section(heading);
    let found = section.lines().find(|line| line.starts_with(start));
    found.unwrap_or_else(|| panic!("{PAGE}: no line in {heading} begins with `{start}`")).to_owned()
}

fn in_backticks(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn members(object: &Value) -> BTreeSet<String> {
    let members = object.as_object().unwrap_or_else(|| panic!("not an object: {object}"));
    members.keys().cloned().collect()
}

/// Asserts that the table in a section has the members of this object, and no other.
fn assert_documented(heading: &str, object: &Value) {
    let rows = rows(heading);
    let documented: BTreeSet<String> = rows.iter().flat_map(|row| row.members.clone()).collect();
    assert_eq!(members(object), documented, "{heading}");

    for row in &rows {
        for member in &row.members {
            assert_value_documented(&row.meaning, member, &object[member]);
        }
    }
}

/// Asserts that a text names the members of every object in a value, or refers to the section that
/// does.
fn assert_value_documented(text: &str, name: &str, value: &Value) {
    match value {
        Value::Array(items) => {
            items.iter().for_each(|item| assert_value_documented(text, name, item));
        }
        // The rules at the beginning of the page describe every error.
        Value::Object(_) if name == "error" => {
            assert_eq!(members(value), in_backticks("`hint` `message`"), "{value}");
        }
        Value::Object(object) => match text.split("](#").nth(1) {
            Some(target) => assert_documented(&heading_of(target), value),
            None => {
                let named = in_backticks(text);
                for (member, inner) in object {
                    assert!(named.contains(member), "{PAGE}: `{name}`: no `{member}` in: {text}");
                    assert_value_documented(text, member, inner);
                }
            }
        },
        _ => {}
    }
}

/// The heading to which an anchor refers: `result-of-a-poll` is `Result of a poll`.
fn heading_of(target: &str) -> String {
    let anchor = target.split(')').next().unwrap().replace('-', " ");
    anchor[..1].to_uppercase() + &anchor[1..]
}

/// The document that a command prints. The command may fail.
fn document(workspace: &Workspace, args: &[&str]) -> Value {
    let run = workspace.run(args);
    serde_json::from_str(&run.stdout)
        .unwrap_or_else(|error| panic!("{args:?}: {error}\n{}{}", run.stdout, run.stderr))
}

/// A workspace with the sink `splunk`, whose receiver rejects one record of each day, and the file
/// sink `local`.
fn workspace(hec: &Hec) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 2".to_owned();
    let token = workspace.secret("hec-secret", TOKEN);
    let splunk = format!("type = \"splunk_hec\"\nurl = \"{}\"\ntoken = {token}", hec.url);
    workspace.sink("splunk", &splunk);
    workspace.file_sink("local");
    hec.poison("\"id\":\"OneAdmin\"");
    workspace
}

#[test]
fn documented_members_are_those_of_the_commands() {
    let hec = Hec::new();
    let workspace = workspace(&hec);
    for (heading, args) in [
        ("`once`", &["once", "--json"][..]),
        ("`status`", &["status", "--json"]),
        ("`replay`", &["replay", "--sink", "local", "--from", "2020-01-01", "--dry-run", "--json"]),
        ("`test-sink`", &["test-sink", "local", "--json"]),
        ("`state verify`", &["state", "verify", "--json"]),
    ] {
        assert_documented(heading, &document(&workspace, args));
    }

    let unknown = document(&workspace, &["status", "--tenant", "unknown", "--json"]);
    assert_eq!(members(&unknown), in_backticks("`errors`"));

    // Each row of this table describes one command.
    workspace.run_ok(&["baseline", "set", "--name", "agreed"]);
    for command in ["show", "diff"] {
        let compared = document(&workspace, &["baseline", command, "--json"]);
        assert_eq!(members(&compared), in_backticks("`tenants`"));
        let start = format!("| `tenants` of `baseline {command}` |");
        assert_value_documented(&line("`baseline`", &start), "tenants", &compared["tenants"]);
    }
}

#[test]
fn documented_members_are_those_of_dead_letters() {
    let hec = Hec::new();
    let workspace = workspace(&hec);
    workspace.run(&["once"]);

    let heading = "`dead-letters`";
    let listed = document(&workspace, &["dead-letters", "list", "--json"]);
    let letter = &listed["dead_letters"][0];
    let rows = rows(heading).into_iter();
    let documented: BTreeSet<String> = rows.flat_map(|row| row.members).collect();
    assert_eq!(members(&listed), documented);
    let each = in_backticks(&line(heading, "Each dead letter has the members "));
    assert_eq!(members(letter), each);

    let id = letter["event_id"].as_str().unwrap();
    let shown = document(&workspace, &["dead-letters", "show", id, "--json"]);
    let additional = in_backticks(&line(heading, "- `show` prints "));
    let with_record = members(&shown["dead_letters"][0]);
    let expected = with_record.difference(&each).cloned().chain(["show".to_owned()]);
    assert_eq!(additional, expected.collect::<BTreeSet<_>>());

    for (command, start) in [
        (&["dead-letters", "retry", "--sink", "splunk", "--json"][..], "- `retry` prints "),
        (
            &["dead-letters", "discard", "--sink", "splunk", "--all", "--yes", "--json"],
            "- `discard` prints ",
        ),
    ] {
        let printed = document(&workspace, command);
        let named = in_backticks(&line(heading, start));
        assert!(members(&printed).is_subset(&named), "{start}: {printed}");
    }
}

/// Regression: `status` and `state verify` printed no document without a valid configuration.
#[test]
fn every_command_prints_its_errors_as_json() {
    let reference = read("docs/reference/commands.md");
    let workspace = Workspace::against("http://127.0.0.1:1");
    let mut count = 0;
    for section in reference.split("\n#").filter(|section| section.contains("| `--json` |")) {
        let name = section.split('`').nth(1).unwrap();
        // Its document has more members, and includes the errors.
        if name == "check" {
            continue;
        }

        let required = REQUIRED.iter().find(|(command, _)| *command == name);
        let mut args: Vec<&str> = name.split(' ').collect();
        args.extend(required.map(|(_, required)| *required).into_iter().flatten());
        args.push("--json");
        let mut command = workspace.command(&args);
        std::fs::remove_file(workspace.path("config.toml")).unwrap();
        let run = Run::of(command.output().unwrap());
        assert_eq!(run.code, 2, "{name}: {}", run.stderr);

        let printed: Value = serde_json::from_str(&run.stdout)
            .unwrap_or_else(|error| panic!("{name}: {error}\n{}{}", run.stdout, run.stderr));
        assert_eq!(members(&printed), in_backticks("`errors`"), "{name}");
        assert!(run.stderr.contains("cannot read `"), "{name}: {}", run.stderr);
        count += 1;
    }
    assert!(count >= 12, "only {count} commands with `--json` were found");
}

/// The page about `check` shows a complete document.
#[test]
fn the_document_of_check_has_the_shown_members() {
    let page = read("docs/how-to/check-the-configuration.md");
    let shown = blocks(&page, "text").into_iter().find(|block| block.contains("\"estimates\""));
    let shown: Value = serde_json::from_str(&shown.unwrap()).unwrap();

    let mut workspace = Workspace::against("http://127.0.0.1:1");
    workspace.file_sink("local");
    workspace.extra = "clod = \"global\"".to_owned();
    let printed = document(&workspace, &["check", "--json"]);
    assert_eq!(members(&printed), members(&shown));
    assert_eq!(members(&printed["errors"][0]), members(&shown["errors"][0]));
}

#[test]
fn documented_members_are_those_of_the_daemon() {
    let hec = Hec::new();
    let mut workspace = workspace(&hec);
    let daemon = workspace.spawn(&["run"]);
    eventually("the daemon polls", || workspace.run(&["poll"]).code == 0);
    assert_documented("`poll`", &document(&workspace, &["poll", "--json"]));
    eventually("everything is delivered", || workspace.is_delivered());

    // A renamed section, and a new sink instead of one of the same type.
    workspace.tenants[0].0 = "contoso-eu";
    workspace.clear_sinks();
    workspace.file_sink("other");
    assert_documented("`reload`", &document(&workspace, &["reload", "--json"]));
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
}
