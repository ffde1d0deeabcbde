//! Tests of what is left of a snapshot with a bad element: everything else.

use proptest::prelude::*;

use super::super::{DecodeLimit, listed_day, snapshot};
use crate::model::{ControlList, Day, DayFacts, Number, Snapshot};

const GOOD: &str = r#"{"controlName":"AdminMFAV2","score":1.5,"scoreInPercentage":50},{"controlName":"OneAdmin","score":2,"description":"d"}"#;

/// A snapshot with two good controls, and these additional ones.
fn with_controls(more: &str) -> String {
    with_fields(&format!(r#""controlScores":[{GOOD}{more}]"#))
}

fn with_fields(fields: &str) -> String {
    format!(r#"{{"id":"a_2026-11-22","createdDateTime":"2026-11-22T00:00:00Z",{fields}}}"#)
}

fn names<'s>(snapshot: &'s Snapshot<'_>) -> Vec<&'s str> {
    snapshot.controls.iter().map(|control| control.name.as_ref()).collect()
}

#[test]
fn good_snapshots_have_no_faults() {
    for json in [
        with_controls(""),
        with_controls(r#",{"controlName":"A","new":"\ud83d\ude00","description":null}"#),
        with_fields(r#""enabledServices":null,"averageComparativeScores":[],"x":{"y":[1]}"#),
    ] {
        assert!(snapshot(&json).unwrap().faults.is_empty(), "{json}");
    }
}

/// Regression: each of these elements cost the whole day.
#[test]
fn a_bad_control_costs_only_itself() {
    for (more, fault) in [
        (",null", "`controlScores[]` was removed: null instead of an object"),
        (",7", "`controlScores[]` was removed: a number instead of an object"),
        (r#",["A"]"#, "`controlScores[]` was removed: a list instead of an object"),
        (r#",{"score":1}"#, "`controlScores[]` was removed: no `controlName`"),
        (
            r#",{"controlName":null,"score":1}"#,
            "`controlScores[]` was removed: `controlName` is null instead of a text",
        ),
        (",null,null", "`controlScores[]` was removed: null instead of an object (2 times)"),
    ] {
        let json = with_controls(more);
        let read = snapshot(&json).unwrap();
        assert_eq!(names(&read), ["AdminMFAV2", "OneAdmin"], "{more}");
        assert_eq!(read.faults.to_string(), fault, "{more}");
    }
}

/// Regression: a name that is a number or too long was only reported as not usable.
#[test]
fn unusable_names_state_what_is_wrong() {
    let long = format!("\"{}\"", "N".repeat(5_000));
    for (name, fault) in [
        ("7", "`controlName` is a number instead of a text"),
        (r#"["A"]"#, "`controlName` is a list instead of a text"),
        ("true", "`controlName` is a Boolean instead of a text"),
        (r#""""#, "`controlName` is empty"),
        (long.as_str(), "`controlName`: more than 1,024 bytes in a name"),
    ] {
        let json = with_controls(&format!(r#",{{"controlName":{name},"score":1}}"#));
        let read = snapshot(&json).unwrap();
        assert_eq!(names(&read), ["AdminMFAV2", "OneAdmin"], "{name:.60}");
        let expected = format!("`controlScores[]` was removed: {fault}");
        assert_eq!(read.faults.to_string(), expected, "{name:.60}");
    }
    let original = with_controls(r#",{"referenceId":7,"score":1}"#);
    let faults = snapshot(&original).unwrap().faults.to_string();
    assert_eq!(
        faults,
        "`controlScores[]` was removed: `referenceId` is a number instead of a text"
    );
}

/// Regression: null in the place of a documented number, and a `vendorInformation` that is not an
/// object, left no report.
#[test]
fn null_numbers_are_reported() {
    for (fields, fault) in [
        (r#""currentScore":null"#, "`currentScore` is null instead of a number"),
        (r#""maxScore":null"#, "`maxScore` is null instead of a number"),
        (r#""activeUserCount":null"#, "`activeUserCount` is null instead of a number"),
        (r#""licensedUserCount":null"#, "`licensedUserCount` is null instead of a number"),
        (r#""vendorInformation":"x""#, "`vendorInformation` is a text instead of an object"),
        (r#""vendorInformation":[]"#, "`vendorInformation` is a list instead of an object"),
        // Genuine responses have these.
        (r#""vendorInformation":{"provider":"SecureScore","subProvider":null}"#, ""),
        (r#""vendorInformation":null"#, ""),
        (r#""enabledServices":null,"averageComparativeScores":null"#, ""),
    ] {
        let json = with_fields(&format!(r#""controlScores":[{GOOD}],{fields}"#));
        let read = snapshot(&json).unwrap();
        assert_eq!(read.faults.to_string(), fault, "{fields}");
        assert_eq!(read.control_list, ControlList::Complete, "{fields}");
        assert!(read.additional.is_empty(), "{fields}");
    }

    for (field, fault) in [
        ("score", "`controlScores[A].score` is null instead of a number"),
        ("scoreInPercentage", ""),
        ("count", ""),
        ("description", ""),
        ("controlDetails", ""),
        ("lastSynced", ""),
    ] {
        let json = with_controls(&format!(r#",{{"controlName":"A","{field}":null}}"#));
        let read = snapshot(&json).unwrap();
        assert_eq!(read.faults.to_string(), fault, "{field}");
        assert_eq!(names(&read), ["AdminMFAV2", "OneAdmin", "A"], "{field}");
    }
}

/// Regression: a day without its list of controls reported all of them as removed.
#[test]
fn lost_controls_are_remembered() {
    for (controls, expected) in [
        (format!(r#""controlScores":[{GOOD}]"#), ControlList::Complete),
        (r#""controlScores":[]"#.to_owned(), ControlList::Complete),
        (
            format!(r#""controlScores":[{GOOD},{{"controlName":"A","x":1e400}}]"#),
            ControlList::Complete,
        ),
        (format!(r#""controlScores":[{GOOD},null]"#), ControlList::Incomplete),
        (r#""currentScore":1"#.to_owned(), ControlList::Incomplete),
        (r#""controlScores":[null,{"controlName":null}]"#.to_owned(), ControlList::Unusable),
        (r#""controlScores":null"#.to_owned(), ControlList::Unusable),
        (r#""controlScores":null,"currentScore":1e400"#.to_owned(), ControlList::Unusable),
    ] {
        let json = with_fields(&controls);
        let read = snapshot(&json).unwrap();
        assert_eq!(read.control_list, expected, "{controls}");
        let has_fault = read.faults.to_string().contains("controlScores");
        assert!(has_fault || expected != ControlList::Unusable, "{controls}");
        let facts = DayFacts::of(&read).unwrap();
        assert_eq!(facts.has_lost_controls, expected != ControlList::Complete, "{controls}");
    }
}

/// Regression: a field that cannot be used cost the whole day.
#[test]
fn a_bad_field_costs_only_itself() {
    let long = "x".repeat(DecodeLimit::TEXT.max + 1);
    let cases = [
        (r#""description":"a\ud800b""#.to_owned(), "description` contains half of a character"),
        (r#""new":"a\ud800b""#.to_owned(), "new` contains half of a character"),
        (
            r#""n\ud800w":1"#.to_owned(),
            "`controlScores[A].n\u{fffd}w` contains half of a character",
        ),
        (format!(r#""description":"{long}""#), "description` was removed: more than 1,048,576"),
        (r#""count":1e999"#.to_owned(), "count` was removed: a number out of range"),
        (r#""new":-1e999"#.to_owned(), "new` was removed: a number out of range"),
        (r#""new":{"y":[1e999]}"#.to_owned(), "new` was removed: a number out of range"),
        (r#""new":[{"y":1,"y":2}]"#.to_owned(), "new` was removed: `y` appears more than once"),
        (r#""count":[{"y":1,"y":2}]"#.to_owned(), "count` was removed: `y` appears more than once"),
        (r#""count":2,"count":1"#.to_owned(), "count` appears more than once"),
        (r#""referenceId":"B""#.to_owned(), "referenceId` was removed: `controlName` takes"),
        (r#""controlDetails":7"#.to_owned(), "controlDetails` was removed: a number"),
    ];

    for (field, fault) in cases {
        let json = with_controls(&format!(r#",{{"controlName":"A","score":3,{field}}}"#));
        let read = snapshot(&json).unwrap();
        assert_eq!(names(&read), ["AdminMFAV2", "OneAdmin", "A"], "{field:.60}");
        let faults = read.faults.to_string();
        assert!(faults.contains(fault), "{field:.60}: {faults}");
        assert_eq!(read.controls[2].score.map(Number::get), Some(3.0), "{field:.60}");
    }
}

/// Regression: a value of another type was moved to the additional fields without a report, and an
/// average with such a score disappeared.
#[test]
fn values_of_other_types_are_kept_and_reported() {
    const CONTROL: &str = r#"{"controlName":"A","score":1,"maxScore":2,"scoreInPercentage":50,"count":1,"total":2,"on":true,"controlCategory":"c","description":"d","implementationStatus":"i","lastSynced":"l"}"#;
    let list = |element: &str| with_fields(&format!(r#""controlScores":[{element}]"#));
    assert!(snapshot(&list(CONTROL)).unwrap().faults.is_empty());

    for (key, bad, fault) in [
        ("score", r#""abc""#, "a text instead of a number"),
        ("score", r#"{"a":1}"#, "an object instead of a number"),
        ("score", "[1]", "a list instead of a number"),
        ("score", "true", "a Boolean instead of a number"),
        ("maxScore", r#""""#, "a text instead of a number"),
        ("scoreInPercentage", r#""50 %""#, "a text instead of a number"),
        ("count", "false", "a Boolean instead of a number"),
        ("total", "[]", "a list instead of a number"),
        ("on", r#""maybe""#, "a text instead of a Boolean"),
        ("on", "1", "a number instead of a Boolean"),
        ("controlCategory", "4", "a number instead of a text"),
        ("description", "{}", "an object instead of a text"),
        ("implementationStatus", r#"["a"]"#, "a list instead of a text"),
        ("lastSynced", "0", "a number instead of a text"),
    ] {
        let element = format!(r#"{{"controlName":"A","{key}":{bad}}}"#);
        let json = list(&element);
        let read = snapshot(&json).unwrap();
        assert_eq!(read.controls[0].additional, [(key.into(), bad.into())], "{element}");
        let expected = format!("`controlScores[A].{key}` is {fault}");
        assert_eq!(read.faults.to_string(), expected, "{element}");
        assert_eq!(read.control_list, ControlList::Complete, "{element}");
    }

    let details = list(r#"{"controlName":"A","controlDetails":{"count":"many"}}"#);
    let faults = snapshot(&details).unwrap().faults.to_string();
    assert_eq!(faults, "`controlScores[A].controlDetails` has a value that is not a number");
}

#[test]
fn totals_and_averages_of_other_types_are_reported() {
    let average = r#""averageComparativeScores":[{"basis":"AllTenants","averageScore":"abc"},{"basis":"TotalSeats","averageScore":3}]"#;
    let cases = [
        (r#""currentScore":"abc""#, "`currentScore` is a text instead of a number"),
        (r#""maxScore":{}"#, "`maxScore` is an object instead of a number"),
        (r#""activeUserCount":[5]"#, "`activeUserCount` is a list instead of a number"),
        (r#""licensedUserCount":true"#, "`licensedUserCount` is a Boolean instead of a number"),
        (r#""azureTenantId":7"#, "`azureTenantId` is a number instead of a text"),
        (
            average,
            "`averageComparativeScores[AllTenants].averageScore` is a text instead of a number",
        ),
        // Not a field of the original API if the current name is present.
        (r#""secureScore":{},"currentScore":5"#, ""),
        (r#""currentScore":5,"secureScore":{},"new":7"#, ""),
        (r#""secureScore":{}"#, "`secureScore` is an object instead of a number"),
    ];

    for (fields, fault) in cases {
        let json = with_fields(&format!(r#""controlScores":[{GOOD}],{fields}"#));
        let read = snapshot(&json).unwrap();
        assert_eq!(read.faults.to_string(), fault, "{fields}");
        assert_eq!(names(&read), ["AdminMFAV2", "OneAdmin"], "{fields}");
        let in_averages = read.averages.iter().map(|average| average.additional.len());
        let kept = read.additional.len() + in_averages.sum::<usize>();
        assert!(kept > 0, "{fields}");
    }
}

#[test]
fn halves_of_characters_are_replaced() {
    let json =
        with_controls(r#",{"controlName":"A\ud83d","description":"a\ud800b","new":"\udc00"}"#);
    let read = snapshot(&json).unwrap();
    let control = &read.controls[2];
    assert_eq!((&*control.name, control.description.as_deref()), ("A\u{fffd}", Some("a\u{fffd}b")));
    assert_eq!(control.additional, [("new".into(), "\"\\ufffd\"".into())]);
    assert_eq!(read.faults.count(), 3, "{}", read.faults);
}

#[test]
fn bad_elements_of_other_lists_are_removed() {
    let cases = [
        (
            r#""enabledServices":["A",null]"#,
            "`enabledServices[]` was removed: null instead of a text",
        ),
        (r#""enabledServices":["A",["B"]]"#, "`enabledServices[]` was removed: a list instead"),
        (r#""enabledServices":7"#, "`enabledServices` was removed: a number"),
        (r#""averageComparativeScores":[null]"#, "`averageComparativeScores[]` was removed: null"),
        (
            r#""averageComparativeScores":[{"basis":null,"averageScore":3}]"#,
            "`basis` is null instead",
        ),
        (
            r#""averageComparativeScores":[{"basis":"AllTenants","averageScore":1e999}]"#,
            "`averageComparativeScores[AllTenants].averageScore` was removed",
        ),
        (r#""currentScore":1e999"#, "`currentScore` was removed: a number out of range"),
        (r#""currentScore":5,"currentScore":6"#, "`currentScore` appears more than once"),
        (r#""createdDate":"2026-11-21""#, "`createdDate` was removed: `createdDateTime` takes"),
    ];

    for (fields, fault) in cases {
        let json = with_fields(&format!(r#""controlScores":[{GOOD}],{fields}"#));
        let read = snapshot(&json).unwrap();
        assert_eq!(names(&read), ["AdminMFAV2", "OneAdmin"], "{fields}");
        assert_eq!(read.day(), Day::parse("2026-11-22"), "{fields}");
        let services: &[&str] = if fields.contains(r#"["A""#) { &["A"] } else { &[] };
        assert_eq!(read.enabled_services, services, "{fields}");
        assert!(read.faults.to_string().contains(fault), "{fields}: {}", read.faults);
    }
}

/// Regression: a name of the original API before the current one cost the whole day.
#[test]
fn original_names_never_take_precedence() {
    let mut fields = [
        r#""azureTenantId":"a""#,
        r#""tenantId":"b""#,
        r#""currentScore":5"#,
        r#""secureScore":1"#,
        r#""averageComparativeScores":[{"basis":"AllTenants","averageScore":2}]"#,
    ];
    for _ in 0..2 {
        let json = with_fields(&fields.join(","));
        let read = snapshot(&json).unwrap();
        let current = read.current_score.map(Number::get);
        assert_eq!((read.tenant_id.as_deref(), current), (Some("a"), Some(5.0)), "{json}");
        assert_eq!(read.averages.len(), 1, "{json}");
        fields.reverse();
    }
}

#[test]
fn rejections_state_what_was_found() {
    for (json, message) in [
        ("null", "null instead of an object"),
        ("[1]", "a list instead of an object"),
        (r#""text""#, "a text instead of an object"),
        ("-7", "a number instead of an object"),
        (r#"{"controlScores":7}"#, "`controlScores` is a number instead of a list"),
    ] {
        assert_eq!(snapshot(json).unwrap_err().to_string(), message, "{json}");
    }
}

#[test]
fn a_rejected_snapshot_names_its_day() {
    for (json, day) in [
        (r#"{"createdDateTime":"2026-11-22T00:00:00Z","controlScores":1}"#, Some("2026-11-22")),
        (r#"{"createdDate":"2017-01-31"}"#, Some("2017-01-31")),
        (r#"{"id":"a_2026-11-21","createdDateTime":null}"#, Some("2026-11-21")),
        (r#"{"id":"a"}"#, None),
        ("null", None),
        ("{", None),
    ] {
        assert_eq!(listed_day(json), day.and_then(Day::parse), "{json}");
    }
}

/// The JSON text of a value that is not a control, or that is one with a bad field.
fn bad_element() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec!["null", "true", "7", "[]", "{}", r#""A""#, "[{}]"])
            .prop_map(str::to_owned),
        proptest::sample::select(vec![
            r#"{"controlName":null,"score":1}"#,
            r#"{"controlName":"","score":1}"#,
            r#"{"controlName":"bad","score":1e999}"#,
            r#"{"controlName":"bad","description":"\ud83d"}"#,
            r#"{"controlName":"bad","score":1,"score":2}"#,
            r#"{"controlName":"bad","new":"\udc00","new":1}"#,
        ])
        .prop_map(str::to_owned),
    ]
}

/// The facts of a snapshot with these controls.
fn facts_of(controls: &[String]) -> (DayFacts, String) {
    let json = with_fields(&format!(r#""controlScores":[{}]"#, controls.join(",")));
    let read = snapshot(&json).unwrap();
    (DayFacts::of(&read).unwrap(), read.faults.to_string())
}

proptest! {
    #[test]
    fn good_controls_survive_a_bad_one(
        scores in proptest::collection::vec(0_u32..100, 1..8),
        bad in bad_element(),
        at in any::<proptest::sample::Index>(),
    ) {
        let control =
            |(number, score): (usize, &u32)| format!(r#"{{"controlName":"c{number}","score":{score}}}"#);
        let mut controls: Vec<String> = scores.iter().enumerate().map(control).collect();
        let (good, _) = facts_of(&controls);

        controls.insert(at.index(controls.len() + 1), bad);
        let (facts, faults) = facts_of(&controls);
        prop_assert!(!faults.is_empty());
        for control in &good.controls {
            prop_assert_eq!(facts.control(&control.name), Some(control));
        }
    }

    #[test]
    fn facts_do_not_depend_on_order_or_repetition(
        mut controls in proptest::collection::vec(
            prop_oneof![
                ("[a-c]", 0_u32..3).prop_map(|(name, score)| {
                    format!(r#"{{"controlName":"{name}","score":{score}}}"#)
                }),
                bad_element(),
            ],
            0..8,
        ),
        seed in any::<u64>(),
    ) {
        let (facts, faults) = facts_of(&controls);
        fastrand::Rng::with_seed(seed).shuffle(&mut controls);
        prop_assert_eq!(facts_of(&controls), (facts.clone(), faults));

        let repeated: Vec<String> = controls.iter().chain(&controls).cloned().collect();
        prop_assert_eq!(facts_of(&repeated).0, facts);
    }
}
