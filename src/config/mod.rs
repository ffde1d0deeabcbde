//! The configuration: as written (TOML against tables of keys) and as meant (this).

mod keys;
mod read;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use keys::KEYS;

use crate::{
    derive::Selection,
    format::Texts,
    model::{Day, TenantId},
    schedule::Schedule,
    settings::Fault,
    sink::Plan,
    source::Access,
};

/// Where it is looked for when nothing else is said.
pub const DEFAULT_PATH: &str = "/etc/secure-score-forwarder/config.toml";

/// The whole configuration, validated.
#[derive(Clone, Debug)]
pub struct Configuration {
    pub state_directory: PathBuf,
    pub schedule: Schedule,
    pub tenants: Vec<TenantPlan>,
    pub sinks: Vec<SinkPlan>,
}

#[derive(Clone, Debug)]
pub struct TenantPlan {
    pub name: String,
    pub id: TenantName,
    pub labels: std::collections::BTreeMap<String, String>,
    pub access: Access,
    /// 1 to 90.
    pub initial_backfill_days: i32,
}

/// How the configuration names a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantName {
    Guid(TenantId),
    /// Resolved once, and kept.
    Domain(String),
}

#[derive(Clone, Debug)]
pub struct SinkPlan {
    pub name: String,
    /// The value of `type`.
    pub kind: &'static str,
    pub selection: Selection,
    pub texts: Texts,
    /// No day before this one is sent; `None`: 90 days back when the sink is new.
    pub start_from: Option<Day>,
    pub plan: Arc<dyn Plan>,
}

/// All that is wrong with a configuration.
#[derive(Debug)]
pub struct ConfigError(pub Vec<Fault>);

impl Configuration {
    /// Reads and validates a file; no secret is read and nothing is opened.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| {
            let hint =
                "name a file with --config, or write one; the README has a first configuration"
                    .to_owned();
            ConfigError(vec![Fault {
                file: file.clone(),
                place: None,
                message: format!("cannot be read: {error}"),
                hint: Some(hint),
            }])
        })?;
        Self::parse(&file, &text)
    }

    /// As [`Self::load`], from the text of a file.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        read::parse(file, text).map_err(ConfigError)
    }

    /// Reads every secret once, to find those that cannot be had before anything starts.
    pub fn check_secrets(&self, file: &str) -> Result<(), ConfigError> {
        let tenants =
            self.tenants.iter().map(|t| (format!("tenant `{}`", t.name), &t.access.client_secret));
        let sinks = self
            .sinks
            .iter()
            .flat_map(|s| s.plan.secrets().into_iter().map(|r| (format!("sink `{}`", s.name), r)));
        let faults: Vec<Fault> = tenants
            .chain(sinks)
            .filter_map(|(whose, secret)| {
                let error = secret.read().err()?;
                let message = format!("{whose}: {}", crate::error::chain(&error));
                Some(Fault { file: file.to_owned(), place: None, message, hint: None })
            })
            .collect();
        if faults.is_empty() { Ok(()) } else { Err(ConfigError(faults)) }
    }

    /// What works but should not stay: secrets in the environment of a service.
    pub fn warnings(&self) -> Vec<String> {
        if std::env::var_os("INVOCATION_ID").is_none() {
            return Vec::new();
        }
        let tenants = self.tenants.iter().map(|t| &t.access.client_secret);
        let sinks = self.sinks.iter().flat_map(|s| s.plan.secrets());
        tenants
            .chain(sinks)
            .filter(|secret| matches!(secret, crate::settings::SecretRef::Env(_)))
            .map(|secret| format!("{secret} holds a secret: under systemd use LoadCredential= and {{ credential = … }}"))
            .collect()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests;
