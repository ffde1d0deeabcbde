//! `run`: runs the daemon and its status page. The address of the status page is bound before the
//! daemon starts, so that a port that is in use is reported at startup. Signals must be handled
//! only by `daemon::run`, because a handler here would end the process before deliveries have
//! stopped.

use std::path::Path;

use tokio::sync::watch;

use super::{CommandFailure, ExitCode, load_with_secrets, runtime};
use crate::{
    admin::Admin,
    config::AdminPlan,
    daemon::{self, Engine},
};

/// Runs until a signal stops the daemon. Fails if the configuration, a secret or the checkpoint
/// cannot be used, or if the address of the status page cannot be bound.
pub(super) fn run(config: &Path) -> Result<ExitCode, CommandFailure> {
    let configuration = load_with_secrets(config)?;
    let engine = Engine::build(configuration)?;

    // `block_on` of the command line is not used, because the daemon handles the signals itself.
    let runtime = runtime()?;
    let plan = engine.configuration.admin.clone();
    let (current, _) = watch::channel(engine);
    let reread = {
        let config = config.to_owned();
        move || load_with_secrets(&config).map_err(|failure| failure.explanations)
    };

    let result: Result<(), CommandFailure> = runtime.block_on(async {
        if let Some(AdminPlan { listen, hosts, .. }) = plan {
            let admin = Admin::listen(&listen, &hosts)
                .await
                .map_err(|error| CommandFailure::from_error(ExitCode::Usage, &error))?;
            let address = admin.address().map(tracing::field::display);
            tracing::info!(address, "status page is listening");
            tokio::spawn(admin.serve(current.subscribe()));
        }
        Ok(daemon::run(current, &reread).await?)
    });

    // Requests that are still running are not awaited: their records are not acknowledged, and are
    // sent again after the next start.
    runtime.shutdown_background();
    result.map(|()| ExitCode::Done)
}
