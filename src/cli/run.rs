//! `run`: the daemon.

use std::path::Path;

use super::{Exit, Failed, act_as_owner, load, runtime};
use crate::daemon::{self, Engine};

pub(super) fn run(config: &Path) -> Result<Exit, Failed> {
    let configuration = load(config)?;
    act_as_owner(&configuration.state_directory)?;
    let engine = Engine::build(configuration)?;
    // The daemon minds the signals itself.
    let runtime = runtime()?;
    let result = runtime.block_on(daemon::run(engine));
    // Nothing that is still in the air is waited for: it is not confirmed, and will be sent again.
    runtime.shutdown_background();
    result?;
    Ok(Exit::Done)
}
