//! The arguments of the commands that poll, deliver and resend records.
//!
//! The documentation comments are the help texts, so they are written for operators. A command that
//! reports a result has `--json`; an option that selects a tenant accepts a pattern, and one that
//! selects a sink accepts a name. An argument must never be a secret, because other users of the
//! host can read it.

use clap::Subcommand;

use super::{day, sink_name};
use crate::model::{Day, SinkName};

const ONCE_EXAMPLES: &str = "Examples:
  secure-score-forwarder once
  secure-score-forwarder once --json --log info";

const POLL_EXAMPLES: &str = "Examples:
  secure-score-forwarder poll
  secure-score-forwarder poll --tenant contoso --tenant 'c-1*'";

const REPLAY_EXAMPLES: &str = "Examples:
  secure-score-forwarder replay --sink splunk --from 2026-11-01 --dry-run
  secure-score-forwarder replay --sink splunk --from 2026-11-01 --to 2026-11-07 --tenant contoso";

const DEAD_LETTERS_EXAMPLES: &str = "Examples:
  secure-score-forwarder dead-letters list
  secure-score-forwarder dead-letters retry --sink splunk";

const LIST_EXAMPLES: &str = "Examples:
  secure-score-forwarder dead-letters list
  secure-score-forwarder dead-letters list --sink splunk --ungrouped --limit 10";

const SHOW_EXAMPLES: &str = "Examples:
  secure-score-forwarder dead-letters show 5d0c6b2f91aa
  secure-score-forwarder dead-letters show 5d0c6b2f91aa --sink splunk --json";

const RETRY_EXAMPLES: &str = "Examples:
  secure-score-forwarder dead-letters retry --sink splunk
  secure-score-forwarder dead-letters retry 5d0c6b2f91aa 7e1a40c2d3b4";

const DISCARD_EXAMPLES: &str = "Examples:
  secure-score-forwarder dead-letters discard 5d0c6b2f91aa
  secure-score-forwarder dead-letters discard --sink splunk --all --yes";

const TEST_SINK_EXAMPLES: &str = "Examples:
  secure-score-forwarder test-sink splunk
  secure-score-forwarder test-sink splunk --json";

#[derive(Clone, Copy, Debug, clap::Args)]
#[command(after_help = ONCE_EXAMPLES)]
pub(in crate::cli) struct Once {
    /// Print a JSON document with the result of each tenant and each sink
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = POLL_EXAMPLES)]
pub(in crate::cli) struct Poll {
    /// The name or the ID of a tenant, or `LABEL=VALUE`; `*` and `?` are wildcards. Can be repeated
    /// [default: all tenants]
    #[arg(long, value_name = "PATTERN")]
    pub tenant: Vec<String>,
    /// Print a JSON document with the result of each tenant
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = REPLAY_EXAMPLES)]
pub(in crate::cli) struct Replay {
    /// The name of the sink
    #[arg(long, value_name = "NAME", value_parser = sink_name())]
    pub sink: SinkName,
    /// The first day to send, such as 2026-11-22
    #[arg(long, value_name = "DAY", value_parser = day, required_unless_present = "rejected")]
    pub from: Option<Day>,
    /// The last day to send [default: today]
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub to: Option<Day>,
    /// The name or the ID of a tenant, or `LABEL=VALUE`; `*` and `?` are wildcards. Can be repeated
    /// [default: all tenants of the sink]
    #[arg(long, value_name = "PATTERN")]
    pub tenant: Vec<String>,
    /// Print how much would be sent, without sending it
    #[arg(long)]
    pub dry_run: bool,
    /// Send the dead letters of the sink instead of days, as `dead-letters retry` does
    #[arg(long, conflicts_with_all = ["from", "to", "tenant", "dry_run"])]
    pub rejected: bool,
    /// Print a JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
#[command(after_help = DEAD_LETTERS_EXAMPLES)]
pub(in crate::cli) enum DeadLetters {
    /// List the dead letters with the receiver's messages, newest first; those with the same
    /// message are one group
    List(DeadLettersList),
    /// Print a dead letter, and the record as it would be sent
    Show(DeadLettersShow),
    /// Send dead letters again, after the cause of the rejection is fixed
    Retry(DeadLettersRetry),
    /// Discard dead letters, so that they are never sent; the other sinks receive a `quality`
    /// record about it
    Discard(DeadLettersDiscard),
}

#[derive(Debug, clap::Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(in crate::cli) struct DeadLettersList {
    /// The name of the sink [default: all sinks]
    #[arg(long, value_name = "NAME", value_parser = sink_name())]
    pub sink: Option<SinkName>,
    /// The name or the ID of a tenant, or `LABEL=VALUE`; `*` and `?` are wildcards. Can be repeated
    /// [default: all tenants]
    #[arg(long, value_name = "PATTERN")]
    pub tenant: Vec<String>,
    /// List each dead letter, instead of one group for all those of a sink with the same message;
    /// JSON is never grouped
    #[arg(long)]
    pub ungrouped: bool,
    /// The maximum number of groups or of dead letters to list, newest first
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub limit: u32,
    /// Print a JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = SHOW_EXAMPLES)]
pub(in crate::cli) struct DeadLettersShow {
    /// The event ID, or enough of its first digits to identify it
    #[arg(value_name = "ID")]
    pub id: String,
    /// The name of the sink [default: all sinks]
    #[arg(long, value_name = "NAME", value_parser = sink_name())]
    pub sink: Option<SinkName>,
    /// Print a JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = RETRY_EXAMPLES)]
pub(in crate::cli) struct DeadLettersRetry {
    /// The event IDs, or enough of their first digits to identify them [default: all dead letters
    /// of the sink]
    #[arg(value_name = "ID", required_unless_present = "sink")]
    pub ids: Vec<String>,
    /// The name of the sink [default: all sinks]
    #[arg(long, value_name = "NAME", value_parser = sink_name())]
    pub sink: Option<SinkName>,
    /// Print a JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = DISCARD_EXAMPLES)]
pub(in crate::cli) struct DeadLettersDiscard {
    /// The event IDs, or enough of their first digits to identify them
    #[arg(value_name = "ID", required_unless_present = "all")]
    pub ids: Vec<String>,
    /// The name of the sink [default: all sinks]
    #[arg(long, value_name = "NAME", value_parser = sink_name())]
    pub sink: Option<SinkName>,
    /// Discard all dead letters of the sink
    #[arg(long, requires = "sink", conflicts_with = "ids")]
    pub all: bool,
    /// Confirm that more than one dead letter is discarded, which cannot be undone
    #[arg(long)]
    pub yes: bool,
    /// Print a JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = TEST_SINK_EXAMPLES)]
pub(in crate::cli) struct TestSink {
    /// The name of the sink
    #[arg(id = "sink", value_name = "NAME", value_parser = sink_name())]
    pub name: SinkName,
    /// Print a JSON document
    #[arg(long)]
    pub json: bool,
}
