//! Which missing days the next poll requests, and how a poll, an import or the release of held days
//! changes them. A missing day is requested by seven polls and then weekly, while Microsoft may
//! still have it. Progress is the set of stored days: a wrong clock may delay a request, but must
//! never end the requests of a day for good. Start reading at [`due_days`] and [`after_poll`]. See
//! decision 0007.

use std::{collections::BTreeMap, time::Duration};

use crate::model::{CLOCK_TOLERANCE, Day, UnixMillis};

/// A day that Microsoft was expected to list and did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingDay {
    /// The day.
    pub day: Day,
    /// How many polls have requested the day without success.
    pub requests: u32,
    /// When a poll requested the day last or, without such a request, when it became missing.
    pub last_requested: UnixMillis,
    /// Whether the day is still requested.
    pub presence: DayPresence,
}

/// Whether Microsoft may still have a missing day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DayPresence {
    /// Microsoft may list the day late, so it is requested again.
    Expected,
    /// Microsoft no longer keeps the day, so it is not requested again.
    Absent,
}

/// Whether the copy of a day has all parts of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// Nothing is missing in the copy.
    Complete,
    /// The copy was released as partial, so the day stays missing.
    Partial,
}

/// What a poll, an import or the release of held days has found out about days.
#[derive(Clone, Copy, Debug)]
pub struct RequestedDays<'a> {
    /// The days that were released, in the order of release.
    pub released: &'a [(Day, Completeness)],
    /// Days that the response listed completely and that are stored completely.
    pub found: &'a [Day],
    /// Days that were requested, and not listed, rejected, or listed only in part.
    pub missing: &'a [Day],
    /// The first day that was requested; `None` if there was no response from Microsoft.
    pub requested_from: Option<Day>,
    /// The time of the poll.
    pub at: UnixMillis,
}

/// A missing day is requested by this many polls, and weekly after that.
const DAILY_REQUESTS: u32 = 7;
const WEEK: Duration = Duration::from_hours(7 * 24);

/// The missing days that the next poll requests, oldest first: of those that Microsoft may still
/// have, the ones that fewer than seven polls have requested, and the ones that were last requested
/// at least a week ago, or in the future, which means that it is unknown when.
pub fn due_days(missing: &[MissingDay], now: UnixMillis) -> Vec<Day> {
    let (week_ago, latest) = (now.saturating_sub(WEEK), now.saturating_add(CLOCK_TOLERANCE));
    let is_due = |missing: &&MissingDay| {
        let is_recent = missing.last_requested > week_ago && missing.last_requested <= latest;
        let is_expected = missing.presence == DayPresence::Expected;
        is_expected && (missing.requests < DAILY_REQUESTS || !is_recent)
    };

    let mut days: Vec<Day> = missing.iter().filter(is_due).map(|missing| missing.day).collect();
    days.sort_unstable();
    days
}

/// The missing days of a tenant after a poll, oldest first. `missing` are those before it, in any
/// order.
pub fn after_poll(missing: &[MissingDay], poll: &RequestedDays<'_>) -> Vec<MissingDay> {
    let mut days: BTreeMap<Day, MissingDay> =
        missing.iter().map(|missing| (missing.day, *missing)).collect();

    for (day, completeness) in poll.released {
        match completeness {
            Completeness::Complete => {
                days.remove(day);
            }
            // The requests are counted again, because Microsoft has the day now.
            Completeness::Partial => {
                if let Some(missing) = days.get_mut(day) {
                    missing.requests = 0;
                }
            }
        }
    }

    for day in poll.found {
        days.remove(day);
    }
    for &day in poll.missing {
        let presence = DayPresence::Expected;
        let new = MissingDay { day, requests: 0, last_requested: poll.at, presence };
        days.entry(day).or_insert(new);
    }

    if let Some(from) = poll.requested_from {
        count_request(&mut days, from, poll.at);
    }
    days.into_values().collect()
}

/// Counts a request that has reached Microsoft and began at `from`, and marks the days that
/// Microsoft no longer keeps.
fn count_request(days: &mut BTreeMap<Day, MissingDay>, from: Day, at: UnixMillis) {
    // The days that the poll has read are not in the map; it has requested the others without
    // success.
    for (_, missing) in days.range_mut(from..) {
        missing.requests = missing.requests.saturating_add(1);
        missing.last_requested = at;
    }

    // A response has confirmed the clock. A day that was marked with a wrong one is expected again.
    let oldest_possible = at.day().oldest_possible_at_source();
    for missing in days.values_mut() {
        let is_absent = missing.day < oldest_possible;
        missing.presence = if is_absent { DayPresence::Absent } else { DayPresence::Expected };
    }
}

#[cfg(test)]
mod tests;
