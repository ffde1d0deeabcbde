//! `replay`: resends stored days to one sink. If a daemon is running, the command only queues them
//! and the daemon delivers; otherwise, the command also delivers them. A replay never moves the
//! live cursor of the sink. The queue itself is in `daemon::replay`.

use std::{path::Path, sync::Arc};

use serde_json::{Value, json};

use super::{
    CommandFailure, ExitCode, args, block_on, daemon_client, dead_letters,
    json::{self, Document, ResendState},
    load_with_secrets, lock_holder,
    once::{explain_dead_letters, explain_delivery, update_cursor_file},
    print, print_explanation, print_message,
    selection::{selected_names, selected_sink},
};
use crate::{
    checkpoint::Checkpoint,
    config::{Configuration, SinkPlan},
    daemon::{
        self, Engine, Event, ReplayExtent, ReplayRequest, Request, RequestFailure, SinkReport,
    },
    error::Explanation,
    model::Day,
    source::Clients,
    state_directory::Holder,
    text::{count, size},
};

/// Runs the command. Returns `Incomplete` if the delivery stopped early, or if the receiver
/// rejected records. Fails if the sink is not configured, or if the arguments select no valid range
/// of days or no tenant.
pub(super) fn replay(config: &Path, args: &args::Replay) -> Result<ExitCode, CommandFailure> {
    if args.rejected {
        let retry = args::DeadLettersRetry {
            ids: Vec::new(),
            sink: Some(args.sink.clone()),
            json: args.json,
        };
        return dead_letters::retry(config, &retry);
    }

    let document = Document::from_flag(args.json);
    document.run(|| {
        let configuration = Configuration::load(config)?;
        let plan = selected_sink(&configuration, &args.sink)?;
        let tenants = selected_names(&configuration, &args.tenant)?;
        let request = request(args, tenants)?;

        if args.dry_run {
            return dry_run(&configuration, plan, &request, document);
        }
        match lock_holder(&configuration.state_directory) {
            Some(holder) => replay_through_daemon(&holder, &request, document),
            None => replay_without_daemon(config, &request, document),
        }
    })
}

/// The request for the days that the arguments select.
fn request(args: &args::Replay, tenants: Vec<String>) -> Result<ReplayRequest, CommandFailure> {
    let first = args.from.ok_or_else(|| usage("`--from` or `--rejected` is required"))?;
    let last = args.to.unwrap_or_else(|| Day::of(crate::clock::now()));
    if first > last {
        return Err(usage("`--from` is after `--to`"));
    }
    Ok(ReplayRequest { sink: args.sink.clone(), first_day: first, last_day: last, tenants })
}

/// Prints how much the replay would send. Reads only the checkpoint.
fn dry_run(
    configuration: &Configuration,
    plan: &SinkPlan,
    request: &ReplayRequest,
    document: Document,
) -> Result<ExitCode, CommandFailure> {
    let checkpoint = Checkpoint::open_read_only(&configuration.state_directory)?;
    let clients = Arc::new(Clients::new(&configuration.http)?);
    let extent = daemon::estimate_replay(configuration, &checkpoint, plan, request, &clients)
        .map_err(RequestFailure::from)?;

    match document {
        Document::Printed => {
            document.print(|| as_json(request, &extent, ResendState::Estimated, None))?;
        }
        Document::Omitted if extent == ReplayExtent::default() => print_message(NOTHING),
        Document::Omitted => print(&format!("{}\n", describe(&extent)))?,
    }
    Ok(ExitCode::Done)
}

fn replay_through_daemon(
    holder: &Holder,
    request: &ReplayRequest,
    document: Document,
) -> Result<ExitCode, CommandFailure> {
    let response = daemon_client::request(holder, &Request::Replay(request.clone()))?;
    let Event::Queued(extent) = response else { return Err(daemon_client::unexpected_response()) };

    let explanation = Explanation::new(queued_line(&extent));
    let is_queued = extent != ReplayExtent::default();
    let hint = "run `status` to see the progress";
    print_explanation(&if is_queued { explanation.with_hint(hint) } else { explanation });
    let state = if is_queued { ResendState::Queued } else { ResendState::NothingToSend };
    document.print(|| as_json(request, &extent, state, None))?;
    Ok(ExitCode::Done)
}

fn replay_without_daemon(
    config: &Path,
    request: &ReplayRequest,
    document: Document,
) -> Result<ExitCode, CommandFailure> {
    let configuration = load_with_secrets(config)?;
    document.check_stdout(configuration.sinks.iter().filter(|plan| plan.name == request.sink))?;
    let engine = Engine::build(configuration)?;

    block_on(async {
        let extent = engine.operations().replay(request).map_err(RequestFailure::from)?;
        print_message(&queued_line(&extent));

        let sink = daemon::deliver_queued(&engine, &request.sink).await;
        print_explanation(&explain_delivery(&sink));
        if let Some(explanation) = explain_dead_letters(std::slice::from_ref(&sink)) {
            print_explanation(&explanation);
        }
        update_cursor_file(&engine);

        let is_complete = sink.has_sent_all();
        let state = match (is_complete, extent == ReplayExtent::default()) {
            (false, _) => ResendState::Incomplete,
            (true, true) => ResendState::NothingToSend,
            (true, false) => ResendState::Delivered,
        };
        document.print(|| as_json(request, &extent, state, Some(&sink)))?;
        Ok(if is_complete { ExitCode::Done } else { ExitCode::Incomplete })
    })?
}

const NOTHING: &str = "no stored days in this range: there is nothing to send";

/// What was queued.
fn queued_line(extent: &ReplayExtent) -> String {
    if *extent == ReplayExtent::default() {
        return NOTHING.to_owned();
    }
    format!("queued to be sent again: {}", describe(extent))
}

/// How much is sent, such as `2 days × 2 tenants, about 920 records, 0.8 MB`.
pub(super) fn describe(extent: &ReplayExtent) -> String {
    let ReplayExtent { days, tenants, tenant_days, records, bytes } = *extent;
    let what = match tenants {
        0 | 1 => count(days, "day"),
        _ if tenant_days == days * tenants => {
            format!("{} × {}", count(days, "day"), count(tenants, "tenant"))
        }
        // The tenants have different days.
        _ => format!("{} of {}", count(tenant_days, "day"), count(tenants, "tenant")),
    };
    format!("{what}, about {}, {}", count(records, "record"), size(bytes))
}

/// The document of the command. `sink` is the delivery if the command has delivered.
fn as_json(
    request: &ReplayRequest,
    extent: &ReplayExtent,
    state: ResendState,
    sink: Option<&SinkReport>,
) -> Value {
    json!({
        "sink": request.sink,
        "from": request.first_day,
        "to": request.last_day,
        "state": state.as_str(),
        "days": extent.days,
        "tenants": extent.tenants,
        "tenant_days": extent.tenant_days,
        "estimated_records": extent.records,
        "estimated_bytes": extent.bytes,
        "records_delivered": sink.map(|sink| sink.delivered),
        "records_rejected": sink.map(|sink| sink.rejected),
        "error": sink
            .and_then(|sink| sink.stopped.as_ref())
            .map(|stopped| json::error(&Explanation::of(stopped))),
    })
}

fn usage(message: &str) -> CommandFailure {
    CommandFailure::new(ExitCode::Usage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extent_has_units_that_a_person_expects() {
        let extent = |days, tenants, tenant_days| ReplayExtent {
            days,
            tenants,
            tenant_days,
            records: 920,
            bytes: 800_000,
        };
        for (extent, text) in [
            (extent(2, 2, 4), "2 days × 2 tenants, about 920 records, 0.8 MB"),
            (extent(1, 500, 500), "1 day × 500 tenants, about 920 records, 0.8 MB"),
            (extent(3, 1, 3), "3 days, about 920 records, 0.8 MB"),
            (extent(3, 2, 4), "4 days of 2 tenants, about 920 records, 0.8 MB"),
        ] {
            assert_eq!(describe(&extent), text);
            assert_eq!(queued_line(&extent), format!("queued to be sent again: {text}"));
        }
        let large = ReplayExtent { records: 20_813, bytes: 31_000_000_000, ..extent(90, 1, 90) };
        assert_eq!(describe(&large), "90 days, about 20,813 records, 31 GB");
        assert_eq!(queued_line(&ReplayExtent::default()), NOTHING);
    }
}
