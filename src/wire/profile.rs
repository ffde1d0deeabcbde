//! `secureScoreControlProfile`: the description of a control, and the tenant's decisions about it.
//!
//! The description is the same for every tenant. [`split_profile`] separates it from the fields of
//! the tenant (`azureTenantId`, `controlStateUpdates`), so that it is stored once for all tenants.
//! `raw_fields` takes a profile apart, `fields` decodes its known fields, and `size_limit` shortens
//! one that is too large.

mod fields;
mod raw_fields;
mod size_limit;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use serde_json::value::RawValue;

use self::{
    fields::{number, report_repeated, report_type, set_field, texts},
    raw_fields::{raw_fields, usable_fields},
    size_limit::within_size,
};
use super::{
    WireError,
    budget::DecodeLimit,
    decision,
    salvage::{path, quoted, removed, unusable_name},
    surrogates,
    value::refusal,
};
use crate::model::{DataFaults, Number, Profile};

/// The key of the decisions.
const DECISIONS: &str = "controlStateUpdates";

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
    let id = id.filter(|id| !id.is_empty());
    let id = id.ok_or_else(|| WireError::NoProfileId(unusable_name(&["id"], &fields)))?;
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
        report_type(key, raw.get(), &owner, &mut faults);
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
