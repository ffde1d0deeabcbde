//! `report`: writes the history, the drift and the decisions of tenants for readers who do not use
//! the SIEM. It only reads the checkpoint.

use std::path::Path;

use super::{CommandFailure, ExitCode, args, print, print_message, unknown_tenant};
use crate::{
    checkpoint::Checkpoint,
    clock,
    config::{Configuration, TenantPlan},
    daemon::{Reporter, resolved_tenant},
    model::{Day, Tenant},
    report::{Detail, Format, Row, Window},
};

/// Writes the report to a file or to standard output. Fails if the tenant is not configured, if the
/// first day is after the last one, or if the checkpoint cannot be read.
pub(super) fn report(config: &Path, args: &args::Report) -> Result<ExitCode, CommandFailure> {
    let configuration = Configuration::load(config)?;
    let checkpoint = Checkpoint::open_read_only(&configuration.state_directory)?;

    // A tenant that has never been polled is reported in a message, and is omitted from the report.
    let plans = selected(&configuration, args)?;
    let mut tenants = Vec::with_capacity(plans.len());
    for plan in plans {
        match resolved_tenant(plan, &checkpoint) {
            Some(tenant) => tenants.push((plan, tenant)),
            None => print_message(&format!("tenant `{}`: no data yet", plan.name)),
        }
    }

    let text = write(&checkpoint, &tenants, window(args)?, args.format.into())?;
    match &args.output {
        Some(path) => {
            fs_err::write(path, text)?;
            print_message(&format!("wrote the report to `{}`", path.display()));
        }
        None => print(&text)?,
    }
    Ok(ExitCode::Done)
}

/// The report of a single tenant, or a table with one row per tenant.
fn write(
    checkpoint: &Checkpoint,
    tenants: &[(&TenantPlan, Tenant)],
    window: Window,
    format: Format,
) -> Result<String, CommandFailure> {
    let generated = clock::now().strftime("%Y-%m-%d %H:%M UTC").to_string();
    let mut reporter = Reporter::new(checkpoint);
    if let [(plan, tenant)] = tenants {
        return Ok(reporter.report(tenant, plan, window, Detail::Page)?.write(format, &generated));
    }

    let mut rows = Vec::with_capacity(tenants.len());
    for (plan, tenant) in tenants {
        rows.push(Row::of(&reporter.report(tenant, plan, window, Detail::Row)?));
    }
    Ok(Row::write_all(rows, format, &generated))
}

/// The tenants that the arguments select.
fn selected<'a>(
    configuration: &'a Configuration,
    args: &args::Report,
) -> Result<Vec<&'a TenantPlan>, CommandFailure> {
    let Some(name) = &args.tenant else { return Ok(configuration.tenants.iter().collect()) };
    let plan = configuration.tenants.iter().find(|plan| plan.name == *name);
    Ok(vec![plan.ok_or_else(|| unknown_tenant(configuration, name))?])
}

fn window(args: &args::Report) -> Result<Window, CommandFailure> {
    let last = args.to.unwrap_or_else(|| Day::of(clock::now()));
    let first = args.from.unwrap_or_else(|| last.plus(1 - args.days));
    if first > last {
        let message =
            format!("the first day of the report, `{first}`, is after its last day, `{last}`");
        return Err(CommandFailure::new(ExitCode::Usage, message));
    }
    Ok(Window { first, last })
}
