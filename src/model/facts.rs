//! The facts of a day: the numbers that are compared and never pruned.
//!
//! Microsoft removes descriptions, counts and times from a snapshot as soon as a newer one exists.
//! Such a removal must not count as a change. A copy of a day is therefore a revision only if its
//! facts differ, and an absent value never differs. Start reading at [`compare`].
//! See decision 0003.

use std::sync::Arc;

use super::{ControlList, Day, Number, Snapshot};

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
    /// Whether some elements of the list of controls could not be used. A control that is absent
    /// may still exist; see decision 0077.
    pub has_lost_controls: bool,
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
    /// The facts of a snapshot; `None` if it has no day. If a control occurs twice, one of them is
    /// used; see [`Snapshot::used_controls`].
    pub fn of(snapshot: &Snapshot<'_>) -> Option<Self> {
        let controls = snapshot
            .used_controls()
            .into_iter()
            .map(|index| &snapshot.controls[index as usize])
            .map(|c| ControlFacts {
                name: c.name.as_ref().into(),
                score: c.score,
                percentage: c.percentage,
                count: c.count,
                total: c.total,
                on: c.on,
            })
            .collect();

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
            has_lost_controls: snapshot.control_list != ControlList::Complete,
        })
    }

    /// The facts of a control. Its ID is equal in any case.
    pub fn control(&self, name: &str) -> Option<&ControlFacts> {
        match self.controls.binary_search_by(|c| (*c.name).cmp(name)) {
            Ok(at) => self.controls.get(at),
            Err(_) => self.controls.iter().find(|c| c.name.eq_ignore_ascii_case(name)),
        }
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
        && have_same_controls(kept, seen);

    match (same, kept.rich, seen.rich) {
        (false, ..) => FactsComparison::Revision,
        (true, false, true) => FactsComparison::Enriches,
        (true, ..) => FactsComparison::Same,
    }
}

fn have_same_controls(kept: &DayFacts, seen: &DayFacts) -> bool {
    if seen.has_lost_controls {
        return contains_controls(kept, &seen.controls);
    }
    kept.controls.len() == seen.controls.len()
        && (have_same_facts(&kept.controls, &seen.controls)
            || have_same_facts(&in_any_case(&kept.controls), &in_any_case(&seen.controls)))
}

/// Whether the stored copy contains all of these controls with the same facts. Nothing is known
/// about the controls that are absent from an incomplete list.
fn contains_controls(kept: &DayFacts, seen: &[ControlFacts]) -> bool {
    seen.iter().all(|seen| kept.control(&seen.name).is_some_and(|kept| !kept.differs(seen)))
}

fn have_same_facts(kept: &[ControlFacts], seen: &[ControlFacts]) -> bool {
    kept.iter().zip(seen).all(|(kept, seen)| kept.name == seen.name && !kept.differs(seen))
}

/// The controls with their IDs in lower case, in that order: the case of an ID is not compared.
fn in_any_case(controls: &[ControlFacts]) -> Vec<ControlFacts> {
    let lower = |facts: &ControlFacts| ControlFacts {
        name: facts.name.to_ascii_lowercase().into(),
        ..facts.clone()
    };
    let mut controls: Vec<ControlFacts> = controls.iter().map(lower).collect();
    controls.sort_by(|a, b| a.name.cmp(&b.name));
    controls
}

fn differ(a: Option<Number>, b: Option<Number>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a != b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ControlScore;

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
            has_lost_controls: false,
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

    /// Regression: a control whose ID was spelled in another case was a removed and an added one.
    #[test]
    fn ids_in_another_case_are_equal() {
        let control = |name: &str, score: f64| control(name, score, None);
        let kept = rich_day(5.0, vec![control("AdminMFAV2", 5.0), control("aad_b", 1.0)]);
        let seen = rich_day(5.0, vec![control("Aad_b", 1.0), control("adminMFAV2", 5.0)]);
        assert_eq!(compare(&kept, &seen), FactsComparison::Same);
        let other = rich_day(5.0, vec![control("Aad_b", 2.0), control("adminMFAV2", 5.0)]);
        assert_eq!(compare(&kept, &other), FactsComparison::Revision);
    }

    #[test]
    fn facts_do_not_depend_on_order() {
        let score = |name: &'static str, score: f64| ControlScore {
            name: name.into(),
            score: number(score),
            ..ControlScore::default()
        };
        let facts = |controls: Vec<ControlScore<'static>>| {
            let created = Some("2026-11-22T00:00:00Z".into());
            DayFacts::of(&Snapshot { created, controls, ..Snapshot::default() }).unwrap()
        };
        let once = facts(vec![score("A", 1.0), score("B", 2.0)]);
        for controls in [
            vec![score("B", 2.0), score("A", 1.0)],
            vec![score("A", 1.0), score("B", 2.0), score("A", 3.0)],
            vec![score("A", 3.0), score("B", 2.0), score("A", 1.0), score("B", 2.0)],
        ] {
            assert_eq!(facts(controls), once);
        }
    }

    /// Regression: a copy in which a control could not be used was a revision without it.
    #[test]
    fn lost_controls_never_differ() {
        let lossy = |controls| DayFacts { has_lost_controls: true, ..rich_day(5.0, controls) };
        let (a, b) = (control("A", 5.0, None), control("B", 1.0, None));
        let kept = rich_day(5.0, vec![a.clone(), b.clone()]);
        for seen in [vec![], vec![a.clone()], vec![control("b", 1.0, None)]] {
            assert_eq!(compare(&kept, &lossy(seen)), FactsComparison::Same);
        }
        for seen in [vec![control("A", 4.0, None)], vec![a.clone(), control("C", 1.0, None)]] {
            assert_eq!(compare(&kept, &lossy(seen)), FactsComparison::Revision);
        }

        let kept = lossy(vec![a.clone()]);
        assert_eq!(compare(&kept, &lossy(vec![a.clone()])), FactsComparison::Same);
        assert_eq!(compare(&kept, &rich_day(5.0, vec![a, b])), FactsComparison::Revision);
    }

    /// Regression: two controls of one day whose IDs differed only in case were two controls.
    #[test]
    fn controls_are_equal_in_any_case() {
        let score = |name: &'static str, score: f64| ControlScore {
            name: name.into(),
            score: number(score),
            ..ControlScore::default()
        };
        let mut controls = [("a", 1.0), ("Ab", 4.0), ("A", 3.0), ("A", 2.0), ("aB", 0.0)];
        for _ in 0..2 {
            let created = Some("2026-11-22T00:00:00Z".into());
            let controls_of_day = controls.iter().map(|&(name, points)| score(name, points));
            let snapshot =
                Snapshot { created, controls: controls_of_day.collect(), ..Snapshot::default() };
            let facts = DayFacts::of(&snapshot).unwrap();
            let used: Vec<_> = facts.controls.iter().map(|c| (&*c.name, c.score)).collect();
            assert_eq!(used, [("A", number(2.0)), ("Ab", number(4.0))]);
            assert_eq!(facts.control("AB"), Some(&facts.controls[1]));
            controls.reverse();
        }
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
