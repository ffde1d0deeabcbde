//! The arguments of `report`.
//!
//! The options for the period exclude each other here, and `cli::report` derives the period from
//! them, because most defaults depend on the current day. This module must never read the clock.

use std::path::PathBuf;

use clap::ValueEnum;

use super::day;
use crate::{
    model::Day,
    report::{Format, Window},
};

const EXAMPLES: &str = "Examples:
  secure-score-forwarder report --tenant contoso --month 2026-10 --output contoso.html
  secure-score-forwarder report --tenant 'con*' --days 30 --output reports/";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(in crate::cli) struct ReportArgs {
    /// The name or the ID of a tenant, or `LABEL=VALUE`; `*` and `?` are wildcards. Can be repeated
    /// [default: all tenants; several tenants produce an overview]
    #[arg(long, value_name = "PATTERN")]
    pub tenant: Vec<String>,
    /// The first day [default: derived from --days]
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub from: Option<Day>,
    /// The last day [default: today]
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub to: Option<Day>,
    /// The number of days in the report, ending with the last day
    #[arg(long, default_value_t = 365, conflicts_with = "from", value_parser = clap::value_parser!(i32).range(1..=36_500))]
    pub days: i32,
    /// A calendar month, such as 2026-11 [default: the period that the other options select]
    #[arg(long, value_name = "MONTH", value_parser = month, conflicts_with_all = ["from", "to", "days"])]
    pub month: Option<Window>,
    /// The output format
    #[arg(long, value_enum, default_value_t = ReportFormat::Html)]
    pub format: ReportFormat,
    /// The heading [default: names the tenant, or the number of tenants]
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub title: Option<String>,
    /// The file to write, or a directory for one file per tenant: one that exists, or a path that
    /// ends with `/` [default: standard output]
    #[arg(long, value_name = "PATH")]
    pub output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ReportFormat {
    /// One self-contained page
    Html,
    /// One line per day
    Csv,
    /// Markdown text
    Markdown,
    /// One JSON document
    Json,
}

impl From<ReportFormat> for Format {
    fn from(format: ReportFormat) -> Self {
        match format {
            ReportFormat::Html => Self::Html,
            ReportFormat::Csv => Self::Csv,
            ReportFormat::Markdown => Self::Markdown,
            ReportFormat::Json => Self::Json,
        }
    }
}

fn month(text: &str) -> Result<Window, String> {
    Window::of_month(text).ok_or_else(|| "expected a month such as `2026-11`".to_owned())
}
