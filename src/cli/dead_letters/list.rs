//! `dead-letters list` and `dead-letters show`. Both only read the checkpoint, so they also work
//! while a daemon is running, and they never open a connection to a receiver. A record is not
//! stored with its dead letter: [`show`] derives it again from the log. Start reading at [`list`].

use std::{path::Path, sync::Arc};

use serde_json::{Value, json};

use super::super::{
    CommandFailure, ExitCode, args, count, format_time,
    json::{self, Document},
    print, print_explanation,
    selection::{selected_sink, selected_tenants},
    table::{Column, Content, Terminal, TextTable, Tone},
};
use super::{groups, select};
use crate::{
    checkpoint::{
        Checkpoint, DeadLetterFilter, DeadLetterGroup, DeadLetterReason, QueuedDeadLetter,
    },
    config::{Configuration, TenantPlan},
    daemon::{self, DeadLetterRecord, DeliveryError},
    error::Explanation,
    foreign_text::ForeignText,
    model::{Tenant, TenantId},
    source::Clients,
    text::plural,
};

/// The number of digits of an event ID in the list: enough to identify a dead letter.
const LISTED_DIGITS: usize = 12;

/// A configured tenant whose ID is known.
struct KnownTenant<'a> {
    plan: &'a TenantPlan,
    tenant: Tenant,
}

/// Lists the newest groups of dead letters with the same message, or the newest dead letters.
pub(super) fn list(
    config: &Path,
    args: &args::DeadLettersList,
) -> Result<ExitCode, CommandFailure> {
    let document = Document::from_flag(args.json);
    document.run(|| {
        let configuration = Configuration::load(config)?;
        let selected = selected_tenants(&configuration, &args.tenant)?;
        let checkpoint = Checkpoint::open_read_only(&configuration.state_directory)?;
        let filter = filter(args, &selected, &checkpoint);
        let total = checkpoint.count_dead_letters(&filter)?;
        if let Some(sink) = &args.sink
            && total == 0
        {
            selected_sink(&configuration, sink)?;
        }

        let known = known_tenants(&configuration, &checkpoint);
        if document == Document::Omitted && !args.ungrouped {
            let groups = checkpoint.dead_letter_groups(&filter)?;
            print_explanation(&print_groups(&groups, &known, args.limit)?);
            return Ok(ExitCode::Done);
        }

        let letters = checkpoint.find_dead_letters(&filter, args.limit)?;
        if document == Document::Printed {
            let letters: Vec<Value> = letters.iter().map(|l| as_json(l, &known)).collect();
            document.print(|| json!({ "total": total, "dead_letters": letters }))?;
        } else {
            print(&as_text(&letters, &known))?;
        }
        print_explanation(&summary(total, letters.len() as u64));
        Ok(ExitCode::Done)
    })
}

/// Prints the dead letters with an event ID: usually one, and one per sink if several sinks have
/// rejected the record.
pub(super) fn show(
    config: &Path,
    args: &args::DeadLettersShow,
) -> Result<ExitCode, CommandFailure> {
    let document = Document::from_flag(args.json);
    document.run(|| {
        let configuration = Configuration::load(config)?;
        let checkpoint = Checkpoint::open_read_only(&configuration.state_directory)?;
        let ids = std::slice::from_ref(&args.id);
        let letters = select(&checkpoint, &configuration, ids, args.sink.as_ref())?;
        let known = known_tenants(&configuration, &checkpoint);

        let (mut texts, mut documents) = (Vec::new(), Vec::new());
        for letter in &letters {
            let record = record(&configuration, &checkpoint, &known, letter)?;
            let format = format_of(&configuration, letter);
            texts.push(details(letter, &known, format, &record));
            documents.push(details_as_json(letter, &known, format, &record));
        }
        match document {
            Document::Printed => document.print(|| json!({ "dead_letters": documents }))?,
            Document::Omitted => print(&texts.join("\n"))?,
        }
        Ok(ExitCode::Done)
    })
}

fn known_tenants<'a>(
    configuration: &'a Configuration,
    checkpoint: &Checkpoint,
) -> Vec<KnownTenant<'a>> {
    let known = |plan: &'a TenantPlan| {
        let tenant = daemon::resolved_tenant(plan, checkpoint)?;
        Some(KnownTenant { plan, tenant })
    };
    configuration.tenants.iter().filter_map(known).collect()
}

fn filter(
    args: &args::DeadLettersList,
    selected: &[&TenantPlan],
    checkpoint: &Checkpoint,
) -> DeadLetterFilter {
    let id = |plan: &&TenantPlan| Some(daemon::resolved_tenant(plan, checkpoint)?.id);
    let ids: Vec<TenantId> = selected.iter().filter_map(id).collect();
    DeadLetterFilter {
        sink: args.sink.clone(),
        // Without a pattern, tenants that are no longer configured are included.
        tenants: (!args.tenant.is_empty()).then_some(ids),
        event_id_prefix: String::new(),
    }
}

/// The configured name of a tenant, else its ID.
fn tenant_name(tenant: TenantId, known: &[KnownTenant<'_>]) -> String {
    configured_name(tenant, known).map_or_else(|| tenant.to_string(), str::to_owned)
}

fn configured_name<'k>(tenant: TenantId, known: &'k [KnownTenant<'_>]) -> Option<&'k str> {
    let found = known.iter().find(|known| known.tenant.id == tenant);
    found.map(|known| known.tenant.name.as_str())
}

/// Prints the newest groups of dead letters with the same message, and returns the summary.
fn print_groups(
    groups: &[DeadLetterGroup],
    known: &[KnownTenant<'_>],
    limit: u32,
) -> Result<Explanation, CommandFailure> {
    let letters: u64 = groups.iter().map(|group| group.letters).sum();
    let mut reasons = DeadLetterReason::newest_first(groups);
    let total = reasons.len();
    reasons.truncate(usize::try_from(limit).unwrap_or(usize::MAX));

    if !reasons.is_empty() {
        let table = groups::table(&reasons, |tenant| tenant_name(tenant, known), LISTED_DIGITS);
        let rendered = table.render(Terminal::of_stdout());
        print(&with_messages(&rendered, reasons.iter().map(|reason| reason.reason)))?;
    }
    Ok(summary_of_groups(letters, total, reasons.len()))
}

/// A table, in which the receiver's message follows each row on a separate line. Empty if there
/// are no dead letters.
fn as_text(letters: &[QueuedDeadLetter], known: &[KnownTenant<'_>]) -> String {
    if letters.is_empty() {
        return String::new();
    }
    let mut table = TextTable::new(vec![
        Column::new("event ID", Content::Text, 0),
        Column::new("sink", Content::Text, 0),
        Column::new("tenant", Content::Text, 0),
        Column::new("day", Content::Text, 1),
        Column::new("rejected at", Content::Text, 3),
        Column::new("retry", Content::Text, 2),
    ]);

    let cell = |text: String| (text, Tone::Plain);
    for letter in letters {
        table.row(vec![
            cell(letter.event_id.to_string().chars().take(LISTED_DIGITS).collect()),
            cell(letter.sink.to_string()),
            cell(tenant_name(letter.tenant, known)),
            cell(letter.day.map_or_else(|| "none".to_owned(), |day| day.to_string())),
            cell(format_time(letter.rejected_at)),
            cell(if letter.retry { "queued" } else { "no" }.to_owned()),
        ]);
    }

    let rendered = table.render(Terminal::of_stdout());
    with_messages(&rendered, letters.iter().map(|letter| letter.reason.as_str()))
}

/// A table, in which the receiver's message follows each row on a separate line.
fn with_messages<'a>(table: &str, messages: impl Iterator<Item = &'a str>) -> String {
    let mut lines = table.lines();
    let header = lines.next().unwrap_or_default();
    let rows = lines.zip(messages).map(|(line, message)| {
        let message = ForeignText::new(message).escaped();
        format!("{line}\n    {message}\n")
    });
    std::iter::once(format!("{header}\n")).chain(rows).collect()
}

/// The number of groups of dead letters, and what to do next.
fn summary_of_groups(letters: u64, total: usize, listed: usize) -> Explanation {
    if letters == 0 {
        return Explanation::new("there are no dead letters");
    }
    let mut message = format!("{} in {}", count(letters, "dead letter"), count(total, "group"));
    if listed < total {
        let listed = plural(listed, "is listed", "are listed");
        message = format!("{message}, of which the newest {listed}");
    }
    let hint = "run `dead-letters show ID` to see a record or `dead-letters list --ungrouped` to list all, and then `dead-letters retry` or `dead-letters discard`";
    Explanation::new(message).with_hint(hint)
}

/// The number of dead letters, and what to do next.
fn summary(total: u64, listed: u64) -> Explanation {
    if total == 0 {
        return Explanation::new("there are no dead letters");
    }
    let mut message = count(total, "dead letter");
    if listed < total {
        let listed = plural(listed, "is listed", "are listed");
        message = format!("{message}, of which the newest {listed}");
    }
    let hint = "run `dead-letters show ID` to see a record, and then `dead-letters retry` or `dead-letters discard`";
    Explanation::new(message).with_hint(hint)
}

/// The same members as in `status --json`, and the name of the tenant.
fn as_json(letter: &QueuedDeadLetter, known: &[KnownTenant<'_>]) -> Value {
    let mut document = json::dead_letter(letter);
    document["tenant_name"] = json!(configured_name(letter.tenant, known));
    document
}

/// The record of a dead letter as its sink would send it now.
fn record(
    configuration: &Configuration,
    checkpoint: &Checkpoint,
    known: &[KnownTenant<'_>],
    letter: &QueuedDeadLetter,
) -> Result<DeadLetterRecord, CommandFailure> {
    let Some(plan) = configuration.sink_named(&letter.sink) else {
        return Ok(DeadLetterRecord::Absent("the sink is not configured"));
    };
    let Some(known) = known.iter().find(|known| known.tenant.id == letter.tenant) else {
        return Ok(DeadLetterRecord::Absent("the tenant is not configured"));
    };

    let clients = Arc::new(Clients::new(&configuration.http)?);
    let tenant = (known.plan, &known.tenant);
    let record = daemon::dead_letter_record(checkpoint, plan, tenant, letter, &clients);
    record.map_err(|error| match error {
        DeliveryError::Checkpoint(error) => error.into(),
        other => CommandFailure::from_error(ExitCode::Incomplete, &other),
    })
}

/// The name of the format of the letter's sink; `None` if the sink is not configured.
fn format_of(configuration: &Configuration, letter: &QueuedDeadLetter) -> Option<&'static str> {
    Some(configuration.sink_named(&letter.sink)?.plan.format().as_str())
}

fn details(
    letter: &QueuedDeadLetter,
    known: &[KnownTenant<'_>],
    format: Option<&str>,
    record: &DeadLetterRecord,
) -> String {
    let record = match record {
        DeadLetterRecord::Text(text) => {
            format!("record ({}):\n\n{text}\n", format.unwrap_or_default())
        }
        DeadLetterRecord::Absent(reason) => format!("record:      not available: {reason}\n"),
    };
    format!(
        "event ID:    {}\nsink:        {}\ntenant:      {}\nday:         {}\nrejected at: {}\nretry:       {}\nmessage:     {}\n{record}",
        letter.event_id,
        letter.sink,
        tenant_name(letter.tenant, known),
        letter.day.map_or_else(|| "none".to_owned(), |day| day.to_string()),
        format_time(letter.rejected_at),
        if letter.retry { "queued" } else { "no" },
        ForeignText::new(&letter.reason).escaped(),
    )
}

fn details_as_json(
    letter: &QueuedDeadLetter,
    known: &[KnownTenant<'_>],
    format: Option<&str>,
    record: &DeadLetterRecord,
) -> Value {
    let (text, error) = match record {
        DeadLetterRecord::Text(text) => (Some(text), None),
        DeadLetterRecord::Absent(reason) => (None, Some(reason)),
    };
    let mut document = as_json(letter, known);
    document["format"] = json!(format);
    document["record"] = json!(text);
    document["record_error"] = json!(error);
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_states_what_is_not_listed() {
        assert_eq!(summary(0, 0), Explanation::new("there are no dead letters"));
        assert_eq!(summary(1, 1).message, "1 dead letter");
        let truncated = summary(60, 50);
        assert_eq!(truncated.message, "60 dead letters, of which the newest 50 are listed");
        assert!(truncated.hint.is_some());

        assert_eq!(summary_of_groups(0, 0, 0), summary(0, 0));
        assert_eq!(summary_of_groups(5, 1, 1).message, "5 dead letters in 1 group");
        let truncated = "60 dead letters in 3 groups, of which the newest 1 is listed";
        assert_eq!(summary_of_groups(60, 3, 1).message, truncated);
    }
}
