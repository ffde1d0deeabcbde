//! `controlStateUpdates`: the tenant's decisions about a control. An entry with a field that cannot
//! be used is still a decision: a person may have accepted a risk with it, so only that field is
//! removed or replaced. Start reading at [`state_updates`].

use std::collections::HashSet;

use serde::Deserialize;

use super::{
    WireError,
    budget::DecodeLimit,
    salvage::{RawMembers, first_items, kind, members, path, removed, without_halves},
};
use crate::model::{DataFaults, DecisionState, StateUpdate};

/// The fields of an entry.
const STATE: &str = "state";
const ASSIGNED_TO: &str = "assignedTo";
const COMMENT: &str = "comment";
const UPDATED_BY: &str = "updatedBy";
const UPDATED: &str = "updatedDateTime";
/// An entry that is not a decision.
const NULL: &str = "null";

/// Parses the decisions of [`ProfileParts`](super::ProfileParts). Entries that are not objects are
/// omitted. An empty string represents the entry that Microsoft sends for a control without any
/// decision.
pub fn state_updates(decisions: &str) -> Vec<StateUpdate> {
    if decisions.is_empty() {
        return vec![default_update()];
    }
    read(decisions, "", &mut DataFaults::default()).unwrap_or_default()
}

/// The decisions in a JSON list, or none if the text is null or not a list. `owner` names the
/// control in faults. Fails if the text is not JSON.
pub(super) fn read(
    json: &str,
    owner: &str,
    faults: &mut DataFaults,
) -> Result<Vec<StateUpdate>, WireError> {
    let list = path(owner, "controlStateUpdates");
    if !json.starts_with('[') {
        if json != "null" {
            removed(&list, &format!("{} instead of a list", kind(json)), faults);
        }
        return Ok(Vec::new());
    }

    let entry = format!("{list}[]");
    let updates = first_items(json, DecodeLimit::DECISIONS, &list, faults)?.into_iter();
    let updates: Vec<StateUpdate> =
        updates.filter_map(|json| state_update(json, &entry, faults)).collect();
    report_stateless(&updates, &entry, faults);
    report_repeated(&updates, &entry, faults);
    Ok(updates)
}

/// An entry of the list at `list` without the fields that are unknown or, if it has none, without
/// its longest field: null if nothing is left.
pub(super) fn shortened(json: &str, list: &str, faults: &mut DataFaults) -> String {
    const KNOWN: &[&str] = &[STATE, ASSIGNED_TO, COMMENT, UPDATED_BY, UPDATED];
    let entry = format!("{list}[]");
    let too_long = |path: &str, faults: &mut DataFaults| {
        removed(path, &DecodeLimit::PROFILE.to_string(), faults);
    };

    let mut fields = members(json, "", &mut DataFaults::default()).unwrap_or_default();
    let count = fields.len();
    fields.retain(|key, _| KNOWN.contains(&key.as_ref()));
    if fields.len() < count && !fields.is_empty() {
        too_long(&path(&entry, "*"), faults);
        return as_text(&fields);
    }

    let longest = fields.iter().max_by_key(|(_, raw)| raw.get().len());
    let longest = longest.map(|(key, _)| key.clone()).filter(|_| fields.len() > 1);
    let Some(key) = longest else {
        too_long(&entry, faults);
        return NULL.to_owned();
    };
    too_long(&path(&entry, &key), faults);
    fields.remove(&key);
    as_text(&fields)
}

fn as_text(fields: &RawMembers<'_>) -> String {
    serde_json::to_string(fields).unwrap_or_else(|_| NULL.to_owned())
}

/// Adds a fault for every decision without a state: what was decided is unknown, and without a time
/// it is not a change. `entry` names it in faults.
fn report_stateless(updates: &[StateUpdate], entry: &str, faults: &mut DataFaults) {
    for _ in updates.iter().filter(|update| update.state.as_deref().is_none_or(str::is_empty)) {
        faults.add(format!("`{entry}` has no usable `{STATE}`"));
    }
}

/// Adds a fault for every decision that the list contains again. `entry` names it in faults.
fn report_repeated(updates: &[StateUpdate], entry: &str, faults: &mut DataFaults) {
    let mut seen = HashSet::with_capacity(updates.len());
    for update in updates {
        let StateUpdate { state, assigned_to, comment, updated_by, updated } = update;
        if !seen.insert((state, assigned_to, comment, updated_by, updated)) {
            faults.add(format!("`{entry}`: a decision appears more than once"));
        }
    }
}

/// Whether a list contains only the entry of a control without any decision.
pub(super) fn is_undecided(updates: &[StateUpdate]) -> bool {
    updates.iter().all(|update| {
        update.known_state() == Some(DecisionState::Default)
            && *update == StateUpdate { state: update.state.clone(), ..StateUpdate::default() }
    })
}

/// One decision; `None` if it is not an object. `entry` names it in faults.
fn state_update(json: &str, entry: &str, faults: &mut DataFaults) -> Option<StateUpdate> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Update {
        state: Option<String>,
        assigned_to: Option<String>,
        comment: Option<String>,
        updated_by: Option<String>,
        updated_date_time: Option<String>,
    }

    if !json.starts_with('{') {
        removed(entry, &format!("{} instead of an object", kind(json)), faults);
        return None;
    }
    let update = match serde_json::from_str::<Update>(json) {
        Ok(update) => StateUpdate {
            state: update.state,
            assigned_to: update.assigned_to,
            comment: update.comment,
            updated_by: update.updated_by,
            updated: update.updated_date_time,
        },
        Err(_) => usable_update(json, entry, faults)?,
    };

    // .NET serializes an absent time as the year 1.
    let updated = update.updated.filter(|time| !time.starts_with("0001-"));
    Some(StateUpdate { updated, ..update })
}

/// The usable fields of a decision that cannot be decoded as a whole.
fn usable_update(json: &str, entry: &str, faults: &mut DataFaults) -> Option<StateUpdate> {
    let members = match members(json, entry, faults) {
        Ok(members) => members,
        Err(error) => {
            removed(entry, &error.to_string(), faults);
            return None;
        }
    };
    let mut text = |key: &str| text(members.get(key)?.get(), &path(entry, key), faults);

    let [state, assigned_to, comment] = [STATE, ASSIGNED_TO, COMMENT].map(&mut text);
    let [updated_by, updated] = [UPDATED_BY, UPDATED].map(&mut text);
    // A number could be a time in any unit.
    let updated = updated.filter(|time| time.parse::<f64>().is_err());
    Some(StateUpdate { state, assigned_to, comment, updated_by, updated })
}

/// A text, or the JSON text of a number or a Boolean; `None` for null and for any other value.
fn text(json: &str, path: &str, faults: &mut DataFaults) -> Option<String> {
    let found = kind(json);
    match found {
        "null" => None,
        "a text" => serde_json::from_str(&without_halves(json, path, faults)).ok(),
        "a list" | "an object" => {
            removed(path, &format!("{found} instead of a text"), faults);
            None
        }
        _ => {
            faults.add(format!("`{path}` is {found} instead of a text"));
            Some(json.to_owned())
        }
    }
}

/// The entry that Microsoft sends for a control without any decision.
fn default_update() -> StateUpdate {
    StateUpdate {
        state: Some(DecisionState::Default.as_str().to_owned()),
        ..StateUpdate::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The decision in a list with one entry, and its faults.
    fn only(entry: &str) -> (Option<StateUpdate>, String) {
        let mut faults = DataFaults::default();
        let mut updates = read(&format!("[{entry}]"), "A", &mut faults).unwrap();
        (updates.pop(), faults.to_string())
    }

    /// Regression: a decision whose comment was cut in the middle of a character was omitted, like
    /// one with a field of another type or with a repeated field.
    #[test]
    fn a_decision_survives_each_bad_field() {
        let time = r#""updatedDateTime":"2026-11-22T01:00:00Z""#;
        let cases = [
            (r#""comment":"ok""#, Some("ok"), ""),
            (
                r#""comment":"accepted \ud83d""#,
                Some("accepted \u{fffd}"),
                "`A.controlStateUpdates[].comment` contains half of a character, which was replaced by U+FFFD",
            ),
            (
                r#""comment":"y","comment":"x""#,
                Some("x"),
                "`A.controlStateUpdates[].comment` appears more than once",
            ),
            (
                r#""comment":7"#,
                Some("7"),
                "`A.controlStateUpdates[].comment` is a number instead of a text",
            ),
            (
                r#""comment":["x"]"#,
                None,
                "`A.controlStateUpdates[].comment` was removed: a list instead of a text",
            ),
        ];

        for (fields, comment, fault) in cases {
            let (update, faults) = only(&format!(r#"{{"state":"Ignored",{time},{fields}}}"#));
            let update = update.unwrap();
            assert_eq!(update.known_state(), Some(DecisionState::Ignored), "{fields}");
            assert_eq!(update.updated.as_deref(), Some("2026-11-22T01:00:00Z"), "{fields}");
            assert_eq!((update.comment.as_deref(), faults.as_str()), (comment, fault), "{fields}");
        }
    }

    /// Regression: a decision without a state and a time disappeared without a report.
    #[test]
    fn a_decision_without_a_state_is_reported() {
        let fault = "`A.controlStateUpdates[]` has no usable `state`";
        for entry in [
            "{}",
            r#"{"state":null}"#,
            r#"{"state":"","updatedBy":"a@x.example"}"#,
            r#"{"comment":"accepted","updatedDateTime":"2026-11-22T01:00:00Z"}"#,
        ] {
            assert_eq!(only(entry).1, fault, "{entry}");
        }
        assert_eq!(only(r#"{"state":"default"}"#).1, "");
        let of_type = "`A.controlStateUpdates[].state` was removed: a list instead of a text";
        assert_eq!(only(r#"{"state":["Ignored"]}"#).1, format!("{of_type}; {fault}"));
    }

    #[test]
    fn a_number_is_not_a_time() {
        let (update, faults) = only(r#"{"state":"Ignored","updatedDateTime":1795824000}"#);
        assert_eq!(update.unwrap().updated, None);
        assert!(faults.contains("updatedDateTime` is a number instead of a text"), "{faults}");
    }

    #[test]
    fn entries_that_are_not_objects_are_reported() {
        for (json, expected) in [
            ("null", "null instead of an object"),
            ("[]", "a list instead of an object"),
            (r#"["Ignored",null,null,null,null]"#, "a list instead of an object"),
        ] {
            let (update, faults) = only(json);
            let expected = format!("`A.controlStateUpdates[]` was removed: {expected}");
            assert_eq!((update, faults), (None, expected), "{json}");
        }

        let mut faults = DataFaults::default();
        assert!(read("null", "A", &mut faults).unwrap().is_empty() && faults.is_empty());
        assert!(read("{}", "A", &mut faults).unwrap().is_empty());
        let expected = "`A.controlStateUpdates` was removed: an object instead of a list";
        assert_eq!(faults.to_string(), expected);
    }

    #[test]
    fn the_entry_without_decision_is_recognized() {
        let is_undecided =
            |entry: &str| is_undecided(&only(entry).0.into_iter().collect::<Vec<_>>());
        assert!(is_undecided(r#"{"state":"Default","updatedDateTime":null}"#));
        assert!(is_undecided(r#"{"state":"default","updatedDateTime":"0001-01-01T00:00:00Z"}"#));
        assert!(!is_undecided(r#"{"state":"Default","comment":"withdrawn"}"#));
        assert!(!is_undecided(r#"{"state":"Ignored"}"#));
        assert_eq!(state_updates(""), [default_update()]);
    }
}
