//! `fetch`: prints days directly from the API. It opens no checkpoint and no sink. It does not
//! compare a day with an earlier one, so it never prints changes.

use std::{fmt::Write as _, path::Path, sync::Arc};

use super::{
    CommandFailure, ExitCode, args,
    args::Output,
    backfill::progress_bar,
    block_on, load_with_secrets, print, print_data, print_explanation,
    selection::selected_tenants,
    snapshot_line,
    table::{Column, Content, Terminal, TextTable, Tone},
};
use crate::{
    clock,
    config::{Configuration, TenantPlan},
    daemon::{FetchedTenant, PollError, fetch_tenant},
    derive::{Comparison, Entry, Records, Rules, Selection},
    error::{Explanation, chain},
    foreign_text::ForeignText,
    format::{FormatName, Formatter, Options, Texts, plain},
    ledger,
    model::{Body, Day, Number, Observation, Phase, Record, Seq, SnapshotRef, SummaryRecord},
    source::{Clients, SourceError},
    text::{count, cut, decimal, percent, points},
    wire,
};

/// Runs the command. Returns `Incomplete` if a tenant could not be read, or only in part. Fails if
/// a pattern matches no tenant.
pub(super) fn fetch(config: &Path, args: &args::Fetch) -> Result<ExitCode, CommandFailure> {
    let configuration = load_with_secrets(config)?;
    let plans = selected_tenants(&configuration, &args.tenant)?;
    let first = Day::of(clock::now()).plus(1 - args.days);
    let fetched = block_on(fetch_all(&configuration, &plans, first))??;

    let mut printer = Printer::new(args.output, Terminal::of_stdout());
    let mut exit = ExitCode::Done;
    for (name, result) in fetched {
        match result {
            Ok(fetched) => {
                print_missing(&name, &fetched);
                print_faults(&name, &fetched, first);
                if is_incomplete(&fetched) {
                    exit = ExitCode::Incomplete;
                }
                printer.add_tenant(&fetched)?;
            }
            Err(error) => {
                print_problem(&name, Explanation::of(&error));
                exit = ExitCode::Incomplete;
            }
        }
    }
    match args.output {
        Output::Table => print(&printer.finish())?,
        Output::Json | Output::Jsonl | Output::Raw | Output::Csv => print_data(&printer.finish())?,
    }
    Ok(exit)
}

/// Whether something that was requested is not shown.
fn is_incomplete(fetched: &FetchedTenant) -> bool {
    fetched.failure.is_some() || fetched.warning.is_some() || fetched.rejected.count() > 0
}

/// Prints why older days, or parts of the days that are shown, are missing.
fn print_missing(tenant: &str, fetched: &FetchedTenant) {
    if let Some(error) = &fetched.failure {
        // The newest day is first, and at least one was read.
        let oldest = fetched.days.last().map_or(fetched.today, |day| day.facts.day);
        let missing = format!("the days before `{oldest}` are missing");
        print_problem(tenant, Explanation::of(error).within(&missing));
    }
    if let Some(warning) = &fetched.warning {
        print_problem(tenant, format!("the response is partial: {warning}").into());
    }
}

/// Prints why snapshots are not shown, and what is wrong with those that are.
fn print_faults(tenant: &str, fetched: &FetchedTenant, first: Day) {
    let rejected = fetched.rejected.observations(fetched.today);
    for observation in rejected.iter().filter(|rejected| rejected.phase == Phase::Begin) {
        let Observation { subject, details, .. } = observation;
        print_problem(tenant, format!("snapshot rejected ({subject}): {details}").into());
    }
    for day in fetched.days.iter().filter(|day| !day.faults.is_empty()) {
        let (date, faults) = (day.facts.day, &day.faults);
        print_problem(tenant, format!("the scores of {date} contain faults: {faults}").into());
    }
    if !fetched.catalog_faults.is_empty() {
        let problem = format!("the catalog contains faults: {}", fetched.catalog_faults);
        print_problem(tenant, problem.into());
    }
    if fetched.days.is_empty() && fetched.rejected.count() == 0 {
        print_problem(tenant, format!("Microsoft lists no snapshot since `{first}`").into());
    }
}

fn print_problem(tenant: &str, problem: Explanation) {
    print_explanation(&problem.within(&format!("tenant `{tenant}`")));
}

/// Reads these tenants back to a day, one after another; the results are in the same order.
async fn fetch_all(
    configuration: &Configuration,
    plans: &[&TenantPlan],
    first: Day,
) -> Result<Vec<(String, Result<FetchedTenant, PollError>)>, SourceError> {
    let bar = progress_bar(plans.len() as u64);
    let clients = Arc::new(Clients::new(&configuration.http)?);

    let mut results = Vec::new();
    for plan in plans {
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
    terminal: Terminal,
    /// The day that is being added to tables.
    day: DayTable,
}

/// The columns of the CSV output.
const COLUMNS: [&str; 10] =
    ["tenant", "day", "control", "category", "score", "max", "percent", "state", "title", "status"];

impl Printer {
    fn new(output: Output, terminal: Terminal) -> Self {
        let options = Options { texts: Texts::Full, host: String::new(), fields: vec![] };
        let mut text = String::new();
        match output {
            Output::Csv => text = COLUMNS.join(",") + "\n",
            Output::Json => text += "[",
            _ => {}
        }
        let json = Formatter::new(FormatName::Json, options);
        Self { output, text, rows: 0, json, terminal, day: DayTable::new() }
    }

    /// Adds all days of a tenant. Fails if a body cannot be decoded.
    fn add_tenant(&mut self, fetched: &FetchedTenant) -> Result<(), CommandFailure> {
        for day in &fetched.days {
            let body = day.body.decompress()?;
            if self.output == Output::Raw {
                self.text += &snapshot_line(&body);
                self.text.push('\n');
                continue;
            }

            let snapshot = wire::snapshot(&body).map_err(|error| {
                let message = format!("cannot read the snapshot: {}", chain(&error));
                CommandFailure::new(ExitCode::Incomplete, message)
            })?;
            let at = SnapshotRef {
                id: day.snapshot_id.clone(),
                day: day.facts.day,
                revision: 1,
                seq: Seq::ZERO,
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
            self.finish_day();
        }
        Ok(())
    }

    /// Adds the table of a day after its last record.
    fn finish_day(&mut self) {
        if self.output == Output::Table {
            let day = std::mem::replace(&mut self.day, DayTable::new());
            let separator = if self.text.is_empty() { "" } else { "\n" };
            self.text += separator;
            self.text += &day.render(self.terminal);
        }
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
                ForeignText::new(cell).write_csv_cell(&mut row);
            }
            let _ = writeln!(self.text, "{}", String::from_utf8_lossy(&row));
        } else if let Body::Summary(summary) = &record.body {
            self.day.total = total(&record.tenant.name, record.snapshot.day, summary);
        } else {
            self.day.add_control(&cells);
        }
    }

    fn finish(mut self) -> String {
        match self.output {
            Output::Json => {
                self.text += "\n]\n";
                self.text
            }
            _ => self.text,
        }
    }
}

/// The controls of one day as a table, below a line with the total.
struct DayTable {
    total: String,
    controls: TextTable,
}

impl DayTable {
    fn new() -> Self {
        let controls = TextTable::new(vec![
            Column::new("control", Content::Label { min: 20 }, 0),
            Column::new("category", Content::Text, 4),
            Column::new("score", Content::Number, 0),
            Column::new("max", Content::Number, 0),
            Column::new("percent", Content::Number, 1),
            Column::new("state", Content::Text, 2),
            Column::new("title", Content::Label { min: 16 }, 3),
        ]);
        Self { total: String::new(), controls }
    }

    /// Adds a row with the values of a control record.
    fn add_control(&mut self, cells: &[String; 10]) {
        let [_, _, control, category, score, max, percent, state, title, _] = cells;
        let shown = [control, category, score, max, percent, state, title];
        self.controls.row(Vec::from(shown.map(|text| (text.clone(), Tone::Plain))));
    }

    /// The lines, each with a line break. None is wider than the terminal, unless that is narrower
    /// than the numbers.
    fn render(&self, terminal: Terminal) -> String {
        let total = cut(&self.total, terminal.width.unwrap_or(usize::MAX));
        format!("{total}\n{}", self.controls.render(terminal))
    }
}

/// The line above the table of a day.
fn total(tenant: &str, day: Day, summary: &SummaryRecord<'_>) -> String {
    let SummaryRecord { current, max, percentage, controls_total, .. } = summary;
    let unknown = || "unknown".to_owned();
    let score = current.map_or_else(unknown, |score| decimal(score.get()));
    let max = max.map_or_else(unknown, |max| points(max.get()));
    let share = percentage.map_or_else(String::new, |share| format!(", {}", percent(share.get())));
    format!("{tenant}, {day}: {score} of {max}{share}, {}", count(*controls_total, "control"))
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
            let title = count(s.controls_total, "control");
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The line above a table.
    fn total_of(current: Option<Number>, max: f64, controls: u32) -> String {
        let summary = SummaryRecord {
            current,
            max: Number::new(max),
            percentage: current.and_then(|score| Number::new(score.get() * 100.0 / max)),
            sum_of_controls: Number::ZERO,
            categories: Vec::new(),
            active_users: None,
            licensed_users: None,
            enabled_services: &[],
            averages: Vec::new(),
            controls_total: controls,
            records_sent: controls + 1,
            additional: &Vec::new(),
        };
        total("contoso", Day::parse("2026-11-22").unwrap(), &summary)
    }

    fn day() -> DayTable {
        let row = |cells: [&str; 10]| cells.map(str::to_owned);
        let mut day = DayTable::new();

        day.add_control(&row([
            "contoso",
            "2026-11-22",
            "AdminMFAV2",
            "Identity",
            "10",
            "10",
            "100",
            "Default",
            "Ensure multifactor authentication is enabled for all users in administrative roles",
            "",
        ]));
        day.add_control(&row([
            "contoso",
            "2026-11-22",
            "mdo_a_control_with_a_name_of_sixty_characters_or_even_more",
            "Apps",
            "0.25",
            "5",
            "5",
            "",
            "A title\nwith a line break",
            "",
        ]));
        day.total = total_of(Number::new(10.25), 15.0, 2);
        day
    }

    /// Regression: with 80 columns, a title was shown with a few letters on each of many lines.
    #[test]
    fn tables_fit_into_the_terminal() {
        for width in [40, 60, 80, 100, 132] {
            let text = day().render(Terminal { width: Some(width), is_colored: false });
            assert_eq!(text.lines().count(), 4, "{width}\n{text}");
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}\n{text}");
            assert!(text.contains(" 0.25 ") && text.contains(" 10 "), "{width}\n{text}");
        }

        let text = day().render(Terminal { width: Some(80), is_colored: false });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "contoso, 2026-11-22: 10.25 of 15 points, 68.3%, 2 controls");
        let end_of = |line: &str, value: &str| {
            line.find(value).map(|at| line[..at + value.len()].chars().count())
        };
        assert_eq!(end_of(lines[1], "score"), end_of(lines[3], "0.25"), "{text}");
        assert!(lines[2].ends_with('…') && lines[3].contains("… "), "{text}");
    }

    /// Regression: the numbers had no separators, and one point was `1 points`.
    #[test]
    fn totals_have_separators_and_units() {
        for (current, max, controls, text) in [
            (1_000.5, 1_234.0, 1_200, "1,000.5 of 1,234 points, 81.1%, 1,200 controls"),
            (0.44, 1.0, 1, "0.44 of 1 point, 44.0%, 1 control"),
        ] {
            let total = total_of(Number::new(current), max, controls);
            assert_eq!(total, format!("contoso, 2026-11-22: {text}"));
        }
        let unknown = total_of(None, 10.0, 2);
        assert_eq!(unknown, "contoso, 2026-11-22: unknown of 10 points, 2 controls");
    }

    #[test]
    fn a_pipe_gets_complete_values() {
        let text = day().render(Terminal { width: None, is_colored: false });
        assert!(!text.contains('…'), "{text}");
        assert!(text.contains("in administrative roles\n"), "{text}");
    }
}
