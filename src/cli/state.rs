//! `state`: maintains the checkpoint. Commands that only read it also work while a daemon is
//! running. `prune` and `forget` send a request to a running daemon. `repair`, `restore` and
//! `prune --compact` need exclusive access to the database, so the daemon must be stopped.

use std::{io::Write, ops::ControlFlow, path::Path};

use super::{
    CommandFailure, ExitCode, args,
    caller::as_caller,
    daemon_client::{request, unexpected_response},
    format_time,
    json::Document,
    lock_holder,
    output_file::{self, not_written},
    print, print_explanation, print_json, print_message,
    selection::selected_tenants,
    snapshot_line,
};
use crate::{
    checkpoint::{
        Checkpoint, ErasureReceipt, LostBody, Pruned, RepairResult, RepairStep, Repaired, SetAside,
        VerifyReport,
    },
    clock,
    config::{Configuration, TenantPlan},
    daemon::{self, Event, Request, resolved_id},
    error::Explanation,
    foreign_text::ForeignText,
    model::{Day, Tenant, TenantId},
    text::{count, plural, size},
};

/// Runs a subcommand. `verify` and `repair` return `Unusable` if the checkpoint is damaged
/// afterwards. Fails if the checkpoint cannot be used.
pub(super) fn state(config: &Path, args: &args::StateCommand) -> Result<ExitCode, CommandFailure> {
    // None of these commands needs a secret.
    let load = || Configuration::load(config);
    match args {
        args::StateCommand::Verify(args) => verify(config, *args),
        args::StateCommand::Repair(args) => repair(&load()?, args),
        args::StateCommand::Backup(args) => backup(&load()?, args),
        args::StateCommand::Restore(args) => restore(&load()?, args),
        args::StateCommand::Prune(args) => prune(&load()?, args),
        args::StateCommand::Export(args) => export(&load()?, args),
        args::StateCommand::Forget(args) => forget(&load()?, args),
    }
}

fn verify(config: &Path, args: args::StateVerify) -> Result<ExitCode, CommandFailure> {
    let document = Document::from_flag(args.json);
    document.run(|| {
        // A fault of the configuration is part of the document too.
        let configuration = Configuration::load(config)?;
        let directory = &configuration.state_directory;
        Checkpoint::probe(directory)?;
        let report = Checkpoint::open_read_only(directory)?.verify()?;
        match document {
            Document::Printed => document.print(|| verification_as_json(&report))?,
            Document::Omitted => print_verification(&report)?,
        }
        if report.findings.is_empty() {
            return Ok(ExitCode::Done);
        }

        let explanation = Explanation::new("the checkpoint is damaged");
        print_explanation(
            &explanation
                .with_hint("stop the daemon, copy the state directory, and run `state repair`"),
        );
        Ok(ExitCode::Unusable)
    })
}

fn verification_as_json(report: &VerifyReport) -> serde_json::Value {
    let VerifyReport { entries, bodies, catalogs, profiles, findings } = report;
    let findings = findings.iter().map(|finding| {
        serde_json::json!({
            "tenant": finding.tenant,
            "day": finding.day.map(|day| day.to_string()),
            "message": finding.message,
        })
    });
    serde_json::json!({
        "damaged": !report.findings.is_empty(),
        "snapshots": entries,
        "bodies": bodies,
        "catalogs": catalogs,
        "profiles": profiles,
        "findings": findings.collect::<Vec<_>>(),
    })
}

/// Prints one line per finding, and a summary.
fn print_verification(report: &VerifyReport) -> Result<(), CommandFailure> {
    let VerifyReport { entries, bodies, catalogs, profiles, findings } = report;
    for finding in findings {
        let tenant = finding.tenant.as_deref();
        let tenant = tenant.map(|tenant| format!("tenant `{tenant}`: ")).unwrap_or_default();
        let day = finding.day.map(|day| format!("day `{day}`: ")).unwrap_or_default();
        let message = ForeignText::new(&finding.message).escaped();
        print(&format!("{tenant}{day}{message}\n"))?;
    }

    print(&format!(
        "read {}, {}, {} and {}: {}\n",
        count(*entries, "snapshot"),
        plural(*bodies, "body", "bodies"),
        count(*catalogs, "catalog"),
        count(*profiles, "profile"),
        match findings.len() {
            0 => "no damage found".to_owned(),
            faults => count(faults, "fault"),
        }
    ))
}

/// Repairs all damage that can be repaired. A file that SQLite cannot use is renamed, and replaced
/// by a new one that uses the cursors in `cursors.json`. A usable file with damage that cannot be
/// repaired is renamed only with `--set-aside`, because its history would be lost.
fn repair(
    configuration: &Configuration,
    args: &args::StateRepair,
) -> Result<ExitCode, CommandFailure> {
    let directory = &configuration.state_directory;
    if args.set_aside {
        print_set_aside(&Checkpoint::set_aside(directory, &file_timestamp())?);
        return Ok(ExitCode::Done);
    }

    let now = clock::now();
    let print_step = |step| print_repair_step(step, Day::of(now));
    let repaired = Checkpoint::repair_all(
        directory,
        now.into(),
        &file_timestamp(),
        daemon::facts_of,
        print_step,
    )?;
    match repaired {
        RepairResult::Replaced => Ok(ExitCode::Done),
        RepairResult::Intact => {
            print("the checkpoint has no damage\n")?;
            Ok(ExitCode::Done)
        }
        RepairResult::Unrepaired(reason) => Ok(unrepaired(&reason)),
        RepairResult::Damaged(report) => {
            print_verification(&report)?;
            let message = "the remaining damage cannot be repaired in place";
            print_explanation(&without_repair(message));
            Ok(ExitCode::Unusable)
        }
    }
}

/// Prints what a step of a repair has changed.
fn print_repair_step(step: RepairStep, today: Day) {
    match step {
        RepairStep::Rebuilt(damaged) => print_message(&format!(
            "copied all rows into a new database and built its indexes again; the damaged one was renamed to `{}`",
            damaged.display()
        )),
        RepairStep::Unusable(reason) => {
            print_message(&format!("the database cannot be repaired: {reason}"));
        }
        RepairStep::Replaced(moved) => print_set_aside(&moved),
        RepairStep::Texts(texts) => {
            print_message(&format!("repaired or removed {}", count(texts, "unreadable text")));
        }
        RepairStep::Adopted(cursors) => print_message(&format!(
            "gave the checkpoint a new ID and took {} from `cursors.json`",
            count(cursors, "cursor")
        )),
        RepairStep::Content(repaired) => print_repairs(&repaired, today),
    }
}

/// Prints what was renamed, and what replaces it.
fn print_set_aside(moved: &SetAside) {
    if let Some(path) = &moved.database {
        let explanation = Explanation::new(format!("renamed the database to `{}`", path.display()));
        print_explanation(
            &explanation.with_hint("run `state restore FILE` to restore older days from a backup"),
        );
    }
    if let Some(path) = &moved.cursor_file {
        print_message(&format!(
            "renamed `cursors.json`, which is not a file, to `{}`",
            path.display()
        ));
    }
    print_message(&new_checkpoint(moved.cursors));
}

/// What happens after the database was replaced by a new one: `cursors` is the number of those in
/// the second cursor file, if that can be used.
fn new_checkpoint(cursors: Option<usize>) -> String {
    let read = "the next poll reads the 90 days that Microsoft keeps";
    match cursors {
        Some(cursors) => format!(
            "created a new checkpoint; {read}, and with {} from `cursors.json`, nothing is sent twice",
            count(cursors, "cursor")
        ),
        None => format!(
            "created a new checkpoint; {read}, and without a usable `cursors.json`, all of them are sent again with the same `event_id`"
        ),
    }
}

/// Reports damage that prevents the repair of everything else.
fn unrepaired(reason: &str) -> ExitCode {
    let message = format!("the damage cannot be repaired in place: {reason}");
    print_explanation(&without_repair(&message));
    ExitCode::Unusable
}

fn without_repair(message: &str) -> Explanation {
    Explanation::new(message).with_hint(
        "run `state restore FILE` to restore a backup; without a backup, run `state repair --set-aside` to start with a new checkpoint and the 90 days that Microsoft keeps",
    )
}

/// Prints what was repaired and what was lost.
fn print_repairs(repaired: &Repaired, today: Day) {
    for lost in &repaired.days {
        print_explanation(&explain_lost_body(lost, today));
    }

    for (tenant, day) in &repaired.held {
        print_message(&format!(
            "tenant `{tenant}`: the held day `{day}` is lost and will be requested again"
        ));
    }
    for (tenant, name) in &repaired.baselines {
        let explanation =
            Explanation::new(format!("tenant `{tenant}`: the baseline `{name}` is lost"));
        print_explanation(&explanation.with_hint("run `baseline set` to set it again"));
    }
    for tenant in &repaired.imports {
        let explanation = Explanation::new(format!("tenant `{tenant}`: a queued import is lost"));
        print_explanation(&explanation.with_hint("run `import` again with the same files"));
    }
    for (tenant, sink) in &repaired.cursors {
        let explanation = Explanation::new(format!(
            "tenant `{tenant}`: the damaged cursor of sink `{sink}` was set to its last known position"
        ));
        print_explanation(&explanation.with_hint(
            "compare the days in the receiver with `status`; run `replay` if days are missing",
        ));
    }

    if repaired.facts > 0 {
        print_message(&format!(
            "rebuilt the facts of {} from their bodies",
            count(repaired.facts, "day")
        ));
    }
    if repaired.catalogs > 0 {
        print_message(&format!(
            "{} lost; days that refer to a lost catalog use the tenant's next one, and the next poll reads the newest catalog again",
            plural(repaired.catalogs, "catalog is", "catalogs are")
        ));
    }
}

/// Explains what happens to a day whose body is lost. The day can be requested again while
/// Microsoft keeps it; the sinks that have not received it then need a replay.
fn explain_lost_body(lost: &LostBody, today: Day) -> Explanation {
    let LostBody { tenant, day, unsent_sinks } = lost;
    let message = format!("tenant `{tenant}`: the body of `{day}` cannot be read");
    if *day < today.oldest_possible_at_source() {
        return Explanation::new(format!("{message}; Microsoft no longer keeps this day"));
    }

    let explanation = Explanation::new(format!("{message} and will be requested again"));
    if unsent_sinks.is_empty() {
        return explanation;
    }
    let replays: Vec<String> = unsent_sinks
        .iter()
        .map(|sink| format!("`replay --sink {sink} --from {day} --to {day}`"))
        .collect();
    explanation.with_hint(format!("run {} after the next poll to send it", replays.join(" and ")))
}

fn backup(
    configuration: &Configuration,
    args: &args::StateBackup,
) -> Result<ExitCode, CommandFailure> {
    let checkpoint = Checkpoint::open_read_only(&configuration.state_directory)?;
    let file = args.file.clone();
    if as_caller(move || file.symlink_metadata().is_ok())? {
        let message = format!("`{}` already exists and is not overwritten", args.file.display());
        return Err(CommandFailure::new(ExitCode::Usage, message));
    }

    let (copy, file) = (checkpoint.backup_without_name()?, args.file.clone());
    let written = as_caller(move || output_file::copy_new(&copy, &file))?;
    let bytes = written.map_err(|error| not_written(&error))?;
    print_message(&format!(
        "wrote a backup of the checkpoint to `{}`, {}",
        args.file.display(),
        size(bytes)
    ));
    Ok(ExitCode::Done)
}

fn restore(
    configuration: &Configuration,
    args: &args::StateRestore,
) -> Result<ExitCode, CommandFailure> {
    let directory = &configuration.state_directory;
    let restored = Checkpoint::restore(directory, &args.file, &file_timestamp())?;
    if let Some(previous) = &restored.set_aside {
        print_message(&format!("renamed the previous checkpoint to `{}`", previous.display()));
    }
    if restored.newer_cursors > 0 {
        print_message(&format!(
            "took {} from `cursors.json`: records that were sent since the backup are not sent again",
            count(restored.newer_cursors, "cursor")
        ));
    }
    print(&format!("restored as checkpoint `{}`\n", restored.checkpoint_id))?;
    Ok(ExitCode::Done)
}

fn prune(
    configuration: &Configuration,
    args: &args::StatePrune,
) -> Result<ExitCode, CommandFailure> {
    let directory = &configuration.state_directory;
    let Pruned { days, used_bytes: used } = match lock_holder(directory) {
        Some(_) if args.compact => {
            let message = "cannot compact the checkpoint: the daemon is running";
            return Err(CommandFailure::new(
                ExitCode::Unusable,
                Explanation::new(message).with_hint("stop the daemon and run the command again"),
            ));
        }
        Some(holder) => match request(&holder, &Request::Prune)? {
            Event::Pruned(pruned) => pruned,
            _ => return Err(unexpected_response()),
        },
        None => {
            let checkpoint = Checkpoint::open(directory)?;
            let pruned = daemon::prune(configuration, &checkpoint)?;
            if args.compact {
                checkpoint.compact()?;
            }
            pruned
        }
    };

    print(&format!("pruned the bodies of {}; {} in use\n", count(days, "day"), size(used)))?;
    Ok(ExitCode::Done)
}

fn export(
    configuration: &Configuration,
    args: &args::StateExport,
) -> Result<ExitCode, CommandFailure> {
    let selected = selected_tenants(configuration, &args.tenant)?;
    let checkpoint = Checkpoint::open_read_only(&configuration.state_directory)?;
    let resolved = |plan: &&TenantPlan| daemon::resolved_tenant(plan, &checkpoint);
    let tenants: Vec<Tenant> = selected.iter().filter_map(resolved).collect();
    if tenants.is_empty() && !args.tenant.is_empty() {
        let explanation = Explanation::new("no selected tenant has been read yet");
        let hint = "run `poll`, or `once` if no daemon is running";
        return Err(CommandFailure::new(ExitCode::Usage, explanation.with_hint(hint)));
    }

    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for tenant in tenants {
        let mut written = Ok(());
        checkpoint.for_each_body(tenant.id, args.from, args.to, |body| {
            written = writeln!(out, "{}", snapshot_line(body));
            if written.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        written?;
    }
    out.flush()?;
    Ok(ExitCode::Done)
}

fn forget(
    configuration: &Configuration,
    args: &args::StateForget,
) -> Result<ExitCode, CommandFailure> {
    let directory = &configuration.state_directory;
    let tenant = TenantId::parse(&args.tenant).map_err(|_| {
        let explanation = Explanation::new(format!("`{}` is not a valid GUID", args.tenant));
        let hint = "run `status --json` to list the GUIDs of the tenants";
        CommandFailure::new(ExitCode::Usage, explanation.with_hint(hint))
    })?;

    let inspected = Checkpoint::open_read_only(directory)?;
    let id = |plan: &TenantPlan| resolved_id(plan, Some(&inspected));
    if configuration.tenants.iter().any(|plan| id(plan) == Some(tenant)) {
        let explanation = Explanation::new(format!(
            "cannot erase tenant `{tenant}`: it is configured, and the next poll would read it again"
        ));
        return Err(CommandFailure::new(
            ExitCode::Usage,
            explanation
                .with_hint("remove the tenant from the configuration, and reload the daemon"),
        ));
    }
    if !args.yes {
        let explanation = Explanation::new(
            "nothing was erased: an erasure cannot be undone, and does not change backups",
        );
        let explanation = explanation.with_hint("pass --yes to erase the tenant");
        return Err(CommandFailure::new(ExitCode::Usage, explanation));
    }

    let forgotten = if let Some(holder) = lock_holder(directory) {
        match request(&holder, &Request::Forget { tenant })? {
            Event::Forgotten(forgotten) => forgotten,
            _ => return Err(unexpected_response()),
        }
    } else {
        Checkpoint::open(directory)?.forget(tenant, clock::now().into())?
    };
    let Some(forgotten) = forgotten else {
        let message = format!("the checkpoint contains no data of tenant `{tenant}`");
        return Err(CommandFailure::new(ExitCode::Usage, message));
    };
    print_json(&receipt(&forgotten))?;
    Ok(ExitCode::Done)
}

/// The receipt for an auditor: a JSON document that states what was erased, where, when and by
/// which version, and what the command did not change.
fn receipt(forgotten: &ErasureReceipt) -> String {
    let receipt = serde_json::json!({
        "erased": {
            "tenant": forgotten.tenant,
            "first_day": forgotten.first_day,
            "last_day": forgotten.last_day,
            "snapshots": forgotten.snapshots,
            "observations": forgotten.observations,
            "catalogs": forgotten.catalogs,
            "profiles": forgotten.profiles,
            "dead_letters": forgotten.dead_letters,
        },
        "checkpoint_id": forgotten.checkpoint_id,
        "erased_at": format_time(forgotten.erased_at),
        "host": daemon::host_name(),
        "program": format!("secure-score-forwarder {}", env!("CARGO_PKG_VERSION")),
        "not_erased": "backups, databases that were renamed by `state repair` or `state restore`, and records that receivers have acknowledged",
    });
    format!("{receipt:#}\n")
}

/// The current time in UTC for the name of a file, such as `20261122T061509Z`.
fn file_timestamp() -> String {
    clock::now().strftime("%Y%m%dT%H%M%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: the message promised that nothing is sent twice if `cursors.json` is intact,
    /// without stating whether it is.
    #[test]
    fn a_new_checkpoint_states_what_is_sent_again() {
        let with_cursors = new_checkpoint(Some(2));
        assert!(with_cursors.contains("with 2 cursors from `cursors.json`, nothing is sent twice"));
        let without = new_checkpoint(None);
        assert!(without.contains("without a usable `cursors.json`, all of them are sent again"));
    }

    #[test]
    fn lost_days_are_requested_while_kept() {
        let today = Day::parse("2026-11-22").unwrap();
        for (days, expected) in [
            (0, "and will be requested again"),
            (90, "and will be requested again"),
            (91, "; Microsoft no longer keeps this day"),
        ] {
            let day = today.plus(-days);
            let lost = LostBody { tenant: "t".to_owned(), day, unsent_sinks: Vec::new() };
            let message = explain_lost_body(&lost, today).message;
            assert!(message.ends_with(expected), "{message}");
        }
    }
}
