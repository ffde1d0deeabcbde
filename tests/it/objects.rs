//! The object store sink: the names and the content of objects, and the errors of the stores.

use serde_json::{Value, json};

use crate::{
    readers::{python, read_by},
    support::{
        CANARY, Workspace,
        endpoint::{Endpoint, entra_token},
        ids,
        objects::Bucket,
        records,
        servers::s3,
    },
};

fn workspace() -> Workspace {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    workspace
}

/// Adds a sink for a bucket of the S3 server.
fn in_s3(workspace: &mut Workspace, bucket: &str, extra: &str) {
    let key = workspace.secret("s3-secret", &format!("{CANARY}-s3"));
    let section = format!(
        "type = \"object_store\"\nurl = \"s3://{bucket}\"\nendpoint = \"http://127.0.0.1:{}\"\nregion = \"eu-west-1\"\naccess_key_id = \"tests\"\nsecret_access_key = {key}\n{extra}",
        s3().port
    );
    workspace.sink("objects", &section);
}

/// A workspace with a sink for a bucket of S3 at this endpoint.
fn at_endpoint(endpoint: &Endpoint) -> Workspace {
    let mut workspace = workspace();
    in_s3(&mut workspace, "scores", "");
    let port = format!("127.0.0.1:{}", s3().port);
    let address = endpoint.url.strip_prefix("http://").unwrap();
    workspace.literal = Some(workspace.configuration().replace(&port, address));
    workspace
}

fn last_error(workspace: &Workspace) -> String {
    workspace.status()["sinks"][0]["error"]["message"].as_str().unwrap_or_default().to_owned()
}

fn last_hint(workspace: &Workspace) -> String {
    workspace.status()["sinks"][0]["error"]["hint"].as_str().unwrap_or_default().to_owned()
}

/// The name of an object depends only on its events, so it is not written a second time after the
/// checkpoint is lost.
#[test]
fn a_lost_checkpoint_creates_no_second_object() {
    let bucket = Bucket::s3();
    let mut workspace = workspace();
    in_s3(&mut workspace, &bucket.name, "");
    workspace.run_ok(&["once"]);
    let before = bucket.objects();
    assert_eq!(before.len(), 3);
    assert!(before[0].0.starts_with(&format!("tenant={}/day=20", crate::support::TENANT)));

    std::fs::remove_dir_all(workspace.state()).unwrap();
    workspace.run_ok(&["once"]);
    assert!(bucket.objects() == before);
    assert_eq!(workspace.status()["sinks"][0]["backlog_entries"], 0);
}

/// DuckDB reads from the Parquet files the same values that a file sink writes as OCSF.
#[test]
fn parquet_contains_every_member_of_ocsf() {
    let bucket = Bucket::s3();
    let mut workspace = workspace();
    let lake = "security_lake = { source = \"secure-score\", account_id = \"123456789012\" }";
    let options = "texts = \"full\"\nextra_fields = { team = \"blue\" }";
    in_s3(&mut workspace, &bucket.name, &format!("{lake}\n{options}"));
    let file = workspace.path("ocsf.jsonl");
    workspace.sink(
        "file",
        &format!("type = \"file\"\npath = \"{}\"\nformat = \"ocsf\"\n{options}", file.display()),
    );
    workspace.extra += "\nlabels = { customer = \"c-17\" }";
    workspace.run_ok(&["once"]);

    let mut expected = records(&file);
    let time = expected[0]["time"].as_i64().unwrap();
    let day = jiff::Timestamp::from_millisecond(time).unwrap().strftime("%Y%m%d").to_string();
    let folder =
        format!("ext/secure-score/region=eu-west-1/accountId=123456789012/eventDay={day}/");
    let files: Vec<String> = bucket
        .objects()
        .into_iter()
        .enumerate()
        .map(|(number, (name, body))| {
            assert!(name.starts_with(&folder) && name.ends_with(".parquet"), "{name}");
            let path = workspace.path(&format!("{number}.parquet"));
            std::fs::write(&path, body).unwrap();
            path.display().to_string()
        })
        .collect();

    let script = "
import duckdb, sys, json
def tidy(value):
    if isinstance(value, dict):
        return {key: tidy(v) for key, v in value.items() if v is not None}
    return [tidy(v) for v in value] if isinstance(value, list) else value
for line in sys.stdin:
    rows = duckdb.sql(f\"select * from read_parquet('{line.strip()}', hive_partitioning=false)\")
    for row in rows.fetchall():
        print(json.dumps(tidy(dict(zip(rows.columns, row)))))
";
    let mut found: Vec<Value> = read_by(&mut python(script), &files)
        .iter()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();

    // `unmapped` is a map of strings in Parquet.
    for record in &mut expected {
        for value in record["unmapped"].as_object_mut().unwrap().values_mut() {
            if !value.is_string() {
                *value = value.to_string().into();
            }
        }
    }

    let id = |record: &Value| record["metadata"]["uid"].as_str().unwrap().to_owned();
    expected.sort_by_key(id);
    found.sort_by_key(id);
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
}

#[test]
fn writes_compressed_csv_with_a_heading() {
    let bucket = Bucket::s3();
    let mut workspace = workspace();
    in_s3(&mut workspace, &bucket.name, "format = \"csv\"\ncompression = \"gzip\"");
    let file = workspace.file_sink("local");
    workspace.run_ok(&["once"]);

    let mut lines = 0;
    for (name, body) in bucket.objects() {
        assert!(name.ends_with(".csv.gz"), "{name}");
        let mut reader = csv::Reader::from_reader(flate2::read::GzDecoder::new(&*body));
        assert_eq!(
            reader.headers().unwrap().get(0),
            Some(secure_score_forwarder::format::COLUMNS[0])
        );
        lines += reader.records().map(Result::unwrap).count();
    }
    assert_eq!(lines, records(&file).len());
}

#[test]
fn the_error_of_a_store_is_one_line() {
    let mut without_bucket = workspace();
    in_s3(&mut without_bucket, "nowhere", "");
    let run = without_bucket.run(&["once"]);
    assert_eq!(run.code, 1);
    let error = last_error(&without_bucket);
    assert!(
        error.contains("404 Not Found: NoSuchBucket: The specified bucket does not exist"),
        "{error}"
    );
    assert!(last_hint(&without_bucket).starts_with("create the bucket or container"));

    for (status, text, hint, parked) in [
        (403, "403 Forbidden: AccessDenied: not you", "allow the credential", true),
        (400, "400 Bad Request: AccessDenied: not you", "", true),
        (503, "503 Service Unavailable: AccessDenied: not you", "", false),
    ] {
        let endpoint = Endpoint::new("");
        let body =
            "<Error><Code>AccessDenied</Code><Message>not you\nRequestId: 7</Message></Error>";
        endpoint.rule(move |_| Some((status, body.to_owned())));
        let workspace = at_endpoint(&endpoint);

        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1);
        let error = last_error(&workspace);
        assert!(error.contains(text), "{error}");
        assert!(last_hint(&workspace).starts_with(hint), "{}", last_hint(&workspace));
        assert_eq!(run.stderr.contains("parked"), parked, "{}", run.stderr);
        assert!(!error.contains("RequestId") && error.len() < 300, "{error}");
    }
}

/// Regression: every HTTP 409 and 412 was an acknowledgement, also for `test-sink`.
#[test]
fn conflicts_of_a_store_acknowledge_nothing() {
    let document = |code: &str| format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
    for (status, body, text, code) in [
        (409, document("InvalidBucketState"), "409 Conflict: InvalidBucketState: no", 2),
        (409, document("OperationAborted"), "409 Conflict: OperationAborted: no", 1),
        (412, "<html>no</html>".to_owned(), "412 Precondition Failed: <html>no</html>", 1),
        // The request for the metadata of the object fails too.
        (412, document("PreconditionFailed"), "412 Precondition Failed", 1),
    ] {
        let endpoint = Endpoint::new("");
        endpoint.rule(move |_| Some((status, body.clone())));
        let workspace = at_endpoint(&endpoint);

        let run = workspace.run(&["once"]);
        assert_eq!(run.code, 1, "{text}: {}", run.stderr);
        assert!(last_error(&workspace).contains(text), "{}", last_error(&workspace));
        assert_eq!(workspace.status()["sinks"][0]["sent"], 0, "{text}");
        assert_eq!(run.stderr.contains("parked"), code == 2, "{}", run.stderr);

        let test = workspace.run(&["test-sink", "objects"]);
        assert_eq!(test.code, code, "{text}: {}", test.stderr);
        assert!(test.stderr.contains(text), "{}", test.stderr);
    }
}

/// Regression: a page with HTTP 200 confirmed an object that the store had reported as existing.
#[test]
fn pages_confirm_no_object() {
    let endpoint = Endpoint::new("");
    endpoint.rule(|request| {
        let creates_object = request.headers.contains_key("if-none-match");
        let report = "<Error><Code>PreconditionFailed</Code><Message>no</Message></Error>";
        Some(if creates_object { (412, report.to_owned()) } else { (200, "blocked".to_owned()) })
    });
    let workspace = at_endpoint(&endpoint);

    let run = workspace.run(&["once"]);
    assert_eq!(run.code, 1, "{}", run.stderr);
    let error = last_error(&workspace);
    assert!(error.starts_with("cannot check whether the store has object `"), "{error}");
    assert!(error.ends_with("`: the response has no headers of an object"), "{error}");
    assert_eq!(workspace.status()["sinks"][0]["sent"], 0);
}

/// There is no test server that behaves like Google Cloud Storage, so the requests are checked.
#[test]
fn google_objects_are_not_overwritten() {
    let endpoint = Endpoint::new("");
    let mut workspace = workspace();
    let key = json!({ "gcs_base_url": endpoint.url, "disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": "" });
    let key = workspace.secret("google-secret", &key.to_string());
    workspace.sink(
        "objects",
        &format!("type = \"object_store\"\nurl = \"gs://scores/x\"\nendpoint = \"{}\"\nservice_account = {key}\ncompression = \"none\"", endpoint.url),
    );
    let file = workspace.file_sink("local");
    endpoint.respond_once(412, "<Error><Code>PreconditionFailed</Code></Error>");
    // The credential may not read the metadata of the object that exists.
    endpoint.rule(|request| {
        let creates_object = request.headers.contains_key("x-goog-if-generation-match");
        (!creates_object).then(|| (403, String::new()))
    });
    workspace.run_ok(&["once"]);

    // The first of the three objects already exists.
    let accepted = endpoint.accepted();
    assert_eq!(accepted.len(), 2);
    let text: String =
        accepted.iter().map(|r| String::from_utf8(r.body.clone()).unwrap()).collect();
    for request in &accepted {
        assert!(request.path.starts_with("/scores/x%2Ftenant%3D"), "{}", request.path);
        assert_eq!(request.headers["x-goog-if-generation-match"], "0");
    }
    let local = records(&file);
    assert_eq!(ids(&local).filter(|id| text.contains(*id)).count(), text.lines().count());
}

#[test]
fn azure_requests_carry_an_entra_token() {
    let endpoint = Endpoint::new("");
    endpoint.rule(|request| {
        if request.path.ends_with("/token") {
            let form = String::from_utf8_lossy(&request.body).into_owned();
            assert!(form.contains("scope=https%3A%2F%2Fstorage.azure.com%2F.default"), "{form}");
            return Some(entra_token(&format!("{CANARY}-token")));
        }
        assert_eq!(request.headers["authorization"], format!("Bearer {CANARY}-token"));
        assert_eq!(request.headers["x-ms-blob-type"], "BlockBlob");
        assert_eq!(request.headers["if-none-match"], "*");
        None
    });

    let mut workspace = workspace();
    let credential = workspace.entra_credential(&endpoint.url);
    workspace.sink(
        "objects",
        &format!("type = \"object_store\"\nurl = \"az://scores\"\naccount = \"contoso\"\nendpoint = \"{}\"\n{credential}", endpoint.url),
    );
    workspace.run_ok(&["once"]);
    assert_eq!(endpoint.accepted().len(), 3);
}

#[test]
fn rejects_keys_of_another_cloud() {
    for (keys, text) in [
        ("url = \"gs://b\"\nregion = \"x\"", "`region` applies only to `s3://` URLs"),
        (
            "url = \"az://c\"\naccount = \"a\"",
            "an az:// URL requires either `account_key`, or `credential`",
        ),
        ("url = \"ftp://c\"", "`url` must begin with s3://, az:// or gs://"),
        ("url = \"s3://b\"\naccess_key_id = \"x\"", "must be set together"),
        (
            "url = \"s3://b\"\nregion = \"r\"\nformat = \"json\"\nsecurity_lake = { source = \"s\", account_id = \"123456789012\" }",
            "`format` cannot be set with `security_lake`",
        ),
        ("url = \"s3://b\"\nsecurity_lake = { source = \"s\", account_id = \"12\" }", "12 digits"),
        ("url = \"s3://b\"\nendpoint = \"http://example.com\"", "endpoint"),
    ] {
        let mut workspace = workspace();
        workspace.sink("objects", &format!("type = \"object_store\"\n{keys}"));
        let run = workspace.run(&["check"]);
        assert!(run.code == 2 && run.stderr.contains(text), "{keys}: {}", run.stderr);
    }
}

/// Two sinks with the same location would each mistake the other's objects for its own. The same
/// container name in another account is a different location.
#[test]
fn a_location_has_only_one_sink() {
    let both = |first: &str, second: &str| {
        let mut workspace = workspace();
        for (name, account) in [("a", first), ("b", second)] {
            let key = workspace.secret("azure-secret", "a2V5");
            workspace.sink(
                name,
                &format!("type = \"object_store\"\nurl = \"az://scores/x\"\naccount = \"{account}\"\naccount_key = {key}"),
            );
        }
        workspace.run(&["check"])
    };
    assert_eq!(both("one", "two").code, 0);
    let run = both("one", "one");
    assert!(
        run.code == 2 && run.stderr.contains("sinks `a` and `b` both write to"),
        "{}",
        run.stderr
    );
}
