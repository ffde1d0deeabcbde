//! Dead letters: how they are reported, listed, shown, retried and discarded.

use crate::support::{
    Workspace, eventually,
    faults::{Fault, FaultyApi},
    hec::{Hec, TOKEN},
    records_of_kinds,
    rsyslog::Rsyslog,
};

/// A workspace with five days, the sink `splunk` whose receiver rejects one record of each day, and
/// the file sink `other`.
fn workspace(hec: &Hec) -> Workspace {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 5".to_owned();
    let token = workspace.secret("hec-secret", TOKEN);
    let splunk = format!("type = \"splunk_hec\"\nurl = \"{}\"\ntoken = {token}", hec.url);
    workspace.sink("splunk", &splunk);
    workspace.file_sink("other");
    hec.poison("\"id\":\"OneAdmin\"");
    workspace
}

/// The phases of the observations about the sink `splunk` that the other sink has received.
fn phases(workspace: &Workspace) -> Vec<String> {
    let phase = |record: &serde_json::Value| {
        assert_eq!(record["quality"]["subject"], "splunk");
        record["quality"]["phase"].as_str().unwrap().to_owned()
    };
    records_of_kinds(&workspace.path("other.jsonl"), &["quality"]).iter().map(phase).collect()
}

fn stored(workspace: &Workspace) -> u64 {
    workspace.status()["sinks"][0]["dead_letters"].as_u64().unwrap()
}

/// The JSON document that a command prints.
fn document(workspace: &Workspace, args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&workspace.run_ok(args).stdout).unwrap()
}

#[test]
fn dead_letters_are_listed_and_retried() {
    let hec = Hec::new();
    let workspace = workspace(&hec);

    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains(" records delivered, 5 rejected (dead letters)"), "{}", run.stderr);
    assert!(run.stderr.contains("hint: run `dead-letters list`"), "{}", run.stderr);
    assert_eq!(phases(&workspace), ["begin"], "one observation, for the other sinks");
    let observed = records_of_kinds(&workspace.path("other.jsonl"), &["quality"]).remove(0);
    assert_eq!(observed["quality"]["hint"], "run `dead-letters list --sink splunk`");
    assert_eq!(stored(&workspace), 5);
    let shown = workspace.run(&["status"]).stdout;
    assert!(shown.contains("dead-letters retry"), "{shown}");

    // Dead letters of an earlier run make a run incomplete too.
    let run = workspace.run(&["once", "--json"]);
    assert_eq!(run.code, 1);
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let splunk = &report["sinks"][0];
    assert_eq!((&splunk["records_rejected"], &splunk["dead_letters"]), (&0.into(), &5.into()));
    assert!(run.stderr.contains("5 dead letters in total"), "{}", run.stderr);

    // A retry that is rejected again changes nothing.
    let run = workspace.run(&["replay", "--sink", "splunk", "--rejected"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("queued 5 dead letters to be sent again"), "{}", run.stderr);
    assert_eq!(stored(&workspace), 5);

    hec.poison("matches no record");
    let before = hec.ids().len();
    workspace.run_ok(&["dead-letters", "retry", "--sink", "splunk"]);
    assert_eq!(hec.ids().len(), before + 5);
    assert_eq!(stored(&workspace), 0);
    workspace.run_ok(&["once"]);
    assert_eq!(phases(&workspace), ["begin", "end"]);
    let received = hec.received();
    let last = &received.events.last().unwrap()["event"];
    assert_eq!((&last["control"]["id"], &last["replayed"]), (&"OneAdmin".into(), &true.into()));
}

#[test]
fn shows_a_dead_letter_as_it_is_sent() {
    let hec = Hec::new();
    let workspace = workspace(&hec);
    workspace.run(&["once"]);

    let list = document(&workspace, &["dead-letters", "list", "--json", "--limit", "2"]);
    assert_eq!((&list["total"], list["dead_letters"].as_array().unwrap().len()), (&5.into(), 2));
    let letter = &list["dead_letters"][0];
    assert!(letter["reason"].as_str().unwrap().contains("Invalid data"), "{letter}");
    assert_eq!((&letter["sink"], &letter["tenant_name"]), (&"splunk".into(), &"contoso".into()));

    let id = letter["event_id"].as_str().unwrap();
    let shown = document(&workspace, &["dead-letters", "show", &id[..12], "--json"]);
    let shown = &shown["dead_letters"][0];
    assert_eq!(shown["format"], "json");
    let record: serde_json::Value =
        serde_json::from_str(shown["record"].as_str().unwrap()).unwrap();
    assert_eq!((&record["event_id"], &record["control"]["id"]), (&id.into(), &"OneAdmin".into()));
    assert_eq!(record["snapshot"]["date"], letter["day"]);

    let text = workspace.run_ok(&["dead-letters", "show", id]).stdout;
    assert!(text.starts_with(&format!("event ID:    {id}\nsink:        splunk\n")), "{text}");
    for line in ["tenant:      contoso\n", "record (json):\n\n{"] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let run = workspace.run_ok(&["dead-letters", "list", "--tenant", "cont*"]);
    assert_eq!(run.stdout.matches("Invalid data").count(), 1, "{}", run.stdout);
    assert!(run.stderr.starts_with("5 dead letters in 1 group\n  hint: run `dead-letters show"));
    let run = workspace.run_ok(&["dead-letters", "list", "--ungrouped", "--limit", "4"]);
    assert_eq!(run.stdout.matches("Invalid data").count(), 4, "{}", run.stdout);
    assert!(run.stderr.starts_with("5 dead letters, of which the newest 4 are listed\n"));
}

#[test]
fn a_selection_that_matches_nothing_is_rejected() {
    let hec = Hec::new();
    let workspace = workspace(&hec);
    workspace.run(&["once"]);
    let absent = "0".repeat(40);

    for (subcommand, arguments, message) in [
        ("show", ["xyz", "--json"], "`xyz` is not an event ID"),
        ("show", [absent.as_str(), "--json"], "there is no dead letter"),
        ("list", ["--sink", "unknown"], "no sink `unknown`"),
        ("retry", ["--sink", "unknown"], "no sink `unknown`"),
        ("list", ["--tenant", "unknown"], "no tenant `unknown`"),
        ("discard", ["--sink", "splunk"], "required arguments were not provided"),
        ("retry", ["--json", "--json"], "cannot be used multiple times"),
    ] {
        let run = workspace.run(&["dead-letters", subcommand, arguments[0], arguments[1]]);
        assert_eq!(run.code, 2, "{subcommand} {arguments:?}: {}", run.stderr);
        assert!(run.stderr.contains(message), "{subcommand} {arguments:?}: {}", run.stderr);
    }
    assert_eq!(stored(&workspace), 5);
}

#[test]
fn discarded_dead_letters_are_reported_and_gone() {
    let hec = Hec::new();
    let workspace = workspace(&hec);
    workspace.run(&["once"]);
    let list = document(&workspace, &["dead-letters", "list", "--json"]);
    let id = list["dead_letters"][4]["event_id"].as_str().unwrap();

    let run = workspace.run_ok(&["dead-letters", "discard", id]);
    assert_eq!(run.stdout, "discarded 1 dead letter\n");
    let all = ["dead-letters", "discard", "--sink", "splunk", "--all", "--json"];
    let unconfirmed = workspace.run(&all);
    assert_eq!(unconfirmed.code, 2);
    assert!(unconfirmed.stderr.contains("a discard of 4 dead letters cannot be undone"));
    assert!(unconfirmed.stdout.contains("pass --yes"), "{}", unconfirmed.stdout);
    assert_eq!(stored(&workspace), 4);

    let discarded = document(&workspace, &[&all[..], &["--yes"]].concat());
    assert_eq!(discarded["discarded"], 4);
    assert_eq!(stored(&workspace), 0);
    workspace.run_ok(&["once"]);
    assert_eq!(phases(&workspace), ["begin", "end", "begin", "end"]);
    assert!(
        hec.received().events.iter().all(|event| event["event"]["control"]["id"] != "OneAdmin")
    );
}

#[test]
fn the_daemon_retries_and_discards_dead_letters() {
    let hec = Hec::new();
    let workspace = workspace(&hec);
    let daemon = workspace.spawn(&["run"]);
    eventually("the records are rejected", || {
        workspace.try_status().is_some_and(|status| status["sinks"][0]["dead_letters"] == 5)
    });
    let list = document(&workspace, &["dead-letters", "list", "--json"]);
    let ids: Vec<&str> = list["dead_letters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|letter| letter["event_id"].as_str().unwrap())
        .collect();

    hec.poison("matches no record");
    let before = hec.ids().len();
    let retried = document(&workspace, &["dead-letters", "retry", ids[0], ids[1], "--json"]);
    assert_eq!((&retried["state"], &retried["queued"]), (&"queued".into(), &2.into()));
    eventually("two records are sent", || hec.ids().len() == before + 2);
    eventually("three dead letters remain", || stored(&workspace) == 3);

    workspace.run_ok(&["dead-letters", "discard", "--sink", "splunk", "--all", "--yes"]);
    assert_eq!(stored(&workspace), 0);
    eventually("the other sink is notified", || {
        let text = std::fs::read_to_string(workspace.path("other.jsonl")).unwrap();
        text.contains("\"phase\":\"end\"")
    });
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
    assert_eq!(phases(&workspace), ["begin", "end"]);
}

/// An API whose newest day has a text of 10 kB in each of these controls, and a syslog sink that
/// accepts messages up to 8 KiB.
fn with_long_texts(edit: fn(String) -> String) -> (FaultyApi, Rsyslog, Workspace) {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let rsyslog = Rsyslog::new();
    workspace.sink("siem", &syslog(&rsyslog, "8KiB"));
    api.fail("/secureScores", Fault::Change(edit));
    (api, rsyslog, workspace)
}

fn syslog(rsyslog: &Rsyslog, max_message: &str) -> String {
    format!(
        "type = \"syslog\"\naddress = \"tcp://127.0.0.1:{}\"\nformat = \"json\"\nmax_message = \"{max_message}\"",
        rsyslog.tcp
    )
}

/// The page with a long text in the controls with these indexes.
fn lengthened(page: &str, indexes: impl Iterator<Item = usize>) -> String {
    let mut page: serde_json::Value = serde_json::from_str(page).unwrap();
    for index in indexes {
        page["value"][0]["controlScores"][index]["implementationStatus"] =
            "long ".repeat(2_000).into();
    }
    page.to_string()
}

#[test]
fn an_oversize_record_becomes_a_dead_letter() {
    let (_api, rsyslog, mut workspace) =
        with_long_texts(|page| lengthened(&page, std::iter::once(3)));
    assert_eq!(workspace.run(&["once"]).code, 1);
    assert_eq!(stored(&workspace), 1);

    workspace.clear_sinks().sink("siem", &syslog(&rsyslog, "60KiB"));
    workspace.run_ok(&["dead-letters", "retry", "--sink", "siem"]);
    assert_eq!(stored(&workspace), 0);
    eventually("the record has arrived", || {
        rsyslog.messages().iter().any(|m| m["msg"].as_str().unwrap().contains("long long long"))
    });
}

/// Regression: a retry of many dead letters that were rejected again parked the sink, and was
/// repeated every five minutes.
#[test]
fn rejected_retries_do_not_park_the_sink() {
    let (_api, _rsyslog, workspace) =
        with_long_texts(|page| lengthened(&page, (0..100).step_by(4)));
    assert_eq!(workspace.run(&["once"]).code, 1);
    assert_eq!(stored(&workspace), 25);

    let run = workspace.run(&["dead-letters", "retry", "--sink", "siem"]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("25 rejected (dead letters)"), "{}", run.stderr);
    assert!(!run.stderr.contains("parked"), "{}", run.stderr);
    assert_eq!(stored(&workspace), 25);

    let run = workspace.run(&["once"]);
    assert!(run.stderr.contains("sink `siem`: 0 records delivered, 25 dead letters in total"));
}
