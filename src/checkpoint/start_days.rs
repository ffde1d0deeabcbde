//! The first days of new cursors, until a poll has confirmed the clock that they follow from.
//!
//! A cursor that is created while the clock is ahead begins too late, and would never send the days
//! before. Its first day is therefore provisional: it moves back if the clock shows an earlier day
//! when the sink is registered again, or when a response of Microsoft confirms the clock. It never
//! moves forward, so nothing is lost; it is a row of the table `meta` for each sink.
//! Start reading at [`Checkpoint::confirm_start_day`]. See decision 0079.

use super::{
    Checkpoint, CheckpointError,
    backend::{Statements, values},
    meta,
    row_ids::SinkRow,
};
use crate::model::{Day, SinkName};

/// The prefix of a key in `meta`, followed by the name of a sink. The value is the provisional
/// first day, as `YYYY-MM-DD`.
const KEY_PREFIX: &str = "start ";
/// A first day that is later than today by more than this cannot be right: Microsoft can be one day
/// ahead, and a cursor of a lost database begins after the newest day that was sent.
const MAX_DAYS_AHEAD: i32 = 2;

/// SQL: moves the cursors of the sink `?1` that begin on a day after `?3` back to the day `?2`.
const REPAIR: &str = "UPDATE cursor SET floor = ?2
     WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND floor > ?3 AND floor > ?2";

/// SQL: moves the cursors of the sink `?1` that begin on the day `?2` back to the day `?3`.
const MOVE_BACK: &str = "UPDATE cursor SET floor = ?3
     WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND floor = ?2";

impl Checkpoint {
    /// Confirms the first days of a sink: `today` is known to be right, and `start_from` is the
    /// first day that follows from it. Returns whether a first day has moved back, so that the sink
    /// has more to send.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be read or written.
    pub fn confirm_start_day(
        &self,
        sink: &SinkName,
        start_from: Day,
        today: Day,
    ) -> Result<bool, CheckpointError> {
        self.claimed(|store| {
            let moved = match provisional(store, sink)? {
                Some(stored) => {
                    meta::remove(store, &key(sink))?;
                    start_from < stored && move_back(store, sink, stored, start_from)? > 0
                }
                None => false,
            };

            // A release that did not compare clocks has created these cursors.
            let latest = today.plus(MAX_DAYS_AHEAD).number();
            let repaired = store.execute(REPAIR, values![sink, start_from.number(), latest])?;
            Ok(moved || repaired > 0)
        })
    }

    /// The sinks whose first day is provisional.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read.
    pub fn provisional_sinks(&self) -> Result<Vec<SinkName>, CheckpointError> {
        let keys = self.reading(|store| meta::keys(store, KEY_PREFIX))?;
        let names = keys.iter().map(|key| SinkName::new(key.trim_start_matches(KEY_PREFIX)));
        Ok(names.collect())
    }
}

/// The first day of the new cursors of a sink that is registered with `start_from`. Moves the
/// provisional cursors back to it if it is earlier than theirs.
pub(super) fn first_day(
    store: &dyn Statements,
    sink: &SinkName,
    start_from: Day,
) -> Result<Day, CheckpointError> {
    match provisional(store, sink)? {
        Some(stored) if start_from < stored => {
            move_back(store, sink, stored, start_from)?;
            set_provisional(store, sink, start_from)?;
            Ok(start_from)
        }
        Some(stored) => Ok(stored),
        None => Ok(start_from),
    }
}

/// Stores that the first day of a sink is provisional.
pub(super) fn set_provisional(
    store: &dyn Statements,
    sink: &SinkName,
    day: Day,
) -> Result<(), CheckpointError> {
    meta::set(store, &key(sink), &day.to_string())
}

/// The number of cursors of a sink, with which its registration recognizes new ones.
pub(super) fn count_cursors(
    store: &dyn Statements,
    sink: &SinkName,
) -> Result<i64, CheckpointError> {
    let sql = "SELECT count(*) AS cursors FROM cursor
        WHERE sink = (SELECT id FROM sink WHERE name = ?1)";
    store.query_one(sql, values![sink], |row| row.get("cursors"))
}

/// Keeps the provisional day of a sink under its new name.
pub(super) fn rename(
    store: &dyn Statements,
    old: &SinkName,
    new: &SinkName,
) -> Result<(), CheckpointError> {
    let (old, new) = (key(old), key(new));
    meta::remove(store, &new)?;
    store.execute("UPDATE meta SET key = ?2 WHERE key = ?1", values![old, new])?;
    Ok(())
}

/// Removes the provisional day of a sink that is deleted next. The name of the sink is not read,
/// because it may be damaged.
pub(super) fn forget(store: &dyn Statements, sink: SinkRow) -> Result<(), CheckpointError> {
    let sql = "DELETE FROM meta WHERE key = ?2 || (SELECT name FROM sink WHERE id = ?1)";
    store.execute(sql, values![sink, KEY_PREFIX])?;
    Ok(())
}

/// The provisional first day of a sink; `None` if a poll has confirmed it.
fn provisional(store: &dyn Statements, sink: &SinkName) -> Result<Option<Day>, CheckpointError> {
    let day = meta::value(store, &key(sink))?;
    Ok(day.and_then(|day| Day::parse(&day)))
}

/// Moves the cursors that begin with the provisional day. A cursor that begins later, because the
/// days before were sent from a lost database, does not move. Returns the number of cursors.
fn move_back(
    store: &dyn Statements,
    sink: &SinkName,
    from: Day,
    to: Day,
) -> Result<u64, CheckpointError> {
    store.execute(MOVE_BACK, values![sink, from.number(), to.number()])
}

fn key(sink: &SinkName) -> String {
    format!("{KEY_PREFIX}{sink}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checkpoint::OtherTenants, model::TenantId};

    fn day(text: &str) -> Day {
        Day::parse(text).unwrap()
    }

    fn tenant(number: u8) -> TenantId {
        TenantId::parse(&format!("3f5c1d2e-0000-4000-8000-0000000000{number:02}")).unwrap()
    }

    fn register(checkpoint: &Checkpoint, number: u8, start_from: &str) {
        let others = OtherTenants::Keep;
        checkpoint
            .register_sink(&"siem".into(), &[tenant(number)], others, day(start_from))
            .unwrap();
    }

    fn floors(checkpoint: &Checkpoint) -> Vec<String> {
        let sql = "SELECT floor FROM cursor ORDER BY tenant";
        let floors = checkpoint
            .reading(|store| store.query_all(sql, values![], |row| row.get::<i32>("floor")))
            .unwrap();
        floors.into_iter().map(|floor| Day::from_number(floor).unwrap().to_string()).collect()
    }

    fn checkpoint() -> (tempfile::TempDir, Checkpoint) {
        let directory = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::open(directory.path()).unwrap();
        (directory, checkpoint)
    }

    /// Regression: a sink that was added while the clock was ahead never received the days before.
    #[test]
    fn start_days_move_back_until_confirmed() {
        let (_directory, checkpoint) = checkpoint();
        register(&checkpoint, 1, "2027-01-01");
        assert_eq!(floors(&checkpoint), ["2027-01-01"]);
        assert_eq!(checkpoint.provisional_sinks().unwrap(), ["siem"]);

        // Another start with a clock that is less ahead, and then with one that is further ahead.
        register(&checkpoint, 1, "2026-12-01");
        register(&checkpoint, 2, "2027-05-01");
        assert_eq!(floors(&checkpoint), ["2026-12-01"; 2]);

        let today = day("2026-11-22");
        assert!(checkpoint.confirm_start_day(&"siem".into(), day("2026-08-24"), today).unwrap());
        assert_eq!(floors(&checkpoint), ["2026-08-24"; 2]);
        assert_eq!(checkpoint.provisional_sinks().unwrap(), Vec::<SinkName>::new());

        register(&checkpoint, 1, "2026-01-01");
        assert_eq!(floors(&checkpoint), ["2026-08-24"; 2], "a confirmed day does not move");
        assert!(!checkpoint.confirm_start_day(&"siem".into(), day("2026-01-01"), today).unwrap());
        assert_eq!(floors(&checkpoint), ["2026-08-24"; 2]);
    }

    #[test]
    fn a_start_day_never_moves_forward() {
        let (_directory, checkpoint) = checkpoint();
        register(&checkpoint, 1, "2026-08-20");
        let today = day("2026-11-22");
        assert!(!checkpoint.confirm_start_day(&"siem".into(), day("2026-08-24"), today).unwrap());
        assert_eq!(floors(&checkpoint), ["2026-08-20"]);
    }

    #[test]
    fn confirmed_cursors_in_the_future_move_back() {
        let (_directory, checkpoint) = checkpoint();
        for (number, start) in [(1, "2026-11-24"), (2, "2026-11-25")] {
            register(&checkpoint, number, start);
            checkpoint.administrative(|store| meta::remove(store, &key(&"siem".into()))).unwrap();
        }
        let today = day("2026-11-22");
        assert!(checkpoint.confirm_start_day(&"siem".into(), day("2026-08-24"), today).unwrap());
        assert_eq!(floors(&checkpoint), ["2026-11-24", "2026-08-24"]);
    }

    #[test]
    fn provisional_days_follow_their_sink() {
        let (_directory, checkpoint) = checkpoint();
        register(&checkpoint, 1, "2027-01-01");
        let now = crate::model::UnixMillis::new(1);
        assert!(checkpoint.rename_sink(&"siem".into(), &"new".into(), now).unwrap());
        assert_eq!(checkpoint.provisional_sinks().unwrap(), ["new"]);
        checkpoint.drop_sink(&"new".into(), now).unwrap();
        assert_eq!(checkpoint.provisional_sinks().unwrap(), Vec::<SinkName>::new());
    }
}
