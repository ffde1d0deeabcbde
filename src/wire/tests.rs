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
    let of_control = |fields: &str| format!(r#"{{"controlScores":[{{{fields}}}]}}"#);
    let deep = nested(Limit::DEPTH.max + 1);
    let repeated = r#""averageSecureScore":1,"#.repeat(Limit::AVERAGES.max + 1);
    let texts = r#""score":"x","#.repeat(Limit::FIELDS.max);
    let name = format!(r#""{}""#, "n".repeat(Limit::NAME.max + 1));
    let text = format!(r#""{}""#, "t".repeat(Limit::TEXT.max + 1));

    for (json, limit) in [
        (field("controlScores", &just_above(Limit::CONTROLS, "{}")), Limit::CONTROLS),
        (field("averageComparativeScores", &just_above(Limit::AVERAGES, "{}")), Limit::AVERAGES),
        (format!(r#"{{{repeated}"id":"a"}}"#), Limit::AVERAGES),
        (field("enabledServices", &just_above(Limit::SERVICES, r#""""#)), Limit::SERVICES),
        (format!("{{{}}}", members(Limit::FIELDS)), Limit::FIELDS),
        (of_control(&members(Limit::FIELDS)), Limit::FIELDS),
        (of_control(&format!(r#""controlDetails":{{{}}}"#, members(Limit::FIELDS))), Limit::FIELDS),
        (of_control(&format!(r#"{texts}"score":"x""#)), Limit::FIELDS),
        (of_control(&format!(r#""score":{}"#, just_above(Limit::ELEMENTS, "0"))), Limit::ELEMENTS),
        (of_control(&format!(r#""score":{deep}"#)), Limit::DEPTH),
        (field("unknown", &deep), Limit::DEPTH),
        (field("unknown", &text), Limit::TEXT),
        (field("id", &text), Limit::TEXT),
        (of_control(&format!(r#""controlName":{name}"#)), Limit::NAME),
        (format!("{{{name}:1}}"), Limit::NAME),
        (format!(r#"{{"id":"{}"}}"#, "x".repeat(Limit::SNAPSHOT.max)), Limit::SNAPSHOT),
    ] {
        assert_eq!(exceeded(&snapshot(&json)), Some(limit), "{json:.60}");
    }
}

/// Each object stays within its own limit, and all of them together exceed that of the document.
#[test]
fn unknown_fields_of_all_objects_are_counted() {
    let fields = (0..DecodeLimit::FIELDS.max).map(|number| format!(r#""f{number}":0"#));
    let control = format!("{{{}}}", fields.collect::<Vec<_>>().join(","));
    let controls = DecodeLimit::ELEMENTS.max / DecodeLimit::FIELDS.max;
    let of = |count: usize| {
        let controls = vec![control.as_str(); count].join(",");
        format!(r#"{{"controlScores":[{controls}]}}"#)
    };

    assert_eq!(snapshot(&of(controls)).unwrap().controls.len(), controls);
    assert_eq!(exceeded(&snapshot(&of(controls + 1))), Some(DecodeLimit::ELEMENTS));
}

#[test]
fn profiles_name_the_limit_that_they_exceed() {
    use super::DecodeLimit as Limit;
    let with = |fields: &str| format!(r#"{{"id":"A",{fields}}}"#);

    for (json, limit) in [
        (with(&members(Limit::FIELDS)), Limit::FIELDS),
        (with(&format!(r#""x":{}"#, nested(Limit::DEPTH.max + 1))), Limit::DEPTH),
        (with(&format!(r#""title":"{}""#, "x".repeat(Limit::PROFILE.max))), Limit::PROFILE),
        (format!(r#"{{"id":"{}"}}"#, "x".repeat(Limit::NAME.max + 1)), Limit::NAME),
        (
            with(&format!(r#""controlStateUpdates":{}"#, just_above(Limit::DECISIONS, "0"))),
            Limit::DECISIONS,
        ),
    ] {
        assert_eq!(exceeded(&split_profile(&json)), Some(limit), "{json:.60}");
    }

    // A list that is too long is kept as it was sent.
    let threats = just_above(Limit::THREATS, r#""a""#);
    let read = profile(&with(&format!(r#""threats":{threats}"#))).unwrap();
    assert!(read.threats.is_empty() && read.additional == [("threats".to_owned(), threats)]);
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
        }
        let items = saved_items(&json).unwrap();
        prop_assert!(items.len() <= DecodeLimit::SAVED_ITEMS.max);
    }
}
