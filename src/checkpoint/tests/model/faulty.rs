//! Sequences during which the database fails. A call that has failed has happened completely or not
//! at all: the model follows the checkpoint, and afterwards everything is equal again. A call with
//! several transactions is made again, and completes what it has begun. Start reading at
//! [`Run::settle`].

use std::fmt;

use proptest::{collection::vec, option, prelude::*, sample::select};

use super::{
    calls::{self, Call},
    run::{Run, Storage},
    values::refusal,
    *,
};

/// A fault during a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallFault {
    place: FaultPlace,
    moment: FaultMoment,
}

/// Which call of the backend fails.
#[derive(Clone, Copy, Debug)]
enum FaultPlace {
    /// The one with this number, if there are so many.
    Number(usize),
    /// The first commit.
    Commit,
}

/// Why a call has failed.
enum CallFailure {
    /// The model fails with the same refusal.
    Refused(Refusal),
    /// The database has failed as planned.
    Faulty(CheckpointError),
}

/// SQL: the queries that return all rows of each table, one text for each row.
const QUERIES: &str = "SELECT 'SELECT ' || quote(m.name || ' ') || ' || '
        || group_concat('quote(\"' || c.name || '\")', ' || '','' || ') || ' AS line FROM ' || m.name
        || ' ORDER BY 1' AS query
     FROM sqlite_schema m JOIN pragma_table_info(m.name) c
     WHERE m.type = 'table' GROUP BY m.name ORDER BY m.name";

/// A sequence of calls, each with the fault that is planned for it.
pub(super) fn sequence() -> impl Strategy<Value = Vec<(Call, Option<CallFault>)>> {
    let place = prop_oneof![
        3 => (0_usize..40).prop_map(FaultPlace::Number),
        2 => Just(FaultPlace::Commit),
    ];
    let (before, after) = (FaultMoment::Before, FaultMoment::After);
    let moments = vec![before, after, FaultMoment::LostBefore, FaultMoment::LostAfter];
    let fault = (place, select(moments)).prop_map(|(place, moment)| CallFault { place, moment });
    vec((calls::call(), option::weighted(0.4, fault)), 1..40)
}

impl Run {
    /// As [`Run::execute`], but calls fail as planned.
    pub(super) fn execute_with_faults(calls: &[(Call, Option<CallFault>)]) {
        let mut run = Self::new(Storage::Faulty);
        for (call, fault) in calls {
            match fault {
                None => run.faults.set(None),
                Some(CallFault { place: FaultPlace::Number(number), moment }) => {
                    run.faults.set(Some((*number, *moment)));
                }
                Some(CallFault { place: FaultPlace::Commit, moment }) => {
                    run.faults.set_at_commit(*moment);
                }
            }
            run.call(call);
        }
        run.check_everything();
    }

    /// Makes a call that writes. Only these calls can fail.
    pub(super) fn write<T>(&mut self, call: impl FnOnce(&Checkpoint) -> T) -> T {
        if self.storage == Storage::Faulty {
            self.rows_before = self.rows();
        }
        self.faults.begin();
        let result = call(&self.checkpoint);
        self.faults.end();
        result
    }

    /// Makes a call with several transactions. If it fails because of a fault, makes it again.
    pub(super) fn repeat<T>(
        &mut self,
        call: impl Fn(&Checkpoint) -> Result<T, CheckpointError>,
    ) -> Result<T, CheckpointError> {
        match self.write(&call) {
            Err(error) if is_fault(&error) => {
                self.require_faults(&error);
                call(&self.checkpoint)
            }
            result => result,
        }
    }

    /// Makes a call on the model, and compares its result with that of the checkpoint. If the call
    /// has failed because of a fault, it is made on the model only if it has happened.
    #[track_caller]
    pub(super) fn settle<T: PartialEq + fmt::Debug>(
        &mut self,
        found: Result<T, CheckpointError>,
        change: impl FnOnce(&mut Model) -> Result<T, Refusal>,
    ) {
        match found.map_err(CallFailure::of) {
            Ok(value) => assert_eq!(Ok(value), change(&mut self.model)),
            Err(CallFailure::Refused(refusal)) => {
                assert_eq!(Err(refusal), change(&mut self.model));
            }
            Err(CallFailure::Faulty(error)) => {
                self.require_faults(&error);
                if self.rows() == self.rows_before {
                    return;
                }

                // What is cached of the second cursor file changes only if a call succeeds.
                let saved = self.model.saved.clone();
                assert!(change(&mut self.model).is_ok(), "a refused call has changed something");
                self.model.saved = saved;
            }
        }
    }

    /// As [`Self::settle`], for calls that are never refused.
    #[track_caller]
    pub(super) fn follow<T: PartialEq + fmt::Debug>(
        &mut self,
        found: Result<T, CheckpointError>,
        change: impl FnOnce(&mut Model) -> T,
    ) {
        self.settle(found, |model| Ok(change(model)));
    }

    /// Writes the second cursor file. If that fails, the file and the stored reason can each be the
    /// previous or the new one.
    pub(super) fn write_cursor_file(&mut self) {
        let found = self.write(Checkpoint::write_cursor_file);
        let current = self.model.cursor_file();
        let Err(error) = found else {
            self.model.file = current;
            self.model.outdated = None;
            return;
        };

        self.require_faults(&error);
        let file = CursorFile::read(self.checkpoint.state_directory()).unwrap().unwrap_or_default();
        assert!(file == self.model.file || file == current, "{file:?}");
        self.model.file = file;

        let status = self.checkpoint.status(StatusDetail::Summary).unwrap();
        let (outdated, reason) = (status.outdated_cursor_file, Some(Explanation::of(&error)));
        let possible = [&None, &reason, &self.model.outdated];
        assert!(possible.contains(&&outdated), "{outdated:?}");
        self.model.outdated = outdated;
    }

    /// The content of the database.
    fn rows(&self) -> Vec<String> {
        let database = self.checkpoint.raw();
        let queries = database.texts(QUERIES, "query");
        queries.iter().flat_map(|query| database.texts(query, "line")).collect()
    }

    fn require_faults(&self, error: &CheckpointError) {
        assert!(self.storage == Storage::Faulty && is_fault(error), "{error:?}");
    }
}

impl CallFailure {
    fn of(error: CheckpointError) -> Self {
        if is_fault(&error) { Self::Faulty(error) } else { Self::Refused(refusal(error)) }
    }
}

/// Whether the database has failed, so that a call may have happened.
fn is_fault(error: &CheckpointError) -> bool {
    match error {
        CheckpointError::Indeterminate(_) => true,
        CheckpointError::ErasureIncomplete(cause) => is_fault(cause),
        other => other.storage_fault() == Some(StorageFault::Unavailable),
    }
}
