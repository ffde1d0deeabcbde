//! `secureScoreControlProfile`: the description of a control, and the tenant's decisions on it.
//!
//! The description is the same for every tenant, so it is cut apart from what is the tenant's
//! own (`azureTenantId`, `controlStateUpdates`) and kept once for all.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::WireError;
use crate::model::{Number, Profile, StateUpdate};

/// A profile cut in two.
#[derive(Debug, PartialEq, Eq)]
pub struct ProfileParts {
    pub id: String,
    /// A JSON object with sorted keys and every value as sent: equal for tenants told the same.
    pub shared: String,
    /// The JSON list of decisions, as sent; empty where the tenant has decided nothing.
    pub decisions: String,
}

/// Cuts one item of a catalog page. Nothing that was sent is lost but the tenant's own GUID.
pub fn split_profile(json: &str) -> Result<ProfileParts, WireError> {
    let mut fields: BTreeMap<&str, &RawValue> =
        serde_json::from_str(json).map_err(WireError::NotJson)?;
    fields.remove("azureTenantId");
    let decisions = fields.remove("controlStateUpdates").map_or("[]", RawValue::get);
    let id: Option<String> = fields.get("id").and_then(|raw| serde_json::from_str(raw.get()).ok());
    let id = id.filter(|id| !id.is_empty()).ok_or(WireError::NoProfileId)?;
    let undecided = state_updates(decisions).iter().all(|update| *update == untouched());
    Ok(ProfileParts {
        id,
        shared: serde_json::to_string(&fields).map_err(WireError::NotJson)?,
        decisions: if undecided { String::new() } else { decisions.to_owned() },
    })
}

/// Reads the shared part back.
pub fn profile(shared: &str) -> Result<Profile, WireError> {
    let fields: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(shared).map_err(WireError::NotJson)?;
    let mut profile = Profile::default();
    for (key, raw) in fields {
        take_field(&mut profile, key, raw.get());
    }
    Ok(profile)
}

/// The decisions on a control; entries that cannot be read are left out. No decisions at all are
/// the one that an untouched control is sent with.
pub fn state_updates(decisions: &str) -> Vec<StateUpdate> {
    if decisions.is_empty() {
        return vec![untouched()];
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Update {
        state: Option<String>,
        assigned_to: Option<String>,
        comment: Option<String>,
        updated_by: Option<String>,
        updated_date_time: Option<String>,
    }
    let entries: Vec<Box<RawValue>> = serde_json::from_str(decisions).unwrap_or_default();
    let updates = entries.iter().filter_map(|raw| serde_json::from_str::<Update>(raw.get()).ok());
    updates
        .map(|u| StateUpdate {
            state: u.state,
            assigned_to: u.assigned_to,
            comment: u.comment,
            updated_by: u.updated_by,
            updated: u.updated_date_time.filter(|t| !t.starts_with("0001-")),
        })
        .collect()
}

/// How an untouched control is sent: one entry that says nothing.
fn untouched() -> StateUpdate {
    StateUpdate { state: Some("Default".to_owned()), ..StateUpdate::default() }
}

fn take_field(profile: &mut Profile, key: String, raw: &str) {
    let known = match key.as_str() {
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
        "threats" => read(raw, |v| profile.threats = v),
        // Empty in every answer seen; worth forwarding on the day it is not.
        "complianceInformation" => raw == "[]",
        "vendorInformation" => true,
        _ => false,
    };
    if !known && raw != "null" {
        profile.additional.push((key, raw.to_owned()));
    }
}

fn read<'a, T: Deserialize<'a>>(raw: &'a str, set: impl FnOnce(T)) -> bool {
    serde_json::from_str(raw).map(set).is_ok()
}

fn text(raw: &str, set: impl FnOnce(String)) -> bool {
    read(raw, set)
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
    fn the_shared_part_is_the_same_for_every_tenant() {
        let other = PROFILE.replace("3f5c1d2e", "aaaaaaaa");
        assert_eq!(split_profile(PROFILE).unwrap(), split_profile(&other).unwrap());
        let parts = split_profile(PROFILE).unwrap();
        assert_eq!((parts.id.as_str(), parts.decisions.as_str()), ("OneAdmin", ""));
        assert!(!parts.shared.contains("c0de"));
    }

    #[test]
    fn the_shared_part_reads_back() {
        let read = profile(&split_profile(PROFILE).unwrap().shared).unwrap();
        assert_eq!(read.id, "OneAdmin");
        assert_eq!(read.max_score, Number::new(1.0));
        assert_eq!(read.threats, ["Account breach"]);
        assert_eq!(read.user_impact, None);
        assert_eq!(read.additional, [("brandNew".to_owned(), r#"{"x":1.50}"#.to_owned())]);
    }

    #[test]
    fn decisions_are_kept_as_sent() {
        let decided = PROFILE.replace(r#""state":"Default""#, r#""state":"Ignored","note":1"#);
        let parts = split_profile(&decided).unwrap();
        assert!(parts.decisions.contains(r#""note":1"#));
        assert_eq!(state_updates(&parts.decisions)[0].state.as_deref(), Some("Ignored"));
    }

    #[test]
    fn a_profile_without_id_is_refused() {
        for bad in ["{}", r#"{"id":null}"#, r#"{"id":""}"#, "[]", "x"] {
            assert!(split_profile(bad).is_err(), "{bad}");
        }
    }
}
