//! `report`: writes the history, the drift and the decisions of tenants for readers who do not use
//! the SIEM. It only reads the checkpoint. Start reading at [`report`].

use std::path::Path;

use super::{
    CommandFailure, ExitCode, args,
    caller::as_caller,
    count,
    output_file::{self, not_written},
    print_data, print_message,
    selection::selected_tenants,
};
use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    clock,
    config::{Configuration, TenantPlan},
    daemon::{Reporter, resolved_tenant},
    error::Explanation,
    model::{Day, Tenant},
    report::{Detail, Format, Overview, Row, Window, file_names},
    text::minute,
};

/// Where the report is written.
#[derive(Debug, PartialEq, Eq)]
enum Destination<'a> {
    StandardOutput,
    File(&'a Path),
    /// A directory, which gets one file per tenant.
    Directory(&'a Path),
}

/// What the arguments request.
struct ReportRequest<'a> {
    tenants: Vec<(&'a TenantPlan, Tenant)>,
    window: Window,
    format: Format,
    title: Option<&'a str>,
    /// The time at which the report is generated, as text.
    generated: String,
}

/// Writes the report. Writes nothing and returns `Incomplete` if no day of a selected tenant is
/// stored. Fails if a pattern matches no tenant, if the period is invalid, or if the checkpoint
/// cannot be read.
pub(super) fn report(config: &Path, args: &args::ReportArgs) -> Result<ExitCode, CommandFailure> {
    let window = window(args, Day::of(clock::now()))?;
    let format: Format = args.format.into();
    if args.title.is_some() && format == Format::Csv {
        let explanation = Explanation::new("a report in the format `csv` has no title");
        let hint = "remove `--title`, or select another format";
        return Err(CommandFailure::new(ExitCode::Usage, explanation.with_hint(hint)));
    }

    let configuration = Configuration::load(config)?;
    let plans = selected_tenants(&configuration, &args.tenant)?;
    let checkpoint = Checkpoint::open_read_only(&configuration.state_directory)?;
    let request = ReportRequest {
        tenants: with_data(&plans, &checkpoint)?,
        window,
        format,
        title: args.title.as_deref(),
        generated: minute(clock::now()),
    };
    if request.tenants.is_empty() {
        return Ok(ExitCode::Incomplete);
    }

    match Destination::of(args.output.as_deref()) {
        Destination::StandardOutput => print_data(&request.text(&checkpoint)?)?,
        Destination::File(path) => {
            let (file, text) = (path.to_owned(), request.text(&checkpoint)?);
            let written = as_caller(move || output_file::replace(&file, &text))?;
            written.map_err(|error| not_written(&error))?;
            print_message(&format!("wrote the report to `{}`", path.display()));
        }
        Destination::Directory(path) => {
            request.write_files(path, &checkpoint)?;
            let reports = count(request.tenants.len(), "report");
            print_message(&format!("wrote {reports} to `{}`", path.display()));
        }
    }
    Ok(ExitCode::Done)
}

impl<'a> Destination<'a> {
    /// An existing directory, or a path that ends with a separator, is a directory.
    fn of(output: Option<&'a Path>) -> Self {
        let Some(path) = output else { return Self::StandardOutput };
        let has_separator = path.as_os_str().as_encoded_bytes().ends_with(b"/");
        let existing = path.to_owned();
        let is_directory = as_caller(move || existing.is_dir()).unwrap_or_default();
        if has_separator || is_directory { Self::Directory(path) } else { Self::File(path) }
    }
}

impl ReportRequest<'_> {
    /// The report of a single tenant, or a table with one row per tenant.
    fn text(&self, checkpoint: &Checkpoint) -> Result<String, CommandFailure> {
        let mut reporter = Reporter::new(checkpoint);
        if let [(plan, tenant)] = self.tenants.as_slice() {
            return self.page(&mut reporter, plan, tenant);
        }

        let mut rows = Vec::with_capacity(self.tenants.len());
        for (plan, tenant) in &self.tenants {
            let report = reporter.report(tenant, plan, self.window, Detail::ComparedRow)?;
            rows.push(Row::of(&report));
        }
        let overview = Overview::new(rows, self.window).titled(self.title);
        Ok(overview.write(self.format, &self.generated))
    }

    /// Writes the report of each tenant to a file in a directory, which is created.
    fn write_files(&self, directory: &Path, checkpoint: &Checkpoint) -> Result<(), CommandFailure> {
        let new = directory.to_owned();
        let created = as_caller(move || output_file::create_directory(&new))?;
        created.map_err(|error| not_written(&error))?;

        let mut reporter = Reporter::new(checkpoint);
        let names = file_names(self.tenants.iter().map(|(_, tenant)| tenant), self.format);
        for ((plan, tenant), name) in self.tenants.iter().zip(names) {
            let (file, page) = (directory.join(name), self.page(&mut reporter, plan, tenant)?);
            let written = as_caller(move || output_file::replace(&file, &page))?;
            written.map_err(|error| not_written(&error))?;
        }
        Ok(())
    }

    fn page(
        &self,
        reporter: &mut Reporter<'_>,
        plan: &TenantPlan,
        tenant: &Tenant,
    ) -> Result<String, CommandFailure> {
        let report = reporter.report(tenant, plan, self.window, Detail::Page)?;
        Ok(report.titled(self.title).write(self.format, &self.generated))
    }
}

/// The tenants whose ID is known, or none if no day of any of them is stored. A tenant without a
/// stored day is reported in a message.
fn with_data<'a>(
    plans: &[&'a TenantPlan],
    checkpoint: &Checkpoint,
) -> Result<Vec<(&'a TenantPlan, Tenant)>, CheckpointError> {
    let (mut tenants, mut has_data) = (Vec::with_capacity(plans.len()), false);
    for &plan in plans {
        let tenant = resolved_tenant(plan, checkpoint);
        let newest = match &tenant {
            Some(tenant) => checkpoint.newest_day(tenant.id)?,
            None => None,
        };
        if newest.is_none() {
            print_message(&format!("tenant `{}`: no data yet", plan.name));
        }
        has_data |= newest.is_some();
        tenants.extend(tenant.map(|tenant| (plan, tenant)));
    }
    Ok(if has_data { tenants } else { Vec::new() })
}

/// The period that the arguments select. A month that has not ended yet ends today, so that it is
/// compared with as many days of the period before.
fn window(args: &args::ReportArgs, today: Day) -> Result<Window, CommandFailure> {
    let failure = |message: String| CommandFailure::new(ExitCode::Usage, message);
    if let Some(month) = args.month {
        if month.first > today {
            let first = month.first;
            return Err(failure(format!("the month that begins on `{first}` is in the future")));
        }
        return Ok(Window { last: month.last.min(today), ..month });
    }

    let last = args.to.unwrap_or(today);
    let first = args.from.unwrap_or_else(|| last.plus(1 - args.days));
    if first > last {
        return Err(failure(format!(
            "the first day of the report, `{first}`, is after its last day, `{last}`"
        )));
    }
    Ok(Window { first, last })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// The period that these options select on 2026-11-22.
    fn selected(options: &str) -> Result<String, String> {
        let words = ["secure-score-forwarder", "report"].into_iter().chain(options.split(' '));
        let args = args::Args::try_parse_from(words).map_err(|error| error.to_string())?;
        let args::Command::Report(args) = args.command else { panic!("another command") };

        let window = window(&args, Day::parse("2026-11-22").unwrap());
        window
            .map(|window| format!("{} to {}", window.first, window.last))
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn options_select_the_period() {
        for (options, period) in [
            ("--format html", "2025-11-23 to 2026-11-22"),
            ("--days 7", "2026-11-16 to 2026-11-22"),
            ("--from 2026-01-01 --to 2026-03-31", "2026-01-01 to 2026-03-31"),
            ("--to 2026-03-31 --days 31", "2026-03-01 to 2026-03-31"),
            ("--month 2026-10", "2026-10-01 to 2026-10-31"),
            ("--month 2026-11", "2026-11-01 to 2026-11-22"),
        ] {
            assert_eq!(selected(options).unwrap(), period, "{options}");
        }
    }

    #[test]
    fn invalid_periods_are_rejected() {
        for (options, message) in [
            ("--month 2026-12", "is in the future"),
            ("--month 2026-13", "expected a month such as `2026-11`"),
            ("--month november", "expected a month such as `2026-11`"),
            ("--month 2026-11 --from 2026-11-01", "cannot be used with"),
            ("--month 2026-11 --to 2026-11-30", "cannot be used with"),
            ("--month 2026-11 --days 30", "cannot be used with"),
            ("--from 2026-11-02 --to 2026-11-01", "is after its last day"),
        ] {
            let error = selected(options).unwrap_err();
            assert!(error.contains(message), "{options}: {error}");
        }
    }

    #[test]
    fn a_separator_or_a_directory_selects_many_files() {
        let directory = tempfile::tempdir().unwrap();
        let existing = directory.path();
        let (file, slash) = (existing.join("report.html"), existing.join("new/"));
        assert_eq!(Destination::of(None), Destination::StandardOutput);
        assert_eq!(Destination::of(Some(&file)), Destination::File(&file));
        assert_eq!(Destination::of(Some(existing)), Destination::Directory(existing));
        assert_eq!(Destination::of(Some(&slash)), Destination::Directory(&slash));
    }
}
