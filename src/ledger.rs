//! What of an answer is news. Pure: the days that are kept and the days just read, to what is to
//! be appended to the log, in the order of release.

use std::collections::BTreeMap;

use crate::model::{
    Comparison, Day, DayFacts, KeptDay, Observation, Phase, Snapshot, TenantId, What, compare,
};

/// A snapshot just read, decoded, and found to be this tenant's.
#[derive(Debug)]
pub struct Seen {
    pub snapshot_id: String,
    pub facts: DayFacts,
    /// As sent.
    pub body: String,
}

/// One thing to append. `index` is into the days seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    pub index: usize,
    pub revision: u32,
    /// The day and revision that changes are measured from.
    pub base: Option<(Day, u32)>,
    pub late: bool,
    pub backfilled: bool,
}

/// What is to be done with an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Oldest day first.
    pub releases: Vec<Release>,
    /// Rich copies of days kept poor: index, and the revision that is enriched.
    pub enriched: Vec<(usize, u32)>,
    /// Days between two days known that the answer should have listed and did not.
    pub missing: Vec<Day>,
}

/// A snapshot that was not believed.
#[derive(Clone, Debug)]
pub struct Refused {
    pub observation: Observation,
    /// The day it is of, if it names one that can be: it stays owed.
    pub day: Option<Day>,
}

/// What a poll asked for and knew before.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The answer lists every day from this one on, as far as Microsoft has it.
    pub from: Day,
    pub earliest_kept: Option<Day>,
    pub newest_kept: Option<Day>,
    pub today: Day,
}

/// The days that every poll looks at again, for they may be late or revised.
pub const WINDOW: i32 = 3;
/// A newest day older than this is stale.
const STALE_DAYS: i32 = 3;

/// Accepts a snapshot, or says why it is not believed.
pub fn accept(
    snapshot: &Snapshot<'_>,
    body: &str,
    tenant: TenantId,
    today: Day,
) -> Result<Seen, Refused> {
    let refuse = |what: What, details: String| {
        let named = snapshot.day().or_else(|| snapshot.id_day());
        let subject =
            named.map_or_else(|| snapshot.id.chars().take(64).collect(), |day| day.to_string());
        let first_day = snapshot.day().unwrap_or(today);
        let observation = Observation { what, subject, first_day, phase: Phase::Begin, details };
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
    Ok(Seen { snapshot_id: snapshot.id.as_ref().to_owned(), facts, body: body.to_owned() })
}

/// A snapshot that cannot even be decoded. `body` tells it from others.
pub fn unreadable(body: &str, reason: &str, today: Day) -> Refused {
    let observation = Observation {
        what: What::Implausible,
        subject: format!("unreadable, {} octets", body.len()),
        first_day: today,
        phase: Phase::Begin,
        details: format!("a snapshot cannot be read: {reason}"),
    };
    Refused { observation, day: None }
}

/// Compares what was seen with what is kept, which must hold the newest day and all from
/// [`Asked::from`] on.
pub fn plan(seen: &[Seen], kept: &BTreeMap<Day, KeptDay>, asked: Asked) -> Plan {
    let Asked { newest_kept, today, .. } = asked;
    let mut plan = Plan::default();
    // Of a day that stands twice in an answer the first counts.
    let mut by_day: BTreeMap<Day, usize> = BTreeMap::new();
    for (index, seen) in seen.iter().enumerate() {
        by_day.entry(seen.facts.day).or_insert(index);
    }
    let mut newest = newest_kept;
    let mut newest_revision =
        newest_kept.and_then(|day| kept.get(&day)).map_or(1, |kept| kept.revision);
    for (&day, &index) in &by_day {
        let facts = &seen[index].facts;
        let backfilled = day < today.plus(1 - WINDOW);
        match kept.get(&day) {
            None => {
                let late = newest.is_some_and(|newest| day < newest);
                let base = newest.filter(|_| !late).map(|day| (day, newest_revision));
                plan.releases.push(Release { index, revision: 1, base, late, backfilled });
                if !late {
                    (newest, newest_revision) = (Some(day), 1);
                }
            }
            Some(old) => match compare(&old.facts, facts) {
                Comparison::Same => {}
                Comparison::Enriches => plan.enriched.push((index, old.revision)),
                Comparison::Revision => {
                    let revision = old.revision + 1;
                    plan.releases.push(Release {
                        index,
                        revision,
                        base: Some((day, old.revision)),
                        late: false,
                        backfilled,
                    });
                    if newest == Some(day) {
                        newest_revision = revision;
                    }
                }
            },
        }
    }
    plan.missing = missing(&by_day, kept, asked);
    plan
}

/// Days that lie between days known and that this answer reached back over without listing them.
fn missing(by_day: &BTreeMap<Day, usize>, kept: &BTreeMap<Day, KeptDay>, asked: Asked) -> Vec<Day> {
    let first_seen = by_day.first_key_value().map(|(day, _)| *day);
    let last_seen = by_day.last_key_value().map(|(day, _)| *day);
    // A tenant's first day is the first there is.
    let earliest = [asked.earliest_kept, first_seen].into_iter().flatten().min();
    let last = [asked.newest_kept, last_seen].into_iter().flatten().max();
    let (Some(earliest), Some(last)) = (earliest, last) else { return Vec::new() };
    let from = asked.from.max(earliest).max(asked.today.plus(-89));
    let days = (from.number()..last.number()).filter_map(Day::from_number);
    days.filter(|day| !by_day.contains_key(day) && !kept.contains_key(day)).collect()
}

/// What a poll has noticed: gaps that open and close, a score that has gone stale, days refused
/// that have come after all.
pub fn observations(
    seen: &[Seen],
    plan: &Plan,
    newest: Option<Day>,
    today: Day,
) -> Vec<Observation> {
    let observation = |what, subject: String, first_day, phase, details: &str| Observation {
        what,
        subject,
        first_day,
        phase,
        details: details.to_owned(),
    };
    let mut noticed = Vec::new();
    for day in &plan.missing {
        noticed.push(observation(
            What::Gap,
            day.to_string(),
            *day,
            Phase::Begin,
            "Microsoft does not list this day",
        ));
    }
    for release in plan.releases.iter().filter(|release| release.revision == 1) {
        let day = seen[release.index].facts.day;
        for what in [What::Gap, What::ForeignTenant, What::Implausible] {
            noticed.push(observation(what, day.to_string(), day, Phase::End, "the day has come"));
        }
    }
    noticed.push(observation(
        What::PollFailed,
        "poll".to_owned(),
        today,
        Phase::End,
        "a poll succeeded",
    ));
    if let Some(newest) = newest {
        let phase = if newest < today.plus(-STALE_DAYS) { Phase::Begin } else { Phase::End };
        noticed.push(observation(
            What::Stale,
            "newest".to_owned(),
            newest,
            phase,
            "the newest day is older than it should be",
        ));
    }
    noticed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    const TENANT: &str = "3f5c1d2e-0000-4000-8000-00000000c0de";

    fn day(text: &str) -> Day {
        Day::parse(text).unwrap()
    }

    fn today() -> Day {
        day("2026-11-22")
    }

    fn json(date: &str, score: u32) -> String {
        format!(
            r#"{{"id":"{TENANT}_{date}","azureTenantId":"{TENANT}","createdDateTime":"{date}T00:00:00Z","currentScore":{score}}}"#
        )
    }

    fn seen(date: &str, score: u32) -> Seen {
        let json = json(date, score);
        accept(&wire::snapshot(&json).unwrap(), &json, TenantId::parse(TENANT).unwrap(), today())
            .unwrap()
    }

    fn kept(days: &[(&str, u32, u32)]) -> BTreeMap<Day, KeptDay> {
        days.iter()
            .map(|(date, score, revision)| {
                (day(date), KeptDay { revision: *revision, facts: seen(date, *score).facts })
            })
            .collect()
    }

    fn asked(kept: &BTreeMap<Day, KeptDay>, from: &str) -> Asked {
        Asked {
            from: day(from),
            earliest_kept: kept.keys().next().copied(),
            newest_kept: kept.keys().next_back().copied(),
            today: today(),
        }
    }

    /// `day rN base late backfilled`, one a release.
    fn releases(seen: &[Seen], kept: &BTreeMap<Day, KeptDay>) -> Vec<String> {
        let plan = plan(seen, kept, asked(kept, "2026-11-18"));
        let line = |r: &Release| {
            let base = r.base.map_or("-".to_owned(), |(day, revision)| format!("{day}r{revision}"));
            let flags = [(r.late, " late"), (r.backfilled, " backfilled")];
            let flags: String = flags.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
            format!("{} r{} from {base}{flags}", seen[r.index].facts.day, r.revision)
        };
        plan.releases.iter().map(line).collect()
    }

    #[test]
    fn a_first_poll_releases_oldest_first_each_from_the_one_before() {
        let seen = [seen("2026-11-22", 3), seen("2026-11-21", 2), seen("2026-11-18", 1)];
        assert_eq!(
            releases(&seen, &kept(&[])),
            [
                "2026-11-18 r1 from - backfilled",
                "2026-11-21 r1 from 2026-11-18r1",
                "2026-11-22 r1 from 2026-11-21r1",
            ]
        );
    }

    #[test]
    fn nothing_new_releases_nothing() {
        let seen = [seen("2026-11-22", 3), seen("2026-11-21", 2)];
        assert!(releases(&seen, &kept(&[("2026-11-21", 2, 1), ("2026-11-22", 3, 1)])).is_empty());
    }

    #[test]
    fn a_late_day_has_no_base_and_changes_nobodys() {
        let seen = [seen("2026-11-22", 3), seen("2026-11-20", 1)];
        assert_eq!(
            releases(&seen, &kept(&[("2026-11-19", 1, 1), ("2026-11-21", 2, 2)])),
            ["2026-11-20 r1 from - late", "2026-11-22 r1 from 2026-11-21r2",]
        );
    }

    #[test]
    fn a_revision_is_measured_from_what_was_told_before() {
        let seen = [seen("2026-11-22", 9), seen("2026-11-21", 7)];
        assert_eq!(
            releases(&seen, &kept(&[("2026-11-21", 2, 3)])),
            ["2026-11-21 r4 from 2026-11-21r3", "2026-11-22 r1 from 2026-11-21r4",]
        );
    }

    #[test]
    fn days_between_days_known_are_missing() {
        let seen = [seen("2026-11-22", 3), seen("2026-11-19", 2)];
        let missing = |seen: &[Seen], kept: &[(&str, u32, u32)], from: &str| {
            let kept = self::kept(kept);
            let missing = plan(seen, &kept, asked(&kept, from)).missing;
            missing.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(missing(&seen, &[], "2026-11-18"), ["2026-11-20", "2026-11-21"]);
        assert_eq!(missing(&seen, &[("2026-11-20", 1, 1)], "2026-11-18"), ["2026-11-21"]);
        // A tenant's first day is the first there is.
        assert!(missing(&[], &[("2026-11-18", 1, 1)], "2026-11-01").is_empty());
    }

    /// An owed day older than all that an answer lists was not counted as asked for, and asked for
    /// at every poll for three months.
    #[test]
    fn a_day_missing_at_the_edge_of_an_answer_counts_as_asked_for() {
        let missing = |seen: &[Seen], kept: &[(&str, u32, u32)], from: &str| {
            let kept = self::kept(kept);
            plan(seen, &kept, asked(&kept, from)).missing
        };
        let kept = [("2026-11-10", 1, 1), ("2026-11-12", 1, 1), ("2026-11-13", 1, 1)];
        assert_eq!(missing(&[seen("2026-11-12", 1)], &kept, "2026-11-11"), [day("2026-11-11")]);
        // Above the newest day kept, with the newest day kept not listed any more.
        let missed = missing(&[seen("2026-11-15", 1)], &kept, "2026-11-13");
        assert_eq!(missed, [day("2026-11-14")]);
        // What was not asked for is not missing.
        assert!(missing(&[seen("2026-11-13", 1)], &kept, "2026-11-12").is_empty());
    }

    #[test]
    fn what_is_not_believed() {
        let check = |from: &str, to: &str, what: What| {
            let json = json("2026-11-22", 1).replacen(from, to, 1);
            let refused = accept(
                &wire::snapshot(&json).unwrap(),
                &json,
                TenantId::parse(TENANT).unwrap(),
                today(),
            );
            assert_eq!(refused.unwrap_err().observation.what, what, "{json}");
        };
        check(
            &format!(r#""azureTenantId":"{TENANT}""#),
            r#""azureTenantId":"NA""#,
            What::ForeignTenant,
        );
        check(&format!(r#""id":"{TENANT}_2026-11-22""#), r#""id":"NA""#, What::ForeignTenant);
        check(TENANT, "aaaaaaaa-0000-4000-8000-00000000c0de", What::ForeignTenant);
        check("_2026-11-22", "_2026-11-21", What::Implausible);
        check("2026-11-22T", "2026-13-22T", What::Implausible);
        let ahead = json("2026-11-24", 1);
        let refused = accept(
            &wire::snapshot(&ahead).unwrap(),
            &ahead,
            TenantId::parse(TENANT).unwrap(),
            today(),
        );
        let refused = refused.unwrap_err();
        assert_eq!((refused.observation.what, refused.day), (What::Implausible, None));
    }
}
