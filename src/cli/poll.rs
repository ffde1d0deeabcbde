//! `poll`: requests that the daemon poll tenants now, instead of at the next scheduled time, and
//! prints the results. The deliverers of the daemon send what the polls have read.

use std::path::Path;

use serde_json::json;

use super::{
    CommandFailure, ExitCode, args,
    daemon_client::{request_with_progress, running_daemon, unexpected_response},
    json::Document,
    once::{poll_as_json, print_poll},
    selection::selected_tenants,
};
use crate::{
    config::Configuration,
    daemon::{Event, Request},
};

/// Runs the command. Returns `Incomplete` if a poll failed, is incomplete, or is not permitted yet.
/// Fails if no daemon is running, or if no tenant matches.
pub(super) fn poll(config: &Path, args: &args::Poll) -> Result<ExitCode, CommandFailure> {
    let document = Document::from_flag(args.json);
    document.run(|| {
        // Only the daemon reads the secrets; the caller may not have access to them.
        let configuration = Configuration::load(config)?;
        let names = selected_names(&configuration, &args.tenant)?;
        let hint = "run `once`, which polls all tenants and delivers their records";
        let holder = running_daemon(&configuration.state_directory, "poll now", hint)?;

        let mut tenants = Vec::new();
        let request = Request::Poll { tenants: names };
        let response = request_with_progress(&holder, &request, |event| {
            if let Event::Polled { name, outcome } = event {
                print_poll(name, outcome);
                tenants.push(poll_as_json(name, outcome));
            }
        })?;

        let Event::Done { failed } = response else { return Err(unexpected_response()) };
        document.print(|| json!({ "complete": failed == 0, "tenants": tenants }))?;
        Ok(if failed == 0 { ExitCode::Done } else { ExitCode::Incomplete })
    })
}

/// The names of the tenants that match any of the patterns; empty if there are no patterns. Fails
/// in the same cases as [`selected_tenants`].
pub(super) fn selected_names(
    configuration: &Configuration,
    patterns: &[String],
) -> Result<Vec<String>, CommandFailure> {
    if patterns.is_empty() {
        return Ok(Vec::new());
    }
    let selected = selected_tenants(configuration, patterns)?;
    Ok(selected.into_iter().map(|plan| plan.name.clone()).collect())
}
