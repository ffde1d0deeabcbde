//! The times at which a cron expression matches, for many questions about nearly the same moment.
//!
//! A status of a thousand tenants asks several times per tenant for the last and the next match,
//! and their answers differ only within the jitter. The matches before and after a moment are the
//! same for every moment between them, so the last pair is kept. Start reading at
//! [`Occurrences::around`].

use std::sync::{Mutex, PoisonError};

use croner::Cron;
use jiff::{Timestamp, tz::TimeZone};

/// A cron expression in a time zone.
#[derive(Debug)]
pub(super) struct Occurrences {
    cron: Cron,
    zone: TimeZone,
    /// The last pair of neighboring matches.
    known: Mutex<Option<(Timestamp, Timestamp)>>,
}

impl Occurrences {
    pub(super) fn new(cron: Cron, zone: TimeZone) -> Self {
        Self { cron, zone, known: Mutex::default() }
    }

    /// The last match at or before a moment, and the first match after it. `None` if the expression
    /// has no such match.
    pub(super) fn around(&self, moment: Timestamp) -> (Option<Timestamp>, Option<Timestamp>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((previous, next)) = *known
            && (previous..next).contains(&moment)
        {
            return (Some(previous), Some(next));
        }

        let local = moment.to_zoned(self.zone.clone());
        let previous = self.cron.find_previous_occurrence(&local, true).ok();
        let next = self.cron.find_next_occurrence(&local, false).ok();
        let found = (previous.map(|time| time.timestamp()), next.map(|time| time.timestamp()));

        if let (Some(previous), Some(next)) = found {
            *known = Some((previous, next));
        }
        found
    }
}

impl Clone for Occurrences {
    fn clone(&self) -> Self {
        Self::new(self.cron.clone(), self.zone.clone())
    }
}

#[cfg(test)]
mod tests {
    use croner::parser::CronParser;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The kept pair gives the same matches as a new search, also around a change of the clock.
        #[test]
        fn kept_matches_equal_new_ones(
            cron in prop::sample::select(vec!["15 6 * * *", "*/10 * * * *", "30 2 * * *", "0 0 1 * *"]),
            zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "Europe/Dublin"]),
            // Three days before and after the end of daylight saving time in 2026.
            seconds in prop::collection::vec(1_792_627_200_i64..1_793_145_600, 1..40),
        ) {
            let parsed = || CronParser::new().parse(cron).unwrap();
            let zone = TimeZone::get(zone).unwrap();
            let kept = Occurrences::new(parsed(), zone.clone());
            for second in seconds {
                let moment = Timestamp::from_second(second).unwrap();
                let new = Occurrences::new(parsed(), zone.clone());
                prop_assert_eq!(kept.around(moment), new.around(moment));
            }
        }
    }
}
