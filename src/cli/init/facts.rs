//! What the interview needs to know about the host and the command line. It is determined before
//! the first question, so that the interview itself performs no I/O.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use super::{
    questions::{Answers, QuestionKey},
    receiver::Receiver,
};
use crate::error::Explanation;

pub(super) struct HostFacts<'a> {
    /// The directory to which the paths of files are relative.
    pub working_directory: PathBuf,
    pub settings: Settings,
    /// The names of the secrets whose files exist.
    pub existing_secrets: Vec<&'static str>,
    /// The directories that do not exist, each with the question that offers to create it. They do
    /// not depend on the answers.
    pub missing_directories: Vec<(QuestionKey, NewDirectory)>,
    /// The directory of the file that a receiver writes to; `None` if it exists.
    pub missing_parent: &'a dyn Fn(&Path) -> Option<NewDirectory>,
    /// Why the file of a certificate cannot be used.
    pub examine_certificate: &'a dyn Fn(&Path) -> Result<(), Explanation>,
}

/// The parts of the configuration that are not asked for.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The file to which the configuration is written.
    pub file: PathBuf,
    pub state_directory: PathBuf,
    pub listen: String,
    /// See `--cloud`.
    pub cloud: String,
    pub secrets: SecretStore,
}

/// Where secrets are stored, and how the configuration refers to them.
#[derive(Clone, Debug)]
pub(super) struct SecretStore {
    /// An absolute path.
    pub directory: PathBuf,
    pub reference: ReferenceKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReferenceKind {
    /// The configuration is that of the service, which receives the files as systemd credentials.
    Credential,
    File,
}

/// A directory to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NewDirectory {
    pub path: PathBuf,
    pub mode: u32,
    /// The name of the owner, as it is shown; `None` for the user of this process.
    pub owner: Option<String>,
    /// The name of the group, as it is shown; `None` for the group of this process.
    pub group: Option<String>,
}

impl HostFacts<'_> {
    /// The missing directory that a question offers to create; `None` if there is none.
    pub(super) fn missing_directory(
        &self,
        key: QuestionKey,
        answers: &Answers,
    ) -> Option<NewDirectory> {
        if key == QuestionKey::ReceiverDirectory && answers.receiver() == Receiver::File {
            return (self.missing_parent)(Path::new(answers.text(QuestionKey::Receiver)));
        }
        let found = self.missing_directories.iter().find(|(of, _)| *of == key);
        found.map(|(_, missing)| missing.clone())
    }

    pub(super) fn has_secret(&self, name: &str) -> bool {
        self.existing_secrets.contains(&name)
    }
}

impl NewDirectory {
    /// The path, the mode and the owner as text.
    pub(super) fn description(&self) -> String {
        let mut text = format!("`{}` (mode {:o}", self.path.display(), self.mode);
        for (what, name) in [("owner", &self.owner), ("group", &self.group)] {
            if let Some(name) = name {
                // Writing to a String cannot fail.
                let _ = write!(text, ", {what} `{name}`");
            }
        }
        text.push(')');
        text
    }
}
