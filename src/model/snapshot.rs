//! What Microsoft says of one tenant on one day, borrowed from the body that said it.

use std::borrow::Cow;

use super::{Day, Number, TenantId};

/// Fields that no documentation names, untouched: the key, and the value as JSON text.
pub type Additional<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// One day of one tenant. Every field may be absent, for Microsoft has left out each of them.
#[derive(Debug, Default)]
pub struct Snapshot<'a> {
    /// `<tenant GUID>_<yyyy-MM-dd>`, sometimes `NA`.
    pub id: Cow<'a, str>,
    pub tenant_id: Option<Cow<'a, str>>,
    pub created: Option<Cow<'a, str>>,
    /// Points attained, points attainable.
    pub current_score: Option<Number>,
    pub max_score: Option<Number>,
    pub active_users: Option<Number>,
    pub licensed_users: Option<Number>,
    pub enabled_services: Vec<Cow<'a, str>>,
    pub averages: Vec<Average<'a>>,
    pub controls: Vec<ControlScore<'a>>,
    pub additional: Additional<'a>,
    /// In the form of the original API, which gives days no id.
    pub legacy: bool,
}

/// One control's score of the day.
#[derive(Debug, Default)]
pub struct ControlScore<'a> {
    pub name: Cow<'a, str>,
    pub category: Option<Cow<'a, str>>,
    /// May hold HTML. Null on every copy but the newest day's.
    pub description: Option<Cow<'a, str>>,
    /// Points.
    pub score: Option<Number>,
    /// Points attainable; the original API alone says so here.
    pub max_score: Option<Number>,
    /// 0 to 100.
    pub percentage: Option<Number>,
    /// An English sentence that may contradict the numbers; never to be parsed.
    pub implementation_status: Option<Cow<'a, str>>,
    pub last_synced: Option<Cow<'a, str>>,
    /// Users or devices that satisfy the control, and those in its scope.
    pub count: Option<Number>,
    pub total: Option<Number>,
    pub on: Option<bool>,
    pub additional: Additional<'a>,
}

/// A peer average. Scores by category ride in `additional`, as sent.
#[derive(Debug, Default)]
pub struct Average<'a> {
    /// `AllTenants`, `TotalSeats`, `IndustryTypes`.
    pub basis: Cow<'a, str>,
    pub score: Option<Number>,
    pub additional: Additional<'a>,
}

impl Snapshot<'_> {
    /// The UTC date of `createdDateTime`.
    pub fn day(&self) -> Option<Day> {
        Day::of_instant_text(self.created.as_deref()?)
    }

    /// Whether the body names this tenant as its own, in both places that name one.
    pub fn belongs_to(&self, tenant: TenantId) -> bool {
        let named = |text: &str| TenantId::parse(text).is_ok_and(|id| id == tenant);
        self.tenant_id.as_deref().is_some_and(named) && self.id.get(..36).is_some_and(named)
    }

    /// The day that the id names, if it names one.
    pub fn id_day(&self) -> Option<Day> {
        Day::parse(self.id.get(37..)?)
    }

    /// Yesterday's copy of a day has lost its texts and counts; a rich copy still has them.
    pub fn is_rich(&self) -> bool {
        self.controls
            .iter()
            .any(|c| c.last_synced.is_some() || c.description.is_some() || c.count.is_some())
    }
}
