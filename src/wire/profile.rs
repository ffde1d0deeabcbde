//! `secureScoreControlProfile`: the description of a control, and the tenant's decisions about it.
//!
//! The description is the same for every tenant. [`split_profile`] separates it from the fields of
//! the tenant (`azureTenantId`, `controlStateUpdates`), so that it is stored once for all tenants.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    WireError,
    budget::{DecodeBudget, DecodeLimit},
    decision,
    keys::PROFILE_KEYS,
    lenient::{List, TextSeed, reject_duplicate},
    page::items,
    salvage::{RawMembers, first_items, limit_fields, members, path, quoted, removed, usable_text},
    surrogates,
    value::refusal,
};
use crate::model::{DataFaults, Number, Profile};

/// A profile, divided into the description and the tenant's decisions.
#[derive(Debug, PartialEq)]
pub struct ProfileParts {
    /// The ID of the control.
    pub id: String,
    /// The description as a JSON object with sorted keys and every value as sent. It is equal for
    /// tenants that received the same description.
    pub shared: String,
    /// The JSON list of decisions as sent; empty if the tenant has made no decision.
    pub decisions: String,
    /// The maximum score in the description.
    pub max_score: Option<Number>,
    /// What cannot be used, and was removed or replaced.
    pub faults: DataFaults,
}

/// Divides one item of a catalog page. Everything that was sent is kept except the tenant's GUID,
/// and what cannot be used.
///
/// # Errors
///
/// Fails if the item is not a JSON object with a non-empty `id` of at most [`DecodeLimit::NAME`],
/// or with [`WireError::Exceeds`] if it has more fields than [`DecodeLimit::MEMBERS`].
pub fn split_profile(json: &str) -> Result<ProfileParts, WireError> {
    let text = surrogates::replaced(json);
    let (mut fields, mut faults) = usable_fields(&text)?;
    fields.remove("azureTenantId");
    let decisions = fields.remove(DECISIONS).map_or("[]", RawValue::get);
    let id: Option<String> = fields.get("id").and_then(|raw| serde_json::from_str(raw.get()).ok());
    let id = id.filter(|id| !id.is_empty()).ok_or(WireError::NoProfileId)?;
    if id.len() > DecodeLimit::NAME.max {
        return Err(WireError::LongProfileId { id: quoted(&id), limit: DecodeLimit::NAME });
    }

    let owner = quoted(&id);
    if matches!(text, Cow::Owned(_)) {
        faults.add(format!("`{owner}` contains half of a character, which was replaced by U+FFFD"));
    }
    fields.retain(|key, raw| {
        let refusal = refusal(raw.get());
        if let Some(reason) = &refusal {
            removed(&path(&owner, key), reason, &mut faults);
        }
        refusal.is_none()
    });
    let decisions = within_size(&mut fields, decisions, &owner, &mut faults)?;
    let updates = decision::read(&decisions, &owner, &mut faults)?;
    let mut max_score = None;
    for (key, raw) in &fields {
        match key.as_ref() {
            "maxScore" => drop(number(raw.get(), &mut max_score)),
            "threats" => {
                let list = path(&owner, key);
                let threats = texts(raw.get(), &list, &mut faults).unwrap_or_default();
                report_repeated(&threats, &list, &mut faults);
            }
            _ => {}
        }
    }
    if max_score.is_some_and(Number::is_negative) {
        faults.add(format!("`{owner}`: the maximum score is negative"));
    }

    Ok(ProfileParts {
        shared: serde_json::to_string(&fields).map_err(WireError::NotJson)?,
        decisions: if decision::is_undecided(&updates) {
            String::new()
        } else {
            decisions.into_owned()
        },
        id,
        max_score,
        faults,
    })
}

/// Parses the description in [`ProfileParts::shared`].
///
/// # Errors
///
/// Fails if the text is not a JSON object, or with [`WireError::Exceeds`] if it exceeds a
/// [`DecodeLimit`].
pub fn profile(shared: &str) -> Result<Profile, WireError> {
    let shared = surrogates::replaced(shared);
    let mut profile = Profile::default();
    for (key, raw) in raw_fields(&shared)? {
        set_field(&mut profile, key.into_owned(), raw.get());
    }
    Ok(profile)
}

/// The fields of a profile, without those that cannot be used, and what is wrong with the others.
fn usable_fields(json: &str) -> Result<(RawMembers<'_>, DataFaults), WireError> {
    let mut faults = DataFaults::default();
    if let Ok(fields) = raw_fields(json) {
        return Ok((fields, faults));
    }

    let listed = members(json, "", &mut DataFaults::default())?;
    let id = listed.get("id").and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let owner = quoted(&id.unwrap_or_default());

    let mut fields = members(json, &owner, &mut faults)?;
    limit_fields(&mut fields, PROFILE_KEYS, &owner, &mut faults);
    Ok((fields, faults))
}

/// The list of decisions. Until the profile is short enough, the longest field, or the longest
/// field of the longest decision, is removed.
fn within_size<'a>(
    fields: &mut RawMembers<'_>,
    decisions: &'a str,
    owner: &str,
    faults: &mut DataFaults,
) -> Result<Cow<'a, str>, WireError> {
    let max = DecodeLimit::PROFILE.max.saturating_sub(PROFILE_SYNTAX_BYTES);
    // Anything but a list is not stored.
    let is_list = decisions.starts_with('[');
    let decision_bytes = if is_list { decisions.len() } else { 0 };
    if bytes(fields).saturating_add(decision_bytes) <= max {
        return Ok(Cow::Borrowed(decisions));
    }

    let list = path(owner, DECISIONS);
    let mut entries: Vec<Cow<'a, str>> = Vec::new();
    if is_list {
        let listed = first_items(decisions, DecodeLimit::DECISIONS, &list, faults)?;
        entries.extend(listed.into_iter().map(Cow::Borrowed));
    }
    loop {
        let entry_bytes = entries.iter().map(|entry| entry.len()).sum::<usize>();
        if bytes(fields).saturating_add(entry_bytes) <= max {
            break;
        }

        let named = fields.iter().filter(|(key, _)| key.as_ref() != "id");
        let field = named.max_by_key(|(_, raw)| raw.get().len());
        let field = field.map(|(key, raw)| (key.clone(), raw.get().len()));
        let entry = entries.iter_mut().max_by_key(|entry| entry.len());
        match (field, entry) {
            (Some((key, length)), entry) if entry.as_ref().is_none_or(|e| e.len() <= length) => {
                removed(&path(owner, &key), &DecodeLimit::PROFILE.to_string(), faults);
                fields.remove(&key);
            }
            (_, Some(entry)) => {
                *entry = Cow::Owned(decision::shortened(entry, &list, faults));
            }
            (_, None) => break,
        }
    }

    if is_list {
        Ok(Cow::Owned(format!("[{}]", entries.join(","))))
    } else {
        Ok(Cow::Borrowed(decisions))
    }
}

/// The bytes of the keys and values of fields.
fn bytes(fields: &RawMembers<'_>) -> usize {
    fields.iter().map(|(key, raw)| key.len().saturating_add(raw.get().len())).sum()
}

/// The key of the decisions.
const DECISIONS: &str = "controlStateUpdates";

/// More bytes than the quotation marks, escapes and separators of a profile have.
const PROFILE_SYNTAX_BYTES: usize = 64 << 10;

/// The fields of a profile. Fails if any of them cannot be used, or appears more than once.
fn raw_fields(json: &str) -> Result<RawMembers<'_>, WireError> {
    let budget = DecodeBudget::of(json, DecodeLimit::PROFILE)?;
    budget.decode(json, RawFieldsSeed(&budget))
}

/// Deserializes the fields of an object without parsing their values.
struct RawFieldsSeed<'b>(&'b DecodeBudget);

impl<'de> DeserializeSeed<'de> for RawFieldsSeed<'_> {
    type Value = RawMembers<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RawFieldsSeed<'_> {
    type Value = RawMembers<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a control profile")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let budget = self.0;
        let mut fields = RawMembers::new();
        while let Some(key) = map.next_key_seed(TextSeed::name(budget))? {
            budget.admit(fields.len(), DecodeLimit::FIELDS)?;
            reject_duplicate(&key, fields.contains_key(&key))?;
            let raw = map.next_value::<&'de RawValue>()?;
            budget.check_depth(raw.get())?;
            fields.insert(key, raw);
        }
        Ok(fields)
    }
}

/// Sets the field of a key. A value of an unexpected shape, or of an unknown key, is kept in
/// `additional`.
fn set_field(profile: &mut Profile, key: String, raw: &str) {
    let is_set = match key.as_str() {
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
        "vendorInformation" => true,
        _ => false,
    };

    // A profile that was stored by an earlier release may have a value that receivers refuse.
    if !is_set && raw != "null" && refusal(raw).is_none() {
        profile.additional.push((key, raw.to_owned()));
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

/// The names of a list; those that cannot be used are faults of the list at `path`. `None` if the
/// value is not a list, or longer than any genuine one.
fn texts(raw: &str, path: &str, faults: &mut DataFaults) -> Option<Vec<String>> {
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

/// Adds a fault for every name that the list at `path` contains again, in any case.
fn report_repeated(names: &[String], path: &str, faults: &mut DataFaults) {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name.to_ascii_lowercase()) {
            faults.add(format!("`{path}[]`: `{}` appears more than once", quoted(name)));
        }
    }
}

fn number(raw: &str, slot: &mut Option<Number>) -> bool {
    let unquoted = serde_json::from_str::<String>(raw);
    *slot = Number::parse(unquoted.as_deref().unwrap_or(raw));
    slot.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn the_order_of_fields_does_not_matter() {
        let fields = [r#""id":"A""#, r#""title":"x""#, r#""title":"y""#, r#""title":null"#];
        let profile =
            |fields: &[&str]| split_profile(&format!("{{{}}}", fields.join(","))).unwrap();
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
        for bad in ["{}", r#"{"id":null}"#, r#"{"id":""}"#, "[]", "x"] {
            assert!(split_profile(bad).is_err(), "{bad}");
        }
    }
}
