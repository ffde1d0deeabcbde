//! The period of a report and the period before it, and what the controls gained and lost in each.
//! A period consists of UTC dates, and both ends are included. Start reading at [`Window`].

use std::collections::BTreeMap;

use super::{ReportedChange, text::rounded};
use crate::model::{Day, DayFacts, Number, Severity};

/// The period of a report; both days are included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub first: Day,
    pub last: Day,
}

/// The points that controls gained and lost. Both numbers are at least zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PointTotals {
    pub gained: Number,
    pub lost: Number,
}

/// The score of a day in the period before a report.
#[derive(Clone, Copy, Debug)]
pub struct DayScore {
    /// The points of the tenant; `None` if Microsoft sent none.
    pub current: Option<Number>,
    /// `current` × 100 / the maximum number of points, rounded to two decimal places; `None` if
    /// one of them is absent or the maximum is zero.
    pub percentage: Option<Number>,
}

/// The period before a report, which has the same length.
#[derive(Clone, Debug)]
pub struct PreviousPeriod {
    pub window: Window,
    /// The score of each stored day, from its last revision.
    pub days: BTreeMap<Day, DayScore>,
    /// What the controls gained and lost.
    pub points: PointTotals,
    /// The number of changes of at least high severity.
    pub high_changes: usize,
}

impl Window {
    /// The calendar month that a text such as `2026-11` names. `None` for any other text.
    pub fn of_month(text: &str) -> Option<Self> {
        let first_text = format!("{text}-01");
        // The parser of dates accepts other forms of the same length.
        let first = Day::parse(&first_text).filter(|day| day.to_string() == first_text)?;

        // No month has more than 31 days, so this day is in the next month.
        let next = first.plus(31).to_string();
        let last = Day::parse(&format!("{}-01", next.get(..7)?))?.plus(-1);
        (last >= first).then_some(Self { first, last })
    }

    /// The number of days.
    pub fn days(self) -> i32 {
        self.last.number() - self.first.number() + 1
    }

    /// Whether the period includes a day.
    pub fn contains(self, day: Day) -> bool {
        day >= self.first && day <= self.last
    }

    /// The period of the same length that ends on the day before this one begins.
    #[must_use]
    pub fn previous(self) -> Self {
        Self { first: self.first.plus(-self.days()), last: self.first.plus(-1) }
    }
}

impl PointTotals {
    /// No points.
    pub const ZERO: Self = Self { gained: Number::ZERO, lost: Number::ZERO };

    /// The totals of these changes; a change without points does not count.
    pub fn of<'a>(changes: impl IntoIterator<Item = &'a ReportedChange>) -> Self {
        let mut totals = Self::ZERO;
        for change in changes {
            totals.add(change);
        }
        totals
    }

    /// The points gained minus the points lost.
    pub fn net(self) -> Number {
        rounded(self.gained.get() - self.lost.get())
    }

    pub(super) fn add(&mut self, change: &ReportedChange) {
        let Some(points) = change.points.map(Number::get) else { return };

        // Each sum is rounded, so that the errors of floats do not add up.
        if points < 0.0 {
            self.lost = rounded(self.lost.get() - points);
        } else {
            self.gained = rounded(self.gained.get() + points);
        }
    }
}

impl PreviousPeriod {
    pub(super) fn new(window: Window) -> Self {
        Self { window, days: BTreeMap::new(), points: PointTotals::ZERO, high_changes: 0 }
    }

    /// The score of the newest stored day; `None` if no day is stored.
    pub fn newest(&self) -> Option<(Day, DayScore)> {
        self.days.last_key_value().map(|(day, score)| (*day, *score))
    }

    /// Adds a day; a revision replaces the score of its day.
    pub(super) fn add_day(&mut self, facts: &DayFacts) {
        let score = DayScore { current: facts.current_score, percentage: percentage(facts) };
        self.days.insert(facts.day, score);
    }

    pub(super) fn add_change(&mut self, change: &ReportedChange) {
        self.points.add(change);
        self.high_changes += usize::from(change.severity >= Severity::High);
    }
}

/// The share of the maximum score, rounded to two decimal places. `None` if it is unknown.
pub(super) fn percentage(facts: &DayFacts) -> Option<Number> {
    let (current, max) = (facts.current_score?, facts.max_score?);
    (max > Number::ZERO).then(|| rounded(current.get() * 100.0 / max.get()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::report::tests::change_of_points;

    fn window(first: &str, last: &str) -> Window {
        Window { first: Day::parse(first).unwrap(), last: Day::parse(last).unwrap() }
    }

    #[test]
    fn a_month_has_all_its_days() {
        for (text, first, last) in [
            ("2026-11", "2026-11-01", "2026-11-30"),
            ("2026-12", "2026-12-01", "2026-12-31"),
            ("2026-02", "2026-02-01", "2026-02-28"),
            ("2024-02", "2024-02-01", "2024-02-29"),
            ("2027-01", "2027-01-01", "2027-01-31"),
        ] {
            assert_eq!(Window::of_month(text), Some(window(first, last)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_not_a_month() {
        for text in ["", "2026", "2026-13", "2026-00", "2026-1", "11-2026", "2026-11-01"] {
            assert_eq!(Window::of_month(text), None, "{text}");
        }
    }

    #[test]
    fn the_period_before_has_the_same_length() {
        for (first, last, first_before, last_before) in [
            ("2026-11-01", "2026-11-30", "2026-10-02", "2026-10-31"),
            ("2026-11-22", "2026-11-22", "2026-11-21", "2026-11-21"),
            ("2024-03-01", "2024-03-01", "2024-02-29", "2024-02-29"),
        ] {
            let previous = window(first, last).previous();
            assert_eq!(previous, window(first_before, last_before), "{first}");
        }
    }

    #[test]
    fn totals_separate_gains_from_losses() {
        let changes = [Some(-10.0), Some(0.1), Some(0.2), None, Some(-0.05)].map(change_of_points);
        let totals = PointTotals::of(&changes);
        let number = |value| Number::new(value).unwrap();
        assert_eq!(totals, PointTotals { gained: number(0.3), lost: number(10.05) });
        assert_eq!(totals.net(), number(-9.75));
    }

    proptest! {
        #[test]
        fn periods_are_adjacent_and_equally_long(first in 0..40_000, days in 0..4_000) {
            let first = Day::from_number(first).unwrap();
            let window = Window { first, last: first.plus(days) };
            let previous = window.previous();
            prop_assert_eq!(previous.days(), window.days());
            prop_assert_eq!(previous.last.plus(1), window.first);
            prop_assert!(window.contains(first) && !previous.contains(first));
        }
    }
}
