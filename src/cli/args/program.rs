//! The arguments of the commands that need no configuration: the simulation, and what the program
//! generates from its own tables. [`Complete`] is called by the generated scripts.

use std::path::PathBuf;

use clap::ValueEnum;

use super::{day, duration};
use crate::model::{DAYS_AT_SOURCE, Day};

const DEMO_EXAMPLES: &str = "Examples:
  secure-score-forwarder demo
  secure-score-forwarder demo --serve --port 8080 --tenants 500 --latency 50ms";

const MAN_EXAMPLES: &str = "Examples:
  secure-score-forwarder man
  secure-score-forwarder man --directory man/";

const COMPLETIONS_EXAMPLES: &str = "Examples:
  secure-score-forwarder completions bash
  secure-score-forwarder completions zsh";

const SCHEMA_EXAMPLES: &str = "Examples:
  secure-score-forwarder schema
  secure-score-forwarder schema configuration";

#[derive(Debug, clap::Args)]
#[command(after_help = DEMO_EXAMPLES)]
pub(in crate::cli) struct Demo {
    /// Serve the simulated tenant until interrupted, and print its URLs and credentials
    #[arg(long)]
    pub serve: bool,
    /// The port for --serve; 0 selects a free port
    #[arg(long, default_value_t = 0, requires = "serve")]
    pub port: u16,
    /// The number of additional tenants to simulate, for --serve
    #[arg(long, default_value_t = 0, requires = "serve", value_name = "N")]
    pub tenants: usize,
    /// The delay of each response, for --serve, such as 50ms
    #[arg(long, default_value = "0s", requires = "serve", value_name = "TIME", value_parser = duration)]
    pub latency: std::time::Duration,
    /// The newest day that is served, for --serve [default: today]
    #[arg(long, requires = "serve", value_name = "DAY", value_parser = day)]
    pub today: Option<Day>,
    /// The file to which the report is written
    #[arg(
        long,
        value_name = "FILE",
        default_value = "secure-score-demo.html",
        conflicts_with = "serve"
    )]
    pub report: PathBuf,
    /// The number of days to read: 1 to 90; at least the newest 3 are read
    #[arg(long, default_value_t = DAYS_AT_SOURCE, value_parser = clap::value_parser!(i32).range(1..=i64::from(DAYS_AT_SOURCE)), conflicts_with = "serve")]
    pub days: i32,
}

#[derive(Debug, clap::Args)]
#[command(after_help = MAN_EXAMPLES)]
pub(in crate::cli) struct Man {
    /// The directory to which one page per command is written [default: only the main page, to
    /// standard output]
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Reference {
    /// The directory to which the pages are written
    #[arg(long, value_name = "DIRECTORY", required_unless_present = "example")]
    pub directory: Option<PathBuf>,
    /// The file to which the example configuration is written
    #[arg(long, value_name = "FILE")]
    pub example: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(in crate::cli) struct Completions {
    /// The shell for which the script is printed
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

#[derive(Clone, Copy, Debug, clap::Args)]
#[command(after_help = SCHEMA_EXAMPLES)]
pub(in crate::cli) struct Schema {
    /// The schema to print
    #[arg(value_enum, default_value_t = SchemaOf::Record)]
    pub of: SchemaOf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum SchemaOf {
    /// A record in the canonical JSON
    Record,
    /// The configuration file
    Configuration,
}

#[derive(Clone, Copy, Debug, clap::Args)]
pub(in crate::cli) struct Complete {
    /// The names to print
    #[arg(value_enum)]
    pub names: Names,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Names {
    /// The names of the tenants
    Tenants,
    /// The names of the sinks
    Sinks,
}
