//! The files in `deploy/` for SIEMs and monitoring, tested with the tools that read them.

mod receivers;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::Value;

use crate::support::{Workspace, cache, records, servers::OpenSearch};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap()
}

/// Returns OpenSearch with the ingest pipeline, the index template, and ten days of records in a
/// data stream, and the number of these records.
fn filled_data_stream() -> (&'static OpenSearch, usize) {
    static FILLED: OnceLock<usize> = OnceLock::new();
    let server = OpenSearch::shared();
    let sent = FILLED.get_or_init(|| {
        for (at, file) in [
            ("/_ingest/pipeline/secure-score", "ingest-pipeline.json"),
            ("/_index_template/secure-score", "index-template.json"),
        ] {
            let (status, response) = server.put(at, read(&format!("siem/elastic/{file}")));
            assert_eq!(status, 200, "{file}: {response}");
        }

        let mut workspace = Workspace::new();
        workspace.extra = "initial_backfill_days = 10".to_owned();
        let file = workspace.path("local.jsonl");
        let texts = "texts = \"full\"\nhistorical_changes = true";
        let local = format!("type = \"file\"\npath = \"{}\"\n{texts}", file.display());
        let elastic = format!(
            "type = \"elasticsearch\"\nurl = \"{}\"\nindex = \"{STREAM}\"\n{texts}",
            server.url
        );
        workspace.sink("local", &local).sink("elastic", &elastic);
        workspace.run_ok(&["once"]);
        let rejected = workspace.status()["dead_letters"].as_array().unwrap().len();
        assert_eq!(rejected, 0, "the mapping accepts every record");
        records(&file).len()
    });
    (server, *sent)
}

const STREAM: &str = "logs-microsoft_secure_score-default";

#[test]
fn records_reach_the_data_stream_of_the_template() {
    let (server, sent) = filled_data_stream();
    let count = |query: &str| {
        let url = format!("/{STREAM}/_count?q={query}");
        server.fresh(&url)["count"].as_u64().unwrap()
    };
    assert!(sent > 500);
    assert_eq!(count("*"), sent as u64);

    let streams = server.get(&format!("/_data_stream/{STREAM}"));
    assert_eq!(streams["data_streams"][0]["template"], "secure-score");
    assert_eq!(count("event.kind:pipeline_error"), 0);
    assert_eq!(count("_exists_:event.ingested"), sent as u64);

    let search = format!("/{STREAM}/_search?size=1000&q=microsoft.secure_score.kind:control");
    let found = server.fresh(&search);
    let hits = found["hits"]["hits"].as_array().unwrap();
    assert!(!hits.is_empty());
    for hit in hits {
        let score = &hit["_source"]["microsoft"]["secure_score"];
        let (Some(max), Some(got)) = (score["max_score"].as_f64(), score["score"].as_f64()) else {
            assert!(score["missing"].is_null(), "{score}");
            continue;
        };
        assert!((score["missing"].as_f64().unwrap() - (max - got)).abs() < 1e-9, "{score}");
    }
}

/// Each visualization of the dashboard is run as a search, with its filter and its aggregations.
#[test]
fn visualizations_of_the_dashboard_find_data() {
    let (server, _) = filled_data_stream();
    for object in read("siem/elastic/dashboard.ndjson").lines() {
        let object: Value = serde_json::from_str(object).unwrap();
        let Some(state) = object.pointer("/attributes/visState") else { continue };
        let state: Value = serde_json::from_str(state.as_str().unwrap()).unwrap();
        let source = &object["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"];
        let source: Value = serde_json::from_str(source.as_str().unwrap()).unwrap();
        let mut query = source["query"]["query"].as_str().unwrap().to_owned();
        for (kuery, lucene) in [(" : ", ":"), (" >= ", ":>="), (" > ", ":>"), (" and ", " AND ")] {
            query = query.replace(kuery, lucene);
        }

        let mut aggregations = serde_json::Map::new();
        for each in state["aggs"].as_array().unwrap().iter().filter(|a| a["type"] != "count") {
            let (kind, field) = (each["type"].as_str().unwrap(), &each["params"]["field"]);
            let mut params = serde_json::json!({ "field": field });
            if kind == "date_histogram" {
                params["calendar_interval"] = "day".into();
            }
            aggregations.insert(
                each["id"].as_str().unwrap().to_owned(),
                serde_json::json!({ kind: params }),
            );
        }

        let title = state["title"].as_str().unwrap();
        let body = serde_json::json!({ "size": 0, "query": { "query_string": { "query": query } }, "aggs": aggregations });
        let (status, response) = server.post(&format!("/{STREAM}/_search"), body.to_string());
        assert_eq!(status, 200, "{title}: {response}");
        let response: Value = serde_json::from_str(&response).unwrap();
        assert_eq!(response["_shards"]["failed"], 0, "{title}: {response}");
        // Ten days of history have no quality records, and all their changes are historical.
        if title.contains("percentage over time") || title.contains("most missing points") {
            for (id, found) in response["aggregations"].as_object().unwrap() {
                let filled = found["value"].as_f64().is_some()
                    || found["buckets"].as_array().is_some_and(|b| !b.is_empty());
                assert!(filled, "{title}, {id}: {found}");
            }
        }
    }
}

#[test]
fn index_template_types_every_ecs_field() {
    let template: Value = serde_json::from_str(&read("siem/elastic/index-template.json")).unwrap();
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 3".to_owned();
    let path = workspace.path("out.ecs");
    workspace.sink(
        "local",
        &format!("type = \"file\"\nformat = \"ecs\"\npath = \"{}\"", path.display()),
    );
    workspace.run_ok(&["once"]);

    fn walk(value: &Value, mapping: &Value, path: &str, wrong: &mut BTreeSet<String>) {
        let Some(members) = value.as_object() else { return };
        for (name, value) in members {
            let mapped = &mapping["properties"][name];
            let path = format!("{path}{name}");
            match mapped["type"].as_str() {
                Some("double" | "long") if !value.is_number() => {
                    wrong.insert(path);
                }
                Some("boolean") if !value.is_boolean() => {
                    wrong.insert(path);
                }
                Some("date" | "text") if !value.is_string() => {
                    wrong.insert(path);
                }
                Some("keyword") if !(value.is_string() || value.is_array()) => {
                    wrong.insert(path);
                }
                _ => walk(value, mapped, &format!("{path}."), wrong),
            }
        }
    }

    // The template also defines the types of the fields that the pipeline reads and computes.
    let pipeline: Value = serde_json::from_str(&read("siem/elastic/ingest-pipeline.json")).unwrap();
    let script = pipeline["processors"][1]["script"]["source"].as_str().unwrap();
    let mapped = &template["template"]["mappings"]["properties"]["microsoft"]["properties"]["secure_score"]
        ["properties"];
    for (at, front) in script.match_indices("secure_score.") {
        let name: String = script[at + front.len()..]
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '_')
            .collect();
        assert!(mapped[&name].is_object(), "{name}");
    }

    let mut wrong = BTreeSet::new();
    for record in records(&path) {
        walk(&record, &template["template"]["mappings"], "", &mut wrong);
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn dashboard_references_exist() {
    let objects: Vec<Value> = read("siem/elastic/dashboard.ndjson")
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let known: BTreeSet<(&str, &str)> =
        objects.iter().map(|o| (o["type"].as_str().unwrap(), o["id"].as_str().unwrap())).collect();
    for object in &objects {
        for reference in object["references"].as_array().unwrap() {
            let named = (reference["type"].as_str().unwrap(), reference["id"].as_str().unwrap());
            assert!(known.contains(&named), "{named:?}");
        }
        for (text, at) in [
            ("visState", "/attributes/visState"),
            ("panels", "/attributes/panelsJSON"),
            ("search", "/attributes/kibanaSavedObjectMeta/searchSourceJSON"),
        ] {
            if let Some(inner) = object.pointer(at) {
                serde_json::from_str::<Value>(inner.as_str().unwrap())
                    .unwrap_or_else(|e| panic!("{text}: {e}"));
            }
        }
    }

    let dashboard = objects.iter().find(|o| o["type"] == "dashboard").unwrap();
    let panels: Value =
        serde_json::from_str(dashboard["attributes"]["panelsJSON"].as_str().unwrap()).unwrap();
    for panel in panels.as_array().unwrap() {
        let named = dashboard["references"]
            .as_array()
            .unwrap()
            .iter()
            .any(|r| r["name"] == panel["panelRefName"]);
        assert!(named, "{panel}");
    }
}

#[test]
fn sentinel_table_has_every_member_of_a_record() {
    let arm: Value = serde_json::from_str(&read("siem/sentinel/azuredeploy.json")).unwrap();
    let columns = |pointer: &str| -> BTreeSet<(String, String)> {
        let columns = arm.pointer(pointer).unwrap().as_array().unwrap();
        columns
            .iter()
            .map(|c| {
                (c["name"].as_str().unwrap().to_owned(), c["type"].as_str().unwrap().to_lowercase())
            })
            .collect()
    };
    let table = columns("/resources/0/properties/schema/columns");
    let stream =
        columns("/resources/2/properties/streamDeclarations/Custom-SecureScore_CL/columns");
    assert_eq!(table, stream);

    let schema: Value =
        serde_json::from_str(include_str!("../../src/model/record.schema.json")).unwrap();
    let mut members = BTreeSet::new();
    fn gather(schema: &Value, members: &mut BTreeSet<String>) {
        if let Some(properties) = schema["properties"].as_object() {
            members.extend(properties.keys().cloned());
        }
        for part in ["allOf", "oneOf", "anyOf"] {
            schema[part].as_array().into_iter().flatten().for_each(|part| gather(part, members));
        }
    }
    gather(&schema, &mut members);

    let named: BTreeSet<String> = table.iter().map(|(name, _)| name.clone()).collect();
    let missing: Vec<_> = members.difference(&named).collect();
    assert!(missing.is_empty() && members.contains("quality"), "{missing:?} of {members:?}");
    // The rules name only columns that their queries project.
    let rules: Value = serde_json::from_str(&read("siem/sentinel/analytics-rules.json")).unwrap();
    let rules = rules["resources"].as_array().unwrap();
    assert_eq!(rules.len(), 3);
    for rule in rules {
        let query = rule["properties"]["query"].as_str().unwrap();
        for line in query.lines().filter(|line| line.starts_with("| project ")) {
            for entity in rule["properties"]["entityMappings"].as_array().unwrap() {
                let column = entity["fieldMappings"][0]["columnName"].as_str().unwrap();
                assert!(line.contains(column), "{column}: {line}");
            }
        }
    }
}

#[test]
fn sentinel_rules_are_valid_kql_for_the_table() {
    let output = Command::new("node")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kusto/rules.js"))
        .args([cache("KUSTO", "kusto").join("node_modules"), deploy("siem/sentinel")])
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && report == "0 faults\n", "{report}");
}

#[test]
fn register_app_ps1_is_valid_powershell() {
    let script = r"
import sys, tree_sitter_powershell
from tree_sitter import Language, Parser
tree = Parser(Language(tree_sitter_powershell.language())).parse(open(sys.argv[1], 'rb').read())
def faults(node):
    if node.type == 'ERROR' or node.is_missing: yield f'{node.start_point}: {node.text[:80]}'
    for child in node.children: yield from faults(child)
print(*faults(tree.root_node), sep='\n')
sys.exit(tree.root_node.has_error)
";
    let (success, output) = python(script, &deploy("register-app.ps1"));
    assert!(success, "{output}");
}

/// Runs a Python script with one argument. Returns whether it succeeded, and its output.
fn python(script: &str, argument: &Path) -> (bool, String) {
    let output = Command::new(cache("PYTHON_READERS", "python").join("bin/python"))
        .args(["-c", script])
        .arg(argument)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// The dashboard is read into the types that Grafana generates from its schema, and written again.
/// A member that is not in the schema would be lost.
#[test]
fn grafana_dashboard_fits_the_schema_of_grafana() {
    let script = r"
import json, sys
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
raw = json.load(open(sys.argv[1]))
written = json.loads(JSONEncoder().encode(Dashboard.from_json(raw)))
def lost(a, b, path):
    if isinstance(a, dict):
        for key, value in a.items():
            if not isinstance(b, dict) or key not in b: yield path + '/' + key
            else: yield from lost(value, b[key], path + '/' + key)
    elif isinstance(a, list):
        if not isinstance(b, list) or len(a) != len(b): yield path
        else:
            for index, (x, y) in enumerate(zip(a, b)): yield from lost(x, y, f'{path}[{index}]')
    elif a != b: yield path
missing = list(lost(raw, written, ''))
print(missing)
sys.exit(bool(missing))
";
    let (success, output) = python(script, &deploy("monitoring/grafana-dashboard.json"));
    assert!(success, "{output}");

    // The daemon exports every metric that the dashboard queries.
    let dashboard = read("monitoring/grafana-dashboard.json");
    let source = include_str!("../../src/admin/metrics.rs");
    for (at, prefix) in dashboard.match_indices("secure_score_forwarder_") {
        let name: String = dashboard[at + prefix.len()..]
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || *c == '_')
            .collect();
        assert!(source.contains(&format!("\"{name}\"")), "{name}");
    }
}

#[test]
fn alert_rules_pass_their_tests() {
    for args in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]] {
        let output =
            Command::new("promtool").args(args).current_dir(deploy("monitoring")).output().unwrap();
        assert!(
            output.status.success(),
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// Splunk AppInspect, which Splunkbase requires of an app, reports no error, failure or warning.
#[test]
fn splunk_app_passes_appinspect() {
    let directory = tempfile::tempdir().unwrap();
    let package = directory.path().join("app.tgz");
    let packed = Command::new("tar")
        .args(["--owner=0", "--group=0", "--mode=u=rwX,go=rX", "-czf"])
        .arg(&package)
        .arg("-C")
        .arg(deploy("siem/splunk"))
        .arg("secure_score_forwarder")
        .status();
    assert!(packed.unwrap().success());

    let report = directory.path().join("report.json");
    let output = Command::new(cache("PYTHON_READERS", "python").join("bin/splunk-appinspect"))
        .args(["inspect", "--mode", "precert", "--data-format", "json", "--output-file"])
        .arg(&report)
        .arg(&package)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
    let summary = &report["summary"];
    for severity in ["error", "failure", "future_failure", "warning"] {
        assert_eq!(summary[severity].as_u64().unwrap_or(0), 0, "{summary}\n{text}");
    }
    assert!(summary["success"].as_u64().unwrap() > 50, "{summary}");
}
