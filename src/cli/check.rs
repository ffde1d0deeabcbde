//! `check`: everything that can be found out without asking anybody; with `--online`, the rest.

use std::{fmt::Write as _, path::Path, sync::Arc};

use super::{Exit, Failed, args, count, print, say};
use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    config::{Configuration, SinkPlan},
    daemon::{self, BuildError, Estimate},
    model::Tenant,
    source::Clients,
};

pub(super) fn check(config: &Path, args: &args::Check) -> Result<Exit, Failed> {
    let configuration = super::load(config)?;
    check_state(&configuration)?;
    // Certificates that are named must be there.
    let clients = Arc::new(Clients::new(&configuration.reach)?);
    let (tenants, sinks) = (configuration.tenants.len() as u64, configuration.sinks.len() as u64);
    print(&format!(
        "{} is valid: {}, {}\n",
        config.display(),
        count(tenants, "tenant"),
        count(sinks, "sink")
    ))?;
    print(&said_of_sinks(&configuration, &clients)?)?;
    if !args.online {
        return Ok(Exit::Done);
    }
    if configuration.credentials.iter().any(|named| named.credential.user().is_some()) {
        // A refresh token is replaced at each use.
        super::act_as_owner(&configuration.state_directory)?;
    }
    let tenants = super::online::check_online(&configuration)?;
    let sinks = super::online::try_sinks(&configuration)?;
    Ok(if tenants == Exit::Done { sinks } else { tenants })
}

/// What will be sent to sinks that are new or behind, a line each; and which would be missed.
fn said_of_sinks(configuration: &Configuration, clients: &Arc<Clients>) -> Result<String, Failed> {
    let directory = &configuration.state_directory;
    let mut said = String::new();
    if !directory.join("checkpoint.db").exists() {
        return Ok(said);
    }
    let checkpoint = match Checkpoint::inspect(directory) {
        Ok(checkpoint) => checkpoint,
        // It is brought up to date by whoever opens it next, and can be looked at then.
        Err(CheckpointError::Older(_)) => return Ok(said),
        Err(error) => return Err(error.into()),
    };
    for plan in configuration.sinks.iter().filter(|plan| !plan.discarded) {
        let tenants: Vec<Tenant> = configuration
            .tenants
            .iter()
            .filter(|tenant| plan.tenants.matches(tenant))
            .filter_map(|tenant| daemon::resolved_tenant(tenant, &checkpoint))
            .collect();
        let renamed = plan.renamed_from.is_some();
        let Estimate { days, records, bytes, is_new } =
            daemon::estimate(&checkpoint, plan, &tenants, clients)?;
        if days > 0 && !(renamed && is_new) {
            let what = if is_new { "is new: it will be" } else { "will be" };
            let megabytes = super::as_megabytes(bytes);
            let _ = writeln!(
                said,
                "sink {} {what} sent {}, about {records} records and {megabytes:.1} MB",
                plan.name,
                count(days, "day"),
            );
        }
    }
    for known in checkpoint.status()?.sinks {
        let is_named = |plan: &SinkPlan| {
            plan.name == known.name || plan.renamed_from.as_ref() == Some(&known.name)
        };
        if known.backlog > 0 && !configuration.sinks.iter().any(is_named) {
            let dropped = BuildError::DroppedSink(known.name, known.backlog);
            return Err(dropped.into());
        }
    }
    Ok(said)
}

/// The state directory can be used: by us, or by the daemon that uses it now.
fn check_state(configuration: &Configuration) -> Result<(), Failed> {
    let directory = &configuration.state_directory;
    if let Some(holder) = Checkpoint::holder(directory) {
        say(&format!("the checkpoint is in use by process {}", holder.pid));
        Checkpoint::inspect(directory)?;
    } else if directory.join("checkpoint.db").exists() {
        super::act_as_owner(directory)?;
        Checkpoint::open(directory)?;
    } else {
        // Nothing is made by looking: the nearest directory that exists must let us write.
        let nearest = directory.ancestors().find(|path| path.exists()).unwrap_or(directory);
        let writable = rustix::fs::access(nearest, rustix::fs::Access::WRITE_OK).is_ok();
        if !nearest.is_dir() || !writable {
            let why = if nearest.is_dir() { "cannot be written to" } else { "is no directory" };
            let message = format!(
                "the state directory `{}` cannot be used: `{}` {why}",
                directory.display(),
                nearest.display()
            );
            return Err(Failed::new(Exit::Unusable, message));
        }
    }
    Ok(())
}
