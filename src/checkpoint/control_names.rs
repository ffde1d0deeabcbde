//! The names of controls and their IDs in the table `control`. Packed facts contain only the IDs,
//! so all names are cached. Only [`super::commit_poll`] adds names, within its transaction: after a
//! rollback, the cache must be read again.

use std::{collections::HashMap, sync::Arc};

use rusqlite::Connection;

use super::CheckpointError;

/// All names, in both directions. The size depends only on the number of names: the ID in a damaged
/// row can be any number.
#[derive(Debug, Default)]
pub(super) struct ControlNames {
    by_name: HashMap<Arc<str>, u32>,
    by_id: HashMap<u32, Arc<str>>,
    /// Whether the cache may contain names whose rows were rolled back.
    is_stale: bool,
}

impl ControlNames {
    /// Reads all names. Fails if the database cannot be read, or if an ID does not have 32 bits.
    pub(super) fn load(connection: &Connection) -> Result<Self, CheckpointError> {
        let mut names = Self::default();

        let mut statement = connection.prepare("SELECT id, name FROM control")?;
        // Looked up once, because there may be many rows.
        let (id, name) = (statement.column_index("id")?, statement.column_index("name")?);
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            names.add(row.get(id)?, &row.get::<_, String>(name)?);
        }

        Ok(names)
    }

    /// Adds a name that was inserted with this ID.
    pub(super) fn add(&mut self, id: u32, name: &str) {
        let name: Arc<str> = name.into();
        self.by_name.insert(Arc::clone(&name), id);
        self.by_id.insert(id, name);
    }

    /// Makes the next use read the names again. Unlike reading them now, this cannot fail, so no
    /// later transaction can refer to a row that was rolled back.
    pub(super) fn invalidate(&mut self) {
        self.is_stale = true;
    }

    /// Whether the names must be read again.
    pub(super) fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// The ID of a name; `None` if the table does not contain it.
    pub(super) fn id_of(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// The name with this ID.
    pub(super) fn get(&self, id: u32) -> Option<Arc<str>> {
        self.by_id.get(&id).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: the cache had one element for each possible ID up to the highest one, so a
    /// damaged row took all memory.
    #[test]
    fn the_highest_id_is_one_name() {
        let connection = Connection::open_in_memory().unwrap();
        connection
            .execute_batch(
                "CREATE TABLE control (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
                 INSERT INTO control VALUES (1, 'a'), (4294967295, 'b');",
            )
            .unwrap();

        let names = ControlNames::load(&connection).unwrap();
        assert_eq!(names.get(u32::MAX).as_deref(), Some("b"));
        assert_eq!((names.id_of("a"), names.id_of("c")), (Some(1), None));

        connection.execute("INSERT INTO control VALUES (4294967296, 'c')", []).unwrap();
        assert!(ControlNames::load(&connection).is_err());
    }
}
