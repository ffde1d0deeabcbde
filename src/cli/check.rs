//! `check`: everything that can be found out without asking anybody; with `--online`, the rest.

use std::path::Path;

use super::{Exit, Failed, args, count, print, say};
use crate::{checkpoint::Checkpoint, config::Configuration, source::Clients};

pub(super) fn check(config: &Path, args: &args::Check) -> Result<Exit, Failed> {
    let configuration = super::load(config)?;
    check_state(&configuration)?;
    // Certificates that are named must be there.
    Clients::new(&configuration.reach)?;
    let (tenants, sinks) = (configuration.tenants.len() as u64, configuration.sinks.len() as u64);
    print(&format!(
        "{} is valid: {}, {}\n",
        config.display(),
        count(tenants, "tenant"),
        count(sinks, "sink")
    ))?;
    if !args.online {
        return Ok(Exit::Done);
    }
    if configuration.credentials.iter().any(|named| named.credential.user().is_some()) {
        // A refresh token is replaced at each use.
        super::act_as_owner(&configuration.state_directory)?;
    }
    super::online::check_online(&configuration)
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
            return Err(Failed { exit: Exit::Unusable, message });
        }
    }
    Ok(())
}
