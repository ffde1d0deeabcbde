//! What `check` examines in addition to the values of a configuration: the files that they name,
//! the patterns that can be compared with known controls, and problems that do not make the
//! configuration invalid. The other commands do not use it.

use std::path::PathBuf;

use super::Configuration;
use crate::{
    derive::Glob,
    error::Explanation,
    settings::{Fault, FileUse, Origin, SecretUse},
    source::CredentialError,
};

/// What `check` examines in addition to the values of a valid configuration.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The configuration files that were read, the main one first.
    pub sources: Vec<PathBuf>,
    /// The files that the configuration names, except those of secrets.
    pub files: Vec<FileUse>,
    /// Problems that do not make the configuration invalid, in the order of the files.
    pub warnings: Vec<Fault>,
    /// The patterns that select controls.
    pub control_patterns: Vec<ControlPattern>,
    /// Where `state.directory` is configured.
    pub state_directory: Origin,
    /// Where `admin.listen` is configured; `None` without a listener.
    pub listen: Option<Origin>,
}

/// A pattern that selects controls, in a sink or a rule.
#[derive(Clone, Debug)]
pub struct ControlPattern {
    /// The key that contains the pattern, such as `control_ids`.
    pub key: &'static str,
    /// The attribute of a control that is compared with the pattern.
    pub attribute: ControlAttribute,
    /// The pattern as it is configured.
    pub text: String,
    pub glob: Glob,
    pub origin: Origin,
}

/// An attribute of a control that patterns select by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ControlAttribute {
    Id,
    Service,
    Category,
}

impl Configuration {
    /// The references to secrets in all files.
    pub fn secrets(&self) -> &[SecretUse] {
        &self.secrets
    }

    /// One fault per credential whose files cannot be read. The daemon starts nevertheless, because
    /// only some tenants may use the credential.
    pub fn unreadable_credentials(&self) -> Vec<Fault> {
        let faults = self.credentials.iter().filter_map(|named| {
            let error = named.credential.check().err()?;
            let is_unreadable = matches!(error, CredentialError::Read(..));
            is_unreadable.then(|| named.origin.fault(Explanation::of(&error)))
        });
        faults.collect()
    }

    /// One warning per secret that is probably not the intended one; see
    /// [`crate::settings::SecretRef::doubt`].
    pub fn doubtful_secrets(&self) -> Vec<Fault> {
        let faults = self
            .secrets
            .iter()
            .filter_map(|secret| Some(secret.origin.fault(secret.reference.doubt()?)));
        faults.collect()
    }
}

impl ControlAttribute {
    /// The name of the attribute in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Id => "ID",
            Self::Service => "service",
            Self::Category => "category",
        }
    }
}
