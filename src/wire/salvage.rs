//! Decodes what is usable of a snapshot that the strict decoder does not accept completely.
//!
//! The strict decoder is fast, and rejects a document as a whole or keeps a value of another type
//! without a report. Only then, this module reads the document member by member and element by
//! element, lets the strict decoder judge each one alone, and composes a document of those that it
//! accepts. Everything else, and every value of another type, is named in [`DataFaults`]; it must
//! never disappear silently. The result does not depend on the order of members. Start reading at
//! [`snapshot`]; decisions 0077 and 0078 have the reasons.

mod parts;

use std::borrow::Cow;

use serde_json::value::RawValue;

pub(super) use self::parts::{RawMembers, first_items, limit_fields, members};
use super::{
    WireError,
    budget::{DecodeBudget, DecodeLimit, ExpectedType},
    keys,
    lenient::TextSeed,
    page::items,
    snapshot as strict, surrogates,
    value::refusal,
};
use crate::{
    foreign_text::ForeignText,
    model::{ControlList, DataFaults, Snapshot},
};

/// The key of the controls of a snapshot.
const CONTROLS: &str = "controlScores";
/// The key of the details of a control of the original API.
const DETAILS: &str = "controlDetails";

/// The largest number of characters that a fault quotes from a document.
const MAX_QUOTED_CHARS: usize = 64;
/// Names of the original API that set the same field as another one. They are read last, because
/// the other name takes precedence.
const ORIGINAL_NAMES: &[&str] = &[
    "tenantId",
    "createdDate",
    "secureScore",
    "maxSecureScore",
    "averageSecureScore",
    "controlDetails",
];

/// The names of the original API in a snapshot, each after the current name that takes precedence.
/// If that one is present, the other is an unknown field of any type.
const PRECEDENCE: &[(&str, &str)] = &[
    ("azureTenantId", "tenantId"),
    ("currentScore", "secureScore"),
    ("maxScore", "maxSecureScore"),
];

/// A list of a snapshot that is decoded one element at a time.
struct ElementList {
    key: &'static str,
    /// The keys of the member that identifies an element, the most recent one first; empty if an
    /// element is a text.
    names: &'static [&'static str],
    /// The keys that the strict decoder knows.
    known: &'static [&'static str],
    limit: DecodeLimit,
    /// Decodes an object, which may have only some of its members, strictly.
    accepts: Accepts,
}

/// Decodes an object strictly. Returns the type of the first known field whose value has another
/// one. Fails if a member cannot be used.
type Accepts = fn(&str) -> Result<Option<ExpectedType>, WireError>;

const LISTS: &[ElementList] = &[
    ElementList {
        key: CONTROLS,
        names: &["controlName", "referenceId"],
        known: keys::CONTROL_KEYS,
        limit: DecodeLimit::CONTROLS,
        accepts: strict::accepts_control,
    },
    ElementList {
        key: "averageComparativeScores",
        names: &["basis", "scope"],
        known: keys::AVERAGE_KEYS,
        limit: DecodeLimit::AVERAGES,
        accepts: strict::accepts_average,
    },
    ElementList {
        key: "enabledServices",
        names: &[],
        known: &[],
        limit: DecodeLimit::SERVICES,
        // Its elements are not objects.
        accepts: |json| accepts_name(json).map(|()| None),
    },
];

/// Decodes what is usable of a snapshot.
///
/// Fails if the text is not a JSON object, if its `controlScores` are neither a list nor null, or
/// with [`WireError::Exceeds`] if a limit that protects the memory of the process is exceeded.
pub(super) fn snapshot(json: &str) -> Result<Snapshot<'static>, WireError> {
    let mut faults = DataFaults::default();
    let mut control_list = ControlList::Complete;
    let usable = usable_snapshot(json, &mut control_list, &mut faults)?;
    let (decoded, _) = strict::decode(&usable)?;
    let decoded = decoded.into_owned();
    if decoded.controls.is_empty() && control_list == ControlList::Incomplete {
        control_list = ControlList::Unusable;
    }
    Ok(Snapshot { control_list, faults, ..decoded })
}

/// Which controls a snapshot without any usable control contains.
pub(super) fn control_list(json: &str, faults: &mut DataFaults) -> ControlList {
    let members = members(json, "", &mut DataFaults::default()).unwrap_or_default();
    match members.get(CONTROLS).map(|value| value.get()) {
        None => ControlList::Incomplete,
        Some("null") => {
            faults.add(format!("`{CONTROLS}` is null instead of a list"));
            ControlList::Unusable
        }
        Some(_) => ControlList::Complete,
    }
}

/// Whether an error may be that of a single member or element, so that the rest is usable.
pub(super) fn is_possible_after(error: &WireError) -> bool {
    !matches!(error, WireError::Exceeds(DecodeLimit::SNAPSHOT))
}

/// Reports that something was removed.
pub(super) fn removed(path: &str, reason: &str, faults: &mut DataFaults) {
    faults.add(format!("`{path}` was removed: {reason}"));
}

/// The JSON text of a value with U+FFFD in place of halves of surrogate pairs, which is a fault.
pub(super) fn without_halves<'a>(
    json: &'a str,
    path: &str,
    faults: &mut DataFaults,
) -> Cow<'a, str> {
    let replaced = surrogates::replaced(json);
    if matches!(replaced, Cow::Owned(_)) {
        faults.add(format!("`{path}` contains half of a character, which was replaced by U+FFFD"));
    }
    replaced
}

/// What a JSON text is, for messages.
pub(super) fn kind(json: &str) -> &'static str {
    match json.trim_start().bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "a Boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// The name of a member in faults.
pub(super) fn path(owner: &str, key: &str) -> String {
    let key = quoted(key);
    if owner.is_empty() { key } else { format!("{owner}.{key}") }
}

/// The beginning of a foreign text, for faults.
pub(super) fn quoted(text: &str) -> String {
    ForeignText::new(text).for_message(MAX_QUOTED_CHARS)
}

fn usable_snapshot(
    json: &str,
    control_list: &mut ControlList,
    faults: &mut DataFaults,
) -> Result<String, WireError> {
    if json.len() > DecodeLimit::SNAPSHOT.max {
        return Err(WireError::Exceeds(DecodeLimit::SNAPSHOT));
    }
    let mut members = members(json, "", faults)?;
    let created = ["createdDateTime", "createdDate"];
    let is_present = |key: &&str| members.get(*key).is_some_and(|value| value.get() != "null");
    if let Some(preferred) = created.iter().copied().find(is_present) {
        keep_only(preferred, &created, "", &mut members, faults);
    }

    limit_fields(&mut members, keys::SNAPSHOT_KEYS, "", faults);

    let mut object = ObjectText::new();
    for (key, value) in in_order_of_precedence(&members) {
        let json = value.get();
        match LISTS.iter().find(|list| list.key == key) {
            Some(list) if json.starts_with('[') => {
                let (usable, is_complete) = usable_list(json, list, faults)?;
                object.push(key, &usable)?;
                if list.key == CONTROLS && !is_complete {
                    *control_list = ControlList::Incomplete;
                }
            }
            // Without its controls, a day would report all of them as removed.
            Some(list) if list.key == CONTROLS && json != "null" => {
                let (what, found) = (list.key, kind(json));
                return Err(WireError::UnexpectedShape { what, found, expected: "a list" });
            }
            _ => {
                let is_unknown = is_superseded(key, &members);
                let accepts: Accepts =
                    if is_unknown { accepts_unknown } else { strict::accepts_snapshot };
                object.push_usable(key, json, "", accepts, faults)?;
            }
        }
    }
    Ok(object.finish())
}

/// The usable elements of a list as JSON text, and whether they are all elements.
fn usable_list(
    json: &str,
    list: &ElementList,
    faults: &mut DataFaults,
) -> Result<(String, bool), WireError> {
    let mut usable = Vec::new();
    // A day without its last controls would be incomplete at every poll.
    let elements = if list.key == CONTROLS {
        items(json, list.limit)?
    } else {
        first_items(json, list.limit, list.key, faults)?
    };
    let count = elements.len();
    for element in elements {
        if list.names.is_empty() {
            usable.extend(usable_text(element, list.key, faults));
        } else if let Some(object) = usable_element(element, list, faults)? {
            usable.push(Cow::Owned(object));
        }
    }
    let is_complete = usable.len() == count;
    Ok((format!("[{}]", usable.join(",")), is_complete))
}

/// The JSON text of an element that is a name; `None` if it is not usable. `list` names the list in
/// faults.
pub(super) fn usable_text<'a>(
    json: &'a str,
    list: &str,
    faults: &mut DataFaults,
) -> Option<Cow<'a, str>> {
    let path = format!("{list}[]");
    if !json.starts_with('"') {
        removed(&path, &format!("{} instead of a text", kind(json)), faults);
        return None;
    }

    let text = surrogates::replaced(json);
    match accepts_name(&text) {
        Ok(()) => Some(without_halves(json, &path, faults)),
        Err(error) => {
            removed(&path, &reason(&error, &text), faults);
            None
        }
    }
}

/// The usable members of an element as an object; `None` if it cannot be identified.
fn usable_element(
    json: &str,
    list: &ElementList,
    faults: &mut DataFaults,
) -> Result<Option<String>, WireError> {
    let unknown = format!("{}[]", list.key);
    if !json.starts_with('{') {
        removed(&unknown, &format!("{} instead of an object", kind(json)), faults);
        return Ok(None);
    }

    let listed = match members(json, "", &mut DataFaults::default()) {
        Ok(listed) => listed,
        Err(error) => {
            removed(&unknown, &error.to_string(), faults);
            return Ok(None);
        }
    };
    let named = list.names.iter().find_map(|key| Some((*key, name(listed.get(*key)?.get())?)));
    let Some((key, name)) = named else {
        removed(&unknown, &unusable_name(list.names, &listed), faults);
        return Ok(None);
    };
    let owner = format!("{}[{}]", list.key, quoted(&name));
    let mut members = members(json, &owner, faults)?;
    keep_only(key, list.names, &owner, &mut members, faults);
    limit_fields(&mut members, list.known, &owner, faults);
    limit_details(&mut members, list.known, &owner, faults);

    let mut object = ObjectText::new();
    for (key, value) in in_order_of_precedence(&members) {
        object.push_usable(key, value.get(), &owner, list.accepts, faults)?;
    }
    Ok(Some(object.finish()))
}

/// Removes the details of a control of the original API if they do not fit next to its unknown
/// fields.
fn limit_details(
    members: &mut RawMembers<'_>,
    known: &[&str],
    owner: &str,
    faults: &mut DataFaults,
) {
    let Some(details) = members.get(DETAILS).copied() else { return };
    let Ok(details) = parts::members(details.get(), "", &mut DataFaults::default()) else { return };
    let unknown = members.keys().filter(|key| !known.contains(&key.as_ref())).count();
    let fields = details.len().saturating_add(unknown).saturating_add(known.len());
    if fields > DecodeLimit::FIELDS.max {
        removed(&path(owner, DETAILS), &DecodeLimit::FIELDS.to_string(), faults);
        members.remove(DETAILS);
    }
}

/// The text of a name; `None` if it is empty, too long or not a text.
fn name(json: &str) -> Option<String> {
    let json = surrogates::replaced(json);
    accepts_name(&json).ok()?;
    serde_json::from_str(&json).ok().filter(|name: &String| !name.is_empty())
}

/// Why none of the members with these keys, the preferred one first, is a name.
pub(super) fn unusable_name(keys: &[&str], members: &RawMembers<'_>) -> String {
    let present = keys.iter().find_map(|key| Some((*key, members.get(*key)?.get())));
    let Some((key, json)) = present else {
        return format!("no `{}`", keys.first().copied().unwrap_or_default());
    };
    if !json.starts_with('"') {
        return format!("`{key}` is {} instead of a text", kind(json));
    }

    let text = surrogates::replaced(json);
    match accepts_name(&text) {
        Ok(()) => format!("`{key}` is empty"),
        Err(error) => format!("`{key}`: {}", reason(&error, &text)),
    }
}

fn accepts_name(json: &str) -> Result<(), WireError> {
    let budget = DecodeBudget::new();
    budget.decode(json, TextSeed::name(&budget)).map(drop)
}

/// Of several members that set the same field, keeps only the preferred one.
fn keep_only(
    preferred: &str,
    keys: &[&str],
    owner: &str,
    members: &mut RawMembers<'_>,
    faults: &mut DataFaults,
) {
    for key in keys.iter().copied().filter(|key| *key != preferred) {
        if members.remove(key).is_some_and(|value| value.get() != "null") {
            removed(&path(owner, key), &format!("`{preferred}` takes precedence"), faults);
        }
    }
}

/// Whether a member has a name of the original API, and the current name takes precedence.
fn is_superseded(key: &str, members: &RawMembers<'_>) -> bool {
    let is_present = |key: &str| members.get(key).is_some_and(|value| value.get() != "null");
    PRECEDENCE.iter().any(|(current, original)| *original == key && is_present(current))
}

/// Decodes the member of a snapshot that may have any type.
fn accepts_unknown(json: &str) -> Result<Option<ExpectedType>, WireError> {
    strict::accepts_snapshot(json).map(|_| None)
}

/// The members by key, those with names of the original API last.
fn in_order_of_precedence<'m>(
    members: &'m RawMembers<'_>,
) -> impl Iterator<Item = (&'m str, &'m RawValue)> {
    let of = |is_original: bool| {
        let all = members.iter().map(|(key, value)| (&**key, *value));
        all.filter(move |(key, _)| ORIGINAL_NAMES.contains(key) == is_original)
    };
    of(false).chain(of(true))
}

/// Why a value was removed.
fn reason(error: &WireError, json: &str) -> String {
    match error {
        WireError::Exceeds(limit) => limit.to_string(),
        _ => refusal(json).unwrap_or_else(|| format!("{} cannot be used here", kind(json))),
    }
}

/// The fault of a value that is kept in `additional`, because its type is not that of the field.
fn unexpected_type(key: &str, path: &str, json: &str, expected: ExpectedType) -> String {
    if key == DETAILS && json.starts_with('{') {
        format!("`{path}` has a value that is not {expected}")
    } else {
        format!("`{path}` is {} instead of {expected}", kind(json))
    }
}

/// The text of an object that is composed of members.
struct ObjectText {
    text: String,
}

impl ObjectText {
    fn new() -> Self {
        Self { text: "{".to_owned() }
    }

    /// Appends a member. Fails if the key cannot be written as JSON, which does not happen.
    fn push(&mut self, key: &str, json: &str) -> Result<(), WireError> {
        let key = serde_json::to_string(key).map_err(WireError::NotJson)?;
        if self.text.len() > 1 {
            self.text.push(',');
        }
        self.text.push_str(&key);
        self.text.push(':');
        self.text.push_str(json);
        Ok(())
    }

    /// Appends a member if the decoder accepts it alone, and reports it otherwise. Fails if the key
    /// cannot be written as JSON.
    fn push_usable(
        &mut self,
        key: &str,
        json: &str,
        owner: &str,
        accepts: Accepts,
        faults: &mut DataFaults,
    ) -> Result<(), WireError> {
        let path = path(owner, key);
        let value = surrogates::replaced(json);
        let mut alone = Self::new();
        alone.push(key, &value)?;

        match accepts(&alone.finish()) {
            Ok(unexpected) => {
                if let Some(expected) = unexpected {
                    faults.add(unexpected_type(key, &path, json, expected));
                }
                self.push(key, &without_halves(json, &path, faults))
            }
            Err(error) => {
                removed(&path, &reason(&error, &value), faults);
                Ok(())
            }
        }
    }

    fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }
}

#[cfg(test)]
mod tests;
