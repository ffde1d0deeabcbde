//! Peculiarities of Microsoft's data: what is accepted, rejected, streamed and observed.

use serde_json::{Value, json};

use crate::support::{
    OTHER, TENANT, Workspace,
    faults::{Fault, FaultyApi},
    fs, scores,
};

const SCORES: &str = "/secureScores";
const PROFILES: &str = "/secureScoreControlProfiles";

/// A tenant with three days, and an API whose responses can be edited.
struct EditedTenant {
    api: FaultyApi,
    workspace: Workspace,
}

impl EditedTenant {
    fn new() -> Self {
        let api = FaultyApi::new();
        let mut workspace = Workspace::against(&api.url);
        workspace.extra = "initial_backfill_days = 3".to_owned();
        workspace.file_sink("local");
        Self { api, workspace }
    }

    /// Edits the next page of scores.
    fn scores(&self, change: fn(&mut Value)) -> &Self {
        self.api.fail(SCORES, Fault::Edit(change));
        self
    }

    /// Edits the next page of profiles.
    fn profiles(&self, change: fn(&mut Value)) -> &Self {
        self.api.fail(PROFILES, Fault::Edit(change));
        self
    }

    /// Polls, and returns the new records.
    fn once(&self) -> Vec<Value> {
        let before = scores(&self.workspace.path("local.jsonl")).len();
        self.workspace.run_ok(&["once"]);
        scores(&self.workspace.path("local.jsonl")).split_off(before)
    }

    /// Observation and phase, such as `gap begin`.
    fn observations(&self) -> Vec<String> {
        let path = self.workspace.state().join("checkpoint.db");
        let database = rusqlite::Connection::open(path).unwrap();
        let sql = "SELECT what || ' ' || phase FROM entry WHERE kind = 2 ORDER BY seq";
        let mut statement = database.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<Result<Vec<String>, _>>().unwrap()
    }
}

/// The summary of the newest day.
fn newest(streamed: &[Value]) -> &Value {
    streamed.iter().rfind(|r| r["kind"] == "summary").unwrap()
}

fn control<'a>(streamed: &'a [Value], id: &str) -> Option<&'a Value> {
    streamed.iter().rfind(|r| r["control"]["id"] == id)
}

#[test]
fn omits_absent_and_negative_averages() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| {
        page["value"][0]["averageComparativeScores"] = json!([
            { "basis": "AllTenants", "averageScore": 41.5 },
            { "basis": "TotalSeats", "averageScore": -1.0 },
            { "basis": "IndustryTypes", "averageScore": -1 },
        ]);
        page["value"][1]["averageComparativeScores"] = json!([]);
        page["value"][2]["averageComparativeScores"] = Value::Null;
    });
    let streamed = tenant.once();
    let averages: Vec<&Value> = streamed
        .iter()
        .filter(|r| r["kind"] == "summary")
        .map(|r| &r["score"]["averages"])
        .collect();
    assert_eq!(*averages[2], json!([{ "basis": "AllTenants", "score": 41.5 }]));
    assert!(averages[0].as_array().is_none_or(Vec::is_empty));
    assert!(averages[1].as_array().is_none_or(Vec::is_empty));
}

#[test]
fn forwards_user_counts_unchanged() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| {
        page["value"][0]["licensedUserCount"] = json!(0);
        page["value"][0]["activeUserCount"] = json!("505785");
        page["value"][1]["activeUserCount"] = json!(-3);
    });
    let streamed = tenant.once();
    let score = &newest(&streamed)["score"];
    assert_eq!((&score["active_users"], &score["licensed_users"]), (&json!(505_785), &json!(0)));
    let before = streamed.iter().filter(|r| r["kind"] == "summary").nth(1).unwrap();
    assert_eq!(before["score"]["active_users"], json!(-3));
}

#[test]
fn accepts_numbers_and_switches_as_text() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| {
        let day = &mut page["value"][0];
        day["currentScore"] = json!("53.25");
        let score = &mut day["controlScores"][0];
        score["controlName"] = json!("Odd");
        score["score"] = json!("7.83");
        score["scoreInPercentage"] = json!("97.875");
        score["count"] = json!("5");
        score["total"] = json!(5);
        score["on"] = json!("True");
        score["expiry"] = json!("never");
    });
    let streamed = tenant.once();
    assert_eq!(newest(&streamed)["score"]["current"], json!(53.25));
    let record = control(&streamed, "Odd").unwrap();
    let odd = &record["control"];
    assert_eq!(
        (&odd["score"], &odd["count"], &odd["total"], &odd["on"]),
        (&json!(7.83), &json!(5), &json!(5), &json!(true))
    );
    assert_eq!(record["additional"]["expiry"], "never");
    // The control has no profile, so its maximum is derived from score and percentage.
    assert_eq!((&odd["max_score"], &odd["max_score_source"]), (&json!(8.0), &json!("percentage")));
}

#[test]
fn accepts_scores_without_profile_and_profiles_without_score() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| {
        let score = &mut page["value"][0]["controlScores"][0];
        *score = json!({ "controlName": "WithoutProfile", "controlCategory": "Apps", "score": 0.0, "scoreInPercentage": 0.0 });
    });
    tenant.profiles(|page| {
        let mut listed = page["value"][0].clone();
        listed["id"] = json!("NeverScored");
        page["value"].as_array_mut().unwrap().push(listed);
    });
    let streamed = tenant.once();
    let unknown = &control(&streamed, "WithoutProfile").unwrap()["control"];
    assert!(unknown.get("max_score").is_none_or(Value::is_null), "no value is invented: {unknown}");
    assert!(control(&streamed, "NeverScored").is_none());
}

#[test]
fn matches_profiles_without_regard_to_case() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| {
        for (day, name) in [(0, "AdminMFAV3"), (1, "adminMFAV2"), (2, "AdminMFAV2")] {
            let scores = page["value"][day]["controlScores"].as_array_mut().unwrap();
            let admin = scores.iter_mut().find(|s| s["controlName"] == "AdminMFAV2").unwrap();
            admin["controlName"] = json!(name);
        }
        page["value"][0]["controlScores"][5]["controlName"] =
            json!("11770.MDA_Google_EnableTwoFactorAuth");
    });
    let streamed = tenant.once();
    let title = |id: &str| control(&streamed, id).unwrap()["control"]["title"].clone();
    assert_eq!(title("adminMFAV2"), title("AdminMFAV2"), "case is ignored");
    assert!(control(&streamed, "AdminMFAV3").is_some(), "a new name is a new control");
    let prefixed = control(&streamed, "11770.MDA_Google_EnableTwoFactorAuth").unwrap();
    assert_eq!(prefixed["control"]["id"], "11770.MDA_Google_EnableTwoFactorAuth");
}

#[test]
fn rejects_snapshots_of_other_tenants() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| {
        page["value"][0]["id"] = json!("NA");
        page["value"][0]["azureTenantId"] = json!("NA");
        page["value"][1]["azureTenantId"] = json!(OTHER);
    });
    let streamed = tenant.once();
    assert_eq!(streamed.iter().filter(|r| r["kind"] == "summary").count(), 1);
    assert!(streamed.iter().all(|r| r["tenant"]["id"] == TENANT));
    let observed = tenant.observations();
    assert_eq!(observed.iter().filter(|o| *o == "foreign_tenant begin").count(), 2);

    // The days are accepted when they name this tenant.
    assert_eq!(tenant.once().iter().filter(|r| r["kind"] == "summary").count(), 2);
    assert_eq!(tenant.observations().iter().filter(|o| *o == "foreign_tenant end").count(), 2);
}

#[test]
fn rejects_a_day_with_two_dates() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| page["value"][1]["createdDateTime"] = json!("2026-01-01T00:00:00Z"));
    assert_eq!(tenant.once().iter().filter(|r| r["kind"] == "summary").count(), 2);
    assert!(tenant.observations().contains(&"implausible begin".to_owned()));
}

#[test]
fn observes_and_closes_a_gap() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| drop(page["value"].as_array_mut().unwrap().remove(1)));
    tenant.once();
    assert!(tenant.observations().contains(&"gap begin".to_owned()));

    tenant.scores(|page| drop(page["value"].as_array_mut().unwrap().remove(1)));
    assert!(tenant.once().is_empty());
    let late = tenant.once();
    assert!(!late.is_empty() && late.iter().all(|r| r["snapshot"]["late"] == true));
    let observed = tenant.observations();
    let gaps = observed.iter().filter(|o| o.starts_with("gap")).count();
    assert_eq!(gaps, 2, "one begin, one end: {observed:?}");
}

#[test]
fn accepts_a_duplicate_day_once() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| {
        let mut duplicate = page["value"][0].clone();
        duplicate["currentScore"] = json!(1.0);
        let first = duplicate["controlScores"][0].clone();
        page["value"][1]["controlScores"].as_array_mut().unwrap().push(first.clone());
        page["value"].as_array_mut().unwrap().insert(1, duplicate);
    });

    let streamed = tenant.once();
    assert_eq!(streamed.iter().filter(|r| r["kind"] == "summary").count(), 3);
    assert_ne!(newest(&streamed)["score"]["current"], json!(1.0));

    let mut ids: Vec<&Value> = streamed.iter().map(|r| &r["event_id"]).collect();
    let count = ids.len();
    ids.sort_by_key(|id| id.as_str().unwrap());
    ids.dedup();
    assert_eq!(ids.len(), count, "event IDs are unique");
}

#[test]
fn accepts_days_in_any_order() {
    let tenant = EditedTenant::new();
    tenant.scores(|page| page["value"].as_array_mut().unwrap().reverse());
    let streamed = tenant.once();
    let days: Vec<&str> = streamed
        .iter()
        .filter(|r| r["kind"] == "summary")
        .map(|r| r["snapshot"]["date"].as_str().unwrap())
        .collect();
    assert!(days.len() == 3 && days.is_sorted(), "{days:?}");

    tenant.api.clear();
    tenant.scores(|page| page["value"].as_array_mut().unwrap().reverse());
    let fetched = tenant.workspace.run_ok(&["fetch", "--days", "3", "--output", "csv"]).stdout;
    assert_eq!(fetched.lines().filter(|line| line.contains("(total)")).count(), 3);
}

/// A response of the original API: so many days, today first.
fn legacy(days: u32) -> String {
    let today = secure_score_forwarder::model::Day::of(secure_score_forwarder::clock::now());
    let day = |back: u32| {
        let day = today.plus(-i32::try_from(back).unwrap()).to_string();
        let number = |range: std::ops::Range<usize>| day[range].parse::<u32>().unwrap();
        let date = json!({ "Year": number(0..4), "Month": number(5..7), "Day": number(8..10) });
        let date = if back.is_multiple_of(2) { date } else { json!(day) };
        json!({
            "tenantId": TENANT, "createdDate": date, "licensedUserCount": 28, "activeUserCount": 0,
            "secureScore": 92 + back, "maxSecureScore": 271, "accountScore": 39,
            "averageSecureScore": 19.13, "enabledServices": ["HasExchange"],
            "controlScores": [
                { "referenceId": "AdminMFA", "score": 8, "maxScore": 50, "controlDetails": null },
                { "referenceId": "OneAdmin", "score": 1, "maxScore": 1, "controlDetails": { "count": 2, "on": true } },
            ]
        })
    };
    Value::from((0..days).map(day).collect::<Vec<_>>()).to_string()
}

#[test]
fn reads_the_original_api() {
    let tenant = EditedTenant::new();
    let mut workspace = tenant.workspace;
    workspace.extra = "api = \"legacy_reports\"\ninitial_backfill_days = 9".to_owned();
    let respond_with = |days: u32| {
        let json = ("content-type", "application/json".to_owned());
        tenant.api.fail(
            "getTenantSecureScores",
            Fault::Answer(200, vec![json], legacy(days).into_bytes()),
        );
    };

    respond_with(9);
    workspace.run_ok(&["once"]);
    assert!(
        tenant
            .api
            .requests()
            .iter()
            .any(|path| path == "/beta/reports/getTenantSecureScores(period=9)/content")
    );
    let streamed = scores(&workspace.path("local.jsonl"));
    assert_eq!(streamed.len(), 27);
    let admin = &control(&streamed, "AdminMFA").unwrap()["control"];
    assert_eq!(
        (&admin["max_score"], &admin["max_score_source"]),
        (&json!(50.0), &json!("snapshot"))
    );
    assert_eq!(
        newest(&streamed)["score"]["averages"],
        json!([{ "basis": "AllTenants", "score": 19.13 }])
    );

    tenant.api.clear();
    respond_with(3);
    workspace.run_ok(&["once"]);
    assert!(tenant.api.requests().iter().any(|path| path.contains("(period=3)")));
    assert_eq!(scores(&workspace.path("local.jsonl")).len(), 27, "no new day");

    let run = workspace.run(&["fetch", "--days", "91"]);
    assert_eq!(run.code, 2);
}

#[test]
fn imports_saved_responses_as_history() {
    use secure_score_forwarder::{model::Day, source::simulated::snapshot_json};

    let mut tenant = EditedTenant::new();
    tenant.workspace.head = "retention_days = 2000\n".to_owned();
    tenant.once();
    let day = |text: &str| Day::parse(text).unwrap();
    let old: Vec<String> =
        (0..40).map(|n| snapshot_json(TENANT, day("2025-01-01").plus(n), false)).collect();
    let page = format!("{{\"value\":[{}]}}", old[..20].join(","));
    fs(tenant.workspace.path("page.json"), &format!("\u{feff}{page}"));
    fs(tenant.workspace.path("days.jsonl"), &old[20..].join("\n"));
    fs(
        tenant.workspace.path("legacy.json"),
        &legacy(1).replace("tenantId\":\"3f", "tenantId\":\"3F"),
    );

    let file = |name: &str| tenant.workspace.path(name).display().to_string();
    let run = tenant.workspace.run_ok(&[
        "import",
        &file("page.json"),
        &file("days.jsonl"),
        &file("legacy.json"),
    ]);
    assert!(run.stderr.contains("tenant contoso: 40 new days imported"), "{}", run.stderr);
    assert_eq!(tenant.workspace.status()["tenants"][0]["days"], 43);

    // A second import adds no day and changes no day.
    let run = tenant.workspace.run_ok(&["import", &file("page.json"), &file("legacy.json")]);
    assert!(run.stderr.contains("0 new days imported"), "{}", run.stderr);

    // The days are older than `start_from` of the sink; another sink starts earlier.
    assert!(tenant.once().is_empty());
    let mut workspace = tenant.workspace;
    workspace.sink(
        "history",
        &format!(
            "type = \"file\"\npath = \"{}\"\nstart_from = \"2024-01-01\"",
            workspace.path("history.jsonl").display()
        ),
    );
    workspace.run_ok(&["once"]);
    let history = scores(&workspace.path("history.jsonl"));
    assert_eq!(history.iter().filter(|r| r["kind"] == "summary").count(), 43);

    // A running daemon performs the import.
    let daemon = workspace.spawn(&["run"]);
    crate::support::eventually("the daemon holds the checkpoint", || {
        workspace.run(&["status"]).stdout.contains("the daemon runs")
    });
    fs(workspace.path("more.json"), &snapshot_json(TENANT, day("2024-12-31"), false));
    let more = workspace.path("more.json").display().to_string();
    let run = workspace.run_ok(&["import", &more]);
    assert!(run.stderr.contains("tenant contoso: 1 new day imported"), "{}", run.stderr);
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);

    // Days of another tenant, and files that contain no day, are rejected.
    fs(
        workspace.path("other.json"),
        &snapshot_json("bbbbbbbb-0000-4000-8000-00000000c0de", day("2024-12-31"), false),
    );
    let run = workspace.run(&["import", &workspace.path("other.json").display().to_string()]);
    assert!(
        run.code == 2 && run.stderr.contains("contain days of tenant bbbbbbbb"),
        "{}",
        run.stderr
    );
    fs(workspace.path("page.html"), "<html>");
    let run = workspace.run(&["import", &workspace.path("page.html").display().to_string()]);
    assert!(run.code == 2 && run.stderr.contains("page.html"), "{}", run.stderr);
}

#[test]
fn imports_the_configuration_of_the_original_script() {
    use crate::support::CANARY;

    let workspace = Workspace::against("http://127.0.0.1:1");
    let original = format!(
        r#"{{"Description":"x","SSAPIAppID":"11111111-2222-4333-8444-555555555555","SSAPIAppSecret":"{CANARY}",
        "SSAPITenantDomain":"contoso.onmicrosoft.com","SSAPITenantGUID":"{TENANT}","LoginURL":"https://login.windows.net",
        "ResourceAPI":"https://graph.microsoft.com/","SecureScoreAPI":"https://graph.microsoft.com/stagingBeta/reports/getTenantSecureScores(period=9)/content"}}"#
    );
    fs(workspace.path("original-secret.json"), &original);

    let (from, to) = (workspace.path("original-secret.json"), workspace.path("imported.toml"));
    let secret = workspace.path("app-secret");
    let shown = |path: &std::path::Path| path.display().to_string();
    let args =
        ["import-config", &shown(&from), "--write", &shown(&to), "--secret-file", &shown(&secret)];
    let run = workspace.run_ok(&args);
    assert!(run.stderr.contains("was removed from Microsoft Graph"), "{}", run.stderr);
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), format!("{CANARY}\n"));
    let text = std::fs::read_to_string(&to).unwrap();
    assert!(text.contains("initial_backfill_days = 9") && !text.contains(CANARY));

    // An existing file is not overwritten.
    assert_eq!(workspace.run(&args).code, 2);
}

#[test]
fn tenants_of_directory_and_csv_share_a_credential() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.tenants.clear();
    workspace.file_sink("local");
    workspace.head = format!(
        "[credentials.app]\nkind = \"client_secret\"\nclient_id = \"11111111-2222-4333-8444-555555555555\"\nclient_secret = {{ file = \"{}\" }}",
        workspace.path("secret").display()
    );
    let configuration = format!("tenants_file = \"tenants.csv\"\n{}", workspace.configuration());
    std::fs::create_dir(workspace.path("tenants.d")).unwrap();
    let url = &api.url;
    fs(
        workspace.path("tenants.d/contoso.toml"),
        &format!(
            "[[tenants]]\nname = \"contoso\"\nid = \"{TENANT}\"\ncredential = \"app\"\ninitial_backfill_days = 4\ncloud = {{ login_url = \"{url}\", graph_url = \"{url}\" }}\n"
        ),
    );
    fs(
        workspace.path("tenants.csv"),
        &format!("name,id,credential,label.customer\n\"fab, rikam\",{OTHER},app,c-2\n"),
    );

    let mut command = workspace.command(&["check"]);
    fs(workspace.path("config.toml"), &configuration);
    let run = crate::support::Run::of(command.output().unwrap());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stdout.contains("2 tenants, 1 sink"), "{}", run.stdout);

    // The CSV's tenant is in the global cloud, which a test must not use, so it is removed.
    std::fs::remove_file(workspace.path("tenants.csv")).unwrap();
    fs(workspace.path("tenants.csv"), "name,id\n");
    let mut command = workspace.command(&["once"]);
    fs(workspace.path("config.toml"), &configuration);
    let run = crate::support::Run::of(command.output().unwrap());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(run.stderr.contains("tenant contoso: 4 new days"), "{}", run.stderr);
}

/// Regression: after the import of a newer day, the days between the last poll and that day were
/// never requested.
#[test]
fn an_import_does_not_hide_a_gap() {
    use secure_score_forwarder::{clock, model::Day, source::simulated::snapshot_json};

    let mut tenant = EditedTenant::new();
    tenant.workspace.extra = "initial_backfill_days = 14".to_owned();

    // The newest day of the first poll is nine days old.
    tenant.scores(|page| {
        let today = Day::of(secure_score_forwarder::clock::now());
        let days = page["value"].as_array_mut().unwrap();
        for (back, day) in days.iter_mut().enumerate() {
            let json = snapshot_json(TENANT, today.plus(-9 - i32::try_from(back).unwrap()), false);
            *day = serde_json::from_str(&json).unwrap();
        }
    });
    tenant.once();

    let yesterday = Day::of(clock::now()).plus(-1);
    fs(tenant.workspace.path("day.json"), &snapshot_json(TENANT, yesterday, false));
    tenant.workspace.run_ok(&["import", &tenant.workspace.path("day.json").display().to_string()]);
    assert_eq!(tenant.workspace.status()["tenants"][0]["days"], 6);

    tenant.once();
    assert_eq!(tenant.workspace.status()["tenants"][0]["days"], 14, "all days up to today");
}

/// Regression: a rejected copy of an accepted day left the day missing for good.
#[test]
fn a_rejected_copy_leaves_no_missing_day() {
    let tenant = EditedTenant::new();
    tenant.once();
    tenant.scores(|page| page["value"][0]["azureTenantId"] = json!("NA"));
    tenant.once();
    assert_eq!(tenant.workspace.status()["tenants"][0]["missing_days"], 1);
    tenant.once();
    assert_eq!(tenant.workspace.status()["tenants"][0]["missing_days"], 0);
    assert!(tenant.observations().contains(&"foreign_tenant end".to_owned()));
}

/// Regression: with several tenants, `fetch` printed the controls of the second tenant with the
/// titles of the first.
#[test]
fn fetch_prints_the_titles_of_each_tenant() {
    let tenant = EditedTenant::new();
    let mut workspace = tenant.workspace;
    workspace.tenants.push(("fabrikam", OTHER));

    // The first catalog is in reverse order.
    tenant.api.fail(PROFILES, Fault::Edit(|page| page["value"].as_array_mut().unwrap().reverse()));
    let fetched = workspace.run_ok(&["fetch", "--output", "jsonl"]).stdout;
    let records: Vec<Value> =
        fetched.lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    let mut titles = std::collections::HashMap::new();
    for record in records.iter().filter(|r| r["kind"] == "control") {
        let (id, title) = (record["control"]["id"].as_str().unwrap(), &record["control"]["title"]);
        assert_eq!(*titles.entry(id).or_insert(title), title, "{id}");
    }
}
