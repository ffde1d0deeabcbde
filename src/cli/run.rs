//! `run`: the daemon.

use std::path::Path;

use tokio::sync::watch;

use super::{Exit, Failed, act_as_owner, load, runtime};
use crate::daemon::{self, Engine};

pub(super) fn run(config: &Path) -> Result<Exit, Failed> {
    let configuration = load(config)?;
    act_as_owner(&configuration.state_directory)?;
    let engine = Engine::build(configuration)?;
    // The daemon minds the signals itself.
    let runtime = runtime()?;
    let (current, _) = watch::channel(engine);
    let reread = {
        let config = config.to_owned();
        move || load(&config).map_err(|failed| failed.message)
    };
    let result = runtime.block_on(daemon::run(current, &reread));
    // Nothing that is still in the air is waited for: it is not confirmed, and will be sent again.
    runtime.shutdown_background();
    result?;
    Ok(Exit::Done)
}
