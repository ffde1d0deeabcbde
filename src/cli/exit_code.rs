//! The exit codes of all commands, and the rule by which a failure gets its code. The reference and
//! the man page are generated from the tables here. The number of a code must never change, because
//! scripts evaluate it. Start reading at [`ExitCode`].

use crate::daemon::RequestFailureKind;

/// The exit code of the process. The numbers are public: `docs/reference/exit-codes.md` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// The command succeeded.
    Done = 0,
    /// The result is incomplete; undelivered records remain queued.
    Incomplete = 1,
    /// The configuration or the command line is invalid, or conflicts with the state of the daemon.
    Usage = 2,
    /// The checkpoint is unusable, or in use by another process.
    Unusable = 3,
    /// SIGINT interrupted the command.
    Interrupted = 130,
}

/// Which code a command has in a situation that needs an explanation. The situations are sentences
/// without a period.
pub(super) const SITUATIONS: &[(&str, ExitCode)] = &[
    (
        "Everything was delivered, and `cursors.json`, the copy of the cursors, could not be written: a warning is printed",
        ExitCode::Done,
    ),
    (
        "A poll failed, is incomplete, or is paused because Microsoft requested it with `Retry-After`",
        ExitCode::Incomplete,
    ),
    ("Records are undelivered and remain queued, or a sink has dead letters", ExitCode::Incomplete),
    (
        "Items of an import were skipped or rejected, or a file contained no items",
        ExitCode::Incomplete,
    ),
    (
        "`check --online` has found a tenant that cannot be polled, or a receiver that cannot be used",
        ExitCode::Incomplete,
    ),
    ("`baseline diff --exit-code` has found a control below its target", ExitCode::Incomplete),
    ("`report` has found no stored day of the selected tenants", ExitCode::Incomplete),
    (
        "`status` has found a condition that needs an operator, a failed poll, a tenant that is behind or has no data, a backlog, dead letters, or a replay that is not finished",
        ExitCode::Incomplete,
    ),
    (
        "The disk, the memory or the open files of the host were exhausted, or another process had locked the checkpoint",
        ExitCode::Incomplete,
    ),
    (
        "The daemon did not respond, or aborted the request because it is stopping or reloading",
        ExitCode::Incomplete,
    ),
    ("A tenant, a sink or a day that an option names does not exist", ExitCode::Usage),
    ("`check --strict` has found a warning", ExitCode::Usage),
    (
        "`baseline diff --exit-code` has found a tenant without a baseline or without a stored day, even if another tenant is below a target",
        ExitCode::Usage,
    ),
    ("No daemon is running, and `poll` or `reload` needs one", ExitCode::Usage),
    (
        "The request conflicts with the configuration that the daemon is running with, for example because the tenant is not in it; run `reload` first",
        ExitCode::Usage,
    ),
    ("A change that cannot be undone is not confirmed with `--yes`", ExitCode::Usage),
    (
        "The checkpoint does not exist yet, is damaged, is not the one that `cursors.json` remembers, is from a newer release, or cannot be accessed",
        ExitCode::Unusable,
    ),
    (
        "A process that accepts no requests, such as `once`, is using the checkpoint",
        ExitCode::Unusable,
    ),
];

impl ExitCode {
    /// All exit codes, in their numeric order.
    pub const ALL: [Self; 5] =
        [Self::Done, Self::Incomplete, Self::Usage, Self::Unusable, Self::Interrupted];

    /// The meaning of the code, as a sentence without a period.
    pub const fn description(self) -> &'static str {
        match self {
            Self::Done => "The command succeeded",
            Self::Incomplete => {
                "The result is incomplete: for example, a poll failed, records are undelivered and remain queued, or a receiver has rejected records"
            }
            Self::Usage => {
                "The configuration or the command line is invalid, or conflicts with the state of the daemon"
            }
            Self::Unusable => "The checkpoint is unusable, or in use by another process",
            Self::Interrupted => "SIGINT interrupted the command; no data is lost",
        }
    }
}

/// The rule for every failure of an operation on the checkpoint, in this process and in the daemon.
impl From<RequestFailureKind> for ExitCode {
    fn from(kind: RequestFailureKind) -> Self {
        match kind {
            RequestFailureKind::Invalid => Self::Usage,
            RequestFailureKind::Incomplete => Self::Incomplete,
            RequestFailureKind::Unusable => Self::Unusable,
        }
    }
}
