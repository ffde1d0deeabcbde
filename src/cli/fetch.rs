//! `fetch`: days straight from the API, on the screen or into a pipe.

use std::{fmt::Write as _, path::Path, sync::Arc};

use comfy_table::{ContentArrangement, Table, presets::NOTHING};

use super::{Exit, Failed, args, args::Output, block_on, print, say};
use crate::{
    clock,
    config::Configuration,
    daemon::{FetchedTenant, PollError, fetch_tenant},
    derive::{Comparison, Entry, Records, Rules, Selection},
    error::chain,
    format::{FormatName, Formatter, Options, Texts, csv_cell, plain},
    model::{Body, Day, Record, SnapshotRef},
    source::{Clients, SourceError},
    wire,
};

pub(super) fn fetch(config: &Path, args: &args::Fetch) -> Result<Exit, Failed> {
    let configuration = super::load(config)?;
    if configuration.credentials.iter().any(|named| named.credential.user().is_some()) {
        // A refresh token is replaced at each use.
        super::act_as_owner(&configuration.state_directory)?;
    }
    let wanted = |name: &str| args.tenant.as_deref().is_none_or(|tenant| tenant == name);
    if !configuration.tenants.iter().any(|tenant| wanted(&tenant.name)) {
        return Err(super::no_tenant(&configuration, args.tenant.as_deref().unwrap_or_default()));
    }
    let mut printer = Printer::new(args.output);
    let mut exit = Exit::Done;
    let fetched = block_on(fetch_all(&configuration, args))??;
    for (name, result) in fetched {
        match result {
            Ok(fetched) => {
                if let Some(warning) = &fetched.warning {
                    say(&format!("tenant {name}: part of the answer is missing: {warning}"));
                    exit = Exit::Incomplete;
                }
                printer.tenant(&fetched)?;
            }
            Err(error) => {
                say(&format!("tenant {name}: {}", chain(&error)));
                exit = Exit::Incomplete;
            }
        }
    }
    print(&printer.finish())?;
    Ok(exit)
}

async fn fetch_all(
    configuration: &Configuration,
    args: &args::Fetch,
) -> Result<Vec<(String, Result<FetchedTenant, PollError>)>, SourceError> {
    let plans: Vec<_> = configuration
        .tenants
        .iter()
        .filter(|t| args.tenant.as_deref().is_none_or(|name| name == t.name))
        .collect();
    let bar = super::backfill::progress(plans.len() as u64);
    let clients = Arc::new(Clients::new(&configuration.reach)?);
    let mut results = Vec::new();
    for plan in plans {
        let today = Day::of(clock::now());
        results.push((
            plan.name.clone(),
            fetch_tenant(&clients, plan, today.plus(1 - args.days)).await,
        ));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(results)
}

/// Gathers what is to be printed.
struct Printer {
    output: Output,
    text: String,
    rows: u64,
    json: Formatter,
    table: Table,
}

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

    fn tenant(&mut self, fetched: &FetchedTenant) -> Result<(), Failed> {
        for seen in &fetched.days {
            let body = seen.body.text()?;
            if self.output == Output::Raw {
                self.text += &body.replace(['\n', '\r'], " ");
                self.text.push('\n');
                continue;
            }
            let snapshot = wire::snapshot(&body)
                .map_err(|error| Failed::new(Exit::Incomplete, chain(&error)))?;
            let at = SnapshotRef {
                id: seen.snapshot_id.clone(),
                day: seen.facts.day,
                revision: 1,
                seq: 0,
                late: false,
                backfilled: seen.facts.day < fetched.today.plus(1 - crate::ledger::WINDOW),
                partial: false,
                imported: false,
            };
            let (observed_time, observed_ms) =
                (fetched.observed.to_string(), fetched.observed.as_millisecond());
            let entry = Entry {
                tenant: &fetched.tenant,
                snapshot: &at,
                observed_time: &observed_time,
                observed_ms,
                history: &[],
                catalog: &fetched.catalog,
                comparison: Comparison::default(),
                rules: Rules::none(),
                replayed: false,
            };
            let selection = Selection::all();
            let records = Records::new(&entry, &snapshot, &selection);
            (0..records.end())
                .filter_map(|place| records.at(place))
                .for_each(|record| self.record(&record));
        }
        Ok(())
    }

    fn record(&mut self, record: &Record<'_>) {
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
            _ => self.row(record),
        }
        self.rows += 1;
    }

    fn row(&mut self, record: &Record<'_>) {
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

fn cells(record: &Record<'_>) -> [String; 10] {
    let number = |n: Option<crate::model::Number>| n.map(|n| n.to_string()).unwrap_or_default();
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
        // `fetch` looks at days alone, and nothing has changed or been noticed without others.
        Body::Change(_) | Body::Quality(_) => Default::default(),
    }
}
