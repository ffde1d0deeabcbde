//! Tests of profiles: what is shared, what is kept as it was sent, and what is reported.

use super::{
    fields::{expected_type, set_known},
    *,
};
use crate::wire::keys::{PROFILE_TEXT_KEYS, profile_keys};

const PROFILE: &str = r#"{"actionType":"Config","azureTenantId":"3f5c1d2e-0000-4000-8000-00000000c0de","complianceInformation":[],
    "controlStateUpdates":[{"assignedTo":null,"comment":null,"state":"Default","updatedBy":null,"updatedDateTime":null}],
    "deprecated":false,"id":"OneAdmin","maxScore":"1.0","rank":10,"threats":["Account breach"],"title":"Two admins ",
    "userImpact":null,"vendorInformation":{"vendor":"Microsoft"},"brandNew":{"x":1.50}}"#;

#[test]
fn shared_part_is_equal_for_all_tenants() {
    let other = PROFILE.replace("3f5c1d2e", "aaaaaaaa");
    assert_eq!(split_profile(PROFILE).unwrap(), split_profile(&other).unwrap());

    let parts = split_profile(PROFILE).unwrap();
    assert_eq!((parts.id.as_str(), parts.decisions.as_str()), ("OneAdmin", ""));
    assert!(!parts.shared.contains("c0de"));
}

#[test]
fn parses_the_shared_part() {
    let read = profile(&split_profile(PROFILE).unwrap().shared).unwrap();
    assert_eq!(read.id, "OneAdmin");
    assert_eq!(read.max_score, Number::new(1.0));
    assert_eq!(read.threats, ["Account breach"]);
    assert_eq!(read.user_impact, None);
    assert_eq!(read.additional, [("brandNew".to_owned(), r#"{"x":1.50}"#.to_owned())]);
}

#[test]
fn keeps_decisions_as_sent() {
    let decided = PROFILE.replace(r#""state":"Default""#, r#""state":"Ignored","note":1"#);
    let parts = split_profile(&decided).unwrap();
    assert!(parts.decisions.contains(r#""note":1"#));
    let updates = decision::state_updates(&parts.decisions);
    assert_eq!(updates[0].state.as_deref(), Some("Ignored"));
}

/// Regression: threats that were listed twice were not reported.
#[test]
fn repeated_threats_are_reported() {
    let parts = split_profile(r#"{"id":"A","threats":["a","b","A"]}"#).unwrap();
    assert_eq!(parts.faults.to_string(), "`A.threats[]`: `A` appears more than once");
    assert_eq!(profile(&parts.shared).unwrap().threats, ["a", "b", "A"]);
}

/// Regression: a null among the threats, or a field that was sent twice, changed the form of
/// the profile without a report.
#[test]
fn reports_what_cannot_be_used() {
    let long = "x".repeat(DecodeLimit::PROFILE.max);
    let some = [
        (r#""threats":["a","b"]"#.to_owned(), ""),
        (
            r#""controlStateUpdates":[{"state":"Ignored"},{"state":"Ignored"}]"#.to_owned(),
            "`A.controlStateUpdates[]`: a decision appears more than once",
        ),
        (
            r#""threats":["a",null,"b",null]"#.to_owned(),
            "`A.threats[]` was removed: null instead of a text (2 times)",
        ),
        (r#""title":"y","title":"x""#.to_owned(), "`A.title` appears more than once"),
        (
            r#""title":"\ud83d""#.to_owned(),
            "`A` contains half of a character, which was replaced by U+FFFD",
        ),
    ];

    let others = [
        (
            format!(r#""remediation":"{long}""#),
            "`A.remediation` was removed: more than 1,048,576 bytes in a control profile",
        ),
        (
            format!(r#""x":{}{}"#, "[".repeat(65), "]".repeat(65)),
            "`A.x` was removed: more than 64 levels of nesting in a value",
        ),
        (r#""maxScore":1e400"#.to_owned(), "`A.maxScore` was removed: a number out of range"),
        (r#""z":[1,{"y":1e400}]"#.to_owned(), "`A.z` was removed: a number out of range"),
        (r#""z":{"a":1,"a":2}"#.to_owned(), "`A.z` was removed: `a` appears more than once"),
        (r#""maxScore":-5"#.to_owned(), "`A`: the maximum score is negative"),
    ];

    for (fields, expected) in some.into_iter().chain(others) {
        let parts = split_profile(&format!(r#"{{"id":"A","service":"S",{fields}}}"#)).unwrap();
        assert_eq!(parts.faults.to_string(), expected, "{fields:.60}");
        let read = profile(&parts.shared).unwrap();
        assert_eq!((read.id.as_str(), read.service.as_deref()), ("A", Some("S")));
        assert!(read.threats.is_empty() || read.threats == ["a", "b"], "{:?}", read.threats);
    }
}

/// Regression: a value of another type was kept without a report.
#[test]
fn values_of_other_types_are_reported() {
    let number_of_threats = DecodeLimit::THREATS.max + 1;
    let many = format!("[{}]", vec![r#""a""#; number_of_threats].join(","));
    let others = [
        ("maxScore", r#""abc""#, "is a text instead of a number"),
        ("rank", "{}", "is an object instead of a number"),
        ("deprecated", r#""maybe""#, "is a text instead of a Boolean"),
        ("deprecated", "1", "is a number instead of a Boolean"),
        ("threats", r#""A""#, "is a text instead of a list"),
        ("threats", many.as_str(), "was not used: more than 256 threats in a control profile"),
        ("complianceInformation", r#""x""#, "is a text instead of a list"),
        ("vendorInformation", r#""x""#, "is a text instead of an object"),
    ];

    let texts = PROFILE_TEXT_KEYS.iter().map(|key| (*key, "7", "is a number instead of a text"));
    for (key, value, fault) in texts.chain(others) {
        let parts = split_profile(&format!(r#"{{"id":"A","{key}":{value}}}"#)).unwrap();
        let faults = parts.faults.to_string();
        assert!(faults.starts_with(&format!("`A.{key}` {fault}")), "{key}: {faults}");
        let kept = profile(&parts.shared).unwrap().additional;
        assert_eq!(kept, [(key.to_owned(), value.to_owned())], "{key}");

        // Genuine profiles have no null in the place of a number.
        let absent = split_profile(&format!(r#"{{"id":"A","{key}":null}}"#)).unwrap();
        let expected = match key {
            "maxScore" | "rank" => format!("`A.{key}` is null instead of a number"),
            _ => String::new(),
        };
        assert_eq!(absent.faults.to_string(), expected, "{key}");
    }

    let usual = r#"{"id":"A","maxScore":"2","rank":1,"deprecated":"False","threats":[],"title":"t","complianceInformation":[{"certificationName":"ISO"}],"new":7}"#;
    assert!(split_profile(usual).unwrap().faults.is_empty());
}

#[test]
fn the_order_of_fields_does_not_matter() {
    let fields = [r#""id":"A""#, r#""title":"x""#, r#""title":"y""#, r#""title":null"#];
    let profile = |fields: &[&str]| split_profile(&format!("{{{}}}", fields.join(","))).unwrap();
    let mut reversed = fields;
    reversed.reverse();
    assert_eq!(profile(&fields), profile(&reversed));
    assert!(profile(&fields).shared.contains(r#""title":"x""#));
}

#[test]
fn switches_may_be_text() {
    for (json, expected) in [("true", Some(true)), (r#""False""#, Some(false)), ("1", None)] {
        let read = profile(&format!(r#"{{"id":"A","deprecated":{json}}}"#)).unwrap();
        assert_eq!(read.deprecated, expected, "{json}");
        assert_eq!(read.additional.len(), usize::from(expected.is_none()), "{json}");
    }
}

#[test]
fn rejects_profiles_without_id() {
    for (bad, reason) in [
        ("{}", "no `id`"),
        (r#"{"id":null}"#, "`id` is null instead of a text"),
        (r#"{"id":7}"#, "`id` is a number instead of a text"),
        (r#"{"id":""}"#, "`id` is empty"),
    ] {
        assert_eq!(split_profile(bad).unwrap_err().to_string(), reason, "{bad}");
    }
    for bad in ["[]", "x"] {
        assert!(split_profile(bad).is_err(), "{bad}");
    }
}

/// Keys that no type is expected of: they identify the profile and its tenant, or are decoded by
/// another module.
const UNTYPED_KEYS: &[&str] = &["id", "azureTenantId", DECISIONS];

/// A field that is in only one of the lists would be removed, or kept without a report.
#[test]
fn every_known_key_has_a_type() {
    for key in profile_keys() {
        let is_untyped = UNTYPED_KEYS.contains(&key);
        assert_eq!(expected_type(key).is_none(), is_untyped, "{key}");
    }
    for key in PROFILE_TEXT_KEYS {
        let mut profile = Profile::default();
        assert!(set_known(&mut profile, key, r#""x""#), "{key}");
        assert_ne!(profile, Profile::default(), "{key}");
    }

    // Every other key that is decoded.
    for key in
        ["maxScore", "rank", "deprecated", "threats", "complianceInformation", "vendorInformation"]
    {
        assert!(profile_keys().contains(&key), "{key}");
    }
}
