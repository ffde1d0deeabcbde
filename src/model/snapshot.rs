//! A snapshot: Microsoft's response for one tenant and one day. Its strings are borrowed from the
//! body. Only [`crate::wire`] creates snapshots. Nothing here is checked or corrected: the ledger
//! decides which snapshots are plausible. Start reading at [`Snapshot`].

use std::{borrow::Cow, cmp::Ordering, collections::HashSet};

use super::{DataFaults, Day, Number, TenantId};

/// Undocumented fields, unchanged: the key, and the value as JSON text.
pub type Additional<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// One day of one tenant (`secureScore`). Every field can be absent, because Microsoft has omitted
/// each of them at some time.
#[derive(Debug, Default)]
pub struct Snapshot<'a> {
    /// `<tenant GUID>_<YYYY-MM-DD>`, sometimes `NA`. Other forms are possible: Microsoft documents
    /// it only as a unique identifier. Empty if it is absent.
    pub id: Cow<'a, str>,
    /// `azureTenantId`: the GUID of the tenant, as sent.
    pub tenant_id: Option<Cow<'a, str>>,
    /// `createdDateTime`: midnight UTC of the day, as sent.
    pub created: Option<Cow<'a, str>>,
    /// The points of the tenant.
    pub current_score: Option<Number>,
    /// The maximum number of points.
    pub max_score: Option<Number>,
    /// The number of active users.
    pub active_users: Option<Number>,
    /// The number of licensed users.
    pub licensed_users: Option<Number>,
    /// The services that the tenant's licenses include, such as `HasEXOP2`.
    pub enabled_services: Vec<Cow<'a, str>>,
    /// The averages of peers, as sent.
    pub averages: Vec<Average<'a>>,
    /// The scores of the controls, in the order that Microsoft sent; a control can occur twice, see
    /// [`Self::used_controls`].
    pub controls: Vec<ControlScore<'a>>,
    /// Whether `controls` are all controls of the day.
    pub control_list: ControlList,
    /// Undocumented fields of the snapshot.
    pub additional: Additional<'a>,
    /// Whether the body has the form of the original API, in which a day has no ID.
    pub legacy: bool,
    /// What was removed from the body, or replaced, while it was decoded.
    pub faults: DataFaults,
}

/// Which of the controls of a day a copy contains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ControlList {
    /// All that Microsoft has listed, which may be none.
    #[default]
    Complete,
    /// Some elements cannot be used, or there is no list. A control that is absent may still exist.
    Incomplete,
    /// The list is null, or none of its elements can be used.
    Unusable,
}

/// The score of one control on the day (`controlScore`).
#[derive(Debug, Default)]
pub struct ControlScore<'a> {
    /// The ID of the control.
    pub name: Cow<'a, str>,
    /// `controlCategory`, such as `Identity`.
    pub category: Option<Cow<'a, str>>,
    /// Can contain HTML. It is null in every copy of a day that is not the newest one.
    pub description: Option<Cow<'a, str>>,
    /// Points.
    pub score: Option<Number>,
    /// The maximum number of points; only the original API sends it.
    pub max_score: Option<Number>,
    /// 0 to 100.
    pub percentage: Option<Number>,
    /// An English sentence that can contradict the numbers. It must never be parsed.
    pub implementation_status: Option<Cow<'a, str>>,
    /// When Microsoft evaluated the control, as RFC 3339. It is null in every copy of a day that is
    /// not the newest one.
    pub last_synced: Option<Cow<'a, str>>,
    /// Users or devices that satisfy the control.
    pub count: Option<Number>,
    /// Users or devices in the scope of the control.
    pub total: Option<Number>,
    /// Whether the setting is on, for a control that has no count.
    pub on: Option<bool>,
    /// Undocumented fields of the control.
    pub additional: Additional<'a>,
}

/// An average of peers. Its scores by category are in `additional`, as sent.
#[derive(Debug, Default)]
pub struct Average<'a> {
    /// `AllTenants`, `TotalSeats`, `IndustryTypes`.
    pub basis: Cow<'a, str>,
    /// Points; -1 if there is no average.
    pub score: Option<Number>,
    pub additional: Additional<'a>,
}

impl Snapshot<'_> {
    /// The UTC date of `createdDateTime`. `None` if it is absent or invalid.
    pub fn day(&self) -> Option<Day> {
        Day::of_instant_text(self.created.as_deref()?)
    }

    /// The tenant that the ID names. `None` if the ID has another form than `<GUID>_<date>`,
    /// because a GUID alone can be that of anything.
    pub fn id_tenant(&self) -> Option<TenantId> {
        let (guid, date) = self.id.rsplit_once('_')?;
        Day::of_instant_text(date)?;
        TenantId::parse_any_form(guid)
    }

    /// The day that the ID names: the date, or the time, after its last `_`. `None` if it names
    /// none.
    pub fn id_day(&self) -> Option<Day> {
        let (_, date) = self.id.rsplit_once('_')?;
        Day::of_instant_text(date)
    }

    /// The indices of the controls that are used, sorted by ID. IDs are equal in any case: of
    /// several controls with one ID, the spelling that is first in the order of bytes is used, and
    /// of its controls the first one in the order of [`ControlScore::in_order`].
    pub fn used_controls(&self) -> Vec<u32> {
        let control = |index: &u32| &self.controls[*index as usize];
        let mut used: Vec<u32> = (0_u32..).take(self.controls.len()).collect();
        used.sort_by(|a, b| control(a).in_order(control(b)));
        used.dedup_by(|later, first| control(later).name == control(first).name);

        let mut folded_names = HashSet::with_capacity(used.len());
        used.retain(|index| folded_names.insert(control(index).name.to_ascii_lowercase()));
        used
    }

    /// Whether the copy has its texts and counts. Microsoft removes them from a day as soon as a
    /// newer one exists; the copy is then *poor*, otherwise *rich*.
    pub fn is_rich(&self) -> bool {
        self.controls
            .iter()
            .any(|c| c.last_synced.is_some() || c.description.is_some() || c.count.is_some())
    }

    /// The snapshot without references to the body.
    pub fn into_owned(self) -> Snapshot<'static> {
        Snapshot {
            id: owned(self.id),
            tenant_id: self.tenant_id.map(owned),
            created: self.created.map(owned),
            current_score: self.current_score,
            max_score: self.max_score,
            active_users: self.active_users,
            licensed_users: self.licensed_users,
            enabled_services: self.enabled_services.into_iter().map(owned).collect(),
            averages: self.averages.into_iter().map(Average::into_owned).collect(),
            controls: self.controls.into_iter().map(ControlScore::into_owned).collect(),
            control_list: self.control_list,
            additional: owned_fields(self.additional),
            legacy: self.legacy,
            faults: self.faults,
        }
    }
}

impl ControlScore<'_> {
    /// The order of two controls of one day: by name and then by everything else. Of several
    /// controls with one name, only the first one in this order is used, so that the result does
    /// not depend on the order in which Microsoft lists them. It is the one with the lowest score.
    pub fn in_order(&self, other: &Self) -> Ordering {
        self.name.cmp(&other.name).then_with(|| {
            self.numbers()
                .partial_cmp(&other.numbers())
                .unwrap_or(Ordering::Equal)
                .then_with(|| self.texts().cmp(&other.texts()))
                .then_with(|| self.additional.cmp(&other.additional))
        })
    }

    /// The numbers, each after whether it is absent.
    fn numbers(&self) -> [(bool, Option<Number>); 6] {
        let on = self.on.map(|on| Number::from(u32::from(on)));
        [self.score, self.percentage, self.count, self.total, on, self.max_score]
            .map(|number| (number.is_none(), number))
    }

    fn texts(&self) -> [Option<&str>; 4] {
        [&self.category, &self.description, &self.implementation_status, &self.last_synced]
            .map(Option::as_deref)
    }

    fn into_owned(self) -> ControlScore<'static> {
        ControlScore {
            name: owned(self.name),
            category: self.category.map(owned),
            description: self.description.map(owned),
            score: self.score,
            max_score: self.max_score,
            percentage: self.percentage,
            implementation_status: self.implementation_status.map(owned),
            last_synced: self.last_synced.map(owned),
            count: self.count,
            total: self.total,
            on: self.on,
            additional: owned_fields(self.additional),
        }
    }
}

impl Average<'_> {
    fn into_owned(self) -> Average<'static> {
        let Self { basis, score, additional } = self;
        Average { basis: owned(basis), score, additional: owned_fields(additional) }
    }
}

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

fn owned_fields(fields: Additional<'_>) -> Additional<'static> {
    fields.into_iter().map(|(key, json)| (owned(key), owned(json))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: an ID that was only a GUID named a tenant.
    #[test]
    fn ids_of_other_forms_name_nothing() {
        const GUID: &str = "3f5c1d2e-0000-4000-8000-00000000c0de";
        let cases = [
            (format!("{GUID}_2026-11-22"), true, Some("2026-11-22")),
            (format!("{}_2026-11-22", GUID.to_uppercase()), true, Some("2026-11-22")),
            (format!("{GUID}_2026-11-22T15:21:00Z"), true, Some("2026-11-22")),
            (format!("{}_2026-11-22", GUID.replace('-', "")), true, Some("2026-11-22")),
            (format!("{{{GUID}}}_2026-11-22"), true, Some("2026-11-22")),
            (format!("{GUID}-2026-11-22"), false, None),
            (format!("{GUID}_x"), false, None),
            (GUID.to_owned(), false, None),
            // The example of the documentation, whose GUID has one digit too many.
            (
                "00000001-0001-0001-0001-000000000001c_2019-03-19".to_owned(),
                false,
                Some("2019-03-19"),
            ),
            ("NA".to_owned(), false, None),
            ("a_b".to_owned(), false, None),
            ("\u{e4}".repeat(30), false, None),
            (String::new(), false, None),
        ];

        for (id, names_tenant, day) in cases {
            let snapshot = Snapshot { id: id.into(), ..Snapshot::default() };
            assert_eq!(snapshot.id_tenant().is_some(), names_tenant, "{}", snapshot.id);
            assert_eq!(snapshot.id_day(), day.and_then(Day::parse), "{}", snapshot.id);
        }
    }

    #[test]
    fn controls_of_one_name_have_an_order() {
        let control = |score: Option<f64>, description: &'static str| ControlScore {
            name: "A".into(),
            score: score.and_then(Number::new),
            description: Some(description.into()),
            ..ControlScore::default()
        };
        let ordered = [
            control(Some(1.0), "a"),
            control(Some(1.0), "b"),
            control(Some(2.0), "a"),
            control(None, "a"),
        ];
        for (index, first) in ordered.iter().enumerate() {
            assert_eq!(first.in_order(first), Ordering::Equal);
            for later in &ordered[index + 1..] {
                assert_eq!(first.in_order(later), Ordering::Less, "{first:?} {later:?}");
                assert_eq!(later.in_order(first), Ordering::Greater, "{first:?} {later:?}");
            }
        }
        let other = ControlScore { name: "B".into(), ..ControlScore::default() };
        assert_eq!(ordered[3].in_order(&other), Ordering::Less);
    }
}
