//! An API that returns invalid responses: the poll fails, nothing is stored, `status` shows the
//! error, and the next poll reads everything.

use crate::support::{
    CANARY, OTHER, TENANT, Workspace,
    faults::{Fault, FaultyApi},
    records, scores, write,
};

const SCORES: &str = "/secureScores";
const PROFILES: &str = "/secureScoreControlProfiles";

fn json() -> (&'static str, String) {
    ("content-type", "application/json".to_owned())
}

/// Asserts that a poll with these faults fails with `expected` in its message or hint and stores
/// nothing, and that the next poll reads all days.
fn assert_rejected(faults: &[(&'static str, Fault)], expected: &str) {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 20".to_owned();
    let file = workspace.file_sink("local");
    for (path, fault) in faults {
        api.fail(path, fault.clone());
    }

    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains(expected), "{expected}: {}", run.stderr);
    assert!(scores(&file).is_empty());

    let status = workspace.status();
    let tenant = &status["tenants"][0];
    let is_shown = ["message", "hint"]
        .iter()
        .any(|key| tenant["error"][key].as_str().is_some_and(|text| text.contains(expected)));
    assert!(is_shown, "{status}");
    assert_eq!(tenant["days"], 0);

    api.clear();
    workspace.run_ok(&["once"]);
    assert_eq!(workspace.status()["tenants"][0]["days"], 20);
}

fn response(status: u16, body: &str) -> Fault {
    Fault::Respond(status, vec![json()], body.as_bytes().to_vec())
}

#[test]
fn rejects_html_with_status_200() {
    let page = Fault::Respond(
        200,
        vec![("content-type", "text/html".to_owned())],
        b"<html>Sign in</html>".to_vec(),
    );
    assert_rejected(&[(SCORES, page.clone())], "Graph returned `text/html` instead of JSON");
    assert_rejected(&[(SCORES, page)], "check whether a proxy or a sign-in page intercepts");
}

#[test]
fn rejects_html_declared_as_json() {
    assert_rejected(&[(SCORES, response(200, "<html>Sign in</html>"))], "not the expected JSON");
}

#[test]
fn rejects_truncated_json_in_either_collection() {
    assert_rejected(
        &[(SCORES, Fault::Change(|text| text[..text.len() / 2].to_owned()))],
        "unexpected response from secureScores: not the expected JSON",
    );
    assert_rejected(
        &[(PROFILES, Fault::Change(|text| text[..text.len() / 2].to_owned()))],
        "unexpected response from secureScoreControlProfiles",
    );
}

#[test]
fn rejects_bodies_over_the_limit() {
    assert_rejected(&[(SCORES, Fault::Flood)], "the body is larger than 16,777,216 bytes");
}

#[test]
fn rejects_a_gzip_bomb() {
    use std::io::Write;

    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..100 {
        encoder.write_all(&vec![b' '; 1 << 20]).unwrap();
    }
    let headers = vec![json(), ("content-encoding", "gzip".to_owned())];
    assert_rejected(
        &[(SCORES, Fault::Respond(200, headers, encoder.finish().unwrap()))],
        "the body is larger than",
    );
}

fn circle(text: String) -> String {
    let mut page: serde_json::Value = serde_json::from_str(&text).unwrap();
    let link = page["@odata.nextLink"].as_str().unwrap();
    let link = format!("{}$skiptoken=again", link.split("$skiptoken").next().unwrap());
    page["@odata.nextLink"] = link.into();
    page["value"].as_array_mut().unwrap().truncate(1);
    page.to_string()
}

/// Regression: a link that must not be followed ended the poll, although other methods of paging
/// were left.
#[test]
fn invalid_page_links_are_worked_around() {
    let other_server = Fault::Change(|text| {
        text.replace(
            "\"@odata.nextLink\":\"http://127.0.0.1",
            "\"@odata.nextLink\":\"http://127.0.0.2",
        )
    });
    let relative = Fault::Edit(|page| page["@odata.nextLink"] = "secureScores?$skip=10".into());
    let number = Fault::Edit(|page| page["@odata.nextLink"] = 5.into());

    for (faults, reason) in [
        (vec![other_server], "it points to another server"),
        (vec![relative], "it is not a valid URL"),
        (vec![number], "it is not a valid URL"),
        (vec![Fault::Change(circle), Fault::Change(circle)], "that page was already read"),
    ] {
        let api = FaultyApi::new();
        let mut workspace = Workspace::against(&api.url);
        workspace.extra = "initial_backfill_days = 20".to_owned();
        workspace.file_sink("local");
        for fault in faults {
            api.fail(SCORES, fault);
        }

        let run = workspace.run_ok(&["once", "--log", "info"]);
        let expected = format!("cannot follow the link to the next page: {reason}");
        assert!(run.stderr.contains(&expected), "{expected}: {}", run.stderr);
        assert_eq!(workspace.status()["tenants"][0]["days"], 20, "{reason}");
        assert!(api.requests().iter().any(|path| path.ends_with("secureScores?$top=90")));
    }
}

#[test]
fn does_not_follow_redirects() {
    let location = ("location", "http://127.0.0.1:1/".to_owned());
    let redirect = Fault::Respond(302, vec![location], vec![]);
    assert_rejected(&[(SCORES, redirect)], "Graph returned HTTP 302: redirects are not followed");
}

#[test]
fn prints_a_hint_for_missing_consent() {
    let body = r#"{"error":{"code":"AccessDenied","message":"Your account does not have access to this data.","innerError":{}}}"#;
    assert_rejected(
        &[(SCORES, response(403, body))],
        "grant the app the application permission SecurityEvents.Read.All",
    );
}

/// The pause is stored, so that the next run respects it too.
#[test]
fn a_long_pause_ends_the_poll() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.file_sink("local");
    let throttled =
        Fault::Respond(429, vec![json(), ("retry-after", "3000".to_owned())], b"{}".to_vec());
    api.fail(SCORES, throttled);

    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    let message = "Graph is throttling this app: no requests for";
    assert!(run.stderr.contains(message), "{}", run.stderr);

    api.clear();
    let run = workspace.run(&["once"]);
    assert!(run.stderr.contains(message), "{}", run.stderr);
    let requests = api.requests().iter().filter(|path| path.contains("/security/")).count();
    assert_eq!(requests, 0);
}

/// Regression: `Retry-After` of the token endpoint was ignored, and the request was repeated
/// within seconds.
#[test]
fn respects_retry_after_of_the_token_endpoint() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.file_sink("local");
    for retry_after in ["3000", "2"] {
        let header = ("retry-after", retry_after.to_owned());
        api.clear();
        api.fail("/token", Fault::Respond(429, vec![json(), header], b"{}".to_vec()));

        let start = std::time::Instant::now();
        let run = workspace.run(&["once"]);
        let requests = api.requests().iter().filter(|path| path.ends_with("/token")).count();

        if retry_after == "2" {
            assert_eq!((run.code, requests), (0, 2), "{}", run.stderr);
            assert!(start.elapsed().as_secs() >= 2);
        } else {
            assert_eq!((run.code, requests), (1, 1), "{}", run.stderr);
            // The pause is stored in the checkpoint.
            std::fs::remove_dir_all(workspace.state()).unwrap();
        }
    }
}

#[test]
fn a_wrong_secret_affects_only_its_tenant() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");

    // The second tenant is a copy of the first with a wrong secret.
    let wrong = workspace.secret("wrong-secret", &format!("{CANARY}-wrong"));
    let configuration = workspace.configuration();
    let from = configuration.find("[[tenants]]").unwrap();
    let to = configuration.find("[[sinks]]").unwrap();
    let other =
        configuration[from..to].replace("\"contoso\"", "\"fabrikam\"").replace(TENANT, OTHER);
    let right = format!("{{ file = \"{}\" }}", workspace.path("secret").display());
    let both = configuration
        .replace("[[sinks]]", &format!("{}\n[[sinks]]", other.replace(&right, &wrong)));
    let mut command = workspace.command(&["once"]);
    write(workspace.path("config.toml"), &both);

    api.fail("/aaaaaaaa", response(401, r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.\r\nTrace ID: x","error_codes":[7000215]}"#));
    let run = crate::support::Run::of(command.output().unwrap());
    assert_eq!(run.code, 1);
    let message = "tenant `fabrikam`: cannot get a token: AADSTS7000215";
    assert!(run.stderr.contains(message), "{}", run.stderr);
    assert!(run.stderr.contains("copy the secret's value, not its ID"), "{}", run.stderr);
    assert!(run.stderr.contains("tenant `contoso`: 3 new days"), "{}", run.stderr);
    assert!(scores(&file).iter().all(|r| r["tenant"]["name"] == "contoso"));
}

#[test]
fn rejects_only_the_snapshot_of_another_tenant() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    let file = workspace.file_sink("local");
    workspace.extra = "initial_backfill_days = 3".to_owned();

    // The second of three days names no tenant, as Microsoft's API did in 2020.
    api.fail(
        SCORES,
        Fault::Change(|text| {
            let mut page: serde_json::Value = serde_json::from_str(&text).unwrap();
            page["value"][1]["azureTenantId"] = "NA".into();
            page["value"][1]["id"] = "NA".into();
            page.to_string()
        }),
    );
    let run = workspace.run_ok(&["once"]);
    assert!(
        run.stderr.contains("2 new days") && run.stderr.contains("1 snapshot rejected"),
        "{}",
        run.stderr
    );
    assert_eq!(workspace.status()["tenants"][0]["missing_days"], 1);

    // The missing day is accepted as a late day.
    assert!(workspace.run_ok(&["once"]).stderr.contains("1 new day,"));
    let streamed = scores(&file);
    assert_eq!(
        streamed.iter().filter(|r| r["kind"] == "summary" && r["snapshot"]["late"] == true).count(),
        1
    );
    assert_eq!(workspace.status()["tenants"][0]["missing_days"], 0);
}

#[test]
fn retries_transient_errors_within_the_poll() {
    let partial = Fault::Respond(
        206,
        vec![json(), ("warning", "199 - \"Microsoft/SecureScore/504/10000\"".to_owned())],
        br#"{"value":[]}"#.to_vec(),
    );
    let unauthorized =
        response(401, r#"{"error":{"code":"InvalidAuthenticationToken","message":"expired"}}"#);

    for (path, fault) in [
        (SCORES, response(503, "{}")),
        (SCORES, Fault::Cut),
        (SCORES, partial),
        ("skiptoken", unauthorized),
    ] {
        let api = FaultyApi::new();
        let mut workspace = Workspace::against(&api.url);
        workspace.extra = "initial_backfill_days = 20".to_owned();
        workspace.file_sink("local");
        api.fail(path, fault.clone());
        let run = workspace.run_ok(&["once"]);
        assert!(run.stderr.contains("20 new days"), "{fault:?}: {}", run.stderr);
        let tokens = api.requests().iter().filter(|path| path.ends_with("/token")).count();
        assert_eq!(tokens, if path == "skiptoken" { 2 } else { 1 });
    }
}

#[test]
fn a_poll_requests_only_the_newest_days() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    api.clear();
    workspace.run_ok(&["once"]);
    let requests: Vec<String> =
        api.requests().iter().filter(|path| path.contains("secureScores")).cloned().collect();
    assert_eq!(requests, ["/v1.0/security/secureScores?$top=3"]);
}

#[test]
fn a_revision_sends_only_changed_records() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    let file = workspace.file_sink("local");
    workspace.extra = "initial_backfill_days = 3".to_owned();
    workspace.run_ok(&["once"]);
    let before = scores(&file).len();

    api.fail(
        SCORES,
        Fault::Change(|text| {
            let mut page: serde_json::Value = serde_json::from_str(&text).unwrap();
            page["value"][1]["controlScores"][0]["score"] = 0.37.into();
            page.to_string()
        }),
    );
    assert!(workspace.run_ok(&["once"]).stderr.contains("0 new days, newest"));

    let streamed = scores(&file);
    let revised: Vec<_> = streamed[before..]
        .iter()
        .map(|r| (r["kind"].as_str().unwrap(), r["snapshot"]["revision"].as_u64().unwrap()))
        .collect();
    assert_eq!(revised, [("control", 2), ("summary", 2)]);
    assert_eq!(streamed[before]["control"]["score"], 0.37);
}

#[test]
fn hostile_text_cannot_forge_a_record() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 1".to_owned();
    let file = workspace.file_sink("local");
    let cef = workspace.path("local.cef");
    workspace.sink(
        "cef",
        &format!(
            "type = \"file\"\npath = \"{}\"\nformat = \"cef\"\ntexts = \"full\"",
            cef.display()
        ),
    );

    let hostile = |text: String| {
        let poison = "x\r\n<134>1 - - - - - - CEF:0|V|P|1|forged|n|9|act=forged\u{2028}\u{202e}\u{0}\u{1b}[31m cs1=evil \\| | \\";
        let mut page: serde_json::Value = serde_json::from_str(&text).unwrap();
        for item in page["value"].as_array_mut().unwrap() {
            for key in ["title", "service", "remediation", "actionUrl", "tier"] {
                if item.get(key).is_some() {
                    item[key] = poison.into();
                }
            }
            for score in
                item.get_mut("controlScores").and_then(|s| s.as_array_mut()).into_iter().flatten()
            {
                score["implementationStatus"] = poison.into();
                score["description"] = poison.into();
                score["brandNew"] = poison.into();
            }
        }
        page.to_string()
    };

    for path in [SCORES, PROFILES, PROFILES, PROFILES] {
        api.fail(path, Fault::Change(hostile));
    }
    workspace.run_ok(&["once"]);

    let expected = records(&file).len();
    for path in [file, cef] {
        let text = std::fs::read_to_string(path).unwrap();
        let is_break = |c: char| {
            matches!(
                c,
                '\u{b}'
                    | '\u{c}'
                    | '\r'
                    | '\u{85}'
                    | '\u{2028}'
                    | '\u{2029}'
                    | '\u{202e}'
                    | '\0'
                    | '\u{1b}'
            )
        };
        assert!(!text.contains(is_break));
        assert_eq!(text.lines().count(), expected);
        assert!(text.lines().all(|line| line.starts_with("CEF:0|Microsoft|Secure Score|")
            || line.starts_with("{\"schema\"")));
        assert!(
            !text.starts_with("CEF")
                || !(text.contains(" act=forged") || text.contains(" cs1=evil"))
        );
    }
}

/// Regression: one unreadable snapshot made every poll fail until Microsoft no longer listed it.
#[test]
fn an_unreadable_snapshot_affects_only_its_day() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    let file = workspace.file_sink("local");
    workspace.extra = "initial_backfill_days = 5".to_owned();

    let broken = |text: String| {
        let mut page: serde_json::Value = serde_json::from_str(&text).unwrap();
        page["value"][2] = serde_json::json!("not a snapshot at all");
        page.to_string()
    };
    api.fail(SCORES, Fault::Change(broken));
    let run = workspace.run_ok(&["once"]);
    assert!(run.stderr.contains("1 snapshot rejected"), "{}", run.stderr);
    assert_eq!(workspace.status()["tenants"][0]["days"], 4);
    assert_eq!(workspace.status()["tenants"][0]["missing_days"], 1, "its day is missing");

    assert!(workspace.run_ok(&["once"]).stderr.contains("1 new day,"));
    assert_eq!(scores(&file).iter().filter(|r| r["kind"] == "summary").count(), 5);
}

/// Regression: an empty first response was taken for the whole history, and the 90 days were never
/// requested.
#[test]
fn an_empty_response_does_not_end_the_backfill() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.file_sink("local");
    api.fail(SCORES, response(200, r#"{"value":[]}"#));
    assert!(workspace.run_ok(&["once"]).stderr.contains("0 new days"));
    assert!(workspace.run_ok(&["once"]).stderr.contains("90 new days"));
}

/// Regression: a rejected day that was older than every accepted day was never requested again.
#[test]
fn a_rejected_oldest_day_stays_missing() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.file_sink("local");
    workspace.extra = "initial_backfill_days = 5".to_owned();

    let foreign = |text: String| {
        let mut page: serde_json::Value = serde_json::from_str(&text).unwrap();
        page["value"][4]["azureTenantId"] = OTHER.into();
        page.to_string()
    };
    api.fail(SCORES, Fault::Change(foreign));
    assert!(workspace.run_ok(&["once"]).stderr.contains("1 snapshot rejected"));
    assert_eq!(workspace.status()["tenants"][0]["days"], 4);
    assert_eq!(workspace.status()["tenants"][0]["missing_days"], 1);
    assert!(workspace.run_ok(&["once"]).stderr.contains("1 new day,"));
    assert_eq!(workspace.status()["tenants"][0]["missing_days"], 0);
}
