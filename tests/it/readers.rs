//! The formats, parsed by independent programs, with assertions on where each value of a record is
//! found.

use std::{
    collections::HashMap,
    io::Write,
    process::{Command, Stdio},
};

use secure_score_forwarder::format::{
    AttributePosition, COLUMNS, write_leef_attribute, write_leef_header,
};
use serde_json::Value;

use crate::support::{
    Workspace, cache,
    faults::{Fault, FaultyApi},
    records, records_of_kinds, write,
};

/// The records of three days, one of which is missing, in JSON and as lines of another format.
fn in_json_and(format: &str) -> (Vec<Value>, Vec<String>) {
    let api = FaultyApi::new();
    api.fail(
        "/secureScores",
        Fault::Edit(|page| drop(page["value"].as_array_mut().unwrap().remove(1))),
    );

    let mut workspace = Workspace::against(&api.url);
    workspace.extra =
        "initial_backfill_days = 3\nlabels = { customer = \"c-17\", \"zürich | =\" = \"a=b|c\" }"
            .to_owned();

    let json = workspace.path("records.json");
    let section = |path: &std::path::Path, format: &str| {
        format!(
            "type = \"file\"\npath = \"{}\"\nformat = \"{format}\"\ntexts = \"full\"\nhistorical_changes = true\nextra_fields = {{ env = \"prod\" }}",
            path.display()
        )
    };
    workspace.sink("json", &section(&json, "json"));
    let other = workspace.path("records.other");
    workspace.sink("other", &section(&other, format));
    workspace.run_ok(&["once"]);

    let text = std::fs::read_to_string(&other).unwrap();
    for kind in ["control", "summary", "change", "quality"] {
        assert!(!records_of_kinds(&json, &[kind]).is_empty(), "no {kind} record");
    }
    (records(&json), text.lines().map(str::to_owned).collect())
}

/// Runs a program with these lines as its standard input, and returns the lines of its output.
pub fn read_by(command: &mut Command, lines: &[String]) -> Vec<String> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();

    // Writes in a thread, because the program can block on its output before it has read all input.
    let mut stdin = child.stdin.take().unwrap();
    let input = lines.join("\n") + "\n";
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// A command that runs a script with the Python environment of the readers.
pub fn python(script: &str) -> Command {
    let mut command = Command::new(cache("PYTHON_READERS", "python").join("bin/python"));
    command.args(["-c", script]);
    command
}

/// The value at a path such as `f.Extensions.cs1`.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, key| match key.parse::<usize>() {
        Ok(index) => &value[index],
        Err(_) => &value[key],
    })
}

/// A string without quotes, or the JSON of another value.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The milliseconds since 1970 of an RFC 3339 time.
fn ms(value: &Value) -> String {
    value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_millisecond().to_string()
}

#[test]
fn liblognorm_reads_every_cef_line() {
    let (json, lines) = in_json_and("cef");
    let directory = tempfile::tempdir().unwrap();
    write(directory.path().join("cef.rb"), "version=2\nrule=:%f:cef%\n");
    let mut command = Command::new("lognormalizer");
    command.arg("-r").arg(directory.path().join("cef.rb")).args(["-e", "json"]);

    let read = read_by(&mut command, &lines);
    assert_eq!(read.len(), json.len());
    for (record, line) in json.iter().zip(&read) {
        let read: Value = serde_json::from_str(line).unwrap();
        let extension = |key: &str| text(at(&read, &format!("f.Extensions.{key}")));
        assert_eq!(extension("externalId"), text(&record["event_id"]));
        assert_eq!(extension("deviceCustomDate1"), ms(&record["time"]));
        assert_eq!(extension("deviceExternalId"), text(&record["tenant"]["id"]));
        assert_eq!(at(&read, "f.SignatureID"), class(record));
        // liblognorm drops the first letter of the first key, `rt`.
        assert_eq!(extension("t"), ms(&record["observed_time"]));

        let rest: Value = serde_json::from_str(&extension("cs6")).unwrap();
        assert_eq!(rest["tenant"], record["tenant"]["name"]);
        assert_eq!(rest["labels"], record["tenant"]["labels"]);
        assert_eq!(rest["fields"], record["fields"]);

        if record["kind"] == "control" {
            assert_eq!(extension("cs1"), text(&record["control"]["id"]));
            let score = extension("cfp1").parse::<f64>().unwrap();
            assert_eq!(score, record["control"]["score"].as_f64().unwrap());
        }
        if record["kind"] == "change" {
            assert_eq!(extension("act"), text(&record["change"]["what"]));
            assert_eq!(extension("flexString2"), text(&record["change"]["cause"]));
            assert_eq!(text(at(&read, "f.Severity")), text(&record["change"]["severity"]));
            assert_eq!(rest["change"], record["change"]);
        }
        if record["kind"] == "quality" {
            assert_eq!(rest["quality"], record["quality"]);
        }
    }
}

/// The event class, which SIEM rules match.
fn class(record: &Value) -> &'static str {
    match (record["kind"].as_str().unwrap(), record["change"]["what"].as_str()) {
        ("control", _) => "ControlSnapshot",
        ("summary", _) => "TenantScore",
        ("quality", _) => "DataQuality",
        (_, Some("regressed")) => "ControlRegressed",
        (_, Some("improved")) => "ControlImproved",
        (_, Some("added")) => "ControlAdded",
        (_, Some("removed")) => "ControlRemoved",
        (_, Some("decision_changed")) => "ControlStateChanged",
        (_, Some("implementation_changed")) => "ControlImplementationChanged",
        other => panic!("{other:?}"),
    }
}

#[test]
fn ocsf_models_accept_every_finding() {
    let (json, lines) = in_json_and("ocsf");
    let script = "
import sys, json
from py_ocsf_models.events.findings.compliance_finding import ComplianceFinding
for line in sys.stdin:
    finding = ComplianceFinding(**json.loads(line))
    print(finding.metadata.uid, finding.time, finding.metadata.original_time, finding.metadata.tenant_uid)
";

    let read = read_by(&mut python(script), &lines);
    assert_eq!(read.len(), json.len());
    for ((record, read), line) in json.iter().zip(&read).zip(&lines) {
        let finding: Value = serde_json::from_str(line).unwrap();
        let observed = ms(&record["observed_time"]);
        let expected = [text(&record["event_id"]), observed, text(&record["time"])];
        assert_eq!(read.split(' ').take(3).collect::<Vec<_>>(), expected);
        assert_eq!(finding["resources"][0]["uid"], record["tenant"]["id"]);
        assert_eq!(finding["resources"][0]["name"], record["tenant"]["name"]);
        assert_eq!(finding["unmapped"]["kind"], record["kind"]);
        assert_eq!(finding["unmapped"]["fields"], record["fields"]);

        if record["kind"] == "control" {
            assert_eq!(finding["unmapped"]["score"], record["control"]["score"]);
            assert_eq!(finding["compliance"]["control"], record["control"]["id"]);
        }
        for kind in ["change", "quality"] {
            if record["kind"] == kind {
                assert_eq!(finding["unmapped"][kind], record[kind]);
            }
        }
    }
}

#[test]
fn ecs_contains_the_values_of_the_record() {
    let (json, lines) = in_json_and("ecs");
    assert_eq!(lines.len(), json.len());

    for (record, line) in json.iter().zip(&lines) {
        let event: Value = serde_json::from_str(line).unwrap();
        for (path, expected) in [
            ("event.id", "event_id"),
            ("event.created", "observed_time"),
            ("organization.id", "tenant.id"),
            ("organization.name", "tenant.name"),
            ("labels.customer", "tenant.labels.customer"),
            ("labels.env", "fields.env"),
        ] {
            assert_eq!(at(&event, path), at(record, expected), "{path}");
        }
        assert_eq!(ms(&event["@timestamp"]), ms(&record["time"]));
        assert_eq!(
            event["event"]["dataset"],
            format!("microsoft_secure_score.{}", text(&record["kind"]))
        );

        if record["kind"] == "control" {
            assert_eq!(event["rule"]["id"], record["control"]["id"]);
            assert_eq!(at(&event, "microsoft.secure_score.score"), &record["control"]["score"]);
        }
        for kind in ["change", "quality"] {
            if record["kind"] == kind {
                assert_eq!(event["microsoft"]["secure_score"][kind], record[kind]);
                assert_eq!(event["event"]["action"], record[kind]["what"]);
                assert_eq!(event["event"]["severity"], record[kind]["severity"]);
            }
        }
    }
}

#[test]
fn cloudevents_contain_the_record() {
    let (json, lines) = in_json_and("cloudevents");
    for (record, line) in json.iter().zip(&lines) {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(&event["data"], record);
        assert_eq!(event["specversion"], "1.0");
        assert_eq!((&event["id"], &event["time"]), (&record["event_id"], &record["time"]));
        assert_eq!(event["type"], format!("secure-score-forwarder.{}", text(&record["kind"])));
        assert_eq!(
            event["source"],
            format!("urn:microsoft:tenant:{}", text(&record["tenant"]["id"]))
        );
    }
}

#[test]
fn python_csv_reads_every_row() {
    let (json, lines) = in_json_and("csv");
    let script = "
import csv, json, sys
for row in csv.DictReader(sys.stdin):
    assert None not in row and None not in row.values(), row
    print(json.dumps(row))
";
    assert_eq!(lines[0], COLUMNS.join(","));

    let read = read_by(&mut python(script), &lines);
    assert_eq!(read.len(), json.len());
    for (record, row) in json.iter().zip(&read) {
        let row: HashMap<String, String> = serde_json::from_str(row).unwrap();
        for (column, path) in [
            ("kind", "kind"),
            ("event_id", "event_id"),
            ("time", "time"),
            ("observed_time", "observed_time"),
            ("tenant_id", "tenant.id"),
            ("tenant_name", "tenant.name"),
        ] {
            assert_eq!(row[column], text(at(record, path)), "{column}");
        }

        if record["kind"] == "control" {
            assert_eq!(row["control_id"], text(&record["control"]["id"]));
            let score: f64 = row["score"].parse().unwrap();
            assert_eq!(score, record["control"]["score"].as_f64().unwrap());
        } else if record["kind"] == "summary" {
            assert_eq!(row["records_sent"], text(&record["score"]["records_sent"]));
        } else if record["kind"] == "change" {
            for column in ["what", "cause", "historical", "flapping"] {
                assert_eq!(row[column], text(&record["change"][column]), "{column}");
            }
            assert_eq!(row["severity"], text(&record["change"]["severity"]));
            assert_eq!(row["score"].parse().ok(), record["change"]["after"]["score"].as_f64());
            assert_eq!(row["delta"].parse().ok(), record["change"]["delta"].as_f64());
        } else {
            assert_eq!(row["phase"], text(&record["quality"]["phase"]));
        }
    }
}

/// Parses a line of LEEF: its header fields and attributes. No independent parser is available.
fn read_leef(line: &str) -> (Vec<&str>, HashMap<&str, &str>) {
    let is_version_2 = line.starts_with("LEEF:2.0|");
    let fields: Vec<&str> = line.splitn(if is_version_2 { 7 } else { 6 }, '|').collect();
    let (attributes, header) = fields.split_last().unwrap();
    assert!(!is_version_2 || header[5] == "x09");

    let pairs: Vec<(&str, &str)> =
        attributes.split('\t').map(|pair| pair.split_once('=').unwrap()).collect();
    let map: HashMap<&str, &str> = pairs.iter().copied().collect();
    assert_eq!(map.len(), pairs.len(), "duplicate key: {line}");
    (header.to_vec(), map)
}

#[test]
fn leef_contains_the_values_of_the_record() {
    for format in ["leef", "leef2"] {
        let (json, lines) = in_json_and(format);
        assert_eq!(lines.len(), json.len());

        for (record, line) in json.iter().zip(&lines) {
            let (header, attributes) = read_leef(line);
            assert_eq!(header[1..5], ["Microsoft", "Secure Score", "1.0", class(record)]);
            for (key, expected) in [
                ("recordId", text(&record["event_id"])),
                ("devTime", ms(&record["observed_time"])),
                ("snapshotTime", ms(&record["time"])),
                ("kind", text(&record["kind"])),
                ("resource", text(&record["tenant"]["id"])),
                ("domain", text(&record["tenant"]["name"])),
                ("labelCustomer", "c-17".to_owned()),
                ("labelZRich", "a=b|c".to_owned()),
                ("fieldEnv", "prod".to_owned()),
            ] {
                assert_eq!(attributes[key], expected, "{key}");
            }
            assert!((1..=10).contains(&attributes["sev"].parse::<u8>().unwrap()));

            if record["kind"] == "control" || record["kind"] == "change" {
                assert_eq!(attributes["policy"], text(&record["control"]["id"]));
            }

            if record["kind"] == "change" {
                assert_eq!(attributes["cause"], text(&record["change"]["cause"]));
                assert_eq!(attributes["sev"], text(&record["change"]["severity"]));
                match attributes.get("change") {
                    Some(change) => {
                        let change: Value = serde_json::from_str(change).unwrap();
                        assert_eq!(change, record["change"]);
                    }
                    None => assert_eq!(attributes["truncated"], "true"),
                }
            }
        }
    }
}

#[test]
fn encodes_the_published_leef_vectors() {
    let mut checked = 0;
    for line in include_str!("../vectors/leef-encode.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let header: Vec<&str> =
            row["header"].as_array().unwrap().iter().map(|field| field.as_str().unwrap()).collect();

        let mut out = Vec::new();
        let fields = [header[0], header[1], header[2], header[3]];
        write_leef_header(
            row["version"].as_str().unwrap(),
            fields,
            row["delimiter_spec"].as_str(),
            &mut out,
        );
        let delimiter = row["delimiter"].as_str().unwrap().chars().next().unwrap();
        let mut position = AttributePosition::First;
        for pair in row["attributes"].as_array().unwrap() {
            let (key, value) = (pair[0].as_str().unwrap(), pair[1].as_str().unwrap());
            write_leef_attribute(key, value, delimiter, position, &mut out);
            position = AttributePosition::Later;
        }

        assert_eq!(
            String::from_utf8(out).unwrap(),
            row["expect"].as_str().unwrap(),
            "{}",
            row["name"]
        );
        checked += 1;
    }
    assert!(checked >= 5);
}
