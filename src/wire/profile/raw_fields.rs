//! Takes a control profile apart into its fields, without decoding their values. A profile that
//! cannot be used as a whole is read field by field, so that only the fields at fault are lost.
//! Start reading at [`usable_fields`].

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{
    model::DataFaults,
    wire::{
        WireError,
        budget::{DecodeBudget, DecodeLimit},
        keys::profile_keys,
        lenient::{TextSeed, reject_duplicate},
        salvage::{RawMembers, limit_fields, members, quoted},
    },
};

/// Deserializes the fields of an object without parsing their values.
struct RawFieldsSeed<'b>(&'b DecodeBudget);

/// The fields of a profile, without those that cannot be used, and what is wrong with the others.
pub(super) fn usable_fields(json: &str) -> Result<(RawMembers<'_>, DataFaults), WireError> {
    let mut faults = DataFaults::default();
    if let Ok(fields) = raw_fields(json) {
        return Ok((fields, faults));
    }

    let listed = members(json, "", &mut DataFaults::default())?;
    let id = listed.get("id").and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
    let owner = quoted(&id.unwrap_or_default());

    let mut fields = members(json, &owner, &mut faults)?;
    limit_fields(&mut fields, &profile_keys(), &owner, &mut faults);
    Ok((fields, faults))
}

/// The fields of a profile. Fails if any of them cannot be used, or appears more than once.
pub(super) fn raw_fields(json: &str) -> Result<RawMembers<'_>, WireError> {
    let budget = DecodeBudget::of(json, DecodeLimit::PROFILE)?;
    budget.decode(json, RawFieldsSeed(&budget))
}

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
