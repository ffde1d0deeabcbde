//! `run`: runs the daemon and its status page. The address of the status page is bound before the
//! daemon starts, so that a port that is in use is reported at startup. Signals must be handled
//! only by `daemon::run`, because a handler here would end the process before deliveries have
//! stopped.

use std::{path::Path, sync::Arc};

use tokio::{runtime::Runtime, sync::watch};

use super::{CommandFailure, ExitCode, identity::require_trusted, load_with_secrets, runtime};
use crate::{
    admin::Admin,
    config::AdminPlan,
    daemon::{self, Engine},
    state_directory::exchange_warning,
};

/// Runs until a signal stops the daemon. Fails if the configuration, a secret or the checkpoint
/// cannot be used, or if the address of the status page cannot be bound.
pub(super) fn run(config: &Path) -> Result<ExitCode, CommandFailure> {
    let configuration = load_with_secrets(config)?;
    let engine = Engine::build(configuration)?;
    if let Some(warning) = exchange_warning(engine.store().checkpoint().state_directory().path()) {
        tracing::warn!(
            error = warning.message,
            hint = warning.hint,
            "the state directory is not protected from other users"
        );
    }

    // `block_on` of the command line is not used, because the daemon handles the signals itself.
    let runtime = runtime()?;
    let plan = engine.configuration().admin.clone();
    let (current, _) = watch::channel(engine);
    let reread = {
        let config = config.to_owned();
        move || {
            // Root may have added a file that another user can change.
            let loaded = require_trusted(&config).and_then(|()| load_with_secrets(&config));
            loaded.map_err(|failure| failure.explanations)
        }
    };

    let admin_runtime = match plan {
        Some(plan) => Some(serve_admin(&plan, current.subscribe())?),
        None => None,
    };
    let result = runtime.block_on(daemon::run(current, &reread));

    // Requests that are still running are not awaited: their records are not acknowledged, and are
    // sent again after the next start.
    runtime.shutdown_background();
    if let Some(admin_runtime) = admin_runtime {
        admin_runtime.shutdown_background();
    }
    result?;
    Ok(ExitCode::Done)
}

/// Serves the admin endpoints with a separate runtime, so that a peer that occupies the worker of
/// the daemon cannot prevent a health check. Fails if the address cannot be bound.
fn serve_admin(
    plan: &AdminPlan,
    current: watch::Receiver<Arc<Engine>>,
) -> Result<Runtime, CommandFailure> {
    let runtime = runtime()?;
    let admin = runtime
        .block_on(Admin::listen(&plan.listen, &plan.hosts))
        .map_err(|error| CommandFailure::from_error(ExitCode::Usage, &error))?;

    let address = admin.address().map(tracing::field::display);
    tracing::info!(address, "status page is listening");
    runtime.spawn(admin.serve(current));
    Ok(runtime)
}
