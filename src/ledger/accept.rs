//! Decides whether to accept a snapshot: it must belong to the tenant, and its day must be certain.
//! A rejected snapshot is never stored; only the observation that reports it is. Start reading at
//! [`accept`].

use super::{AcceptedSnapshot, SnapshotOrigin, plausibility};
use crate::{
    compressed::CompressedText,
    foreign_text::ForeignText,
    model::{
        ControlList, Day, DayFacts, Observation, ObservationKind, ObservationSubject, Phase,
        RejectedSnapshots, Snapshot, TenantId, UnixMillis,
    },
};

/// The largest number of characters that an observation quotes from the snapshot.
const MAX_QUOTED_CHARS: usize = 64;

/// A snapshot that was rejected.
#[derive(Clone, Debug)]
pub struct Rejected {
    /// The observation that reports the rejection, in its first phase.
    pub observation: Observation,
    /// The day that the snapshot names, unless it is in the future. The day stays missing.
    pub day: Option<Day>,
}

/// Accepts a snapshot, or rejects it with the observation that reports why.
///
/// `body` is the JSON of the snapshot as Microsoft sent it, and `observed_at` is the time at which
/// it was read.
///
/// # Errors
///
/// Fails if the snapshot names another tenant or none ([`ObservationKind::ForeignTenant`]), or if
/// it has no day, names two days, is more than one day in the future, or has no usable control
/// ([`ObservationKind::Implausible`]). A snapshot with impossible values is accepted with
/// [`AcceptedSnapshot::faults`], and one with an ID of another form than
/// `<tenant GUID>_<YYYY-MM-DD>` too, because Microsoft does not document its form.
pub fn accept(
    snapshot: &Snapshot<'_>,
    body: &str,
    tenant: TenantId,
    today: Day,
    origin: SnapshotOrigin,
    observed_at: UnixMillis,
) -> Result<AcceptedSnapshot, Rejected> {
    let reject = |what: ObservationKind, details: String| {
        let named = snapshot.day().or_else(|| snapshot.id_day());
        Rejected::new(what, details, named, today)
    };
    let implausible = |details: String| reject(ObservationKind::Implausible, details);

    if let Some(details) = foreign_tenant(snapshot, tenant) {
        return Err(reject(ObservationKind::ForeignTenant, details));
    }
    let day = match certain_day(snapshot) {
        Ok(day) => day,
        Err(details) => return Err(implausible(details)),
    };
    // If this host's clock is slow, Microsoft can be one day ahead, but not more.
    if day > today.plus(1) {
        return Err(implausible(format!("the day of the snapshot, `{day}`, is in the future")));
    }

    // Without its controls, a day would report all of them as removed.
    if snapshot.control_list == ControlList::Unusable {
        return Err(implausible(format!("no control can be used: {}", snapshot.faults)));
    }

    let no_day = || implausible("the snapshot has no day".to_owned());
    let facts = DayFacts::of(snapshot).ok_or_else(no_day)?;
    let body = CompressedText::compress(body)
        .map_err(|_| implausible("the snapshot could not be compressed".to_owned()))?;
    let snapshot_id = snapshot.id.as_ref().to_owned();
    let mut faults = snapshot.faults.clone();
    plausibility::check(snapshot, &facts, &mut faults);

    Ok(AcceptedSnapshot { snapshot_id, facts, body, partial: false, observed_at, origin, faults })
}

/// Rejects a snapshot that cannot be decoded. `named` is the day that it names nevertheless.
pub fn unreadable(reason: &str, named: Option<Day>, today: Day) -> Rejected {
    let details = format!("cannot decode a snapshot: {reason}");
    Rejected::new(ObservationKind::Implausible, details, named, today)
}

impl Rejected {
    /// A snapshot that names this day, if any. The subject is the day, or that of
    /// [`RejectedSnapshots::Undated`]: an ID, the length of the text or a day in the future can
    /// differ at every poll.
    pub(super) fn new(
        what: ObservationKind,
        details: String,
        named: Option<Day>,
        today: Day,
    ) -> Self {
        let day = named.filter(|day| *day <= today);
        let undated = ObservationSubject::Rejected(RejectedSnapshots::Undated);
        let subject = day.map_or(undated, ObservationSubject::Day);
        let first_day = day.unwrap_or(today);
        let phase = Phase::Begin;
        let observation = Observation { what, subject, first_day, phase, details, hint: None };
        Self { observation, day }
    }
}

/// Why a snapshot does not belong to a tenant; `None` if it does. Either `azureTenantId` or, if it
/// is absent, the ID must name the tenant, and neither may name another one.
fn foreign_tenant(snapshot: &Snapshot<'_>, tenant: TenantId) -> Option<String> {
    let named = snapshot.tenant_id.as_deref();
    if let Some(named) = named
        && TenantId::parse_any_form(named) != Some(tenant)
    {
        return Some(format!("`azureTenantId` of the snapshot is `{}`", quoted(named)));
    }

    match snapshot.id_tenant() {
        Some(other) if other != tenant => Some(format!(
            "the ID of the snapshot, `{}`, names another tenant",
            quoted(&snapshot.id)
        )),
        None if named.is_none() => Some("the snapshot names no tenant".to_owned()),
        _ => None,
    }
}

/// The day of a snapshot. Fails, with the reason, if it has none or names two.
fn certain_day(snapshot: &Snapshot<'_>) -> Result<Day, String> {
    let day = snapshot.day().ok_or_else(|| match snapshot.created.as_deref() {
        Some(created) => {
            let is_date = Day::is_instant_text(created);
            let fault = if is_date { "which is out of range" } else { "not a date" };
            format!("`createdDateTime` of the snapshot is `{}`, {fault}", quoted(created))
        }
        None => "the snapshot has no `createdDateTime`".to_owned(),
    })?;

    match snapshot.id_day() {
        Some(other) if other != day => Err(format!(
            "the ID of the snapshot names `{other}`, and its `createdDateTime` names `{day}`"
        )),
        _ => Ok(day),
    }
}

fn quoted(text: &str) -> String {
    ForeignText::new(text).for_message(MAX_QUOTED_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUID: &str = "3f5c1d2e-0000-4000-8000-00000000c0de";
    const OTHER: &str = "aaaaaaaa-0000-4000-8000-000000000000";

    /// Whether a snapshot with this `azureTenantId` and this ID belongs to the tenant.
    fn belongs(named: Option<&str>, id: &str) -> bool {
        let tenant_id = named.map(Into::into);
        let snapshot = Snapshot { id: id.into(), tenant_id, ..Snapshot::default() };
        foreign_tenant(&snapshot, TenantId::parse(GUID).unwrap()).is_none()
    }

    /// Regression: a snapshot of the tenant with an ID of an undocumented form was one of another
    /// tenant, also one whose `azureTenantId` was in braces, had no hyphens or was a URN.
    #[test]
    fn only_another_tenant_is_foreign() {
        let own_id = format!("{GUID}_2026-11-22");
        for form in [
            GUID.to_uppercase(),
            GUID.replace('-', ""),
            format!(" {{{GUID}}} "),
            format!("urn:uuid:{GUID}"),
        ] {
            assert!(belongs(Some(&form), &own_id), "{form}");
        }
        for id in [OTHER, "x", "", "12345", "0b1c2d3e-1111-4000-8000-00000000aaaa-2026-11-22"] {
            assert!(belongs(Some(GUID), id), "{id}");
        }
        assert!(belongs(None, &own_id));

        assert!(!belongs(Some(GUID), &format!("{OTHER}_2026-11-22")));
        for named in [OTHER, "NA", ""] {
            assert!(!belongs(Some(named), &own_id), "{named}");
        }
        for id in ["x", GUID, &format!("{OTHER}_2026-11-22")] {
            assert!(!belongs(None, id), "{id}");
        }
    }
}
