//! Changes, observations and baselines, from the API's responses to the records.

use std::fmt::Write as _;

use secure_score_forwarder::{
    derive::{Base, ComparedDay, Comparison, ControlFactsRef, changes},
    model::{Day, DayFacts, Number, Seq},
    source::simulated::{self, Richness},
    wire,
};
use serde_json::{Value, json};

use crate::support::{
    TENANT, Workspace,
    faults::{Fault, FaultyApi},
    ids, records_of_kinds, write,
};

const SCORES: &str = "/secureScores";
const PROFILES: &str = "/secureScoreControlProfiles";

/// The index of the control whose score the tests edit: the first control of the newest day.
const EDITED: usize = 0;

struct Tenant {
    api: FaultyApi,
    workspace: Workspace,
}

impl Tenant {
    fn new(head: &str) -> Self {
        let api = FaultyApi::new();
        let mut workspace = Workspace::against(&api.url);
        workspace.extra = "initial_backfill_days = 3".to_owned();
        workspace.head = head.to_owned();
        workspace.file_sink("local");
        Self { api, workspace }
    }

    /// Runs `once` and returns the changes and observations that it sent.
    fn once(&self) -> Vec<Value> {
        let file = self.workspace.path("local.jsonl");
        let before = records_of_kinds(&file, &["change", "quality"]).len();
        self.workspace.run(&["once"]);
        records_of_kinds(&file, &["change", "quality"]).split_off(before)
    }

    /// The ID of the edited control.
    fn edited_control(&self) -> String {
        let controls = records_of_kinds(&self.workspace.path("local.jsonl"), &["control"]);
        let day = controls.last().unwrap()["snapshot"]["date"].clone();
        let day = Day::parse(day.as_str().unwrap()).unwrap();
        let snapshot = simulated::snapshot_json(TENANT, day, Richness::Rich);
        let snapshot: Value = serde_json::from_str(&snapshot).unwrap();
        snapshot["controlScores"][EDITED]["controlName"].as_str().unwrap().to_owned()
    }
}

fn zero(page: &mut Value) {
    let control = &mut page["value"][0]["controlScores"][EDITED];
    control["score"] = json!(0.0);
    control["scoreInPercentage"] = json!(0.0);
}

/// Sets the score and removes the percentage, which would have to match the maximum score.
fn set_score(page: &mut Value, score: f64) {
    let control = &mut page["value"][0]["controlScores"][EDITED];
    control["score"] = json!(score);
    control["scoreInPercentage"] = Value::Null;
}

fn raise(page: &mut Value) {
    let control = &mut page["value"][0]["controlScores"][EDITED];
    control["score"] = json!(5.0);
    control["scoreInPercentage"] = json!(62.5);
}

#[test]
fn regression_has_its_cause_and_configured_severity() {
    let tenant = Tenant::new(
        "[[severity]]\nwhat = [\"regressed\"]\ncause = \"tenant\"\npoints = 5\nseverity = \"critical\"\n",
    );
    tenant.api.fail(SCORES, Fault::Edit(|page| set_score(page, 5.0)));
    tenant.once();
    let control = tenant.edited_control();
    tenant.api.fail(SCORES, Fault::Edit(|page| set_score(page, 0.0)));
    let records = tenant.once();

    let change = records.iter().find(|r| r["control"]["id"] == control.as_str()).unwrap();
    assert_eq!(change["change"]["what"], "regressed");
    assert_eq!(change["change"]["cause"], "tenant");
    assert_eq!(
        (&change["change"]["before"]["score"], &change["change"]["delta"]),
        (&json!(5.0), &json!(-5.0))
    );
    assert_eq!(change["change"]["severity"], 10);
    assert_eq!(change["time"], change["observed_time"], "the time of observation");
    assert_eq!(
        change["change"]["base"], change["snapshot"]["date"],
        "the base of a revision is the same day"
    );
}

#[test]
fn acceptance_reports_its_author_and_expectation() {
    let expects = |tenants: &str| {
        format!(
            "[[expected_decisions]]\ncontrol = \"*\"\nstate = \"Ignored\"\nowner = \"anna@contoso.example\"\ntenants = [\"{tenants}\"]\n"
        )
    };

    for (tenants, expected, severity) in [("contoso", true, 1), ("other", false, 8)] {
        let tenant = Tenant::new(&expects(tenants));
        tenant.once();
        tenant.api.fail(SCORES, Fault::Edit(zero));
        tenant.api.fail(
            PROFILES,
            Fault::Edit(|page| {
                page["value"][7]["controlStateUpdates"] = json!([{
                    "assignedTo": "", "comment": "until the ERP is gone", "state": "Ignored",
                    "updatedBy": "ben@contoso.example", "updatedDateTime": "2026-11-20T10:00:00Z",
                }]);
            }),
        );
        let records = tenant.once();

        let decisions: Vec<&Value> =
            records.iter().filter(|r| r["change"]["what"] == "decision_changed").collect();
        assert_eq!(decisions.len(), 1, "{decisions:?}");
        let change = &decisions[0]["change"];
        assert_eq!(change["after"]["state_updated_by"], "ben@contoso.example");
        assert_eq!(change["after"]["state_comment"], "until the ERP is gone");
        assert_eq!(
            (&change["expected"], &change["severity"]),
            (&json!(expected), &json!(severity))
        );
        assert_eq!(change.get("owner").is_some(), expected);
    }
}

#[test]
fn expired_acceptance_is_reported_once() {
    let today = Day::of(secure_score_forwarder::clock::now());
    let until = today.plus(-1);
    let tenant = Tenant::new(&format!(
        "[[expected_decisions]]\ncontrol = \"*\"\nstate = \"Ignored\"\nowner = \"anna\"\nexpires = \"{until}\"\n"
    ));

    let records = tenant.once();
    let expired: Vec<&Value> =
        records.iter().filter(|r| r["change"]["what"] == "acceptance_expired").collect();
    assert!(!expired.is_empty());
    for record in &expired {
        let change = &record["change"];
        assert_eq!(record["snapshot"]["date"], json!(today.to_string()));
        assert_eq!(
            (&change["after"]["state"], &change["owner"]),
            (&json!("Ignored"), &json!("anna"))
        );
        assert_eq!((&change["expected"], &change["severity"]), (&json!(false), &json!(8)));
    }

    let mut ids: Vec<&str> = expired.iter().map(|r| r["event_id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), expired.len());

    // A revision of the day does not report it again.
    tenant.api.fail(SCORES, Fault::Edit(zero));
    let records = tenant.once();
    assert!(records.iter().all(|r| r["change"]["what"] != "acceptance_expired"));
}

#[test]
fn historical_changes_are_sent_only_if_configured() {
    let api = FaultyApi::new();
    // Without this edit, the newest day has no change on some dates.
    api.fail(SCORES, Fault::Edit(raise));
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 20".to_owned();
    let fresh = workspace.file_sink("fresh");
    let all = workspace.path("all.jsonl");
    workspace.sink(
        "all",
        &format!("type = \"file\"\npath = \"{}\"\nhistorical_changes = true", all.display()),
    );
    workspace.run_ok(&["once"]);

    let changes = records_of_kinds(&all, &["change"]);
    let (old, new): (Vec<Value>, Vec<Value>) =
        changes.into_iter().partition(|r| r["change"]["historical"] == true);
    assert!(old.len() > 5 && !new.is_empty());
    assert!(old.iter().all(|r| r["change"]["severity"] == 1 && r["time"] != r["observed_time"]));
    let decisions = old.iter().filter(|r| r["change"]["what"] == "decision_changed").count();
    assert!(decisions > 0, "there are decisions from before the first poll");

    let fresh = records_of_kinds(&fresh, &["change"]);
    assert!(ids(&fresh).eq(ids(&new)));
}

#[test]
fn summary_counts_the_records_of_its_sink() {
    let tenant = Tenant::new("");
    tenant.once();
    tenant.api.fail(SCORES, Fault::Edit(raise));
    tenant.once();

    let file = tenant.workspace.path("local.jsonl");
    let all = records_of_kinds(&file, &["control", "summary", "change"]);
    let entry = |r: &Value| (r["snapshot"]["date"].clone(), r["snapshot"]["revision"].clone());
    for summary in all.iter().filter(|r| r["kind"] == "summary") {
        let count = all.iter().filter(|r| entry(r) == entry(summary)).count();
        assert_eq!(summary["score"]["records_sent"], json!(count));
    }
}

#[test]
fn late_day_has_no_changes() {
    let tenant = Tenant::new("");
    tenant
        .api
        .fail(SCORES, Fault::Edit(|page| drop(page["value"].as_array_mut().unwrap().remove(1))));
    let records = tenant.once();
    let gap = records.iter().find(|r| r["quality"]["what"] == "gap").unwrap();
    assert_eq!(gap["quality"]["phase"], "begin");
    assert!(gap.get("snapshot").is_none());

    let records = tenant.once();
    let phases: Vec<&Value> = records.iter().map(|r| &r["quality"]["phase"]).collect();
    assert_eq!(phases, ["end"], "expected only the end of the gap: {records:?}");
}

#[test]
fn failed_polls_begin_and_end_one_observation() {
    let tenant = Tenant::new("");
    let forbidden = || {
        Fault::Respond(
            403,
            vec![],
            b"{\"error\":{\"code\":\"Forbidden\",\"message\":\"no\"}}".to_vec(),
        )
    };

    let mut records = Vec::new();
    for _ in 0..2 {
        tenant.api.fail(SCORES, forbidden());
        records.extend(tenant.once());
        tenant.api.clear();
    }
    records.extend(tenant.once());

    let failed: Vec<&Value> =
        records.iter().filter(|r| r["quality"]["what"] == "poll_failed").collect();
    let phases: Vec<&Value> = failed.iter().map(|r| &r["quality"]["phase"]).collect();
    assert_eq!(phases, ["begin", "end"]);
    assert_ne!(failed[0]["event_id"], failed[1]["event_id"]);
    assert_eq!(
        (&failed[0]["quality"]["severity"], &failed[1]["quality"]["severity"]),
        (&json!(8), &json!(1)),
        "a missing permission needs an operator"
    );
}

#[test]
fn a_repeated_observation_has_a_new_id() {
    let tenant = Tenant::new("");
    let mut begins = Vec::new();
    for _ in 0..2 {
        tenant.api.fail(SCORES, Fault::Respond(403, vec![], b"{}".to_vec()));
        let records = tenant.once();
        begins.extend(records.into_iter().filter(|r| r["quality"]["what"] == "poll_failed"));
        tenant.api.clear();
        tenant.once();
    }
    assert_eq!(begins.len(), 2);
    assert_ne!(begins[0]["event_id"], begins[1]["event_id"]);
}

#[test]
fn sink_selects_kinds_of_records_and_changes() {
    let tenant = Tenant::new("");
    let mut workspace = tenant.workspace;
    let path = workspace.path("few.jsonl");
    workspace.sink(
        "few",
        &format!(
            "type = \"file\"\npath = \"{}\"\nrecords = [\"change\"]\nchanges = [\"decision_changed\"]\nhistorical_changes = true",
            path.display()
        ),
    );
    workspace.run_ok(&["once"]);

    let all = crate::support::records(&path);
    assert!(!all.is_empty() && all.iter().all(|r| r["change"]["what"] == "decision_changed"));
    let status = workspace.status();
    assert_eq!(status["sinks"][1]["backlog_entries"], 0, "excluded records are not a backlog");
}

#[test]
fn baseline_is_set_shown_and_compared() {
    let tenant = Tenant::new("");
    tenant.api.fail(SCORES, Fault::Edit(raise));
    tenant.once();
    let control = tenant.edited_control();
    let workspace = &tenant.workspace;

    assert!(workspace.run_ok(&["baseline", "show"]).stderr.contains("no baseline is set"));
    // Regression: a comparison without a baseline succeeded, so a CI job could never fail.
    let without = workspace.run(&["baseline", "diff", "--exit-code"]);
    assert_eq!(without.code, 2);
    assert!(
        without.stderr.contains("\n  hint: run `baseline set --tenant contoso`"),
        "{without:?}"
    );
    workspace.run_ok(&["baseline", "set", "--name", "q4"]);
    let shown = workspace.run_ok(&["baseline", "show"]).stdout;
    assert!(
        shown.contains("baseline q4") && shown.contains(&format!("{control} 62.5%")),
        "{shown}"
    );
    assert_eq!(workspace.run(&["baseline", "diff", "--exit-code"]).code, 0);

    tenant.api.fail(SCORES, Fault::Edit(zero));
    let records = tenant.once();
    let drift = records.iter().find(|r| r["change"]["what"] == "baseline_drift").unwrap();
    assert_eq!(drift["control"]["id"], control.as_str());
    let baseline = &drift["change"]["baseline"];
    assert_eq!(
        (&baseline["name"], &baseline["target"], &baseline["below"]),
        (&json!("q4"), &json!("62.5%"), &json!(true))
    );

    let diff = workspace.run(&["baseline", "diff", "--exit-code"]);
    assert_eq!(diff.code, 1);
    let words: Vec<&str> = diff.stdout.split_whitespace().collect();
    let row = format!("tenant control target actual title contoso {control} 62.5% 0% ");
    assert!(words.join(" ").starts_with(&row), "{}", diff.stdout);
    assert_eq!(workspace.run(&["baseline", "diff"]).code, 0);

    let document = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&workspace.run_ok(args).stdout).unwrap()
    };
    let diff = document(&["baseline", "diff", "--json"]);
    assert_eq!(diff["tenants"][0]["baseline"], "q4");
    let below = &diff["tenants"][0]["below"][0];
    assert_eq!(below["control"], control.as_str());
    assert_eq!((&below["target"], &below["actual"]), (&json!(62.5), &json!(0.0)), "{below}");
    assert_eq!(below["unit"], "percent");
    let shown = document(&["baseline", "show", "--json"]);
    let targets = shown["tenants"][0]["baseline"]["targets"].as_array().unwrap();
    let target = json!({ "control": control, "target": 62.5, "unit": "percent" });
    assert!(targets.contains(&target), "{shown}");
}

#[test]
fn running_daemon_sets_targets_from_a_file() {
    let tenant = Tenant::new("");
    tenant.once();
    let control = tenant.edited_control();
    let workspace = &tenant.workspace;
    let file = workspace.path("ours.txt");
    write(&file, &format!("# our targets\n{control}, 100%\n"));
    let path = file.display().to_string();

    // Before the daemon holds the lock, the command would write the checkpoint itself and keep the
    // daemon from starting.
    let daemon = workspace.spawn(&["run"]);
    crate::support::eventually("the daemon listens", || {
        workspace.state().join("control.sock").exists()
    });
    workspace.run_ok(&["baseline", "set", "--file", &path]);
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);
    assert!(workspace.run_ok(&["baseline", "show"]).stdout.contains("baseline ours"));

    // A target for a control that does not exist could never be missed, so it is rejected.
    write(&file, &format!("{control}X 100%\nNoSuchThing 5\n"));
    let rejected = workspace.run(&["baseline", "set", "--file", &path]);
    assert_eq!(rejected.code, 2);
    assert!(
        rejected.stderr.contains(&format!("the most similar control is `{control}`")),
        "{}",
        rejected.stderr
    );
    assert!(
        rejected.stderr.contains("no tenant has a control `NoSuchThing`"),
        "{}",
        rejected.stderr
    );

    write(&file, "AdminMFAV2 much");
    let rejected = workspace.run(&["baseline", "set", "--file", &path]);
    assert_eq!(rejected.code, 2);
    assert!(rejected.stderr.contains("ours.txt:1:"), "{}", rejected.stderr);
}

/// All changes of the simulated tenant's 90 days, compared with a golden file. Set `GOLDEN=write`
/// to rewrite that file.
#[test]
fn ninety_simulated_days_match_the_golden_file() {
    let last = Day::parse("2026-11-22").unwrap();
    let catalog = simulated::catalog(TENANT);
    let days: Vec<std::sync::Arc<DayFacts>> = (0..90)
        .rev()
        .map(|back| {
            let richness = if back == 0 { Richness::Rich } else { Richness::Poor };
            let json = simulated::snapshot_json(TENANT, last.plus(-back), richness);
            DayFacts::of(&wire::snapshot(&json).unwrap()).unwrap().into()
        })
        .collect();

    let mut lines = String::new();
    for (index, facts) in days.iter().enumerate() {
        let base = index.checked_sub(1).map(|base| Base {
            seq: Seq::new(base as u64 + 1),
            facts: &days[base],
            catalog: Some(&catalog),
            backfilled: true,
            earlier: &days[base.saturating_sub(12)..base],
        });
        let comparison = Comparison { base, first_contact: index == 0, ..Comparison::default() };
        let day = ComparedDay {
            day: facts.day,
            historical: index < 87,
            backfilled: index < 87,
            has_lost_controls: facts.has_lost_controls,
            catalog: &catalog,
            comparison: &comparison,
        };

        let controls: Vec<ControlFactsRef<'_>> =
            facts.controls.iter().map(ControlFactsRef::of).collect();
        for change in changes(&day, &controls) {
            let number = |n: Option<Number>| n.map_or("-".to_owned(), |n| n.to_string());
            let _ = writeln!(
                lines,
                "{} {} {} {} {} -> {}{}{}",
                facts.day,
                change.what.as_str(),
                change.control,
                change.cause.as_str(),
                number(change.before.score),
                number(change.after.score),
                if change.historical { " historical" } else { "" },
                if change.flapping { " flapping" } else { "" },
            );
        }
    }

    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/ninety_days.txt");
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(golden, &lines).unwrap();
    }
    let expected = std::fs::read_to_string(golden).unwrap();
    let difference = expected.lines().zip(lines.lines()).find(|(a, b)| a != b);
    assert!(expected == lines, "the first line that differs: {difference:?}");
}
