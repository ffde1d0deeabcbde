//! How far a sink has got, where the receiver itself keeps it beside the records: the truth that
//! survives the loss of the checkpoint.

use std::collections::BTreeSet;

use crate::model::{Day, TenantId};

/// One tenant's progress, as of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    pub tenant: TenantId,
    /// The id of the checkpoint whose log `seq` counts in.
    pub checkpoint: String,
    /// The next entry of that log.
    pub seq: u64,
    pub sent: SentDays,
}

/// The days of which everything was sent, whichever checkpoint they came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SentDays {
    days: BTreeSet<Day>,
    /// The newest of them, and the digest of what was sent of it last.
    newest: Option<(Day, [u8; 32])>,
}

/// Microsoft keeps 90 days, so an older one does not come again by itself.
const REMEMBERED: i32 = 200;

impl SentDays {
    pub fn new(days: impl IntoIterator<Item = Day>, newest: Option<(Day, [u8; 32])>) -> Self {
        let mut sent = Self { days: days.into_iter().collect(), newest };
        sent.forget();
        sent
    }

    pub fn newest(&self) -> Option<(Day, [u8; 32])> {
        self.newest
    }

    /// Whether a day as it is in another checkpoint's log has been sent. The newest day is only
    /// taken for sent if it says the same: it may have been revised since.
    pub fn covers(&self, day: Day, digest: [u8; 32]) -> bool {
        match self.newest {
            Some((newest, sent)) if newest == day => sent == digest,
            _ => self.days.contains(&day),
        }
    }

    /// Takes in what was sent besides.
    pub fn merge(&mut self, other: &Self) {
        self.days.extend(&other.days);
        self.newest = self.newest.into_iter().chain(other.newest).max_by_key(|(day, _)| *day);
        self.forget();
    }

    fn forget(&mut self) {
        if let Some(last) = self.days.last().copied() {
            self.days.retain(|day| *day > last.plus(-REMEMBERED));
        }
    }

    /// The days as ranges, first to last: `2026-08-25/2026-11-20,2026-11-22`.
    pub fn ranges(&self) -> String {
        let mut ranges: Vec<(Day, Day)> = Vec::new();
        for day in &self.days {
            match ranges.last_mut() {
                Some((_, last)) if last.plus(1) == *day => *last = *day,
                _ => ranges.push((*day, *day)),
            }
        }
        let shown = ranges.into_iter().map(|(first, last)| {
            if first == last { first.to_string() } else { format!("{first}/{last}") }
        });
        shown.collect::<Vec<_>>().join(",")
    }

    /// Reads [`Self::ranges`].
    pub fn parse_ranges(text: &str) -> Option<Vec<Day>> {
        let mut days = Vec::new();
        for range in text.split(',').filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once('/').unwrap_or((range, range));
            let (first, last) = (Day::parse(first)?, Day::parse(last)?);
            let length = last.number().checked_sub(first.number())?;
            if !(0..=1_000).contains(&length) {
                return None;
            }
            days.extend((0..=length).map(|n| first.plus(n)));
        }
        Some(days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        Day::parse(text).unwrap()
    }

    #[test]
    fn ranges_read_back() {
        for text in ["", "2026-11-22", "2026-08-25/2026-11-20,2026-11-22"] {
            let sent = SentDays::new(SentDays::parse_ranges(text).unwrap(), None);
            assert_eq!(sent.ranges(), text);
        }
        for bad in ["x", "2026-11-22/2026-11-20", "2026-11-22/", "0001-01-01/2026-01-01"] {
            assert_eq!(SentDays::parse_ranges(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_newest_day_is_covered_only_as_it_was_sent() {
        let newest = Some((day("2026-11-22"), [1; 32]));
        let sent =
            SentDays::new(SentDays::parse_ranges("2026-11-18/2026-11-20,2026-11-22").unwrap(), newest);
        for (text, digest, covered) in [
            ("2026-11-18", 9, true),
            ("2026-11-21", 9, false),
            ("2026-11-22", 1, true),
            ("2026-11-22", 2, false),
            ("2026-11-23", 1, false),
        ] {
            assert_eq!(sent.covers(day(text), [digest; 32]), covered, "{text}");
        }
    }

    #[test]
    fn what_was_sent_by_two_checkpoints_adds_up() {
        let mut sent = SentDays::new([day("2026-11-20")], Some((day("2026-11-20"), [1; 32])));
        sent.merge(&SentDays::new([day("2026-11-22")], Some((day("2026-11-22"), [2; 32]))));
        sent.merge(&SentDays::new([day("2020-01-01")], None));
        assert_eq!(sent.ranges(), "2026-11-20,2026-11-22");
        assert_eq!(sent.newest(), Some((day("2026-11-22"), [2; 32])));
    }
}
