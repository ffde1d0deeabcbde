//! `secureScore`: the snapshot of one tenant and one day.
//!
//! Two forms are parsed: the current one, and the one of the original API of 2017
//! (`getTenantSecureScores`), whose fields have other names and which has no ID. Start reading at
//! [`snapshot`]; the field names are in the implementations of [`FromFields`].

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    WireError,
    budget::{DecodeBudget, DecodeLimit, ExpectedType},
    lenient::{Fields, List, TextSeed, reject_duplicate},
    salvage,
};
use crate::model::{
    Additional, Average, ControlList, ControlScore, DataFaults, Day, Number, Snapshot,
};

/// Parses one snapshot from a page or from the checkpoint. An element or a field that cannot be
/// used is removed, and named in [`Snapshot::faults`]. The result depends only on the text, so the
/// stored body of a day has the same controls whenever it is parsed.
///
/// # Errors
///
/// Fails if the text is not a JSON object, if its `controlScores` are neither a list nor null, or
/// with [`WireError::Exceeds`] if it exceeds a [`DecodeLimit`] that protects the memory of the
/// process.
pub fn snapshot(json: &str) -> Result<Snapshot<'_>, WireError> {
    let mut snapshot = match decode(json) {
        Ok((snapshot, None)) => snapshot,
        Err(error) if !salvage::is_possible_after(&error) => return Err(error),
        // The strict decoder does not know the name of what is wrong.
        Ok((_, Some(_))) | Err(_) => salvage::snapshot(json)?,
    };
    if snapshot.controls.is_empty() && snapshot.control_list == ControlList::Complete {
        snapshot.control_list = salvage::control_list(json, &mut snapshot.faults);
    }

    // A snapshot of the original API has no ID; it is composed as in the current API.
    if snapshot.legacy
        && snapshot.id.is_empty()
        && let (Some(tenant), Some(day)) = (&snapshot.tenant_id, snapshot.day())
    {
        snapshot.id = Cow::Owned(format!("{tenant}_{day}"));
    }
    Ok(snapshot)
}

/// The day that the text of a snapshot names, even if the snapshot is rejected; `None` if it names
/// none, or if the text is not a JSON object.
pub fn listed_day(json: &str) -> Option<Day> {
    let members = salvage::members(json, "", &mut DataFaults::default()).ok()?;
    let text = |key: &str| {
        let text: String = serde_json::from_str(members.get(key)?.get()).ok()?;
        Some(Cow::Owned(text))
    };
    let named = Snapshot {
        id: text("id").unwrap_or_default(),
        created: text("createdDateTime").or_else(|| text("createdDate")),
        ..Snapshot::default()
    };
    named.day().or_else(|| named.id_day())
}

/// Decodes a snapshot, or rejects it as a whole. Also returns the type of the first known field
/// whose value has another one and is kept in `additional`. Fails if any part of the snapshot
/// cannot be used.
pub(super) fn decode(json: &str) -> Result<(Snapshot<'_>, Option<ExpectedType>), WireError> {
    let budget = DecodeBudget::of(json, DecodeLimit::SNAPSHOT)?;
    let snapshot = budget.decode(json, ObjectSeed::<Snapshot<'_>>::new(&budget))?;
    Ok((snapshot, budget.unexpected()))
}

/// Decodes an object with some of the members of a snapshot. Returns the type of the first known
/// field whose value has another one. Fails if a member cannot be used.
pub(super) fn accepts_snapshot(json: &str) -> Result<Option<ExpectedType>, WireError> {
    accepts::<Snapshot<'_>>(json)
}

/// Like [`accepts_snapshot`], for the members of a control.
pub(super) fn accepts_control(json: &str) -> Result<Option<ExpectedType>, WireError> {
    accepts::<ControlScore<'_>>(json)
}

/// Like [`accepts_snapshot`], for the members of an average.
pub(super) fn accepts_average(json: &str) -> Result<Option<ExpectedType>, WireError> {
    accepts::<Average<'_>>(json)
}

fn accepts<'de, T: FromFields<'de>>(json: &'de str) -> Result<Option<ExpectedType>, WireError> {
    let budget = DecodeBudget::new();
    budget.decode(json, ObjectSeed::<T>::new(&budget)).map(drop)?;
    Ok(budget.unexpected())
}

/// A type that is deserialized from a JSON object, one field at a time.
trait FromFields<'de>: Default {
    const NAME: &'static str;

    fn field<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        map: &mut A,
        budget: &DecodeBudget,
    ) -> Result<(), A::Error>;
}

/// An element of a list, which is identified by its name.
trait NamedElement {
    fn name(&self) -> &str;
}

impl NamedElement for ControlScore<'_> {
    fn name(&self) -> &str {
        &self.name
    }
}

impl NamedElement for Average<'_> {
    fn name(&self) -> &str {
        &self.basis
    }
}

impl<'de> FromFields<'de> for Snapshot<'de> {
    const NAME: &'static str = "a snapshot";

    fn field<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        map: &mut A,
        budget: &DecodeBudget,
    ) -> Result<(), A::Error> {
        let mut fields = Fields { additional: &mut self.additional, budget };

        match key.as_ref() {
            "id" => {
                let mut id = None;
                reject_duplicate(&key, !self.id.is_empty())?;
                fields.text(key, &mut id, map)?;
                self.id = id.unwrap_or_default();
            }
            "azureTenantId" => fields.text(key, &mut self.tenant_id, map)?,

            // A name of the original API, unless the current name has already set the field: the
            // current type is open and may gain an unrelated field of that name.
            "tenantId" if self.tenant_id.is_none() => fields.text(key, &mut self.tenant_id, map)?,
            "createdDateTime" => fields.text(key, &mut self.created, map)?,
            "createdDate" => {
                self.legacy = true;
                fields.date(key, &mut self.created, map)?;
            }

            "currentScore" => fields.documented_number(key, &mut self.current_score, map)?,
            "secureScore" if self.current_score.is_none() => {
                fields.number(key, &mut self.current_score, map)?;
            }
            "maxScore" => fields.documented_number(key, &mut self.max_score, map)?,
            "maxSecureScore" if self.max_score.is_none() => {
                fields.number(key, &mut self.max_score, map)?;
            }

            "averageSecureScore" => {
                budget.admit(self.averages.len(), DecodeLimit::AVERAGES)?;
                let mut average = Average { basis: "AllTenants".into(), ..Average::default() };
                fields.number(key, &mut average.score, map)?;
                self.averages.push(average);
            }
            "activeUserCount" => fields.documented_number(key, &mut self.active_users, map)?,
            "licensedUserCount" => {
                fields.documented_number(key, &mut self.licensed_users, map)?;
            }
            "enabledServices" => {
                reject_duplicate(&key, !self.enabled_services.is_empty())?;
                let (seed, limit) = (TextSeed::name(budget), DecodeLimit::SERVICES);
                self.enabled_services = map.next_value_seed(List { seed, limit, budget })?;
            }

            "averageComparativeScores" => {
                reject_duplicate(&key, !self.averages.is_empty())?;
                let (seed, limit) = (ElementSeed(ObjectSeed::new(budget)), DecodeLimit::AVERAGES);
                self.averages = map.next_value_seed(List { seed, limit, budget })?;
            }
            "controlScores" => {
                reject_duplicate(&key, !self.controls.is_empty())?;
                let (seed, limit) = (ElementSeed(ObjectSeed::new(budget)), DecodeLimit::CONTROLS);
                self.controls = map.next_value_seed(List { seed, limit, budget })?;
            }

            // In every known response, it contains only the name of the product.
            "vendorInformation" => {
                let value = map.next_value::<&'de RawValue>()?.get();
                if !is_object_or_null(value) {
                    budget.expect(ExpectedType::Object);
                }
            }
            _ => fields.unknown(key, map)?,
        }
        Ok(())
    }
}

impl<'de> FromFields<'de> for ControlScore<'de> {
    const NAME: &'static str = "a control score";

    fn field<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        map: &mut A,
        budget: &DecodeBudget,
    ) -> Result<(), A::Error> {
        let mut fields = Fields { additional: &mut self.additional, budget };

        match key.as_ref() {
            "controlName" | "referenceId" => {
                reject_duplicate(&key, !self.name.is_empty())?;
                self.name = map.next_value_seed(TextSeed::name(budget))?;
                Ok(())
            }
            "controlCategory" => fields.text(key, &mut self.category, map),
            "description" => fields.text(key, &mut self.description, map),
            "score" => fields.documented_number(key, &mut self.score, map),
            "maxScore" => fields.number(key, &mut self.max_score, map),
            "controlDetails" => self.details(map.next_value()?, budget),
            "scoreInPercentage" => fields.number(key, &mut self.percentage, map),
            "implementationStatus" => fields.text(key, &mut self.implementation_status, map),
            "lastSynced" => fields.text(key, &mut self.last_synced, map),
            "count" => fields.number(key, &mut self.count, map),
            "total" => fields.number(key, &mut self.total, map),
            "on" => fields.switch(key, &mut self.on, map),
            _ => fields.unknown(key, map),
        }
    }
}

impl<'de> ControlScore<'de> {
    /// Merges `controlDetails` of the original API: null, or an object whose fields differ from
    /// control to control.
    fn details<E: Error>(&mut self, raw: &'de RawValue, budget: &DecodeBudget) -> Result<(), E> {
        if raw.get() == "null" {
            return Ok(());
        }

        let seed = ObjectSeed::<Details<'de>>::new(budget);
        let details = seed.deserialize(&mut serde_json::Deserializer::from_str(raw.get()));
        let details = details.map_err(E::custom)?;
        (self.count, self.total, self.on) = (details.count, details.total, details.on);
        for field in details.additional {
            budget.admit(self.additional.len(), DecodeLimit::FIELDS)?;
            self.additional.push(field);
        }
        Ok(())
    }
}

#[derive(Default)]
struct Details<'a> {
    count: Option<Number>,
    total: Option<Number>,
    on: Option<bool>,
    additional: Additional<'a>,
}

impl<'de> FromFields<'de> for Details<'de> {
    const NAME: &'static str = "the details of a control";

    fn field<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        map: &mut A,
        budget: &DecodeBudget,
    ) -> Result<(), A::Error> {
        let mut fields = Fields { additional: &mut self.additional, budget };
        match key.as_ref() {
            "count" => fields.number(key, &mut self.count, map),
            "total" => fields.number(key, &mut self.total, map),
            "on" => fields.switch(key, &mut self.on, map),
            _ => fields.unknown(key, map),
        }
    }
}

impl<'de> FromFields<'de> for Average<'de> {
    const NAME: &'static str = "a comparative score";

    fn field<A: MapAccess<'de>>(
        &mut self,
        key: Cow<'de, str>,
        map: &mut A,
        budget: &DecodeBudget,
    ) -> Result<(), A::Error> {
        let mut fields = Fields { additional: &mut self.additional, budget };
        match key.as_ref() {
            // The field was named `scope` in 2018.
            "basis" | "scope" => {
                reject_duplicate(&key, !self.basis.is_empty())?;
                self.basis = map.next_value_seed(TextSeed::name(budget))?;
                Ok(())
            }
            "averageScore" => fields.number(key, &mut self.score, map),
            _ => fields.unknown(key, map),
        }
    }
}

/// Whether a JSON text is an object or null.
pub(super) fn is_object_or_null(json: &str) -> bool {
    json.starts_with('{') || json == "null"
}

/// Deserializes an element of a list from a JSON object. Fails if it has no name.
struct ElementSeed<'b, T>(ObjectSeed<'b, T>);

impl<T> Clone for ElementSeed<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for ElementSeed<'_, T> {}

impl<'de, T: FromFields<'de> + NamedElement> DeserializeSeed<'de> for ElementSeed<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        let element = self.0.deserialize(deserializer)?;
        if element.name().is_empty() {
            return Err(D::Error::custom(format_args!("{} has no name", T::NAME)));
        }
        Ok(element)
    }
}

/// Deserializes a `T` from a JSON object.
struct ObjectSeed<'b, T> {
    budget: &'b DecodeBudget,
    object: PhantomData<T>,
}

impl<'b, T> ObjectSeed<'b, T> {
    fn new(budget: &'b DecodeBudget) -> Self {
        Self { budget, object: PhantomData }
    }
}

impl<T> Clone for ObjectSeed<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for ObjectSeed<'_, T> {}

impl<'de, T: FromFields<'de>> DeserializeSeed<'de> for ObjectSeed<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: FromFields<'de>> Visitor<'de> for ObjectSeed<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::NAME)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut object = T::default();
        while let Some(key) = map.next_key_seed(TextSeed::name(self.budget))? {
            object.field(key, &mut map, self.budget)?;
        }
        Ok(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RICH: &str = r#"{"id":"3f5c1d2e-0000-4000-8000-00000000c0de_2026-07-17","azureTenantId":"3f5c1d2e-0000-4000-8000-00000000c0de",
        "createdDateTime":"2026-07-17T00:00:00Z","currentScore":815.22,"maxScore":"1376","activeUserCount":3,
        "enabledServices":["HasAADP1"],"averageComparativeScores":[{"basis":"AllTenants","averageScore":52.86,"SeatSizeRangeLowerValue":"1"}],
        "controlScores":[{"controlName":"MFARegistrationV2","controlCategory":"Identity","score":9,"scoreInPercentage":100.0,
          "count":"3","total":3,"on":"true","lastSynced":"2026-07-15T13:04:06Z","description":"a \"quoted\" text","expiry":"never"}],
        "vendorInformation":{"vendor":"Microsoft"},"newField":{"a":[1,2.50]}}"#;

    #[test]
    fn keeps_unknown_fields_as_sent() {
        let snapshot = snapshot(RICH).unwrap();
        assert_eq!(snapshot.day(), Day::parse("2026-07-17"));
        assert_eq!(snapshot.max_score, Number::new(1376.0));
        assert_eq!(snapshot.additional, [("newField".into(), r#"{"a":[1,2.50]}"#.into())]);

        let control = &snapshot.controls[0];
        assert_eq!(
            (control.count, control.total, control.on),
            (Number::new(3.0), Number::new(3.0), Some(true))
        );
        assert_eq!(control.description.as_deref(), Some(r#"a "quoted" text"#));
        assert_eq!(control.additional, [("expiry".into(), "\"never\"".into())]);
        assert_eq!(snapshot.averages[0].additional.len(), 1);
        assert!(snapshot.is_rich());
    }

    #[test]
    fn treats_null_as_absent() {
        let read = snapshot(r#"{"controlScores":[{"controlName":"A","description":null,"score":null}],"enabledServices":null}"#).unwrap();
        assert_eq!(read.controls[0].score, None);
        assert!(read.enabled_services.is_empty());
        assert!(!read.is_rich());
    }

    #[test]
    fn keeps_values_of_unexpected_shape_as_additional() {
        let read = snapshot(
            r#"{"controlScores":[{"controlName":"A","count":"many","on":[1],"score":{"x":1}}]}"#,
        )
        .unwrap();
        let control = &read.controls[0];
        assert_eq!((control.count, control.on, control.score), (None, None, None));
        let kept: Vec<_> = control.additional.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(kept, [r#"count="many""#, "on=[1]", r#"score={"x":1}"#]);
    }

    #[test]
    fn parses_the_original_api() {
        let json = |date: &str| {
            format!(
                r#"{{"tenantId":"3f5c1d2e-0000-4000-8000-000000001e6a","createdDate":{date},"licensedUserCount":28,"secureScore":92,
                "maxSecureScore":271,"accountScore":39,"averageSecureScore":19.13,"averageMaxSecureScore":261.9,"controlScores":[
                {{"referenceId":"AdminMFA","score":8,"maxScore":50,"controlDetails":null}},
                {{"referenceId":"OneAdmin","score":1,"maxScore":"1","controlDetails":{{"count":2,"on":true,"expiry":90}}}}]}}"#
            )
        };

        for date in
            [r#""2017-01-31""#, r#"{"Year":2017,"Month":1,"Day":31}"#, r#""2017-01-31T00:00:00Z""#]
        {
            let json = json(date);
            let read = snapshot(&json).unwrap();
            assert_eq!(read.day(), Day::parse("2017-01-31"), "{date}");
            assert_eq!(read.id, "3f5c1d2e-0000-4000-8000-000000001e6a_2017-01-31");
            assert_eq!(
                (read.current_score, read.max_score),
                (Number::new(92.0), Number::new(271.0))
            );

            let averages: Vec<_> = read.averages.iter().map(|a| (&*a.basis, a.score)).collect();
            assert_eq!(averages, [("AllTenants", Number::new(19.13))]);
            let [mfa, admin] = &read.controls[..] else { panic!() };
            assert_eq!(
                (&*mfa.name, mfa.max_score, mfa.count),
                ("AdminMFA", Number::new(50.0), None)
            );
            assert_eq!((admin.count, admin.on), (Number::new(2.0), Some(true)));
            assert_eq!(admin.additional, [("expiry".into(), "90".into())]);
        }

        for bad in [r#"{"Year":2017,"Month":13,"Day":1}"#, "17", "null"] {
            let json = json(bad);
            assert_eq!(snapshot(&json).unwrap().day(), None, "{bad}");
        }
    }

    /// Regression: a snapshot of the current form that also has a field of the original API was
    /// rejected as a whole.
    #[test]
    fn current_names_take_precedence_over_original_ones() {
        let json = r#"{"azureTenantId":"a","currentScore":5,"maxScore":9,"maxSecureScore":1,"secureScore":1,"tenantId":"b"}"#;
        let read = snapshot(json).unwrap();
        assert_eq!((read.current_score, read.max_score), (Number::new(5.0), Number::new(9.0)));
        assert_eq!((read.tenant_id.as_deref(), read.additional.len()), (Some("a"), 3));
    }

    #[test]
    fn rejects_invalid_snapshots() {
        for bad in [
            "",
            "[]",
            "<html></html>",
            r#"{"id":"a""#,
            r#"{"currentScore":NaN}"#,
            r#"{"controlScores":{"controlName":"A"}}"#,
            r#"{"controlScores":"A"}"#,
            r#"{"id":"a"} {"#,
        ] {
            assert!(snapshot(bad).is_err(), "{bad}");
        }
    }
}
