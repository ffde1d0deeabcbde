//! An API that misbehaves: refused whole, nothing kept, said in `status`, and made up for later.

use crate::support::{
    CANARY, OTHER, TENANT, Workspace,
    faults::{Fault, FaultyApi},
    fs, records, scores,
};

const SCORES: &str = "/secureScores";
const PROFILES: &str = "/secureScoreControlProfiles";

fn json() -> (&'static str, String) {
    ("content-type", "application/json".to_owned())
}

/// A poll under a fault fails with `word` and keeps nothing; the next takes all.
fn refused(faults: &[(&'static str, Fault)], word: &str) {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 20".to_owned();
    let file = workspace.file_sink("local");
    for (path, fault) in faults {
        api.fail(path, fault.clone());
    }
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    assert!(run.stderr.contains(word), "{word}: {}", run.stderr);
    assert!(scores(&file).is_empty());
    let status = workspace.status();
    assert!(status["tenants"][0]["last_error"].as_str().unwrap().contains(word), "{status}");
    assert_eq!(status["tenants"][0]["days"], 0);
    api.clear();
    workspace.run_ok(&["once"]);
    assert_eq!(workspace.status()["tenants"][0]["days"], 20);
}

fn answer(status: u16, body: &str) -> Fault {
    Fault::Answer(status, vec![json()], body.as_bytes().to_vec())
}

#[test]
fn html_with_status_200() {
    let page = Fault::Answer(
        200,
        vec![("content-type", "text/html".to_owned())],
        b"<html>Sign in</html>".to_vec(),
    );
    refused(&[(SCORES, page)], "a proxy or a sign-in page is in the way");
}

#[test]
fn html_that_calls_itself_json() {
    refused(&[(SCORES, answer(200, "<html>Sign in</html>"))], "not the JSON that was asked for");
}

#[test]
fn truncated_json_in_either_collection() {
    refused(
        &[(SCORES, Fault::Change(|text| text[..text.len() / 2].to_owned()))],
        "secureScores: the answer is not what was asked for",
    );
    refused(
        &[(PROFILES, Fault::Change(|text| text[..text.len() / 2].to_owned()))],
        "secureScoreControlProfiles: the answer",
    );
}

#[test]
fn a_body_of_500_megabytes() {
    refused(&[(SCORES, Fault::Flood)], "the answer is larger than 16777216 bytes");
}

#[test]
fn a_gzip_bomb() {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..100 {
        encoder.write_all(&vec![b' '; 1 << 20]).unwrap();
    }
    let headers = vec![json(), ("content-encoding", "gzip".to_owned())];
    refused(
        &[(SCORES, Fault::Answer(200, headers, encoder.finish().unwrap()))],
        "the answer is larger than",
    );
}

#[test]
fn a_next_page_on_another_server() {
    refused(
        &[(
            SCORES,
            Fault::Change(|text| {
                text.replace(
                    "\"@odata.nextLink\":\"http://127.0.0.1",
                    "\"@odata.nextLink\":\"http://127.0.0.2",
                )
            }),
        )],
        "the next page is refused: it leads to another server",
    );
}

#[test]
fn pages_that_lead_in_a_circle() {
    let circle = |text: String| {
        let mut page: serde_json::Value = serde_json::from_str(&text).unwrap();
        let link = page["@odata.nextLink"]
            .as_str()
            .unwrap()
            .split("$skiptoken")
            .next()
            .unwrap()
            .to_owned();
        page["@odata.nextLink"] = format!("{link}$skiptoken=again").into();
        page["value"].as_array_mut().unwrap().truncate(1);
        page.to_string()
    };
    refused(
        &[(SCORES, Fault::Change(circle)), (SCORES, Fault::Change(circle))],
        "it has been read already",
    );
}

#[test]
fn a_redirect_is_not_followed() {
    let redirect = Fault::Answer(302, vec![("location", "http://127.0.0.1:1/".to_owned())], vec![]);
    refused(&[(SCORES, redirect)], "with a redirect that is not followed");
}

#[test]
fn missing_consent_is_named_with_its_remedy() {
    let body = r#"{"error":{"code":"AccessDenied","message":"Your account does not have access to this data.","innerError":{}}}"#;
    refused(
        &[(SCORES, answer(403, body))],
        "grant the app the application permission SecurityEvents.Read.All",
    );
}

/// The server's word holds for the runs to come, too.
#[test]
fn throttling_beyond_our_patience_ends_the_poll() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.file_sink("local");
    let throttled =
        Fault::Answer(429, vec![json(), ("retry-after", "3000".to_owned())], b"{}".to_vec());
    api.fail(SCORES, throttled);
    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1);
    let word = "Graph is throttling this app, and wants to be left alone for";
    assert!(run.stderr.contains(word), "{}", run.stderr);
    api.clear();
    let run = workspace.run(&["once"]);
    assert!(run.stderr.contains(word), "{}", run.stderr);
    let asked = api.seen().iter().filter(|path| path.contains("/security/")).count();
    assert_eq!(asked, 0, "it was left alone");
}

/// The token endpoint's wish was passed over: it was asked again within seconds.
#[test]
fn the_token_endpoint_is_left_alone_too() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.file_sink("local");
    for retry_after in ["3000", "2"] {
        let header = ("retry-after", retry_after.to_owned());
        api.clear();
        api.fail("/token", Fault::Answer(429, vec![json(), header], b"{}".to_vec()));
        let began = std::time::Instant::now();
        let run = workspace.run(&["once"]);
        let asked = api.seen().iter().filter(|path| path.ends_with("/token")).count();
        if retry_after == "2" {
            assert_eq!((run.code, asked), (0, 2), "{}", run.stderr);
            assert!(began.elapsed().as_secs() >= 2);
        } else {
            assert_eq!((run.code, asked), (1, 1), "{}", run.stderr);
            // As another checkpoint would know nothing of it.
            std::fs::remove_dir_all(workspace.state()).unwrap();
        }
    }
}

#[test]
fn a_wrong_secret_is_told_in_plain_words_and_stops_no_other_tenant() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let file = workspace.file_sink("local");
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
    fs(workspace.path("config.toml"), &both);
    api.fail("/aaaaaaaa", answer(401, r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided.\r\nTrace ID: x","error_codes":[7000215]}"#));
    let run = crate::support::Run::of(command.output().unwrap());
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("tenant fabrikam: no token: AADSTS7000215"), "{}", run.stderr);
    assert!(run.stderr.contains("copy the secret's value, not its id"), "{}", run.stderr);
    assert!(run.stderr.contains("tenant contoso: 3 new days"), "{}", run.stderr);
    assert!(scores(&file).iter().all(|r| r["tenant"]["name"] == "contoso"));
}

#[test]
fn a_body_of_another_tenant_is_refused_and_its_siblings_are_taken() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    let file = workspace.file_sink("local");
    workspace.extra = "initial_backfill_days = 3".to_owned();
    // The second of three days names another tenant, as happened in 2020.
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
    // The day stays owed and comes, late.
    assert!(workspace.run_ok(&["once"]).stderr.contains("1 new day,"));
    let streamed = scores(&file);
    assert_eq!(
        streamed.iter().filter(|r| r["kind"] == "summary" && r["snapshot"]["late"] == true).count(),
        1
    );
    assert_eq!(workspace.status()["tenants"][0]["missing_days"], 0);
}

#[test]
fn what_passes_by_itself_is_tried_again_within_the_poll() {
    let partial = Fault::Answer(
        206,
        vec![json(), ("warning", "199 - \"Microsoft/SecureScore/504/10000\"".to_owned())],
        br#"{"value":[]}"#.to_vec(),
    );
    let unauthorized =
        answer(401, r#"{"error":{"code":"InvalidAuthenticationToken","message":"expired"}}"#);
    for (path, fault) in [
        (SCORES, answer(503, "{}")),
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
        let tokens = api.seen().iter().filter(|path| path.ends_with("/token")).count();
        assert_eq!(tokens, if path == "skiptoken" { 2 } else { 1 });
    }
}

#[test]
fn a_poll_asks_for_no_more_than_it_wants() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    api.clear();
    workspace.run_ok(&["once"]);
    let asked: Vec<String> =
        api.seen().iter().filter(|path| path.contains("secureScores")).cloned().collect();
    assert_eq!(asked, ["/v1.0/security/secureScores?$top=3"]);
}

#[test]
fn a_revised_day_streams_what_differs() {
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
fn hostile_text_stays_within_its_record() {
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

/// One snapshot that could not be read failed every poll for as long as Microsoft listed it.
#[test]
fn a_snapshot_that_cannot_be_read_stops_no_other() {
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
    assert_eq!(workspace.status()["tenants"][0]["missing_days"], 1, "its day is missed");
    assert!(workspace.run_ok(&["once"]).stderr.contains("1 new day,"));
    assert_eq!(scores(&file).iter().filter(|r| r["kind"] == "summary").count(), 5);
}

/// An empty first answer counted as the whole history, and ninety days were never asked for.
#[test]
fn an_empty_first_answer_does_not_end_the_backfill() {
    let api = FaultyApi::new();
    let mut workspace = Workspace::against(&api.url);
    workspace.file_sink("local");
    api.fail(SCORES, answer(200, r#"{"value":[]}"#));
    assert!(workspace.run_ok(&["once"]).stderr.contains("0 new days"));
    assert!(workspace.run_ok(&["once"]).stderr.contains("90 new days"));
}

/// Refused days older than the oldest one taken were never asked for again.
#[test]
fn a_refused_day_at_the_far_end_stays_owed() {
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
