//! `fetch`: prints days directly from the API. It opens no checkpoint and no sink. It does not
//! compare a day with an earlier one, so it never prints changes.

use std::{fmt::Write as _, path::Path, sync::Arc};

use comfy_table::{ContentArrangement, Table, presets::NOTHING};

use super::{
    CommandFailure, ExitCode, act_as_owner, args, args::Output, backfill::progress_bar, block_on,
    load_with_secrets, print, print_message, unknown_tenant,
};
use crate::{
    clock,
    config::Configuration,
    daemon::{FetchedTenant, PollError, fetch_tenant},
    derive::{Comparison, Entry, Records, Rules, Selection},
    error::chain,
    format::{FormatName, Formatter, Options, Texts, csv_cell, plain},
    ledger,
    model::{Body, Day, Number, Record, SnapshotRef},
    source::{Clients, SourceError},
    wire,
};

/// Runs the command. Returns `Incomplete` if a tenant could not be read, or only in part. Fails if
/// the tenant is not configured.
pub(super) fn fetch(config: &Path, args: &args::Fetch) -> Result<ExitCode, CommandFailure> {
    let configuration = load_with_secrets(config)?;
    if configuration.credentials.iter().any(|named| named.credential.user().is_some()) {
        // A sign-in replaces the refresh token in the state directory.
        act_as_owner(&configuration.state_directory)?;
    }
    let is_selected = |name: &str| args.tenant.as_deref().is_none_or(|tenant| tenant == name);
    if !configuration.tenants.iter().any(|tenant| is_selected(&tenant.name)) {
        let name = args.tenant.as_deref().unwrap_or_default();
        return Err(unknown_tenant(&configuration, name));
    }

    let fetched = block_on(fetch_all(&configuration, args))??;

    let mut printer = Printer::new(args.output);
    let mut exit = ExitCode::Done;
    for (name, result) in fetched {
        match result {
            Ok(fetched) => {
                if let Some(warning) = &fetched.warning {
                    print_message(&format!("tenant `{name}`: the response is partial: {warning}"));
                    exit = ExitCode::Incomplete;
                }
                printer.add_tenant(&fetched)?;
            }
            Err(error) => {
                print_message(&format!("tenant `{name}`: {}", chain(&error)));
                exit = ExitCode::Incomplete;
            }
        }
    }
    print(&printer.finish())?;
    Ok(exit)
}

/// Reads the selected tenants one after another; the results are in the order of the configuration.
async fn fetch_all(
    configuration: &Configuration,
    args: &args::Fetch,
) -> Result<Vec<(String, Result<FetchedTenant, PollError>)>, SourceError> {
    let plans: Vec<_> = configuration
        .tenants
        .iter()
        .filter(|t| args.tenant.as_deref().is_none_or(|name| name == t.name))
        .collect();
    let bar = progress_bar(plans.len() as u64);
    let clients = Arc::new(Clients::new(&configuration.http)?);

    let mut results = Vec::new();
    for plan in plans {
        let first = Day::of(clock::now()).plus(1 - args.days);
        results.push((plan.name.clone(), fetch_tenant(&clients, plan, first).await));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(results)
}

/// Builds the output of all tenants in the selected format.
struct Printer {
    output: Output,
    text: String,
    rows: u64,
    json: Formatter,
    table: Table,
}

/// The columns of the CSV output. A table omits the last one, whose values are long.
const COLUMNS: [&str; 10] =
    ["tenant", "day", "control", "category", "score", "max", "percent", "state", "title", "status"];

impl Printer {
    fn new(output: Output) -> Self {
        let options = Options { texts: Texts::Full, host: String::new(), fields: vec![] };
        let mut table = Table::new();
        table
            .load_style(NOTHING)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header(&COLUMNS[..9]);

        let mut text = String::new();
        match output {
            Output::Csv => text = COLUMNS.join(",") + "\n",
            Output::Json => text += "[",
            _ => {}
        }
        Self { output, text, rows: 0, json: Formatter::new(FormatName::Json, options), table }
    }

    /// Adds all days of a tenant. Fails if a body cannot be decoded.
    fn add_tenant(&mut self, fetched: &FetchedTenant) -> Result<(), CommandFailure> {
        for day in &fetched.days {
            let body = day.body.decompress()?;
            if self.output == Output::Raw {
                self.text += &body.replace(['\n', '\r'], " ");
                self.text.push('\n');
                continue;
            }

            let snapshot = wire::snapshot(&body)
                .map_err(|error| CommandFailure::new(ExitCode::Incomplete, chain(&error)))?;
            let at = SnapshotRef {
                id: day.snapshot_id.clone(),
                day: day.facts.day,
                revision: 1,
                seq: 0,
                late: false,
                backfilled: day.facts.day < fetched.today.plus(1 - ledger::REREAD_DAYS),
                partial: false,
                imported: false,
            };

            let observed_time = fetched.observed.to_string();
            let entry = Entry {
                tenant: &fetched.tenant,
                snapshot: &at,
                observed_time: &observed_time,
                observed_at: fetched.observed.into(),
                history: &[],
                catalog: &fetched.catalog,
                comparison: Comparison::default(),
                rules: Rules::none(),
                replayed: false,
            };

            let selection = Selection::all();
            let records = Records::new(&entry, &snapshot, &selection);
            (0..records.end())
                .filter_map(|record_index| records.at(record_index))
                .for_each(|record| self.add_record(&record));
        }
        Ok(())
    }

    fn add_record(&mut self, record: &Record<'_>) {
        match self.output {
            Output::Json | Output::Jsonl => {
                let mut line = Vec::new();
                self.json.write(record, &mut line);
                let separator = match self.output {
                    Output::Json if self.rows > 0 => ",\n",
                    Output::Json => "\n",
                    _ => "",
                };
                self.text += separator;
                self.text += &String::from_utf8_lossy(&line);
                if self.output == Output::Jsonl {
                    self.text.push('\n');
                }
            }
            _ => self.add_row(record),
        }
        self.rows += 1;
    }

    fn add_row(&mut self, record: &Record<'_>) {
        let cells = cells(record);
        if self.output == Output::Csv {
            let mut row = Vec::new();
            for (index, cell) in cells.iter().enumerate() {
                if index > 0 {
                    row.push(b',');
                }
                csv_cell(cell, &mut row);
            }
            let _ = writeln!(self.text, "{}", String::from_utf8_lossy(&row));
        } else {
            self.table.add_row(&cells[..9]);
        }
    }

    fn finish(mut self) -> String {
        match self.output {
            Output::Table if self.rows == 0 => String::new(),
            Output::Table => format!("{}\n", self.table),
            Output::Json => {
                self.text += "\n]\n";
                self.text
            }
            _ => self.text,
        }
    }
}

/// The values of [`COLUMNS`]; empty where a record has none.
fn cells(record: &Record<'_>) -> [String; 10] {
    let number = |n: Option<Number>| n.map(|n| n.to_string()).unwrap_or_default();
    let text = |t: Option<&str>| t.map(|t| plain(t).into_owned()).unwrap_or_default();
    let (tenant, day) = (record.tenant.name.clone(), record.snapshot.day.to_string());

    match &record.body {
        Body::Control(c) => [
            tenant,
            day,
            c.id.to_owned(),
            text(c.category),
            number(c.score),
            number(c.max_score.map(|(max, _)| max)),
            number(c.percentage),
            text(c.state()),
            text(Some(c.title())),
            text(c.implementation_status),
        ],

        Body::Summary(s) => {
            let title = format!("{} controls", s.controls_total);
            [
                tenant,
                day,
                "(total)".into(),
                String::new(),
                number(s.current),
                number(s.max),
                number(s.percentage),
                String::new(),
                title,
                String::new(),
            ]
        }
        // Without a comparison and a history, an entry has no such records.
        Body::Change(_) | Body::Quality(_) => Default::default(),
    }
}
