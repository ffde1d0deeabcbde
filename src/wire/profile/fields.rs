//! Decodes the known fields of a control profile. A value of an unexpected shape must never be
//! lost: it is kept as it was sent, and reported. Start reading at [`set_field`].

use std::{borrow::Cow, collections::BTreeSet};

use serde::Deserialize;

use crate::{
    model::{DataFaults, Number, Profile},
    wire::{
        budget::{DecodeBudget, DecodeLimit},
        keys::PROFILE_TEXT_KEYS,
        lenient::{List, TextSeed},
        page::items,
        salvage::{kind, path, quoted, usable_text},
        snapshot::is_object_or_null,
        value::refusal,
    },
};

/// What [`kind`] calls a number.
const NUMBER: &str = "a number";

/// Sets the field of a key. A value of an unexpected shape, or of an unknown key, is kept in
/// `additional`.
pub(super) fn set_field(profile: &mut Profile, key: String, raw: &str) {
    let is_set = set_known(profile, &key, raw);

    // A profile that was stored by an earlier release may have a value that receivers refuse.
    if !is_set && raw != "null" && refusal(raw).is_none() {
        profile.additional.push((key, raw.to_owned()));
    }
}

/// Adds a fault for a known field whose value has another type, so that it is only kept as it was
/// sent. `owner` names the profile.
pub(super) fn report_type(key: &str, raw: &str, owner: &str, faults: &mut DataFaults) {
    let Some(expected) = expected_type(key) else { return };
    let found = kind(raw);
    // Genuine profiles have null in the place of texts and lists, but never of numbers.
    let is_usual_null = found == "null" && expected != NUMBER;
    if is_usual_null || set_known(&mut Profile::default(), key, raw) {
        return;
    }

    if found != expected {
        faults.add(format!("`{}` is {found} instead of {expected}", path(owner, key)));
    } else if key == "threats" {
        let limit = DecodeLimit::THREATS;
        faults.add(format!("`{}` was not used: {limit}", path(owner, key)));
    }
}

/// Adds a fault for every name that the list at `path` contains again, in any case.
pub(super) fn report_repeated(names: &[String], path: &str, faults: &mut DataFaults) {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name.to_ascii_lowercase()) {
            faults.add(format!("`{path}[]`: `{}` appears more than once", quoted(name)));
        }
    }
}

/// The names of a list; those that cannot be used are faults of the list at `path`. `None` if the
/// value is not a list, or longer than any genuine one.
pub(super) fn texts(raw: &str, path: &str, faults: &mut DataFaults) -> Option<Vec<String>> {
    let budget = DecodeBudget::new();
    let (seed, limit) = (TextSeed::name(&budget), DecodeLimit::THREATS);
    if let Ok(texts) = budget.decode(raw, List { seed, limit, budget: &budget }) {
        return Some(texts.into_iter().map(Cow::into_owned).collect());
    }

    let elements = items(raw, limit).ok()?;
    let texts = elements.into_iter().filter_map(|element| {
        let text = usable_text(element, path, faults)?;
        serde_json::from_str(&text).ok()
    });
    Some(texts.collect())
}

/// Sets a number, or a decimal that was sent as text, and returns whether the value can be used.
pub(super) fn number(raw: &str, slot: &mut Option<Number>) -> bool {
    let unquoted = serde_json::from_str::<String>(raw);
    *slot = Number::parse(unquoted.as_deref().unwrap_or(raw));
    slot.is_some()
}

/// Sets the field of a key, and returns whether the value can be used.
pub(super) fn set_known(profile: &mut Profile, key: &str, raw: &str) -> bool {
    match key {
        "id" => text(raw, |id| profile.id = id),
        "title" => text(raw, |v| profile.title = Some(v)),
        "controlCategory" => text(raw, |v| profile.category = Some(v)),
        "service" => text(raw, |v| profile.service = Some(v)),
        "tier" => text(raw, |v| profile.tier = Some(v)),
        "userImpact" => text(raw, |v| profile.user_impact = Some(v)),
        "implementationCost" => text(raw, |v| profile.implementation_cost = Some(v)),
        "actionType" => text(raw, |v| profile.action_type = Some(v)),
        "actionUrl" => text(raw, |v| profile.action_url = Some(v)),
        "remediation" => text(raw, |v| profile.remediation = Some(v)),
        "remediationImpact" => text(raw, |v| profile.remediation_impact = Some(v)),
        "maxScore" => number(raw, &mut profile.max_score),
        "rank" => number(raw, &mut profile.rank),
        "deprecated" => switch(raw, |v| profile.deprecated = Some(v)),
        "threats" => match texts(raw, "", &mut DataFaults::default()) {
            Some(threats) => {
                profile.threats = threats;
                true
            }
            None => false,
        },
        // An empty list in every known response; any other value is forwarded.
        "complianceInformation" => raw == "[]",
        "vendorInformation" => is_object_or_null(raw),
        _ => false,
    }
}

/// The type of a known field, as [`kind`] names it; `None` if it may be any.
pub(super) fn expected_type(key: &str) -> Option<&'static str> {
    match key {
        "maxScore" | "rank" => Some(NUMBER),
        "deprecated" => Some("a Boolean"),
        "threats" | "complianceInformation" => Some("a list"),
        "vendorInformation" => Some("an object"),
        _ => PROFILE_TEXT_KEYS.contains(&key).then_some("a text"),
    }
}

fn read<'a, T: Deserialize<'a>>(raw: &'a str, set: impl FnOnce(T)) -> bool {
    serde_json::from_str(raw).map(set).is_ok()
}

fn text(raw: &str, set: impl FnOnce(String)) -> bool {
    read(raw, set)
}

/// A Boolean, or `true` or `false` that was sent as text.
fn switch(raw: &str, set: impl FnOnce(bool)) -> bool {
    let text = raw.trim_matches('"');
    match [true, false].into_iter().find(|value| text.eq_ignore_ascii_case(&value.to_string())) {
        Some(value) => {
            set(value);
            true
        }
        None => false,
    }
}
