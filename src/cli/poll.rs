//! `poll`: requests that the daemon poll tenants now, instead of at the next scheduled time, and
//! prints the results. The deliverers of the daemon send what the polls have read. The command must
//! never read a secret or poll a tenant itself. `backfill` also uses [`request_polls`].

use std::path::Path;

use serde_json::json;

use super::{
    CommandFailure, ExitCode, args,
    backfill::progress_bar,
    daemon_client::{request_with_progress, running_daemon, unexpected_response},
    json::Document,
    poll_results::PollResults,
    print_message,
    selection::selected_names,
};
use crate::{
    config::Configuration,
    daemon::{Event, Request},
    state_directory::Holder,
};

/// Runs the command. Returns `Incomplete` if a poll failed, is incomplete, or is paused because
/// Microsoft requested it. Fails if no daemon is running, or if no tenant matches.
pub(super) fn poll(config: &Path, args: &args::Poll) -> Result<ExitCode, CommandFailure> {
    let document = Document::from_flag(args.json);
    document.run(|| {
        // Only the daemon reads the secrets; the caller may not have access to them.
        let configuration = Configuration::load(config)?;
        let names = selected_names(&configuration, &args.tenant)?;
        let hint = "run `once`, which polls all tenants and delivers their records";
        let holder = running_daemon(&configuration.state_directory, "poll now", hint)?;

        let tenants = if names.is_empty() { configuration.tenants.len() } else { names.len() };
        let request = Request::Poll { tenants: names };
        let results = request_polls(&configuration, &holder, &request, tenants)?;
        let is_complete = results.is_complete();
        document.print(|| json!({ "complete": is_complete, "tenants": results.as_json() }))?;
        Ok(if is_complete { ExitCode::Done } else { ExitCode::Incomplete })
    })
}

/// Sends a request that polls this number of tenants to the daemon. Prints the results and a
/// summary, and while polls are running, a progress bar. Fails if the daemon does not complete the
/// request; the results that have arrived are printed nevertheless.
pub(super) fn request_polls(
    configuration: &Configuration,
    holder: &Holder,
    request: &Request,
    tenants: usize,
) -> Result<PollResults, CommandFailure> {
    let bar = progress_bar(tenants as u64);
    let mut received = Vec::new();
    let response = request_with_progress(holder, request, |event| {
        if let Event::Polled { name, outcome } = event {
            received.push((name.clone(), outcome.clone()));
            bar.inc(1);
        }
    });
    bar.finish_and_clear();

    let results = PollResults::received(received, configuration);
    results.print();
    let Event::Done { .. } = response? else { return Err(unexpected_response()) };
    print_message(&results.summary());
    Ok(results)
}
