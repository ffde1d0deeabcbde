//! The progress of a sink that the receiver stores together with the records. It survives the loss
//! of the checkpoint and takes precedence over it. The deliverer fills it in, and only a sink that
//! stores it at the receiver reads it. Start reading at [`Progress`].

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use std::collections::BTreeSet;

use crate::model::{CheckpointId, Day, Seq, TenantId};

/// The progress of one tenant after a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The tenant whose log contains the entries of the batch.
    pub tenant: TenantId,
    /// The ID of the checkpoint whose log `seq` refers to.
    pub checkpoint: CheckpointId,
    /// The next entry of that log to send.
    pub seq: Seq,
    /// The days before that entry.
    pub sent: SentDays,
}

/// The days that were sent completely, from the log of this checkpoint or of another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SentDays {
    days: BTreeSet<Day>,
    /// The newest of these days, and the facts hash of the revision that was sent last.
    newest: Option<(Day, [u8; 32])>,
}

/// Sent days are kept for this number of days before the last one. Microsoft lists only 90 days, so
/// an older day cannot be polled again.
const KEPT_DAYS: i32 = 200;

/// The maximum number of days in a text with ranges, which a receiver returns.
const MAX_DAYS: usize = 1_000;

impl SentDays {
    /// Days that were sent completely; those more than 200 days older than the last one are
    /// dropped.
    pub fn new(days: impl IntoIterator<Item = Day>, newest: Option<(Day, [u8; 32])>) -> Self {
        let mut sent = Self { days: days.into_iter().collect(), newest };
        sent.drop_old_days();
        sent
    }

    /// The newest sent day and the facts hash of its last revision; `None` if no day was sent.
    pub fn newest(&self) -> Option<(Day, [u8; 32])> {
        self.newest
    }

    /// Whether a day in the log of another checkpoint has already been sent. The newest day counts
    /// as sent only if its facts hash is the same, because it may have been revised since.
    pub fn covers(&self, day: Day, hash: [u8; 32]) -> bool {
        match self.newest {
            Some((newest, sent)) if newest == day => sent == hash,
            _ => self.days.contains(&day),
        }
    }

    /// Adds the days that were sent from another checkpoint.
    pub fn merge(&mut self, other: &Self) {
        self.days.extend(&other.days);
        self.newest = self.newest.into_iter().chain(other.newest).max_by_key(|(day, _)| *day);
        self.drop_old_days();
    }

    fn drop_old_days(&mut self) {
        if let Some(last) = self.days.last().copied() {
            self.days.retain(|day| *day > last.plus(-KEPT_DAYS));
        }
    }

    /// The days as inclusive ranges in ascending order: `2026-08-25/2026-11-20,2026-11-22`.
    pub fn ranges(&self) -> String {
        let mut ranges: Vec<(Day, Day)> = Vec::new();
        for day in &self.days {
            match ranges.last_mut() {
                Some((_, last)) if last.plus(1) == *day => *last = *day,
                _ => ranges.push((*day, *day)),
            }
        }

        let texts = ranges.into_iter().map(|(first, last)| {
            if first == last { first.to_string() } else { format!("{first}/{last}") }
        });
        texts.collect::<Vec<_>>().join(",")
    }

    /// Parses the text of [`Self::ranges`]. Returns `None` for any other text, and for more than
    /// 1,000 days.
    pub fn parse_ranges(text: &str) -> Option<Vec<Day>> {
        let mut days = Vec::new();
        for range in text.split(',').filter(|range| !range.is_empty()) {
            let (first, last) = range.split_once('/').unwrap_or((range, range));
            let (first, last) = (Day::parse(first)?, Day::parse(last)?);
            let length = last.number().checked_sub(first.number())?;
            if days.len().saturating_add(usize::try_from(length).ok()?) >= MAX_DAYS {
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
    fn ranges_survive_a_round_trip() {
        for text in ["", "2026-11-22", "2026-08-25/2026-11-20,2026-11-22"] {
            let sent = SentDays::new(SentDays::parse_ranges(text).unwrap(), None);
            assert_eq!(sent.ranges(), text);
        }
        for bad in ["x", "2026-11-22/2026-11-20", "2026-11-22/", "0001-01-01/2026-01-01"] {
            assert_eq!(SentDays::parse_ranges(bad), None, "{bad}");
        }
    }

    /// Regression: only each range was limited, so a text of 1 MB was read as 50 million days.
    #[test]
    fn the_number_of_days_is_limited() {
        let range = "2024-01-01/2026-09-26";
        assert_eq!(SentDays::parse_ranges(range).unwrap().len(), MAX_DAYS);
        assert_eq!(SentDays::parse_ranges("2024-01-01/2026-09-27"), None);
        assert_eq!(SentDays::parse_ranges(&format!("{range},2026-11-22")), None);
        assert_eq!(SentDays::parse_ranges(&format!("{range},").repeat(50_000)), None);
    }

    #[test]
    fn newest_day_requires_the_same_hash() {
        let newest = Some((day("2026-11-22"), [1; 32]));
        let sent = SentDays::new(
            SentDays::parse_ranges("2026-11-18/2026-11-20,2026-11-22").unwrap(),
            newest,
        );
        for (text, hash, covered) in [
            ("2026-11-18", 9, true),
            ("2026-11-21", 9, false),
            ("2026-11-22", 1, true),
            ("2026-11-22", 2, false),
            ("2026-11-23", 1, false),
        ] {
            assert_eq!(sent.covers(day(text), [hash; 32]), covered, "{text}");
        }
    }

    #[test]
    fn merges_the_days_of_two_checkpoints() {
        let mut sent = SentDays::new([day("2026-11-20")], Some((day("2026-11-20"), [1; 32])));
        sent.merge(&SentDays::new([day("2026-11-22")], Some((day("2026-11-22"), [2; 32]))));
        sent.merge(&SentDays::new([day("2020-01-01")], None));
        assert_eq!(sent.ranges(), "2026-11-20,2026-11-22");
        assert_eq!(sent.newest(), Some((day("2026-11-22"), [2; 32])));
    }
}
