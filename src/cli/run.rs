//! `run`: the daemon.

use std::path::Path;

use tokio::sync::watch;

use super::{Exit, Failed, act_as_owner, load, runtime};
use crate::{
    admin::Admin,
    config::AdminPlan,
    daemon::{self, Engine},
    error::chain,
};

pub(super) fn run(config: &Path) -> Result<Exit, Failed> {
    let configuration = load(config)?;
    act_as_owner(&configuration.state_directory)?;
    let engine = Engine::build(configuration)?;
    // The daemon minds the signals itself.
    let runtime = runtime()?;
    let plan = engine.configuration.admin.clone();
    let (current, _) = watch::channel(engine);
    let reread = {
        let config = config.to_owned();
        move || load(&config).map_err(|failed| failed.explanations)
    };
    let result: Result<(), Failed> = runtime.block_on(async {
        if let Some(AdminPlan { listen, hosts, .. }) = plan {
            let admin = Admin::listen(listen, &hosts)
                .await
                .map_err(|error| Failed::new(Exit::Usage, chain(&error)))?;
            let address = admin.address().map(tracing::field::display);
            tracing::info!(address, "the status page is up");
            tokio::spawn(admin.serve(current.subscribe()));
        }
        Ok(daemon::run(current, &reread).await?)
    });
    // Nothing that is still in the air is waited for: it is not confirmed, and will be sent again.
    runtime.shutdown_background();
    result.map(|()| Exit::Done)
}
