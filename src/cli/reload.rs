//! `reload`: tells the daemon to go on with the configuration as it is now, and waits for its verdict.
//! SIGHUP does the same and waits for nothing.

use std::path::Path;

use super::{Exit, Failed, holder_of, print, socket_of};
use crate::{
    config::Configuration,
    daemon::{self, Event, Request},
};

pub(super) fn reload(config: &Path) -> Result<Exit, Failed> {
    // Secrets are the daemon's to read.
    let configuration = Configuration::load(config)?;
    let Some(holder) = holder_of(&configuration.state_directory) else {
        return Err(Failed::new(Exit::Incomplete, "no daemon is running".to_owned()));
    };
    let verdict = daemon::send_request(socket_of(&holder)?, &Request::Reload, |_| {})?;
    match verdict {
        Event::Error(explanation) => return Err(Failed::new(Exit::Usage, explanation)),
        Event::Invalid(explanations) => return Err(Failed { exit: Exit::Usage, explanations }),
        _ => {}
    }
    print("the daemon goes on with the new configuration\n")?;
    Ok(Exit::Done)
}
