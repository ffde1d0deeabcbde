//! What lies in `deploy/` for SIEMs and monitoring, against the tools that read it.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

use crate::support::{
    Workspace, cache, eventually, free_port, fs, ids, of_kinds, records, servers::OpenSearch,
};

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy(path)).unwrap()
}

/// A receiver that is killed with the test.
struct Receiver(Child);

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A week to a syslog port, as the snippet asks for it, and to a file for comparison.
fn sent_to(port: u16) -> (Workspace, PathBuf) {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 7".to_owned();
    let file = workspace.file_sink("local");
    workspace.sink(
        "siem",
        &format!("type = \"syslog\"\naddress = \"tcp://127.0.0.1:{port}\"\nformat = \"json\"\ntexts = \"full\""),
    );
    (workspace, file)
}

/// The files that a snippet writes hold every record in the file of its kind, whole.
fn each_kind_in_its_file(directory: &Path, file: &Path) {
    for kind in ["control", "summary"] {
        let expected: BTreeSet<String> = ids(&of_kinds(file, &[kind])).map(str::to_owned).collect();
        let path = directory.join(format!("{kind}.jsonl"));
        eventually(&format!("every {kind} is there"), || {
            std::fs::read_to_string(&path)
                .is_ok_and(|text| text.lines().count() >= expected.len() && text.ends_with('\n'))
        });
        let found: BTreeSet<String> = ids(&records(&path)).map(str::to_owned).collect();
        assert_eq!(found, expected, "{kind}");
    }
    let other = std::fs::read_to_string(directory.join("other.log")).unwrap_or_default();
    assert_eq!(other, "", "nothing was left over");
}

#[test]
fn the_snippet_for_rsyslog_writes_every_record_to_the_file_of_its_kind() {
    let directory = tempfile::tempdir().unwrap();
    let (d, port) = (directory.path().display().to_string(), free_port());
    let snippet = read("siem/rsyslog/secure-score.conf")
        .replace("/var/log/secure-score-received", &d)
        .replace("10514", &port.to_string());
    fs(
        directory.path().join("conf"),
        &format!("global(maxMessageSize=\"128k\" workDirectory=\"{d}\")\n{snippet}"),
    );
    let program =
        ["/usr/sbin/rsyslogd", "/sbin/rsyslogd"].into_iter().find(|p| Path::new(p).exists());
    let child = Command::new(program.unwrap())
        .args(["-n", "-f", &format!("{d}/conf"), "-i", &format!("{d}/pid")])
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(directory.path().join("stderr")).unwrap())
        .spawn();
    let _receiver = Receiver(child.unwrap());
    eventually("rsyslog listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let (workspace, file) = sent_to(port);
    workspace.run_ok(&["once"]);
    each_kind_in_its_file(directory.path(), &file);
}

#[test]
fn the_snippet_for_syslog_ng_writes_every_record_to_the_file_of_its_kind() {
    let root = cache("SYSLOG_NG", "syslog-ng");
    let directory = tempfile::tempdir().unwrap();
    let (d, port) = (directory.path().display().to_string(), free_port());
    let snippet = read("siem/syslog-ng/secure-score.conf")
        .replace("/var/log/secure-score-received", &d)
        .replace("10514", &port.to_string());
    fs(
        directory.path().join("conf"),
        &format!("@version: 3.38\noptions {{ stats-freq(0); }};\n{snippet}"),
    );
    let libraries: Vec<String> = ["usr/lib/syslog-ng", "usr/lib", "lib"]
        .into_iter()
        .flat_map(|at| {
            ["", "/x86_64-linux-gnu", "/aarch64-linux-gnu"]
                .map(|t| format!("{}/{at}{t}", root.display()))
        })
        .collect();
    let child = Command::new(root.join("usr/sbin/syslog-ng"))
        .env("LD_LIBRARY_PATH", libraries.join(":"))
        .arg("--module-path")
        .arg(root.join("usr/lib/syslog-ng/3.38"))
        .args(["-F", "--no-caps", "-f", &format!("{d}/conf"), "-R", &format!("{d}/persist")])
        .args(["-c", &format!("{d}/control"), "-p", &format!("{d}/pid")])
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(directory.path().join("stderr")).unwrap())
        .spawn();
    let _receiver = Receiver(child.unwrap());
    eventually("syslog-ng listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let (workspace, file) = sent_to(port);
    workspace.run_ok(&["once"]);
    each_kind_in_its_file(directory.path(), &file);
}

/// OpenSearch with our pipeline, our template, and ten days of records in a data stream.
fn data_stream() -> (&'static OpenSearch, usize) {
    static FILLED: OnceLock<usize> = OnceLock::new();
    let server = OpenSearch::shared();
    let sent = FILLED.get_or_init(|| {
        for (at, file) in [
            ("/_ingest/pipeline/secure-score", "ingest-pipeline.json"),
            ("/_index_template/secure-score", "index-template.json"),
        ] {
            let (status, said) = server.put(at, read(&format!("siem/elastic/{file}")));
            assert_eq!(status, 200, "{file}: {said}");
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
        let refused = workspace.status()["dead_letters"].as_array().unwrap().len();
        assert_eq!(refused, 0, "no record was refused by the mapping");
        records(&file).len()
    });
    (server, *sent)
}

const STREAM: &str = "logs-microsoft_secure_score-default";

#[test]
fn records_go_through_the_pipeline_into_a_data_stream_of_the_template() {
    let (server, sent) = data_stream();
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

/// Each picture of the dashboard as a search: its filter, and its aggregations side by side.
#[test]
fn the_pictures_of_the_dashboard_find_what_they_draw() {
    let (server, _) = data_stream();
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
        let (status, said) = server.post(&format!("/{STREAM}/_search"), body.to_string());
        assert_eq!(status, 200, "{title}: {said}");
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["_shards"]["failed"], 0, "{title}: {said}");
        // Ten days of history have nothing to say of quality, and no change that is not historical.
        if title.contains("share over time") || title.contains("points to be had") {
            for (id, found) in said["aggregations"].as_object().unwrap() {
                let filled = found["value"].as_f64().is_some()
                    || found["buckets"].as_array().is_some_and(|b| !b.is_empty());
                assert!(filled, "{title}, {id}: {found}");
            }
        }
    }
}

#[test]
fn the_template_types_every_field_that_ecs_records_have() {
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
    // What the pipeline computes is typed too, and it reads only fields that there are.
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
fn dashboards_refer_to_what_is_there() {
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
fn sentinels_table_and_stream_have_every_member_of_a_record() {
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
    // Rules name only columns that there are.
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
fn sentinels_rules_are_kql_over_the_table_that_the_template_makes() {
    let output = Command::new("node")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kusto/rules.js"))
        .args([cache("KUSTO", "kusto").join("node_modules"), deploy("siem/sentinel")])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said == "0 faults\n", "{said}");
}

#[test]
fn the_script_for_powershell_is_powershell() {
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
    let (fine, said) = python(script, &deploy("register-app.ps1"));
    assert!(fine, "{said}");
}

fn python(script: &str, argument: &Path) -> (bool, String) {
    let output = Command::new(cache("PYTHON_READERS", "python").join("bin/python"))
        .args(["-c", script])
        .arg(argument)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), said)
}

/// Reads the dashboard into the types that Grafana's makers generate from its schema, and writes it
/// again: what the schema does not know would be lost.
#[test]
fn grafanas_own_types_read_the_dashboard_and_lose_nothing_of_it() {
    let script = r"
import json, sys
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
raw = json.load(open(sys.argv[1]))
again = json.loads(JSONEncoder().encode(Dashboard.from_json(raw)))
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
gone = list(lost(raw, again, ''))
print(gone)
sys.exit(bool(gone))
";
    let (fine, said) = python(script, &deploy("monitoring/grafana-dashboard.json"));
    assert!(fine, "{said}");
    // Every metric that it draws is one that the daemon writes.
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
fn the_alerts_pass_their_tests() {
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

/// Splunk's own inspection, as for its app store: no error, no failure, no warning.
#[test]
fn splunk_finds_nothing_to_complain_about() {
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
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&report).unwrap()).unwrap();
    let summary = &report["summary"];
    for bad in ["error", "failure", "future_failure", "warning"] {
        assert_eq!(summary[bad].as_u64().unwrap_or(0), 0, "{summary}\n{said}");
    }
    assert!(summary["success"].as_u64().unwrap() > 50, "{summary}");
}
