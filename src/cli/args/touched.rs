//! What each command uses: its configuration, the state directory, the files of sinks, and the
//! files that its caller names. From this, `cli::identity` decides as whom a command runs, and
//! which configuration it may use. A new command does not compile before it is listed here. See
//! decision 0060.

use std::path::{Path, PathBuf};

use super::{BaselineCommand, BaselineSet, Command, DeadLetters, Import, StateCommand};

/// What a command uses. All commands that use something of the service run as its user, also those
/// that only read. All commands that use a configuration use only one that no other user can
/// change if root runs them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Touched {
    /// Not even a configuration.
    Nothing,
    /// A configuration, and neither the state directory nor the file of a sink.
    Configuration,
    /// The state directory or the files of sinks. A missing state directory remains missing.
    Existing,
    /// The same. A missing state directory is created.
    Created,
}

impl Command {
    /// What the command uses of the service.
    pub(in crate::cli) fn touched(&self) -> Touched {
        match self {
            Self::Run
            | Self::Once(_)
            | Self::Backfill(_)
            | Self::Replay(_)
            | Self::Import(_)
            | Self::Login(_) => Touched::Created,

            Self::Reload(_)
            | Self::Poll(_)
            | Self::Fetch(_)
            | Self::Check(_)
            | Self::Status(_)
            | Self::Report(_)
            | Self::TestSink(_) => Touched::Existing,

            Self::DeadLetters(command) => match command {
                DeadLetters::List(_) | DeadLetters::Show(_) => Touched::Existing,
                DeadLetters::Retry(_) | DeadLetters::Discard(_) => Touched::Created,
            },
            Self::Baseline(command) => match command {
                BaselineCommand::Show(_) | BaselineCommand::Diff(_) => Touched::Existing,
                BaselineCommand::Set(_) => Touched::Created,
            },
            Self::State(command) => match command {
                StateCommand::Verify(_) | StateCommand::Backup(_) | StateCommand::Export(_) => {
                    Touched::Existing
                }
                StateCommand::Repair(_)
                | StateCommand::Restore(_)
                | StateCommand::Prune(_)
                | StateCommand::Forget(_) => Touched::Created,
            },

            Self::ConsentUrl(_) | Self::Complete(_) => Touched::Configuration,

            // `init` uses no configuration that exists, and runs `check` and `test-sink` as
            // separate processes. `demo` has a temporary state directory.
            Self::Init(_)
            | Self::ImportConfig(_)
            | Self::Demo(_)
            | Self::Schema(_)
            | Self::Man(_)
            | Self::Reference(_)
            | Self::Completions(_) => Touched::Nothing,
        }
    }

    /// The files that the caller names for reading. Root may be the only user who can read them.
    pub(in crate::cli) fn inputs(&self) -> Vec<PathBuf> {
        match self {
            Self::Import(Import { files }) => files.clone(),
            Self::Baseline(BaselineCommand::Set(BaselineSet { file, .. })) => {
                file.iter().cloned().collect()
            }
            Self::State(StateCommand::Restore(args)) => {
                let mut log = args.file.clone().into_os_string();
                log.push("-wal");
                vec![args.file.clone(), log.into()]
            }
            _ => Vec::new(),
        }
    }

    /// The file or directory that the caller names for writing. Root may be the only user who can
    /// write to it.
    pub(in crate::cli) fn output(&self) -> Option<&Path> {
        match self {
            Self::Report(args) => args.output.as_deref(),
            Self::State(StateCommand::Backup(args)) => Some(&args.file),
            _ => None,
        }
    }
}
