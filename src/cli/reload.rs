//! `reload`: requests that the daemon reload the configuration, and waits for the result. SIGHUP
//! also reloads the configuration, but does not return the result.

use std::path::Path;

use super::{CommandFailure, ExitCode, control_socket, lock_holder, print};
use crate::{
    config::Configuration,
    daemon::{self, Event, Request},
};

/// Runs the command. Fails if no daemon is running, or with all faults of the configuration if the
/// daemon rejects it.
pub(super) fn reload(config: &Path) -> Result<ExitCode, CommandFailure> {
    // Only the daemon reads the secrets; the caller may not have access to them.
    let configuration = Configuration::load(config)?;
    let Some(holder) = lock_holder(&configuration.state_directory) else {
        return Err(CommandFailure::new(ExitCode::Incomplete, "no daemon is running"));
    };

    match daemon::send_request(control_socket(&holder)?, &Request::Reload, |_| {})? {
        Event::Error(explanation) => Err(CommandFailure::new(ExitCode::Usage, explanation)),
        Event::Invalid(explanations) => Err(CommandFailure { code: ExitCode::Usage, explanations }),
        _ => {
            print("the daemon is running with the new configuration\n")?;
            Ok(ExitCode::Done)
        }
    }
}
