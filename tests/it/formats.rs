//! The formats, compared with vectors and with a reference implementation that caches nothing.

use std::time::Duration;

use secure_score_forwarder::{
    derive::{Entry, ObservationEntry, Records, Rules, Selection, quality},
    format::{
        CefHeader, FormatName, Formatter, Options, SyslogHeader, Texts, write_extension,
        write_header, write_message,
    },
    model::{
        Catalog, Day, Observation, ObservationKind, ObservationSubject, Phase, ProfileSlot, Seq,
        SnapshotRef, Tenant, TenantId,
    },
    source::simulated::{self, Richness},
    wire,
};
use serde_json::Value;

use crate::{reference, support::TENANT};

/// The time of day of a poll.
const POLL_TIME: Duration = Duration::from_millis(22_500_250);

fn rows(text: &str) -> impl Iterator<Item = Value> + '_ {
    text.lines().map(|line| serde_json::from_str(line).unwrap())
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

fn pairs(value: &Value) -> Vec<(&str, &str)> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap()))
        .collect()
}

#[test]
fn cef_matches_the_vectors() {
    let mut checked = 0;
    for row in rows(include_str!("../vectors/cef-encode.jsonl")) {
        let header = texts(&row["header"]);
        let [vendor, product, version, class, name, severity] = header[..] else {
            panic!("expected six fields")
        };

        let mut out = Vec::new();
        let number = u8::try_from(row["version"].as_u64().unwrap()).unwrap();
        write_header(
            number,
            &CefHeader { vendor, product, version, class, name, severity },
            &mut out,
        );
        write_extension(&pairs(&row["extension"]), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            row["expect"].as_str().unwrap(),
            "{}",
            row["name"]
        );
        checked += 1;
    }
    assert_eq!(checked, 14);
}

#[test]
fn rfc5424_matches_the_vectors() {
    let mut checked = 0;
    for row in rows(include_str!("../vectors/rfc5424-encode.jsonl")) {
        let text = |key: &str| row[key].as_str().unwrap();
        let header = SyslogHeader {
            pri: u8::try_from(row["pri"].as_u64().unwrap()).unwrap(),
            timestamp: text("timestamp"),
            hostname: text("hostname"),
            app_name: text("appname"),
            procid: text("procid"),
            msgid: text("msgid"),
        };
        let elements: Vec<(&str, Vec<(&str, &str)>)> = row["sd"]
            .as_array()
            .unwrap()
            .iter()
            .map(|sd| (sd[0].as_str().unwrap(), pairs(&sd[1])))
            .collect();
        let sd: Vec<(&str, &[(&str, &str)])> =
            elements.iter().map(|(id, params)| (*id, params.as_slice())).collect();

        let mut out = Vec::new();
        write_message(&header, &sd, row["msg"].as_str().map(str::as_bytes), &mut out);
        assert_eq!(format!("{} ", out.len()), text("octet_counted_prefix"));
        assert_eq!(String::from_utf8(out).unwrap(), text("expect"), "{}", row["name"]);
        checked += 1;
    }
    assert_eq!(checked, 9);
}

fn tenant() -> Tenant {
    Tenant {
        id: TenantId::parse(TENANT).unwrap(),
        name: "contoso".into(),
        labels: [("customer".into(), "c=17|\\".into())].into(),
    }
}

/// The records of at least 230 controls on 90 days: the caches of the formatters never change the
/// output.
#[test]
fn snapshots_equal_the_reference_byte_for_byte() {
    let today = Day::parse("2026-11-22").unwrap();
    let tenant = tenant();
    let parts: Vec<_> = simulated::profiles_json(TENANT)
        .iter()
        .map(|json| wire::split_profile(json).unwrap())
        .collect();
    let catalog = |first: u64, title: &str| {
        let slots = (first..).zip(&parts).map(|(key, p)| ProfileSlot {
            key,
            profile: wire::profile(&p.shared.replace("\"title\":\"", title)).unwrap().into(),
            decisions: wire::state_updates(&p.decisions),
        });
        Catalog::new(slots.collect())
    };
    // The profiles change during the period, and a cached part of an old one must not be used.
    let catalogs = [catalog(0, "\"title\":\""), catalog(1_000, "\"title\":\"New: ")];
    for (format, texts) in [
        (FormatName::Json, Texts::None),
        (FormatName::Json, Texts::Short),
        (FormatName::Json, Texts::Full),
        (FormatName::Cef, Texts::None),
        (FormatName::Cef, Texts::Full),
    ] {
        let options = Options { texts, host: "collector".into(), fields: vec![] };
        let mut formatter = Formatter::new(format, options.clone());
        let mut controls = std::collections::HashSet::new();

        for back in 0..90 {
            let day = today.plus(-back);
            let richness = if back % 30 == 0 { Richness::Rich } else { Richness::Poor };
            let json = simulated::snapshot_json(TENANT, day, richness).replace(
                "\"on\":\"true\"",
                "\"on\":\"true\",\"new field\":{\"a\" : [1.50, \"x\\ny\u{2028}\"]}",
            );

            let snapshot = wire::snapshot(&json).unwrap();
            let snapshot_ref = SnapshotRef {
                id: snapshot.id.to_string(),
                day,
                revision: 1,
                seq: Seq::new(back.unsigned_abs().into()),
                late: back == 7,
                backfilled: back > 3,
                partial: false,
                imported: false,
            };

            let observed_time = format!("{day}T06:15:00.25Z");
            let observed_at = day.start().saturating_add(POLL_TIME);
            let entry = Entry {
                tenant: &tenant,
                snapshot: &snapshot_ref,
                observed_time: &observed_time,
                observed_at,
                history: &[],
                catalog: &catalogs[usize::from(back > 40)],
                comparison: Default::default(),
                rules: Rules::none(),
                replayed: false,
            };

            let selection = Selection::all();
            let records = Records::new(&entry, &snapshot, &selection);
            for record in (0..records.end()).filter_map(|slot| records.at(slot)) {
                let mut out = Vec::new();
                formatter.write(&record, &mut out);
                let expected = if format == FormatName::Json {
                    reference::json(&record, texts)
                } else {
                    reference::cef(&record, &options)
                };
                assert_eq!(String::from_utf8(out).unwrap(), expected);
                controls.insert(record.control_id().to_owned());
            }
        }
        assert!(controls.len() >= 230);
    }
}

/// Observations of every kind, with and without a hint.
#[test]
fn observations_equal_the_reference_byte_for_byte() {
    let tenant = tenant();
    let options = Options { texts: Texts::None, host: "collector".into(), fields: vec![] };
    let mut json = Formatter::new(FormatName::Json, options.clone());
    let mut cef = Formatter::new(FormatName::Cef, options.clone());

    let unusual = "a=b | \"c\" \\ d\u{2028}e\tf\ng\u{e0041}h\u{200d}i\u{9b}";
    let mut seq = 0;
    for what in ObservationKind::ALL {
        for (phase, hint) in [
            (Phase::Begin, None),
            (Phase::Begin, Some("run `secure-score-forwarder check --online`")),
            (Phase::Begin, Some(unusual)),
            (Phase::End, None),
        ] {
            seq += 1;
            let first_day = Day::parse("2026-11-22").unwrap();
            let observation = Observation {
                what,
                subject: ObservationSubject::parse(what, "2026-11-22".to_owned()),
                first_day,
                phase,
                details: if hint.is_some() { unusual.repeat(80) } else { String::new() },
                hint: hint.map(str::to_owned),
            };

            let snapshot = SnapshotRef::of_observation(first_day, Seq::new(seq));
            let record = quality(&ObservationEntry {
                tenant: &tenant,
                observation: &observation,
                snapshot: &snapshot,
                observed_time: "2026-11-22T06:15:00.25Z",
                observed_at: first_day.start().saturating_add(POLL_TIME),
                repeats: 0,
                replayed: false,
                rules: Rules::none(),
            });

            let mut out = Vec::new();
            json.write(&record, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), reference::json(&record, Texts::None));

            let mut out = Vec::new();
            cef.write(&record, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), reference::cef(&record, &options));
        }
    }
}
