//! Queued backfills and imports, and what completes them.

use proptest::{collection::vec, prelude::*, sample::select};

use super::{calls::time, run::Run, values::tenants_of, *};

/// The snapshots of imports, which the checkpoint does not decode.
const ITEMS: [&str; 3] = ["{}", "", "not JSON: \u{e4}\n\""];

/// A call that queues a command or removes one; see [`Model::import_id`] for the number of an
/// import.
#[derive(Clone, Debug)]
pub(super) enum CommandCall {
    Backfill { tenants: Vec<usize>, first_day: i32, at: usize },
    Import { tenant: usize, items: Vec<&'static str>, at: usize },
    Drop { import: usize },
}

/// An import that is not completed.
#[derive(Debug)]
pub(super) struct ModelImport {
    pub(super) id: CommandId,
    pub(super) tenant: TenantId,
    items: Vec<String>,
}

pub(super) fn call() -> impl Strategy<Value = CommandCall> {
    let backfill = (vec(0..TENANTS, 0..3), -3..DAYS, time())
        .prop_map(|(tenants, first_day, at)| CommandCall::Backfill { tenants, first_day, at });
    let import = (0..TENANTS, vec(select(ITEMS.to_vec()), 0..3), time())
        .prop_map(|(tenant, items, at)| CommandCall::Import { tenant, items, at });
    let removal = (0_usize..9).prop_map(|import| CommandCall::Drop { import });
    prop_oneof![2 => backfill, 2 => import, 1 => removal]
}

impl Run {
    pub(super) fn command(&mut self, call: &CommandCall) {
        match call {
            CommandCall::Backfill { tenants, first_day, at } => {
                let (ids, first_day, now) = (tenants_of(tenants), day_at(*first_day), time_at(*at));
                let found =
                    self.write(|checkpoint| checkpoint.queue_backfills(&ids, first_day, now));
                self.follow(found, |model| model.queue_backfills(&ids, first_day, now));
            }
            CommandCall::Import { tenant, items, at } => {
                let (id, now) = (tenants()[*tenant], time_at(*at));
                let found = self.write(|checkpoint| checkpoint.queue_import(id, items, now));
                // A call that has failed returns no ID, although it may have happened.
                let queued = self.checkpoint.queued_imports().unwrap();
                let newest = queued.last().map_or_else(unknown_row, |import| import.id);
                self.follow(found, |model| model.queue_import(id, items, newest));
            }
            CommandCall::Drop { import } => {
                let id = self.model.import_id(*import);
                let found = self.write(|checkpoint| checkpoint.drop_command(id));
                self.follow(found, |model| model.imports.retain(|import| import.id != id));
            }
        }
    }

    /// Compares the queued imports, and what an import that does not exist contains.
    pub(super) fn check_commands(&self) {
        let checkpoint = &self.checkpoint;
        let imports = self.model.imports.iter();
        let imports = imports.map(|ModelImport { id, tenant, .. }| (*id, *tenant));
        let queued = imports.map(|(id, tenant)| QueuedImport { id, tenant });
        assert_eq!(checkpoint.queued_imports().unwrap(), queued.collect::<Vec<_>>());

        for ModelImport { id, tenant, items } in &self.model.imports {
            let import = QueuedImport { id: *id, tenant: *tenant };
            let found = checkpoint.queued_snapshots(import).unwrap();
            assert_eq!(found.as_ref(), Some(items));
            let of_another = QueuedImport { tenant: TenantId::TEST, ..import };
            assert_eq!(checkpoint.queued_snapshots(of_another).unwrap(), None);
        }
        let unknown = QueuedImport { id: unknown_row(), tenant: tenant() };
        assert_eq!(checkpoint.queued_snapshots(unknown).unwrap(), None);
    }
}

impl Model {
    /// The ID of the queued import with a number. One of several numbers selects an ID that no
    /// command has.
    pub(super) fn import_id(&self, number: usize) -> CommandId {
        let selected = self.imports.get(number % (self.imports.len() + 1));
        selected.map_or_else(unknown_row, |import| import.id)
    }

    fn queue_backfills(&mut self, ids: &[TenantId], first_day: Day, now: UnixMillis) {
        let reads_later = |id: &&TenantId| {
            let queued = self.tenant(**id).and_then(ModelTenant::first_backfill);
            queued.is_none_or(|queued| queued > first_day)
        };
        let missing: Vec<TenantId> = ids.iter().filter(reads_later).copied().collect();
        for id in missing {
            self.tenant_mut(id).backfills.push((first_day, now));
        }
    }

    /// Returns the ID that the database has assigned.
    fn queue_import(&mut self, tenant: TenantId, items: &[&str], id: CommandId) -> CommandId {
        let _ = self.tenant_mut(tenant);
        let items = items.iter().map(|item| (*item).to_owned()).collect();
        self.imports.push(ModelImport { id, tenant, items });
        id
    }

    /// Deletes the commands of a tenant that a commit completes. A first day that Microsoft no
    /// longer keeps counts as read.
    pub(super) fn finish_commands(&mut self, tenant: TenantId, commit: &PollCommit<'_>) {
        let is_finished =
            |import: &ModelImport| commit.finished == Some(import.id) && import.tenant == tenant;
        self.imports.retain(|import| !is_finished(import));

        if let Some(read_from) = commit.polled_back_to {
            let has_read_all = read_from <= commit.observed_at.day().oldest_at_source();
            let is_left =
                |(first_day, _): &(Day, UnixMillis)| !has_read_all && *first_day < read_from;
            self.tenant_mut(tenant).backfills.retain(is_left);
        }
    }
}
