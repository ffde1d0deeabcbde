//! `secureScoreControlProfile`: the description of a control, and the tenant's decisions about it.
//!
//! The description is the same for every tenant. [`split_profile`] separates it from the fields of
//! the tenant (`azureTenantId`, `controlStateUpdates`), so that it is stored once for all tenants.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    WireError,
    budget::{DecodeBudget, DecodeLimit},
    lenient::{List, TextSeed},
};
use crate::model::{Number, Profile, StateUpdate};

/// A profile, divided into the description and the tenant's decisions.
#[derive(Debug, PartialEq, Eq)]
pub struct ProfileParts {
    /// The ID of the control.
    pub id: String,
    /// The description as a JSON object with sorted keys and every value as sent. It is equal for
    /// tenants that received the same description.
    pub shared: String,
    /// The JSON list of decisions as sent; empty if the tenant has made no decision.
    pub decisions: String,
}

/// The fields of a JSON object with the JSON text of their values, sorted by key.
type RawFields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// Divides one item of a catalog page. Everything that was sent is kept except the tenant's GUID.
///
/// # Errors
///
/// Fails if the item is not a JSON object with a non-empty `id`, or with [`WireError::Exceeds`] if
/// it exceeds a [`DecodeLimit`].
pub fn split_profile(json: &str) -> Result<ProfileParts, WireError> {
    let mut fields = raw_fields(json)?;
    fields.remove("azureTenantId");
    let decisions = fields.remove("controlStateUpdates").map_or("[]", RawValue::get);
    let id: Option<String> = fields.get("id").and_then(|raw| serde_json::from_str(raw.get()).ok());
    let id = id.filter(|id| !id.is_empty()).ok_or(WireError::NoProfileId)?;
    if id.len() > DecodeLimit::NAME.max {
        return Err(WireError::Exceeds(DecodeLimit::NAME));
    }

    let updates = match parsed_updates(decisions) {
        Err(error @ WireError::Exceeds(_)) => return Err(error),
        other => other.unwrap_or_default(),
    };
    let is_undecided = updates.iter().all(|update| *update == default_update());
    Ok(ProfileParts {
        id,
        shared: serde_json::to_string(&fields).map_err(WireError::NotJson)?,
        decisions: if is_undecided { String::new() } else { decisions.to_owned() },
    })
}

/// Parses the description in [`ProfileParts::shared`].
///
/// # Errors
///
/// Fails if the text is not a JSON object, or with [`WireError::Exceeds`] if it exceeds a
/// [`DecodeLimit`].
pub fn profile(shared: &str) -> Result<Profile, WireError> {
    let mut profile = Profile::default();
    for (key, raw) in raw_fields(shared)? {
        set_field(&mut profile, key.into_owned(), raw.get());
    }
    Ok(profile)
}

/// Parses the decisions in [`ProfileParts::decisions`]. Entries that cannot be parsed are
/// omitted. An empty string represents the entry that Microsoft sends for a control without any
/// decision.
pub fn state_updates(decisions: &str) -> Vec<StateUpdate> {
    if decisions.is_empty() {
        return vec![default_update()];
    }
    parsed_updates(decisions).unwrap_or_default()
}

/// The decisions in a JSON list. Fails if the text is not a list, or if the list is too long.
fn parsed_updates(json: &str) -> Result<Vec<StateUpdate>, WireError> {
    let budget = DecodeBudget::new();
    let list = List { seed: UpdateSeed, limit: DecodeLimit::DECISIONS, budget: &budget };
    let updates = budget.decode(json, list)?;
    Ok(updates.into_iter().flatten().collect())
}

fn raw_fields(json: &str) -> Result<RawFields<'_>, WireError> {
    let budget = DecodeBudget::of(json, DecodeLimit::PROFILE)?;
    budget.decode(json, RawFieldsSeed(&budget))
}

/// Deserializes the fields of an object without parsing their values.
struct RawFieldsSeed<'b>(&'b DecodeBudget);

impl<'de> DeserializeSeed<'de> for RawFieldsSeed<'_> {
    type Value = RawFields<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RawFieldsSeed<'_> {
    type Value = RawFields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a control profile")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let budget = self.0;
        let mut fields = RawFields::new();
        while let Some(key) = map.next_key_seed(TextSeed::name(budget))? {
            budget.admit(fields.len(), DecodeLimit::FIELDS)?;
            // A key may occur any number of times.
            budget.pay()?;
            let raw = map.next_value::<&'de RawValue>()?;
            budget.check_depth(raw.get())?;
            fields.insert(key, raw);
        }
        Ok(fields)
    }
}

/// Deserializes one decision; `None` if it cannot be parsed.
#[derive(Clone, Copy)]
struct UpdateSeed;

impl<'de> DeserializeSeed<'de> for UpdateSeed {
    type Value = Option<StateUpdate>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let raw = <&'de RawValue>::deserialize(deserializer)?;
        Ok(state_update(raw.get()))
    }
}

/// One decision; `None` if it cannot be parsed.
fn state_update(json: &str) -> Option<StateUpdate> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Update {
        state: Option<String>,
        assigned_to: Option<String>,
        comment: Option<String>,
        updated_by: Option<String>,
        updated_date_time: Option<String>,
    }

    let update: Update = serde_json::from_str(json).ok()?;
    Some(StateUpdate {
        state: update.state,
        assigned_to: update.assigned_to,
        comment: update.comment,
        updated_by: update.updated_by,
        // .NET serializes an absent time as the year 1.
        updated: update.updated_date_time.filter(|time| !time.starts_with("0001-")),
    })
}

/// The entry that Microsoft sends for a control without any decision.
fn default_update() -> StateUpdate {
    StateUpdate { state: Some("Default".to_owned()), ..StateUpdate::default() }
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
        "deprecated" => read(raw, |v| profile.deprecated = Some(v)),
        "threats" => texts(raw, |v| profile.threats = v),
        // An empty list in every known response; any other value is forwarded.
        "complianceInformation" => raw == "[]",
        "vendorInformation" => true,
        _ => false,
    };

    if !is_set && raw != "null" {
        profile.additional.push((key, raw.to_owned()));
    }
}

fn read<'a, T: Deserialize<'a>>(raw: &'a str, set: impl FnOnce(T)) -> bool {
    serde_json::from_str(raw).map(set).is_ok()
}

fn text(raw: &str, set: impl FnOnce(String)) -> bool {
    read(raw, set)
}

/// A list of names that is longer than any genuine one is not set.
fn texts(raw: &str, set: impl FnOnce(Vec<String>)) -> bool {
    let budget = DecodeBudget::new();
    let (seed, limit) = (TextSeed::name(&budget), DecodeLimit::THREATS);
    let list = budget.decode(raw, List { seed, limit, budget: &budget });
    list.map(|texts| set(texts.into_iter().map(Cow::into_owned).collect())).is_ok()
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
        assert_eq!(state_updates(&parts.decisions)[0].state.as_deref(), Some("Ignored"));
    }

    #[test]
    fn rejects_profiles_without_id() {
        for bad in ["{}", r#"{"id":null}"#, r#"{"id":""}"#, "[]", "x"] {
            assert!(split_profile(bad).is_err(), "{bad}");
        }
    }
}
