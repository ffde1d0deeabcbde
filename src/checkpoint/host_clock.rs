//! The difference between the clock of this host and Microsoft's that polls have found. It is
//! stored, so that a command can report it while the daemon runs, and after `once` has ended. Start
//! reading at [`Checkpoint::record_clock`]. See decision 0079.

use std::time::Duration;

use rusqlite::Connection;

use super::{
    Checkpoint, CheckpointError,
    daemon_report::{document, set_document},
};
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
        let connection = self.connection();
        let stored = difference(&connection)?;

        match (stored, offset.accuracy()) {
            (None, ClockAccuracy::Accurate) => Ok(()),
            (Some(_), ClockAccuracy::Accurate) => {
                set_document(&connection, CLOCK, None::<&ClockDifference>)
            }
            (Some(stored), accuracy)
                if stored.offset.accuracy() == accuracy
                    && stored.offset.size().abs_diff(offset.size()) < MIN_CHANGE =>
            {
                Ok(())
            }
            (stored, _) => {
                let since = stored.map_or(at, |stored| stored.since);
                set_document(&connection, CLOCK, Some(&ClockDifference { offset, since }))
            }
        }
    }

    /// The stored difference; `None` if the clock was accurate, or if nothing was compared.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn clock_difference(&self) -> Result<Option<ClockDifference>, CheckpointError> {
        difference(&self.connection())
    }
}

/// The stored difference; `None` if the clock was accurate, or if nothing was compared.
pub(super) fn difference(
    connection: &Connection,
) -> Result<Option<ClockDifference>, CheckpointError> {
    document(connection, CLOCK)
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
