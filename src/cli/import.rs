//! `import`: adds the days of saved responses of the current or the original API to the checkpoint.
//! An import never changes a day that is already stored. If a daemon is running, it receives the
//! snapshots over its control socket. All snapshots are stored before the first one is imported, so
//! that a process that ends in between loses nothing. See decisions 0012 and 0094.

mod progress;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use self::progress::ImportProgress;
use super::{
    CommandFailure, ExitCode, args, block_on,
    caller::read_text,
    count,
    daemon_client::{send_import, unexpected_response},
    lock_holder, print_message,
};
use crate::{
    checkpoint::Checkpoint,
    config::{Configuration, TenantPlan},
    daemon::{self, Engine, Event, ImportPart, RequestFailure, TenantState},
    error::{Explanation, chain},
    model::{Day, TenantId},
    state_directory::Holder,
    wire,
};

/// The maximum size of all snapshots of a part, in bytes.
const MAX_PART_BYTES: usize = 8 << 20;

/// The days and snapshots in the files, by tenant, in the order of the files.
type SnapshotsByTenant = BTreeMap<TenantId, Vec<(Day, String)>>;

/// What the files contain.
#[derive(Default)]
struct FoundItems {
    snapshots: SnapshotsByTenant,
    /// The number of items that are not snapshots with a tenant and a day.
    skipped: usize,
    /// The files without any item.
    empty_files: Vec<PathBuf>,
}

/// Runs the command. Returns `Incomplete` if an item was skipped, rejected or not stored, or if a
/// file contains no items. Fails, before anything is stored, if a file cannot be read or contains
/// days of a tenant that is not configured.
pub(super) fn import(config: &Path, args: &args::Import) -> Result<ExitCode, CommandFailure> {
    // An import needs no secret, and the caller may not have access to those of the daemon.
    let configuration = Configuration::load(config)?;
    let mut found = FoundItems::default();
    for file in &args.files {
        read(file, &mut found)?;
    }

    let tenants = by_configured_name(&configuration, std::mem::take(&mut found.snapshots))?;
    let imported = match lock_holder(&configuration.state_directory) {
        Some(holder) => import_through_daemon(&holder, &tenants),
        None => import_without_daemon(configuration, &tenants),
    };

    if found.skipped > 0 {
        let items = count(found.skipped, "item");
        print_message(&format!("skipped {items} that are not snapshots with a tenant and a day"));
    }
    for file in &found.empty_files {
        print_message(&format!("warning: `{}` contains no snapshots", file.display()));
    }

    let exit = imported?;
    let is_complete = found.skipped == 0 && found.empty_files.is_empty();
    Ok(if !is_complete && exit == ExitCode::Done { ExitCode::Incomplete } else { exit })
}

/// Adds the items in a file.
fn read(file: &Path, found: &mut FoundItems) -> Result<(), CommandFailure> {
    let text =
        read_text(file).map_err(|error| CommandFailure::new(ExitCode::Usage, error.to_string()))?;

    let items = wire::saved_items(text.trim_start_matches('\u{feff}')).map_err(|error| {
        let message = format!("cannot read `{}`: {}", file.display(), chain(&error));
        CommandFailure::new(ExitCode::Usage, message)
    })?;
    if items.is_empty() {
        found.empty_files.push(file.to_owned());
    }

    for item in items {
        let snapshot = wire::snapshot(item).ok();
        let key = snapshot
            .and_then(|s| Some((TenantId::parse_any_form(s.tenant_id.as_deref()?)?, s.day()?)));
        match key {
            Some((tenant, day)) => {
                found.snapshots.entry(tenant).or_default().push((day, item.to_owned()));
            }
            None => found.skipped += 1,
        }
    }
    Ok(())
}

/// The snapshots by the configured name of their tenant, oldest first. Fails if a tenant is not
/// configured.
fn by_configured_name(
    configuration: &Configuration,
    found: SnapshotsByTenant,
) -> Result<Vec<(String, Vec<String>)>, CommandFailure> {
    let checkpoint = Checkpoint::open_read_only(&configuration.state_directory).ok();
    let id = |plan: &TenantPlan| daemon::resolved_id(plan, checkpoint.as_ref());

    let mut tenants = Vec::new();
    for (tenant, mut items) in found {
        let plan = configuration.tenants.iter().find(|plan| id(plan) == Some(tenant));
        let Some(plan) = plan else {
            let explanation = Explanation::new(format!(
                "the files contain days of tenant `{tenant}`, which is not configured"
            ));
            return Err(CommandFailure::new(
                ExitCode::Usage,
                explanation.with_hint(
                    "add the tenant to the configuration; if it is configured by its domain, poll it once before the import",
                ),
            ));
        };

        items.sort_by_key(|(day, _)| *day);
        tenants.push((plan.name.clone(), items.into_iter().map(|(_, item)| item).collect()));
    }
    Ok(tenants)
}

fn import_without_daemon(
    configuration: Configuration,
    tenants: &[(String, Vec<String>)],
) -> Result<ExitCode, CommandFailure> {
    let engine = Engine::build(configuration)?;
    block_on(async {
        let parts = parts(tenants);
        let mut progress = ImportProgress::new(&parts);
        let mut queued = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            let tenant = engine.tenants().named(part.tenant).and_then(TenantState::resolved);
            let Some(tenant) = tenant else { continue };
            match engine.collector().queue_import(&tenant, &part.items) {
                Ok(import) => {
                    progress.queued(number);
                    queued.push((number, tenant, import));
                }
                Err(error) => progress.failed(number, error.into()),
            }
        }

        for (number, tenant, import) in queued {
            match engine.collector().complete_import(&tenant, import) {
                Ok(report) => {
                    let report = report.unwrap_or_default();
                    progress.imported(number, report.days, report.rejected);
                }
                Err(error) => progress.failed(number, RequestFailure::from(error).into()),
            }
        }
        progress.exit_code()
    })
}

fn import_through_daemon(
    holder: &Holder,
    tenants: &[(String, Vec<String>)],
) -> Result<ExitCode, CommandFailure> {
    let parts = parts(tenants);
    let mut progress = ImportProgress::new(&parts);
    let response = send_import(holder, &parts, |event| {
        if let Event::Import(event) = event {
            progress.note(event);
        }
    });

    match response {
        Ok(Event::Done { .. }) => Ok(progress.exit_code()),
        Ok(_) => Err(unexpected_response()),
        Err(failure) => Err(progress.interrupted(failure)),
    }
}

/// Splits the snapshots of each tenant, in their order, into parts of at most [`MAX_PART_BYTES`].
/// A snapshot that is larger than the limit forms a separate part.
fn parts(tenants: &[(String, Vec<String>)]) -> Vec<ImportPart<'_>> {
    let mut parts: Vec<ImportPart<'_>> = Vec::new();
    for (tenant, items) in tenants {
        let mut size = usize::MAX;
        for item in items {
            if size.saturating_add(item.len()) > MAX_PART_BYTES {
                parts.push(ImportPart { tenant, items: Vec::new() });
                size = 0;
            }
            size += item.len();
            if let Some(part) = parts.last_mut() {
                part.items.push(item);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_one_tenant_and_a_limited_size() {
        let large = || "x".repeat(MAX_PART_BYTES / 2 + 1);
        let tenants = [
            ("a".to_owned(), vec![large(), "1".to_owned(), large()]),
            ("b".to_owned(), Vec::new()),
            ("c".to_owned(), vec!["2".to_owned(), "x".repeat(MAX_PART_BYTES + 1)]),
        ];
        let found = parts(&tenants);
        let found: Vec<(&str, usize)> =
            found.iter().map(|part| (part.tenant, part.items.len())).collect();
        assert_eq!(found, [("a", 2), ("a", 1), ("c", 1), ("c", 1)]);
    }
}
