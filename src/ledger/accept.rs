//! What is believed.

use super::{Origin, Seen};
use crate::{
    compressed::CompressedText,
    model::{Day, DayFacts, Observation, Phase, Snapshot, TenantId, What},
};

/// A snapshot that was not believed.
#[derive(Clone, Debug)]
pub struct Refused {
    pub observation: Observation,
    /// The day it is of, if it names one that can be: it stays missing.
    pub day: Option<Day>,
}

/// Accepts a snapshot, or says why it is not believed.
pub fn accept(
    snapshot: &Snapshot<'_>,
    body: &str,
    tenant: TenantId,
    today: Day,
    origin: Origin,
    observed_ms: i64,
) -> Result<Seen, Refused> {
    let refuse = |what: What, details: String| {
        let named = snapshot.day().or_else(|| snapshot.id_day());
        let subject =
            named.map_or_else(|| snapshot.id.chars().take(64).collect(), |day| day.to_string());
        let first_day = snapshot.day().unwrap_or(today);
        let phase = Phase::Begin;
        let observation = Observation { what, subject, first_day, phase, details, hint: None };
        Refused { observation, day: named.filter(|day| *day <= today) }
    };
    if !snapshot.belongs_to(tenant) {
        let named = snapshot.tenant_id.as_deref().unwrap_or("nobody");
        let named: String = named.chars().filter(|c| !c.is_control()).take(64).collect();
        return Err(refuse(
            What::ForeignTenant,
            format!("the snapshot names {named} as its tenant"),
        ));
    }
    let Some(day) = snapshot.day() else {
        return Err(refuse(What::Implausible, "the snapshot names no day".to_owned()));
    };
    if snapshot.id_day() != Some(day) {
        return Err(refuse(
            What::Implausible,
            "the id of the snapshot names another day".to_owned(),
        ));
    }
    // A day ahead can be true where this clock is slow; more than one cannot.
    if day > today.plus(1) {
        return Err(refuse(What::Implausible, "the snapshot is of a day to come".to_owned()));
    }
    let facts = DayFacts::of(snapshot)
        .ok_or_else(|| refuse(What::Implausible, "the snapshot names no day".to_owned()))?;
    let body = CompressedText::compress(body)
        .map_err(|_| refuse(What::Implausible, "the snapshot cannot be packed".to_owned()))?;
    let snapshot_id = snapshot.id.as_ref().to_owned();
    Ok(Seen { snapshot_id, facts, body, partial: false, observed_ms, origin })
}

/// A snapshot that cannot even be decoded. `body` tells it from others.
pub fn unreadable(body: &str, reason: &str, today: Day) -> Refused {
    let observation = Observation {
        what: What::Implausible,
        subject: format!("unreadable, {} bytes", body.len()),
        first_day: today,
        phase: Phase::Begin,
        details: format!("a snapshot cannot be read: {reason}"),
        hint: None,
    };
    Refused { observation, day: None }
}
