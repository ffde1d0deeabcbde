//! The arguments of `state`. The documentation comments are the help texts. `forget`, which cannot
//! be undone, has `--yes`.

use std::path::PathBuf;

use clap::Subcommand;

use super::day;
use crate::model::Day;

const STATE_EXAMPLES: &str = "Examples:
  secure-score-forwarder state verify
  secure-score-forwarder state backup /var/backups/secure-score.db";

const VERIFY_EXAMPLES: &str = "Examples:
  secure-score-forwarder state verify
  secure-score-forwarder state verify --json";

const REPAIR_EXAMPLES: &str = "Examples:
  secure-score-forwarder state repair
  secure-score-forwarder state repair --set-aside";

const BACKUP_EXAMPLES: &str = "Examples:
  secure-score-forwarder state backup /var/backups/secure-score.db
  secure-score-forwarder state backup secure-score.db --log info";

const RESTORE_EXAMPLES: &str = "Examples:
  secure-score-forwarder state restore /var/backups/secure-score.db
  secure-score-forwarder state restore secure-score.db --log info";

const PRUNE_EXAMPLES: &str = "Examples:
  secure-score-forwarder state prune
  secure-score-forwarder state prune --compact";

const EXPORT_EXAMPLES: &str = "Examples:
  secure-score-forwarder state export --tenant contoso
  secure-score-forwarder state export --tenant 'c-1*' --from 2026-11-01 --to 2026-11-07";

const FORGET_EXAMPLES: &str = "Examples:
  secure-score-forwarder state forget --tenant 3f5c1d2e-0000-4000-8000-00000000c0de
  secure-score-forwarder state forget --tenant 3f5c1d2e-0000-4000-8000-00000000c0de --yes";

#[derive(Debug, Subcommand)]
#[command(after_help = STATE_EXAMPLES)]
pub(in crate::cli) enum StateCommand {
    /// Read all stored data, and report any damage
    Verify(StateVerify),
    /// Repair damaged data, and rename a database that cannot be used
    Repair(StateRepair),
    /// Write a backup to a file, even while the daemon is running
    Backup(StateBackup),
    /// Replace the checkpoint with a backup; the restored checkpoint gets a new ID
    Restore(StateRestore),
    /// Prune the bodies of days that are older than `state.retention_days` and delivered to every
    /// sink
    Prune(StatePrune),
    /// Print the stored days as Microsoft sent them, one per line, for `import`
    Export(StateExport),
    /// Erase the data of a tenant that is no longer configured, and print a receipt
    Forget(StateForget),
}

#[derive(Clone, Copy, Debug, clap::Args)]
#[command(after_help = VERIFY_EXAMPLES)]
pub(in crate::cli) struct StateVerify {
    /// Print a JSON document
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = REPAIR_EXAMPLES)]
pub(in crate::cli) struct StateRepair {
    /// Rename the database without repairing it, and create a new one; the next poll reads the
    /// days that Microsoft still keeps
    #[arg(long)]
    pub set_aside: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = BACKUP_EXAMPLES)]
pub(in crate::cli) struct StateBackup {
    /// The file to write; an existing file is not overwritten
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Debug, clap::Args)]
#[command(after_help = RESTORE_EXAMPLES)]
pub(in crate::cli) struct StateRestore {
    /// A file written by `state backup`
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

#[derive(Debug, clap::Args)]
#[command(after_help = PRUNE_EXAMPLES)]
pub(in crate::cli) struct StatePrune {
    /// Return the free space in the database file to the file system; the daemon must be stopped
    #[arg(long)]
    pub compact: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = EXPORT_EXAMPLES)]
pub(in crate::cli) struct StateExport {
    /// The name or the ID of a tenant, or `LABEL=VALUE`; `*` and `?` are wildcards. Can be repeated
    /// [default: all tenants]
    #[arg(long, value_name = "PATTERN")]
    pub tenant: Vec<String>,
    /// The first day [default: the oldest]
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub from: Option<Day>,
    /// The last day [default: the newest]
    #[arg(long, value_name = "DAY", value_parser = day)]
    pub to: Option<Day>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = FORGET_EXAMPLES)]
pub(in crate::cli) struct StateForget {
    /// The GUID of the tenant
    #[arg(id = "guid", long = "tenant", value_name = "GUID")]
    pub tenant: String,
    /// Confirm the erasure, which cannot be undone
    #[arg(long)]
    pub yes: bool,
}
