//! The facts of a day: the numbers that are compared and never pruned.
//!
//! Microsoft removes descriptions, counts and times from a snapshot as soon as a newer one exists.
//! Such a removal must not count as a change. A copy of a day is therefore a revision only if its
//! facts differ, and an absent value never differs. Start reading at [`compare`].
//! See decision 0003.

use std::sync::Arc;

use super::{Day, Number, Snapshot};

/// The facts of one copy of one day.
#[derive(Clone, Debug, PartialEq)]
pub struct DayFacts {
    pub day: Day,
    /// The points of the tenant.
    pub current_score: Option<Number>,
    /// The maximum number of points.
    pub max_score: Option<Number>,
    /// The number of active users.
    pub active_users: Option<Number>,
    /// The number of licensed users.
    pub licensed_users: Option<Number>,
    /// The averages of peers, in the order that Microsoft sent.
    pub averages: Vec<AverageFacts>,
    /// Sorted by name, without duplicates.
    pub controls: Vec<ControlFacts>,
    /// Whether the copy had its texts and counts; see [`Snapshot::is_rich`].
    pub rich: bool,
}

/// The facts of one control.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlFacts {
    /// The ID of the control. The allocation is shared by all days that have the control.
    pub name: Arc<str>,
    /// Points.
    pub score: Option<Number>,
    /// 0 to 100.
    pub percentage: Option<Number>,
    /// Users or devices that satisfy the control.
    pub count: Option<Number>,
    /// Users or devices in the scope of the control.
    pub total: Option<Number>,
    /// Whether the setting is on, for a control that has no count.
    pub on: Option<bool>,
}

/// An average of peers. It is never compared; reports use it.
#[derive(Clone, Debug, PartialEq)]
pub struct AverageFacts {
    /// The peers: `AllTenants`, `TotalSeats`, `IndustryTypes`.
    pub basis: String,
    /// The average score; never negative.
    pub score: Number,
}

/// The latest stored revision of a day.
#[derive(Clone, Debug)]
pub struct KeptDay {
    /// The number of the revision, starting at 1.
    pub revision: u32,
    /// Whether the response or the catalog was incomplete.
    pub partial: bool,
    /// Whether the entry has no body, because it was pruned, or removed because it was damaged. A
    /// copy with the same facts restores it.
    pub without_body: bool,
    /// The facts of that revision.
    pub facts: DayFacts,
}

/// How a copy of a day that was just read compares with the stored copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FactsComparison {
    /// The facts are the same, and the stored copy has at least the same texts.
    Same,
    /// The facts are the same, and only this copy has its texts.
    Enriches,
    /// The facts differ.
    Revision,
}

impl DayFacts {
    /// The facts of a snapshot; `None` if it has no day. If a control occurs twice, the first one
    /// is used.
    pub fn of(snapshot: &Snapshot<'_>) -> Option<Self> {
        let mut controls: Vec<ControlFacts> = snapshot
            .controls
            .iter()
            .map(|c| ControlFacts {
                name: c.name.as_ref().into(),
                score: c.score,
                percentage: c.percentage,
                count: c.count,
                total: c.total,
                on: c.on,
            })
            .collect();
        controls.sort_by(|a, b| a.name.cmp(&b.name));
        controls.dedup_by(|later, first| later.name == first.name);

        let averages = snapshot.averages.iter().filter_map(|a| {
            // Microsoft sends -1 if there is no average.
            let score = a.score.filter(|s| !s.is_negative())?;
            Some(AverageFacts { basis: a.basis.as_ref().to_owned(), score })
        });

        Some(Self {
            day: snapshot.day()?,
            current_score: snapshot.current_score,
            max_score: snapshot.max_score,
            active_users: snapshot.active_users,
            licensed_users: snapshot.licensed_users,
            averages: averages.collect(),
            controls,
            rich: snapshot.is_rich(),
        })
    }

    /// The facts of a control.
    pub fn control(&self, name: &str) -> Option<&ControlFacts> {
        let at = self.controls.binary_search_by(|c| (*c.name).cmp(name)).ok()?;
        self.controls.get(at)
    }
}

impl ControlFacts {
    /// Whether the facts of two copies of one control differ. A value that is absent from either
    /// copy never differs.
    pub fn differs(&self, other: &Self) -> bool {
        differ(self.score, other.score)
            || differ(self.percentage, other.percentage)
            || differ(self.count, other.count)
            || differ(self.total, other.total)
            || matches!((self.on, other.on), (Some(a), Some(b)) if a != b)
    }
}

/// Compares the stored copy of a day with one that was just read.
pub fn compare(kept: &DayFacts, seen: &DayFacts) -> FactsComparison {
    let same = !differ(kept.current_score, seen.current_score)
        && !differ(kept.max_score, seen.max_score)
        && kept.controls.len() == seen.controls.len()
        && kept.controls.iter().zip(&seen.controls).all(|(k, s)| k.name == s.name && !k.differs(s));

    match (same, kept.rich, seen.rich) {
        (false, ..) => FactsComparison::Revision,
        (true, false, true) => FactsComparison::Enriches,
        (true, ..) => FactsComparison::Same,
    }
}

fn differ(a: Option<Number>, b: Option<Number>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a != b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: f64) -> Option<Number> {
        Number::new(value)
    }

    fn control(name: &str, score: f64, count: Option<f64>) -> ControlFacts {
        let count = count.and_then(Number::new);
        ControlFacts {
            name: name.into(),
            score: number(score),
            percentage: None,
            count,
            total: None,
            on: None,
        }
    }

    fn rich_day(current: f64, controls: Vec<ControlFacts>) -> DayFacts {
        DayFacts {
            day: Day::parse("2026-11-22").unwrap(),
            current_score: number(current),
            max_score: number(100.0),
            active_users: None,
            licensed_users: None,
            averages: vec![],
            controls,
            rich: true,
        }
    }

    fn poor_day(current: f64, controls: Vec<ControlFacts>) -> DayFacts {
        DayFacts { rich: false, ..rich_day(current, controls) }
    }

    #[test]
    fn a_poorer_copy_is_not_a_revision() {
        let kept = rich_day(5.0, vec![control("A", 5.0, Some(3.0))]);
        let seen = poor_day(5.0, vec![control("A", 5.0, None)]);
        assert_eq!(compare(&kept, &seen), FactsComparison::Same);
    }

    #[test]
    fn a_rich_copy_enriches_a_poor_one() {
        let poor = poor_day(5.0, vec![control("A", 5.0, None)]);
        let rich = rich_day(5.0, vec![control("A", 5.0, Some(3.0))]);
        assert_eq!(compare(&poor, &rich), FactsComparison::Enriches);
    }

    #[test]
    fn each_differing_fact_is_a_revision() {
        let kept = rich_day(5.0, vec![control("A", 5.0, Some(3.0))]);
        for seen in [
            rich_day(6.0, vec![control("A", 5.0, Some(3.0))]),
            rich_day(5.0, vec![control("A", 4.0, Some(3.0))]),
            rich_day(5.0, vec![control("A", 5.0, Some(2.0))]),
            rich_day(5.0, vec![]),
            rich_day(5.0, vec![control("A", 5.0, Some(3.0)), control("B", 0.0, None)]),
            rich_day(5.0, vec![control("B", 5.0, Some(3.0))]),
        ] {
            assert_eq!(compare(&kept, &seen), FactsComparison::Revision, "{seen:?}");
        }
    }
}
