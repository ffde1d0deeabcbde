//! Decides whether to accept a snapshot: it must belong to the tenant and be plausible. A rejected
//! snapshot is never stored; only the observation that reports it is. Start reading at [`accept`].

use super::{AcceptedSnapshot, SnapshotOrigin};
use crate::{
    compressed::CompressedText,
    foreign_text::ForeignText,
    model::{Day, DayFacts, Observation, ObservationKind, Phase, Snapshot, TenantId, UnixMillis},
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
/// it has no day, names two days, or is more than one day in the future
/// ([`ObservationKind::Implausible`]).
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
        let subject = named.map_or_else(
            || snapshot.id.chars().take(MAX_QUOTED_CHARS).collect(),
            |day| day.to_string(),
        );
        let first_day = snapshot.day().unwrap_or(today);
        let phase = Phase::Begin;
        let observation = Observation { what, subject, first_day, phase, details, hint: None };
        Rejected { observation, day: named.filter(|day| *day <= today) }
    };
    let implausible = |details: &str| reject(ObservationKind::Implausible, details.to_owned());

    if !snapshot.belongs_to(tenant) {
        let details = match snapshot.tenant_id.as_deref() {
            Some(named) => {
                let named = ForeignText::new(named).for_message(MAX_QUOTED_CHARS);
                format!("the snapshot names `{named}` as its tenant")
            }
            None => "the snapshot names no tenant".to_owned(),
        };
        return Err(reject(ObservationKind::ForeignTenant, details));
    }

    let Some(day) = snapshot.day() else {
        return Err(implausible("the snapshot has no day"));
    };
    if snapshot.id_day() != Some(day) {
        return Err(implausible("the ID and the date of the snapshot do not name the same day"));
    }
    // If this host's clock is slow, Microsoft can be one day ahead, but not more.
    if day > today.plus(1) {
        return Err(implausible("the day of the snapshot is in the future"));
    }

    let facts = DayFacts::of(snapshot).ok_or_else(|| implausible("the snapshot has no day"))?;
    let body = CompressedText::compress(body)
        .map_err(|_| implausible("the snapshot could not be compressed"))?;
    let snapshot_id = snapshot.id.as_ref().to_owned();

    Ok(AcceptedSnapshot { snapshot_id, facts, body, partial: false, observed_at, origin })
}

/// Rejects a snapshot that cannot be decoded. The subject contains the length of `body`, which
/// distinguishes several such snapshots of one poll.
pub fn unreadable(body: &str, reason: &str, today: Day) -> Rejected {
    let observation = Observation {
        what: ObservationKind::Implausible,
        subject: format!("unreadable, {} bytes", body.len()),
        first_day: today,
        phase: Phase::Begin,
        details: format!("cannot decode a snapshot: {reason}"),
        hint: None,
    };

    Rejected { observation, day: None }
}
