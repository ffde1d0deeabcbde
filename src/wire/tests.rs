//! Floods: documents that are small as text and large as values are rejected with the name of the
//! limit, and every accepted document stays within all limits.

use proptest::prelude::*;

use super::*;

/// A list with as many elements as a response of this size can contain.
fn list_of(element: &str, bytes: usize) -> String {
    let elements = format!("{element},");
    format!("[{}{element}]", elements.repeat(bytes / elements.len()))
}

/// A list with one element more than the limit.
fn just_above(limit: DecodeLimit, element: &str) -> String {
    format!("[{}{element}]", format!("{element},").repeat(limit.max))
}

/// As many members with different names as the limit, and one more.
fn members(limit: DecodeLimit) -> String {
    let members: Vec<String> = (0..=limit.max).map(|number| format!(r#""f{number}":0"#)).collect();
    members.join(",")
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

/// The limit that the error names.
fn exceeded<T>(result: &Result<T, WireError>) -> Option<DecodeLimit> {
    match result {
        Err(WireError::Exceeds(limit)) => Some(*limit),
        _ => None,
    }
}

/// Regression: the error about a response that is a single text contained the whole text.
#[test]
fn messages_of_the_parser_are_cut() {
    let text = format!("\"{}\"", "x".repeat(1 << 20));
    let error = page(text.as_bytes()).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.starts_with("invalid type: string \"xxx"), "{cause}");
    assert_eq!(cause.chars().count(), MAX_PARSER_MESSAGE_CHARS);
}

#[test]
fn floods_of_items_reject_the_page() {
    for element in ["0", "{}", "[]", r#""""#, "null", r#"{"id":1}"#] {
        // The size of the largest response that is read.
        let list = list_of(element, 16 << 20);
        assert_eq!(exceeded(&bare_list(list.as_bytes())), Some(DecodeLimit::ITEMS), "{element}");
        let page_of_list = format!(r#"{{"value":{list}}}"#);
        let result = page(page_of_list.as_bytes());
        assert_eq!(exceeded(&result), Some(DecodeLimit::ITEMS), "{element}");
    }

    let unknown = format!(r#"{{{},"value":[]}}"#, members(DecodeLimit::ELEMENTS));
    assert_eq!(exceeded(&page(unknown.as_bytes())), Some(DecodeLimit::ELEMENTS));
}

#[test]
fn snapshots_name_the_limit_that_they_exceed() {
    use super::DecodeLimit as Limit;
    let field = |name: &str, json: &str| format!(r#"{{"{name}":{json}}}"#);

    for (json, limit) in [
        (field("controlScores", &just_above(Limit::CONTROLS, "{}")), Limit::CONTROLS),
        (format!("{{{}}}", members(Limit::MEMBERS)), Limit::MEMBERS),
        (format!(r#"{{"id":"{}"}}"#, "x".repeat(Limit::SNAPSHOT.max)), Limit::SNAPSHOT),
    ] {
        assert_eq!(exceeded(&snapshot(&json)), Some(limit), "{json:.60}");
    }
}

const AVERAGE: &str = r#"{"basis":"AllTenants","averageScore":1}"#;

/// The list of controls with one control, which has this field.
fn of_control(field: &str) -> String {
    format!(r#""controlScores":[{{"controlName":"A","score":1,{field}}}]"#)
}

/// Regression: each of these floods in one element or one list cost the whole day.
///
/// A value that is too large is removed, and the rest of the snapshot is used.
#[test]
fn limits_of_one_value_are_faults() {
    use super::DecodeLimit as Limit;
    let deep = nested(Limit::DEPTH.max + 1);
    let name = format!(r#""{}""#, "n".repeat(Limit::NAME.max + 1));
    let text = format!(r#""{}""#, "t".repeat(Limit::TEXT.max + 1));

    let some = [
        (
            of_control(&format!(r#""count":{deep}"#)),
            "controlScores[A].count` was removed: more than 64",
        ),
        (
            of_control(&format!(r#""description":{text}"#)),
            "[A].description` was removed: more than 1,0",
        ),
        (of_control(&format!(r#""new":{text}"#)), "[A].new` was removed: more than 1,0"),
        (of_control(&format!("{name}:1")), "nnn…` was removed: more than 1,024 bytes"),
        (format!(r#""unknown":{deep}"#), "`unknown` was removed: more than 64 levels"),
        (format!(r#""unknown":{text}"#), "`unknown` was removed: more than 1,048,576 bytes"),
        (format!(r#""controlScores":[{{"controlName":{name}}}]"#), "`controlName`: more than"),
        (
            format!(r#""enabledServices":[{name}]"#),
            "`enabledServices[]` was removed: more than 1,024",
        ),
        (
            of_control(&members(Limit::FIELDS)),
            "14 unknown fields of `controlScores[A]` were removed: more than 256 unknown fields",
        ),
    ];

    let others = [
        (
            of_control(&format!(r#""controlDetails":{{{}}}"#, members(Limit::FIELDS))),
            "`controlScores[A].controlDetails` was removed: more than 256 unknown fields",
        ),
        (
            of_control(&format!(r#""count":{}"#, just_above(Limit::ELEMENTS, "0"))),
            "`controlScores[A].count` was removed: more than 65,536 unknown elements",
        ),
        (
            format!(r#""controlScores":[{{{}}}]"#, members(Limit::MEMBERS)),
            "`controlScores[]` was removed: more than 65,536 fields in an object",
        ),
        (
            members(Limit::FIELDS),
            "17 unknown fields of the snapshot were removed: more than 256 unknown fields",
        ),
        (
            format!(r#""averageComparativeScores":{}"#, just_above(Limit::AVERAGES, AVERAGE)),
            "1 element of `averageComparativeScores` was removed: more than 64 averages",
        ),
        (
            format!(r#""enabledServices":{}"#, just_above(Limit::SERVICES, r#""a""#)),
            "1 element of `enabledServices` was removed: more than 256 services",
        ),
    ];

    for (fields, fault) in some.into_iter().chain(others) {
        let json = format!(r#"{{"id":"a","currentScore":5,{fields}}}"#);
        let read = snapshot(&json).unwrap();
        assert!(read.faults.to_string().contains(fault), "{}", read.faults);
        assert_eq!((read.faults.count(), read.current_score.is_some()), (1, true), "{fault}");
        assert!(read.controls.iter().all(|control| control.score.is_some()), "{fault}");
    }
}

/// Each object stays within its own limit, and all of them together exceed that of the document.
#[test]
fn unknown_fields_of_all_objects_are_counted() {
    let fields = (0..DecodeLimit::FIELDS.max).map(|number| format!(r#""f{number}":0"#));
    let fields = fields.collect::<Vec<_>>().join(",");
    let control = format!(r#"{{"controlName":"A",{fields}}}"#);
    let controls = DecodeLimit::ELEMENTS.max / DecodeLimit::FIELDS.max;
    let of = |count: usize| {
        let controls = vec![control.as_str(); count].join(",");
        format!(r#"{{"controlScores":[{controls}]}}"#)
    };

    assert_eq!(snapshot(&of(controls)).unwrap().controls.len(), controls);
    assert_eq!(exceeded(&snapshot(&of(controls * 2))), Some(DecodeLimit::ELEMENTS));
}

#[test]
fn profiles_name_the_limit_that_they_exceed() {
    use super::DecodeLimit as Limit;
    let with = |fields: &str| format!(r#"{{"id":"A",{fields}}}"#);

    let many = with(&members(Limit::MEMBERS));
    assert_eq!(exceeded(&split_profile(&many)), Some(Limit::MEMBERS));
    let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(Limit::NAME.max + 1));
    let error = split_profile(&long).unwrap_err().to_string();
    assert!(error.starts_with("`xxx") && error.contains("more than 1,024 bytes"), "{error}");

    // A list that is too long is kept as it was sent.
    let threats = just_above(Limit::THREATS, r#""a""#);
    let read = profile(&with(&format!(r#""threats":{threats}"#))).unwrap();
    assert!(read.threats.is_empty() && read.additional == [("threats".to_owned(), threats)]);
}

/// Regression: such a profile was removed with its decisions, without a name in the report.
#[test]
fn profiles_that_are_too_large_keep_their_decisions() {
    use super::DecodeLimit as Limit;
    let accepted = r#"{"state":"Ignored","comment":"accepted"}"#;
    let old = format!(r#"{{"state":"Default","comment":"{}"}}"#, "x".repeat(Limit::PROFILE.max));
    let decisions = |list: &str| format!(r#""controlStateUpdates":{list}"#);

    for (fields, fault) in [
        (
            format!("{},{}", members(Limit::FIELDS), decisions(&format!("[{accepted}]"))),
            "20 unknown fields of `A` were removed: more than 256 unknown fields in an object",
        ),
        (
            decisions(&just_above(Limit::DECISIONS, accepted)),
            "1 element of `A.controlStateUpdates` was removed: more than 1,000 decisions",
        ),
        (
            decisions(&format!("[{accepted},{old}]")),
            "`A.controlStateUpdates[].comment` was removed: more than 1,048,576 bytes",
        ),
    ] {
        let parts = split_profile(&format!(r#"{{"id":"A",{fields}}}"#)).unwrap();
        assert_eq!(parts.id, "A", "{fault}");
        assert!(parts.faults.to_string().contains(fault), "{fault}: {}", parts.faults);
        let updates = state_updates(&parts.decisions);
        assert_eq!(updates[0].comment.as_deref(), Some("accepted"), "{fault}");
        assert!(profile(&parts.shared).unwrap().additional.len() <= Limit::FIELDS.max, "{fault}");
    }
}

#[test]
fn floods_of_the_token_endpoint_are_not_stored() {
    let now = jiff::Timestamp::UNIX_EPOCH;
    let bytes = 1 << 20;
    let lists = ["0", "{}", r#"{"a":0}"#].map(|element| list_of(element, bytes));
    for flood in lists.into_iter().chain([nested(bytes / 2)]) {
        let response = format!(r#"{{"access_token":"a","expires_in":{flood},"x":{flood}}}"#);
        assert!(matches!(token(response.as_bytes(), now), Err(WireError::NoToken)));
        assert!(token(flood.as_bytes(), now).is_err() && issuer_tenant(flood.as_bytes()).is_none());
        assert!(EntraError::read(flood.as_bytes()).is_none());
        assert!(GraphError::read(flood.as_bytes()).is_none());
    }

    let long = "x".repeat(DecodeLimit::TOKEN.max + 1);
    for field in ["access_token", "refresh_token"] {
        let other = if field == "access_token" { "" } else { r#""access_token":"a","# };
        let response = format!(r#"{{{other}"{field}":"{long}","expires_in":60}}"#);
        assert_eq!(exceeded(&token(response.as_bytes(), now)), Some(DecodeLimit::TOKEN), "{field}");
    }
}

/// JSON of any shape, as text.
fn any_json() -> impl Strategy<Value = String> {
    let names = ["id", "controlScores", "score", "controlDetails", "enabledServices", "x", "y"];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        "[ -~]{0,8}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(r#""half \ud83d""#.to_owned()),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        let name = proptest::sample::select(names.to_vec());
        let member = (name, inner.clone()).prop_map(|(name, json)| format!(r#""{name}":{json}"#));
        let elements = proptest::collection::vec(inner, 0..8);
        let members = proptest::collection::vec(member, 0..8);
        prop_oneof![
            elements.prop_map(|elements| format!("[{}]", elements.join(","))),
            members.prop_map(|members| format!("{{{}}}", members.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn accepted_documents_stay_within_limits(json in any_json()) {
        if let Ok(snapshot) = snapshot(&json) {
            prop_assert!(snapshot.controls.len() <= DecodeLimit::CONTROLS.max);
            prop_assert!(snapshot.additional.len() <= DecodeLimit::FIELDS.max);
            for (_, kept) in &snapshot.additional {
                prop_assert!(serde_json::from_str::<serde_json::Value>(kept).is_ok());
            }
        }
        if let Ok(parts) = split_profile(&json) {
            prop_assert!(profile(&parts.shared).is_ok());
            let _ = state_updates(&parts.decisions);
        }
        let items = saved_items(&json).unwrap();
        prop_assert!(items.len() <= DecodeLimit::SAVED_ITEMS.max);
    }
}
