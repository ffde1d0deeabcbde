//! The original API and the imports: polls with `api = "legacy_reports"`, saved responses, and the
//! configuration of the original script.

use secure_score_forwarder::{
    clock,
    model::Day,
    source::simulated::{Richness, snapshot_json},
};
use serde_json::{Value, json};

use crate::{
    data::{EditedTenant, control, newest},
    support::{CANARY, TENANT, Workspace, eventually, faults::Fault, scores, write},
};

/// A response of the original API with this number of days, today first. The API returns a date as
/// a string or as an object, so the response contains both.
fn legacy(days: u32) -> String {
    let today = Day::of(clock::now());
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
            Fault::Respond(200, vec![json], legacy(days).into_bytes()),
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
    let mut tenant = EditedTenant::new();
    tenant.workspace.head = "retention_days = 2000\n".to_owned();
    tenant.once();
    let day = |text: &str| Day::parse(text).unwrap();
    let old: Vec<String> =
        (0..40).map(|n| snapshot_json(TENANT, day("2025-01-01").plus(n), Richness::Poor)).collect();
    let page = format!("{{\"value\":[{}]}}", old[..20].join(","));
    write(tenant.workspace.path("page.json"), &format!("\u{feff}{page}"));
    write(tenant.workspace.path("days.jsonl"), &old[20..].join("\n"));
    write(
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
    assert!(run.stderr.contains("tenant `contoso`: 40 new days imported"), "{}", run.stderr);
    assert_eq!(tenant.workspace.status()["tenants"][0]["days"], 43);

    // A second import neither adds nor changes a day.
    let run = tenant.workspace.run_ok(&["import", &file("page.json"), &file("legacy.json")]);
    assert!(run.stderr.contains("0 new days imported"), "{}", run.stderr);

    // The days precede `start_from` of the sink; another sink starts earlier.
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
    eventually("the daemon holds the checkpoint", || {
        workspace.run(&["status"]).stdout.contains("the daemon is running")
    });
    let more = snapshot_json(TENANT, day("2024-12-31"), Richness::Poor);
    write(workspace.path("more.json"), &more);
    let more = workspace.path("more.json").display().to_string();
    let run = workspace.run_ok(&["import", &more]);
    assert!(run.stderr.contains("tenant `contoso`: 1 new day imported"), "{}", run.stderr);
    daemon.signal("TERM");
    assert_eq!(daemon.end().code, 0);

    // Days of another tenant, and files that contain no day, are rejected.
    write(
        workspace.path("other.json"),
        &snapshot_json("bbbbbbbb-0000-4000-8000-00000000c0de", day("2024-12-31"), Richness::Poor),
    );
    let run = workspace.run(&["import", &workspace.path("other.json").display().to_string()]);
    assert!(
        run.code == 2 && run.stderr.contains("contain days of tenant `bbbbbbbb"),
        "{}",
        run.stderr
    );
    write(workspace.path("page.html"), "<html>");
    let run = workspace.run(&["import", &workspace.path("page.html").display().to_string()]);
    assert!(run.code == 2 && run.stderr.contains("page.html"), "{}", run.stderr);
}

/// Regression: a file without items was accepted without a message.
#[test]
fn files_without_items_are_reported() {
    let mut workspace = Workspace::against("http://127.0.0.1:1");
    workspace.file_sink("local");
    for (name, text) in [("empty.json", ""), ("page.json", "{\"value\":[]}")] {
        write(workspace.path(name), text);
        let run = workspace.run(&["import", &workspace.path(name).display().to_string()]);
        assert_eq!(run.code, 1, "{name}: {}", run.stderr);
        assert!(run.stderr.contains(&format!("{name}` contains no snapshots")), "{}", run.stderr);
    }
}

#[test]
fn imports_the_configuration_of_the_original_script() {
    let workspace = Workspace::against("http://127.0.0.1:1");
    let original = format!(
        r#"{{"Description":"x","SSAPIAppID":"11111111-2222-4333-8444-555555555555","SSAPIAppSecret":"{CANARY}",
        "SSAPITenantDomain":"contoso.onmicrosoft.com","SSAPITenantGUID":"{TENANT}","LoginURL":"https://login.windows.net",
        "ResourceAPI":"https://graph.microsoft.com/","SecureScoreAPI":"https://graph.microsoft.com/stagingBeta/reports/getTenantSecureScores(period=9)/content"}}"#
    );
    write(workspace.path("original-secret.json"), &original);

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

/// Regression: after the import of a newer day, the days between the last poll and that day were
/// never requested.
#[test]
fn an_import_does_not_hide_a_gap() {
    let mut tenant = EditedTenant::new();
    tenant.workspace.extra = "initial_backfill_days = 14".to_owned();

    // The newest day of the first poll is nine days old.
    tenant.scores(|page| {
        let today = Day::of(clock::now());
        let days = page["value"].as_array_mut().unwrap();
        for (back, day) in days.iter_mut().enumerate() {
            let date = today.plus(-9 - i32::try_from(back).unwrap());
            let json = snapshot_json(TENANT, date, Richness::Poor);
            *day = serde_json::from_str(&json).unwrap();
        }
    });
    tenant.once();

    let yesterday = Day::of(clock::now()).plus(-1);
    let saved = snapshot_json(TENANT, yesterday, Richness::Poor);
    write(tenant.workspace.path("day.json"), &saved);
    tenant.workspace.run_ok(&["import", &tenant.workspace.path("day.json").display().to_string()]);
    assert_eq!(tenant.workspace.status()["tenants"][0]["days"], 6);

    tenant.once();
    assert_eq!(tenant.workspace.status()["tenants"][0]["days"], 14, "all days up to today");
}
