//! `check`: validates everything that can be validated without a connection; with `--online`, also
//! signs in to Microsoft and contacts the receivers. It changes nothing, except that it migrates a
//! checkpoint of an older release.

use std::{fmt::Write as _, path::Path, sync::Arc};

use super::{
    CommandFailure, ExitCode, act_as_owner, args, as_megabytes, count, load_with_secrets, online,
    print, print_message,
};
use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    config::{Configuration, SinkPlan},
    daemon::{self, BuildError, Estimate},
    model::Tenant,
    source::Clients,
};

/// Runs the command. Returns `Incomplete` if a tenant or a receiver cannot be used. Fails if the
/// configuration, a secret or the state directory cannot be used, or if a sink with a backlog is no
/// longer configured.
pub(super) fn check(config: &Path, args: &args::Check) -> Result<ExitCode, CommandFailure> {
    let configuration = load_with_secrets(config)?;
    check_state_directory(&configuration)?;
    // Building the clients reads the certificate files that the configuration names.
    let clients = Arc::new(Clients::new(&configuration.http)?);

    let (tenants, sinks) = (configuration.tenants.len() as u64, configuration.sinks.len() as u64);
    print(&format!(
        "`{}` is valid: {}, {}\n",
        config.display(),
        count(tenants, "tenant"),
        count(sinks, "sink")
    ))?;
    print(&estimates(&configuration, &clients)?)?;
    if !args.online {
        return Ok(ExitCode::Done);
    }

    if configuration.credentials.iter().any(|named| named.credential.user().is_some()) {
        // A sign-in replaces the refresh token in the state directory.
        act_as_owner(&configuration.state_directory)?;
    }
    let tenants = online::check_tenants(&configuration)?;
    let sinks = online::check_receivers(&configuration)?;
    Ok(if tenants == ExitCode::Done { sinks } else { tenants })
}

/// One line per sink that is new or has a backlog, with the amount of data that it will receive.
/// Fails if a sink with a backlog is no longer configured.
fn estimates(
    configuration: &Configuration,
    clients: &Arc<Clients>,
) -> Result<String, CommandFailure> {
    let directory = &configuration.state_directory;
    let mut lines = String::new();
    if !directory.join("checkpoint.db").exists() {
        return Ok(lines);
    }
    let checkpoint = match Checkpoint::open_read_only(directory) {
        Ok(checkpoint) => checkpoint,
        // The next process that opens it for writing migrates it; until then, nothing is estimated.
        Err(CheckpointError::Older(_)) => return Ok(lines),
        Err(error) => return Err(error.into()),
    };

    for plan in configuration.sinks.iter().filter(|plan| !plan.discarded) {
        let tenants: Vec<Tenant> = configuration
            .tenants
            .iter()
            .filter(|tenant| plan.tenants.matches(tenant))
            .filter_map(|tenant| daemon::resolved_tenant(tenant, &checkpoint))
            .collect();
        let Estimate { days, records, bytes, is_new } =
            daemon::estimate(&checkpoint, plan, &tenants, clients)?;
        // A renamed sink is not new: it continues from the cursors of its old name.
        if days > 0 && !(plan.renamed_from.is_some() && is_new) {
            let what = if is_new { "is new and will receive" } else { "will receive" };
            let megabytes = as_megabytes(bytes);
            let _ = writeln!(
                lines,
                "sink `{}` {what} {}, about {records} records and {megabytes:.1} MB",
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

    Ok(lines)
}

/// Checks that this process can use the state directory, or that a running daemon uses it.
fn check_state_directory(configuration: &Configuration) -> Result<(), CommandFailure> {
    let directory = &configuration.state_directory;
    if let Some(holder) = Checkpoint::holder(directory) {
        print_message(&format!("the checkpoint is in use by process {}", holder.pid));
        Checkpoint::open_read_only(directory)?;
        return Ok(());
    }
    if directory.join("checkpoint.db").exists() {
        act_as_owner(directory)?;
        Checkpoint::open(directory)?;
        return Ok(());
    }

    // The directory is not created: the nearest existing ancestor must allow its creation.
    let nearest = directory.ancestors().find(|path| path.exists()).unwrap_or(directory);
    let writable = rustix::fs::access(nearest, rustix::fs::Access::WRITE_OK).is_ok();
    if !nearest.is_dir() || !writable {
        let why = if nearest.is_dir() { "is not writable" } else { "is not a directory" };
        let message = format!(
            "cannot use the state directory `{}`: `{}` {why}",
            directory.display(),
            nearest.display()
        );
        return Err(CommandFailure::new(ExitCode::Unusable, message));
    }
    Ok(())
}
