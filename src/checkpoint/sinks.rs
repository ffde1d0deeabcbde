//! Configures, renames and deletes sinks. Renaming and deleting end the open observations about the
//! sink, because their subject is its name. The daemon calls them only while no deliverer is
//! running, and only when the configuration requests it: a sink whose section is merely missing is
//! kept, as `removed_sinks` describes.

use super::{
    Checkpoint, CheckpointError,
    backend::{Statements, values},
    claims::HOST,
    fields::day,
    observations::append_observation,
    removed_sinks::merge_sink,
    row_ids::{SinkRow, TenantRow},
    start_days,
};
use crate::{
    error::Explanation,
    model::{Day, Observation, ObservationKind, ObservationSubject, Phase, SinkName, UnixMillis},
};

/// Which entries a sink receives. The others do not count as backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryFilter {
    /// Snapshots and observations.
    All,
    /// Snapshots only.
    Snapshots,
}

/// How a sink fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkFailure {
    /// The failure may be transient, and the delivery is retried.
    Retrying,
    /// The sink is parked: it needs an operator.
    Parked,
    /// Some targets of the sink are parked, such as one of many indices, and need an operator. The
    /// records for all others are delivered.
    TargetsParked,
    /// The records of some tenants are withheld, and need an operator. The records of all others
    /// are delivered.
    TenantsWithheld,
}

impl SinkFailure {
    /// The value of the column `failure`.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Retrying => "retrying",
            Self::Parked => "parked",
            Self::TargetsParked => "targets_parked",
            Self::TenantsWithheld => "tenants_withheld",
        }
    }

    /// The failure that a column contains; `None` for any other text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let all = [Self::Retrying, Self::Parked, Self::TargetsParked, Self::TenantsWithheld];
        all.into_iter().find(|failure| failure.as_str() == text)
    }
}

/// SQL: stores the failure of the sink `?1` on the host `?2`, unless it is stored already. The
/// failure begins at `?6` if the sink did not fail before.
const RECORD_FAILURE: &str = "UPDATE sink_host SET last_error = ?3, last_hint = ?4, failure = ?5,
        failing_since = coalesce(failing_since, ?6)
     WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND host = ?2
       AND (last_error IS DISTINCT FROM ?3 OR failure IS DISTINCT FROM ?5)";

/// SQL: whether the sink `?1` has a failure on the host `?2`.
const HAS_FAILED: &str =
    "SELECT h.last_error IS NOT NULL AS has_failed FROM sink_host h JOIN sink s ON s.id = h.sink
     WHERE s.name = ?1 AND h.host = ?2";

/// SQL: clears the failure of the sink `?1` on the host `?2`.
const CLEAR_FAILURE: &str =
    "UPDATE sink_host SET last_error = NULL, last_hint = NULL, failure = NULL, failing_since = NULL
     WHERE sink = (SELECT id FROM sink WHERE name = ?1) AND host = ?2 AND last_error IS NOT NULL";

impl Checkpoint {
    /// Stores that a sink makes no progress, and why. An acknowledgement clears it, except for
    /// parked targets and withheld tenants, because all other records continue to be acknowledged.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written; an unknown sink is not an error.
    pub fn record_sink_failure(
        &self,
        sink: &SinkName,
        failure: SinkFailure,
        reason: &Explanation,
        now: UnixMillis,
    ) -> Result<(), CheckpointError> {
        let Explanation { message, hint } = reason;
        self.claimed(|store| {
            let kind = failure.as_str();
            store.execute(RECORD_FAILURE, values![sink, HOST, message, hint, kind, now])
        })?;
        Ok(())
    }

    /// Clears the failure of a sink that has nothing left to deliver.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be read or written; an unknown sink is not an error.
    pub fn clear_sink_failure(&self, sink: &SinkName) -> Result<(), CheckpointError> {
        // Idle sinks call this often, and only a write has to wait for the disk.
        let has_failed = self.reading(|store| {
            store.query_optional(HAS_FAILED, values![sink, HOST], |row| {
                row.get::<bool>("has_failed")
            })
        })?;
        if has_failed == Some(true) {
            self.claimed(|store| store.execute(CLEAR_FAILURE, values![sink, HOST]))?;
        }
        Ok(())
    }

    /// Stores which entries a sink receives; a new sink receives snapshots only.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written; an unknown sink is not an error.
    pub fn set_entry_filter(
        &self,
        sink: &SinkName,
        filter: EntryFilter,
    ) -> Result<(), CheckpointError> {
        let quality = filter == EntryFilter::All;
        let sql = "UPDATE sink SET quality = ?2 WHERE name = ?1";
        self.administrative(|store| store.execute(sql, values![sink, quality]))?;
        Ok(())
    }

    /// Stores the type of a sink, which is not known after it was removed from the configuration.
    ///
    /// # Errors
    ///
    /// Fails if the database cannot be written; an unknown sink is not an error.
    pub fn set_sink_type(&self, sink: &SinkName, kind: &str) -> Result<(), CheckpointError> {
        let sql = "UPDATE sink SET type = ?2 WHERE name = ?1 AND type IS DISTINCT FROM ?2";
        self.administrative(|store| store.execute(sql, values![sink, kind]))?;
        Ok(())
    }

    /// Renames a sink, which keeps its cursors, mark and dead letters. Returns `false` if no sink
    /// has the old name.
    ///
    /// If the old sink was removed from the configuration and the new name is in use, the cursors
    /// of the new sink move forward to those of the old one. A removed sink with the new name is
    /// replaced by a configured one, also in the second cursor file. A rename to the same name
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// Fails with [`CheckpointError::SinkExists`] if both names belong to configured sinks, and
    /// then changes nothing.
    pub fn rename_sink(
        &self,
        old: &SinkName,
        new: &SinkName,
        now: UnixMillis,
    ) -> Result<bool, CheckpointError> {
        let renamed = self.change_sinks(
            |store| rename(store, old, new, now),
            |saved, renamed| {
                if *renamed == Rename::Replaced {
                    saved.forget_sink(new);
                }
                saved.rename_sink(old, new);
            },
        )?;
        Ok(renamed != Rename::Unknown)
    }

    /// Deletes a sink with its cursors, replays and dead letters. Does nothing if it does not
    /// exist.
    ///
    /// # Errors
    ///
    /// Fails, and changes nothing, if the database cannot be written.
    pub fn drop_sink(&self, sink: &SinkName, now: UnixMillis) -> Result<(), CheckpointError> {
        self.change_sinks(
            |store| {
                if let Some(found) = find(store, sink)? {
                    end_observations(store, sink, now, "the sink was removed")?;
                    delete_sink(store, found.row)?;
                }
                Ok(())
            },
            |saved, ()| saved.forget_sink(sink),
        )
    }
}

/// What the rename of a sink has changed in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rename {
    /// Nothing: no sink has the old name.
    Unknown,
    /// The sink has the new name, and continues from the later cursors if two had it.
    Renamed,
    /// As `Renamed`, and a removed sink that had the new name was deleted.
    Replaced,
}

/// The row of a sink.
struct FoundSink {
    row: SinkRow,
    /// Whether it was removed from the configuration.
    is_removed: bool,
}

fn find(store: &dyn Statements, sink: &SinkName) -> Result<Option<FoundSink>, CheckpointError> {
    let sql = "SELECT id, removed IS NOT NULL AS was_removed FROM sink WHERE name = ?1";
    store.query_optional(sql, values![sink], |row| {
        Ok(FoundSink { row: row.get("id")?, is_removed: row.get("was_removed")? })
    })
}

/// See [`Checkpoint::rename_sink`].
fn rename(
    store: &dyn Statements,
    old: &SinkName,
    new: &SinkName,
    now: UnixMillis,
) -> Result<Rename, CheckpointError> {
    let replaced = match (find(store, old)?, find(store, new)?) {
        (None, _) => return Ok(Rename::Unknown),
        (Some(from), Some(into)) if from.row == into.row => return Ok(Rename::Renamed),
        (Some(from), Some(into)) if from.is_removed => {
            merge_sink(store, from.row, into.row, now)?;
            return Ok(Rename::Renamed);
        }
        (Some(_), Some(into)) if !into.is_removed => {
            return Err(CheckpointError::SinkExists(old.clone(), new.clone()));
        }
        (Some(_), replaced) => replaced,
    };

    let renamed = if replaced.is_some() { Rename::Replaced } else { Rename::Renamed };
    if let Some(replaced) = replaced {
        delete_sink(store, replaced.row)?;
    }
    let details = format!("the sink was renamed to `{new}`");
    end_observations(store, old, now, &details)?;
    store.execute("UPDATE sink SET name = ?2 WHERE name = ?1", values![old, new])?;
    start_days::rename(store, old, new)?;
    Ok(renamed)
}

/// Deletes a sink with everything that belongs to it. Fails if the database cannot be written.
pub(super) fn delete_sink(store: &dyn Statements, sink: SinkRow) -> Result<(), CheckpointError> {
    for sql in [
        "DELETE FROM cursor WHERE sink = ?1",
        "DELETE FROM dead_letter WHERE sink = ?1",
        "DELETE FROM replay WHERE sink = ?1",
        "DELETE FROM sink_shard WHERE sink = ?1",
        "DELETE FROM sink_host WHERE sink = ?1",
    ] {
        store.execute(sql, values![sink])?;
    }
    start_days::forget(store, sink)?;
    store.execute("DELETE FROM sink WHERE id = ?1", values![sink])?;
    Ok(())
}

/// Ends the open observations about a sink, whose subject is its name. If the cause persists under
/// a new name, they begin again with that name. Fails if the database cannot be written.
pub(super) fn end_observations(
    store: &dyn Statements,
    sink: &SinkName,
    now: UnixMillis,
    details: &str,
) -> Result<(), CheckpointError> {
    let sql = "SELECT tenant, first_day FROM open_observation WHERE what = ?1 AND subject = ?2";
    let what = ObservationKind::DeadLetter;
    let open: Vec<(TenantRow, Option<Day>)> =
        store.query_all(sql, values![what.as_str(), sink], |row| {
            Ok((row.get("tenant")?, day(row, "first_day")?))
        })?;

    for (tenant, first_day) in open {
        let Some(first_day) = first_day else { continue };
        let end = Observation {
            what,
            subject: ObservationSubject::Sink(sink.clone()),
            first_day,
            phase: Phase::End,
            details: details.to_owned(),
            hint: None,
        };
        // No deliverer is running; each of them reads the log when it starts.
        let _ = append_observation(store, tenant, &end, now)?;
    }
    Ok(())
}
