//! `report`: history, drift and decisions for people.

use std::path::Path;

use super::{Exit, Failed, args, no_tenant, print, say};
use crate::{
    checkpoint::Checkpoint,
    clock,
    config::{Configuration, TenantPlan},
    daemon::{Reporter, resolved_tenant},
    model::{Day, Tenant},
    report::{Format, Row, Window},
};

pub(super) fn report(config: &Path, args: &args::Report) -> Result<Exit, Failed> {
    let configuration = Configuration::load(config)?;
    let checkpoint = Checkpoint::inspect(&configuration.state_directory)?;
    let plans = wanted(&configuration, args)?;
    let tenants: Vec<(&TenantPlan, Tenant)> = plans
        .iter()
        .filter_map(|plan| Some((*plan, resolved_tenant(plan, &checkpoint)?)))
        .collect();
    for plan in
        plans.iter().filter(|plan| !tenants.iter().any(|(known, _)| known.name == plan.name))
    {
        say(&format!("tenant {}: nothing is known of it yet", plan.name));
    }
    let text = write(&checkpoint, &tenants, window(args)?, args.format.into())?;
    match &args.output {
        Some(path) => {
            fs_err::write(path, text)?;
            say(&format!("the report is in {}", path.display()));
        }
        None => print(&text)?,
    }
    Ok(Exit::Done)
}

/// One tenant's report, or a line for each of several.
pub(super) fn write(
    checkpoint: &Checkpoint,
    tenants: &[(&TenantPlan, Tenant)],
    window: Window,
    format: Format,
) -> Result<String, Failed> {
    let made = clock::now().strftime("%Y-%m-%d %H:%M UTC").to_string();
    let mut reporter = Reporter::new(checkpoint);
    if let [(plan, tenant)] = tenants {
        return Ok(reporter.report(tenant, plan, window, true)?.write(format, &made));
    }
    let mut rows = Vec::with_capacity(tenants.len());
    for (plan, tenant) in tenants {
        rows.push(Row::of(&reporter.report(tenant, plan, window, false)?));
    }
    Ok(Row::write_all(rows, format, &made))
}

fn wanted<'a>(
    configuration: &'a Configuration,
    args: &args::Report,
) -> Result<Vec<&'a TenantPlan>, Failed> {
    let Some(name) = &args.tenant else { return Ok(configuration.tenants.iter().collect()) };
    let plan = configuration.tenants.iter().find(|plan| plan.name == *name);
    Ok(vec![plan.ok_or_else(|| no_tenant(configuration, name))?])
}

fn window(args: &args::Report) -> Result<Window, Failed> {
    let last = args.to.unwrap_or_else(|| Day::of(clock::now()));
    let first = args.from.unwrap_or_else(|| last.plus(1 - args.days));
    if first > last {
        let message = format!("the report would end on {last}, before it begins on {first}");
        return Err(Failed::new(Exit::Usage, message));
    }
    Ok(Window { first, last })
}
