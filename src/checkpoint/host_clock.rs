//! The difference between the clock of this host and Microsoft's that polls have found. It is
//! stored, so that a command can report it while the daemon runs, and after `once` has ended. Start
//! reading at [`Checkpoint::record_clock`]. See decision 0079.

use std::time::Duration;

use super::{Checkpoint, CheckpointError, backend::Statements, meta};
use crate::model::{ClockAccuracy, ClockDifference, ClockOffset, UnixMillis};

/// The row of `meta` with the difference, as JSON.
const CLOCK: &str = "clock";
/// A change of the offset by less than this is not stored: the `Date` header and the transit time
/// of a response vary by seconds.
const MIN_CHANGE: Duration = Duration::from_mins(1);

impl Checkpoint {
    /// Stores the offset that a poll has found, at a time of Microsoft's clock. An accurate clock
    /// removes what is stored. Writes nothing if nothing has changed.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read or written.
    pub fn record_clock(&self, offset: ClockOffset, at: UnixMillis) -> Result<(), CheckpointError> {
        let stored = self.reading(difference)?;
        if !is_changed(stored, offset) {
            return Ok(());
        }

        self.claimed(|store| {
            let since = difference(store)?.map_or(at, |stored| stored.since);
            let is_wrong = offset.accuracy() != ClockAccuracy::Accurate;
            let found = is_wrong.then_some(ClockDifference { offset, since });
            meta::set_document(store, CLOCK, found.as_ref())
        })
    }

    /// The stored difference; `None` if the clock was accurate, or if nothing was compared.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn clock_difference(&self) -> Result<Option<ClockDifference>, CheckpointError> {
        self.reading(difference)
    }
}

/// The stored difference; `None` if the clock was accurate, or if nothing was compared.
pub(super) fn difference(
    store: &dyn Statements,
) -> Result<Option<ClockDifference>, CheckpointError> {
    meta::document(store, CLOCK)
}

/// Whether an offset requires a change of what is stored.
fn is_changed(stored: Option<ClockDifference>, offset: ClockOffset) -> bool {
    match (stored, offset.accuracy()) {
        (None, ClockAccuracy::Accurate) => false,
        (None, _) | (Some(_), ClockAccuracy::Accurate) => true,
        (Some(stored), accuracy) => {
            stored.offset.accuracy() != accuracy
                || stored.offset.size().abs_diff(offset.size()) >= MIN_CHANGE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::StatusDetail;

    #[test]
    fn differences_are_stored_until_the_clock_recovers() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        let at = UnixMillis::new(1_795_341_600_000);
        let ahead = |seconds: u64| {
            let local = at.saturating_add(Duration::from_secs(seconds));
            ClockOffset::between(local.into(), at.into())
        };

        for (number, (seconds, stored)) in [
            (0, None),
            (600, Some((600, 1))),
            (630, Some((600, 1))),
            (7_200, Some((7_200, 1))),
            (40 * 86_400, Some((40 * 86_400, 1))),
            (3, None),
            (900, Some((900, 6))),
        ]
        .into_iter()
        .enumerate()
        {
            let time = UnixMillis::new(i64::try_from(number).unwrap());
            checkpoint.record_clock(ahead(seconds), time).unwrap();
            let expected = stored.map(|(seconds, since)| ClockDifference {
                offset: ahead(seconds),
                since: UnixMillis::new(since),
            });
            let found = checkpoint.status(StatusDetail::Summary).unwrap().clock;
            assert_eq!(found, expected, "{seconds}");
        }
    }
}
