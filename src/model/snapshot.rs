//! A snapshot: Microsoft's response for one tenant and one day. Its strings are borrowed from the
//! body. Only [`crate::wire`] creates snapshots. Nothing here is checked or corrected: the ledger
//! decides which snapshots are plausible. Start reading at [`Snapshot`].

use std::borrow::Cow;

use super::{Day, Number, TenantId};

/// Undocumented fields, unchanged: the key, and the value as JSON text.
pub type Additional<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// One day of one tenant (`secureScore`). Every field can be absent, because Microsoft has omitted
/// each of them at some time.
#[derive(Debug, Default)]
pub struct Snapshot<'a> {
    /// `<tenant GUID>_<YYYY-MM-DD>`, sometimes `NA`.
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
    /// The scores of the controls, in the order that Microsoft sent; a control can occur twice.
    pub controls: Vec<ControlScore<'a>>,
    /// Undocumented fields of the snapshot.
    pub additional: Additional<'a>,
    /// Whether the body has the form of the original API, in which a day has no ID.
    pub legacy: bool,
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

    /// Whether both `azureTenantId` and the ID name this tenant.
    pub fn belongs_to(&self, tenant: TenantId) -> bool {
        let named = |text: &str| TenantId::parse(text).is_ok_and(|id| id == tenant);
        self.tenant_id.as_deref().is_some_and(named) && self.id.get(..36).is_some_and(named)
    }

    /// The day that the ID names. `None` if it names none.
    pub fn id_day(&self) -> Option<Day> {
        Day::parse(self.id.get(37..)?)
    }

    /// Whether the copy has its texts and counts. Microsoft removes them from a day as soon as a
    /// newer one exists; the copy is then *poor*, otherwise *rich*.
    pub fn is_rich(&self) -> bool {
        self.controls
            .iter()
            .any(|c| c.last_synced.is_some() || c.description.is_some() || c.count.is_some())
    }
}
