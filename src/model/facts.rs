//! The facts of a day: the few numbers that are compared, and kept for ever.
//!
//! A day's text changes overnight without anything having happened (the newest copy loses its
//! descriptions, counts and times), so only what is here decides whether a copy is news.

use std::sync::Arc;

use super::{Day, Number, Snapshot};

/// The facts of one copy of one day. Controls are sorted by name, each name once.
#[derive(Clone, Debug, PartialEq)]
pub struct DayFacts {
    pub day: Day,
    pub current_score: Option<Number>,
    pub max_score: Option<Number>,
    pub active_users: Option<Number>,
    pub licensed_users: Option<Number>,
    pub averages: Vec<AverageFacts>,
    pub controls: Vec<ControlFacts>,
    /// The copy still had its texts and counts.
    pub rich: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ControlFacts {
    /// Shared by all days that have it.
    pub name: Arc<str>,
    pub score: Option<Number>,
    pub percentage: Option<Number>,
    pub count: Option<Number>,
    pub total: Option<Number>,
    pub on: Option<bool>,
}

/// A peer average; never compared, kept for reports.
#[derive(Clone, Debug, PartialEq)]
pub struct AverageFacts {
    pub basis: String,
    pub score: Number,
}

/// What is kept of a day: its latest revision.
#[derive(Clone, Debug)]
pub struct KeptDay {
    pub revision: u32,
    /// Something is missing in it.
    pub partial: bool,
    /// Its text could not be read any more, and was let go.
    pub bodiless: bool,
    pub facts: DayFacts,
}

/// What a copy just read is, beside the copy that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Nothing new.
    Same,
    /// The same facts, but this copy has the texts that the kept one lacks.
    Enriches,
    /// Other facts.
    Revision,
}

impl DayFacts {
    /// `None` for a snapshot without a day. A control named twice counts once: the first.
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
            // -1 has stood for "none" since 2019.
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

    pub fn control(&self, name: &str) -> Option<&ControlFacts> {
        let at = self.controls.binary_search_by(|c| (*c.name).cmp(name)).ok()?;
        self.controls.get(at)
    }
}

impl ControlFacts {
    /// Whether two copies of one control tell different facts. What either lacks never differs.
    pub fn differs(&self, other: &Self) -> bool {
        differ(self.score, other.score)
            || differ(self.percentage, other.percentage)
            || differ(self.count, other.count)
            || differ(self.total, other.total)
            || matches!((self.on, other.on), (Some(a), Some(b)) if a != b)
    }
}

/// Compares the kept copy of a day with one just read.
pub fn compare(kept: &DayFacts, seen: &DayFacts) -> Comparison {
    let same = !differ(kept.current_score, seen.current_score)
        && !differ(kept.max_score, seen.max_score)
        && kept.controls.len() == seen.controls.len()
        && kept.controls.iter().zip(&seen.controls).all(|(k, s)| k.name == s.name && !k.differs(s));
    match (same, kept.rich, seen.rich) {
        (false, ..) => Comparison::Revision,
        (true, false, true) => Comparison::Enriches,
        (true, ..) => Comparison::Same,
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

    fn day(current: f64, rich: bool, controls: Vec<ControlFacts>) -> DayFacts {
        DayFacts {
            day: Day::parse("2026-11-22").unwrap(),
            current_score: number(current),
            max_score: number(100.0),
            active_users: None,
            licensed_users: None,
            averages: vec![],
            controls,
            rich,
        }
    }

    #[test]
    fn yesterdays_poorer_copy_is_not_a_revision() {
        let kept = day(5.0, true, vec![control("A", 5.0, Some(3.0))]);
        let seen = day(5.0, false, vec![control("A", 5.0, None)]);
        assert_eq!(compare(&kept, &seen), Comparison::Same);
    }

    #[test]
    fn a_rich_copy_enriches_a_poor_one() {
        let poor = day(5.0, false, vec![control("A", 5.0, None)]);
        let rich = day(5.0, true, vec![control("A", 5.0, Some(3.0))]);
        assert_eq!(compare(&poor, &rich), Comparison::Enriches);
    }

    #[test]
    fn every_compared_fact_makes_a_revision() {
        let kept = day(5.0, true, vec![control("A", 5.0, Some(3.0))]);
        for seen in [
            day(6.0, true, vec![control("A", 5.0, Some(3.0))]),
            day(5.0, true, vec![control("A", 4.0, Some(3.0))]),
            day(5.0, true, vec![control("A", 5.0, Some(2.0))]),
            day(5.0, true, vec![]),
            day(5.0, true, vec![control("A", 5.0, Some(3.0)), control("B", 0.0, None)]),
            day(5.0, true, vec![control("B", 5.0, Some(3.0))]),
        ] {
            assert_eq!(compare(&kept, &seen), Comparison::Revision, "{seen:?}");
        }
    }
}
