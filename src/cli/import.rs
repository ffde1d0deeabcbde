//! `import`: adds the days of saved responses of the current or the original API to the checkpoint.
//! An import never changes a day that is already stored. If a daemon is running, it receives the
//! snapshots over its control socket. See decision 0012.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{
    CommandFailure, ExitCode, args, block_on,
    caller::read_text,
    count,
    daemon_client::{request, unexpected_response},
    lock_holder, print_explanation, print_message,
};
use crate::{
    checkpoint::Checkpoint,
    config::{Configuration, TenantPlan},
    daemon::{self, Engine, Event, Request, RequestFailure},
    error::{Explanation, chain},
    model::{Day, TenantId},
    state_directory::Holder,
    wire,
};

/// The maximum size of all snapshots in one request to the daemon, in bytes.
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

/// The numbers of imported and of rejected snapshots.
#[derive(Clone, Copy, Default)]
struct Totals {
    imported: usize,
    rejected: usize,
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

    let tenants = by_configured_name(&configuration, &found.snapshots)?;
    let exit = match lock_holder(&configuration.state_directory) {
        Some(holder) => import_through_daemon(&holder, &tenants)?,
        None => import_without_daemon(configuration, &tenants)?,
    };

    if found.skipped > 0 {
        let items = count(found.skipped, "item");
        print_message(&format!("skipped {items} that are not snapshots with a tenant and a day"));
    }
    for file in &found.empty_files {
        print_message(&format!("warning: `{}` contains no snapshots", file.display()));
    }
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
    found: &SnapshotsByTenant,
) -> Result<Vec<(String, Vec<String>)>, CommandFailure> {
    let checkpoint = Checkpoint::open_read_only(&configuration.state_directory).ok();
    let id = |plan: &TenantPlan| daemon::resolved_id(plan, checkpoint.as_ref());

    let mut tenants = Vec::new();
    for (tenant, items) in found {
        let plan = configuration.tenants.iter().find(|plan| id(plan) == Some(*tenant));
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

        let mut items = items.clone();
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
        let mut exit = ExitCode::Done;
        for (name, items) in tenants {
            let tenant = engine.tenants().named(name).and_then(daemon::TenantState::resolved);
            let Some(tenant) = tenant else { continue };

            let mut totals = Totals::default();
            for part in parts(items) {
                match engine.collector().import(&tenant, &part) {
                    Ok(report) => totals.add(report.days, report.rejected),
                    Err(error) => {
                        exit = print_failure(name, RequestFailure::from(error).into());
                    }
                }
            }
            print_totals(name, totals);
            exit = totals.exit_code(exit);
        }
        exit
    })
}

fn import_through_daemon(
    holder: &Holder,
    tenants: &[(String, Vec<String>)],
) -> Result<ExitCode, CommandFailure> {
    let mut exit = ExitCode::Done;
    for (name, items) in tenants {
        let mut totals = Totals::default();
        for part in parts(items) {
            let items = part.into_iter().map(str::to_owned).collect();
            match request(holder, &Request::Import { tenant: name.clone(), items }) {
                Ok(Event::Imported { days, rejected }) => totals.add(days, rejected),
                Ok(_) => return Err(unexpected_response()),
                Err(failure) => exit = print_failure(name, failure),
            }
        }

        print_totals(name, totals);
        exit = totals.exit_code(exit);
    }
    Ok(exit)
}

/// Prints why some items of a tenant were not imported. Returns the exit code.
fn print_failure(tenant: &str, failure: CommandFailure) -> ExitCode {
    for explanation in failure.explanations {
        print_explanation(&explanation.within(&format!("tenant `{tenant}`")));
    }
    failure.code
}

/// Splits the items, in their order, into parts of at most [`MAX_PART_BYTES`]. An item that is
/// larger than the limit forms a separate part.
fn parts(items: &[String]) -> Vec<Vec<&str>> {
    let mut parts: Vec<Vec<&str>> = Vec::new();
    let mut size = usize::MAX;
    for item in items {
        if size.saturating_add(item.len()) > MAX_PART_BYTES {
            parts.push(Vec::new());
            size = 0;
        }
        size += item.len();
        if let Some(part) = parts.last_mut() {
            part.push(item);
        }
    }
    parts
}

impl Totals {
    fn add(&mut self, imported: usize, rejected: usize) {
        self.imported += imported;
        self.rejected += rejected;
    }

    /// The exit code after these items, if it was `before` without them.
    fn exit_code(self, before: ExitCode) -> ExitCode {
        let is_first = self.rejected > 0 && before == ExitCode::Done;
        if is_first { ExitCode::Incomplete } else { before }
    }
}

fn print_totals(name: &str, totals: Totals) {
    let rejected = match totals.rejected {
        0 => String::new(),
        rejected => format!(", {} rejected", count(rejected, "snapshot")),
    };
    let imported = count(totals.imported, "new day");
    print_message(&format!("tenant `{name}`: {imported} imported{rejected}"));
}
