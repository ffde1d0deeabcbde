//! The configuration as the program uses it: validated, with typed values and defaults applied.
//!
//! `files` reads the files, `layers` merges their values with those of the environment, `keys`
//! declares all keys, and `read` converts the sections to the types below and reports every fault.
//! Loading reads no secret, opens no socket and writes nothing. Start reading at
//! [`Configuration::load`].

mod certificates;
mod example;
mod files;
mod inspection;
mod keys;
mod layers;
mod listen;
mod outline;
mod read;
mod tenants_csv;
mod variables;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use example::example;
pub use files::DIRECTORIES;
use files::SourceReader;
pub use inspection::{ControlAttribute, ControlPattern, Inspection};
pub use keys::KEYS;
use layers::Layers;
pub use listen::ListenAddress;
pub use outline::{Outline, ValueHash};
use variables::variables;

use crate::{
    derive::{Glob, Rules, Selection},
    error::Explanation,
    format::Texts,
    model::{Day, SinkName, TenantId},
    schedule::{DigestSchedule, Schedule},
    settings::{
        EffectiveTable, Fault, FaultGroup, Origin, SecretRef, SecretUse, Source, effective,
    },
    sink::Plan,
    source::{Access, Credential, GraphHttpOptions},
};

/// The path of the configuration if none is given on the command line.
pub const DEFAULT_PATH: &str = "/etc/secure-score-forwarder/config.toml";

/// A validated configuration.
#[derive(Clone, Debug)]
pub struct Configuration {
    /// The directory of the checkpoint.
    pub state_directory: PathBuf,
    /// The age in days above which bodies of delivered snapshots are pruned. Facts are never
    /// pruned.
    pub retention_days: i32,
    /// The size in bytes above which bodies are pruned before they reach `retention_days`.
    pub max_size: Option<u64>,
    /// How long the cursors of a sink are kept after the sink was removed from the configuration.
    pub removed_sinks: Duration,
    /// When tenants are polled.
    pub schedule: Schedule,
    /// How long a partial day is held before it is released as partial.
    pub partial_hold: Duration,
    /// The connection to Microsoft Graph and Entra.
    pub http: GraphHttpOptions,
    /// The admin listener; `None` if it is disabled.
    pub admin: Option<AdminPlan>,
    /// The tenants of all files, in their order; each has a unique name.
    pub tenants: Vec<TenantPlan>,
    /// All credentials, shared ones and those of individual tenants, sorted by name.
    pub credentials: Vec<NamedCredential>,
    /// The sinks in the order of the file; each has a unique name.
    pub sinks: Vec<SinkPlan>,
    /// By which a reload finds what has changed.
    pub outline: Outline,
    /// What `check` examines in addition.
    pub inspection: Inspection,
    secrets: Vec<SecretUse>,
}

/// The listener for metrics, health checks and the status page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminPlan {
    /// Where the server accepts connections.
    pub listen: ListenAddress,
    /// Values of the `Host` header that are accepted in addition to loopback names and addresses.
    pub hosts: Vec<String>,
    /// The number of tenants up to which metrics have a series per tenant.
    pub tenant_series: usize,
}

/// A credential and its location in the configuration.
#[derive(Clone, Debug)]
pub struct NamedCredential {
    /// The name of a shared credential, or `tenant NAME` for one in the section of a tenant.
    pub name: String,
    /// The credential, which its tenants and sinks share.
    pub credential: Arc<dyn Credential>,
    origin: Origin,
}

/// A configured tenant.
#[derive(Clone, Debug)]
pub struct TenantPlan {
    /// The name in records, commands and metrics, unique among the tenants.
    pub name: String,
    pub id: TenantName,
    /// The labels, by name; records contain them, and sinks can select by them.
    pub labels: std::collections::BTreeMap<String, String>,
    /// The name of its credential, as in [`NamedCredential`].
    pub credential: String,
    /// The cloud, the credential and the API that the tenant is read with.
    pub access: Access,
    /// The number of days that the first poll requests: [`REREAD_DAYS`](crate::model::REREAD_DAYS)
    /// to 90.
    pub initial_backfill_days: i32,
    /// The rules for the severity of its changes, and its expected decisions.
    pub rules: Arc<Rules>,
}

/// How the configuration identifies a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantName {
    /// The ID of the tenant.
    Guid(TenantId),
    /// A verified domain in lower case. The checkpoint stores the GUID that it resolves to.
    Domain(String),
}

/// Selects tenants by name, ID or label. A filter without patterns matches all tenants.
#[derive(Clone, Debug, Default)]
pub struct TenantFilter(pub Vec<TenantPattern>);

/// One pattern of a [`TenantFilter`].
#[derive(Clone, Debug)]
pub enum TenantPattern {
    /// Matches the name, or the ID as configured.
    Name(Glob),
    /// Matches the value of the label with this name.
    Label(String, Glob),
}

/// A configured sink: what all sinks have in common, and the plan of its type.
#[derive(Clone, Debug)]
pub struct SinkPlan {
    /// The name in commands, metrics and the checkpoint, unique among the sinks.
    pub name: SinkName,
    /// The value of `type`.
    pub kind: &'static str,
    /// The records that are sent.
    pub selection: Arc<Selection>,
    /// The tenants whose records are sent.
    pub tenants: TenantFilter,
    /// The maximum number of records per second. `None` means no limit.
    pub max_rate: Option<u32>,
    /// How much of Microsoft's texts a record includes.
    pub texts: Texts,
    /// `extra_fields`: names and values that are added to every record.
    pub fields: Vec<(String, String)>,
    /// The first day that is sent. `None` means 90 days before the day on which the sink was added.
    pub start_from: Option<Day>,
    /// When digests are sent; `None` if records are sent as they arrive.
    pub digest: Option<DigestSchedule>,
    /// How the sink signs in to Entra, if its receiver requires that.
    pub sign_in: Option<SignIn>,
    /// The previous name of the sink, whose cursors are carried over. `None` if the sink was not
    /// renamed.
    pub renamed_from: Option<SinkName>,
    /// `discard_backlog`: delivery is stopped, and the backlog is dropped.
    pub discarded: bool,
    /// The validated keys of the type of the sink.
    pub plan: Arc<dyn Plan>,
}

/// How a sink obtains a token from Entra.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// The credential that the key `credential` of the sink names.
    pub credential: Arc<dyn Credential>,
    /// The GUID or domain of the tenant that issues the token.
    pub tenant: String,
    /// The login endpoint of the cloud.
    pub login_url: url::Url,
    /// The service that the token is for.
    pub resource: url::Url,
}

/// All faults of a configuration. Displayed as one line per fault, without hints.
#[derive(Debug)]
pub struct ConfigError(pub Vec<Fault>);

impl TenantFilter {
    /// The filter of these patterns: each is `label=pattern`, or a pattern for a name or an ID.
    pub fn parse<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let pattern = |text: &str| match text.split_once('=') {
            Some((label, value)) => {
                TenantPattern::Label(label.trim().to_owned(), Glob::new(value.trim()))
            }
            None => TenantPattern::Name(Glob::new(text)),
        };
        Self(patterns.into_iter().map(pattern).collect())
    }

    /// Whether any pattern matches the tenant, or there are no patterns.
    pub fn matches(&self, tenant: &TenantPlan) -> bool {
        let id = tenant.id.to_string();
        let is_match = |pattern: &TenantPattern| match pattern {
            TenantPattern::Name(glob) => glob.matches(&tenant.name) || glob.matches(&id),
            TenantPattern::Label(label, glob) => {
                tenant.labels.get(label).is_some_and(|value| glob.matches(value))
            }
        };

        self.0.is_empty() || self.0.iter().any(is_match)
    }
}

impl fmt::Display for TenantName {
    /// Prints the GUID or the domain.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guid(id) => id.fmt(f),
            Self::Domain(domain) => f.write_str(domain),
        }
    }
}

impl Configuration {
    /// Reads and validates a configuration file, the files next to it, and the environment
    /// variables that set keys. No secret is read and no connection is opened.
    ///
    /// # Errors
    ///
    /// Fails with the faults of all sources.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        read::read(&layers(path)?).map_err(ConfigError)
    }

    /// Like [`Self::load`], but also returns every key that has a value, table by table.
    ///
    /// # Errors
    ///
    /// Fails with the faults of all sources.
    pub fn load_with_values(path: &Path) -> Result<(Self, Vec<EffectiveTable>), ConfigError> {
        let layers = layers(path)?;
        let (configuration, merged) = read::read_merged(&layers).map_err(ConfigError)?;
        Ok((configuration, effective(&merged, KEYS, &layers.faults)))
    }

    /// The state directory that is set in a file or in the environment, even if the file has other
    /// faults.
    pub fn state_directory_in(path: &Path) -> Option<PathBuf> {
        let main = SourceReader::new().read_main(path, "").ok()?;
        let merged = Layers::of_main(path, main).with_variables(variables()).merge()?;
        let state = merged.get(keys::STATE.name())?.table()?;
        Some(state.text(keys::state::DIRECTORY.name())?.into())
    }

    /// The paths of everything that [`Self::load`] reads in addition to the main file, whether it
    /// exists or not: the directories next to that file, the files in them, and the CSV file.
    pub fn further_sources(path: &Path) -> Vec<PathBuf> {
        let mut sources = files::directories_and_files(path);
        if let Ok(main) = SourceReader::new().read_main(path, "") {
            let csv = csv_name(&Layers::of_main(path, main), &variables());
            sources.extend(csv.map(|name| files::csv_path(path, &name)));
        }
        sources
    }

    /// The sink with this name.
    pub fn sink_named(&self, name: &SinkName) -> Option<&SinkPlan> {
        self.sinks.iter().find(|plan| plan.name == *name)
    }

    /// Like [`Self::load`], but reads the text of a file. `file` is the name of the file in faults.
    /// It reads no other files and no environment, so `tenants_file` has no effect.
    ///
    /// # Errors
    ///
    /// Fails with all faults of the text.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        read::read(&layers_of(file, text, Vec::new())).map_err(ConfigError)
    }

    /// Reads every secret and every key once, so that an unavailable one is reported before the
    /// program starts its work.
    ///
    /// # Errors
    ///
    /// Fails with one fault per secret or credential that cannot be read, and per secret that its
    /// key does not permit, such as a key that can be guessed. A credential that is only
    /// temporarily unavailable is not a fault; see [`Self::warnings`].
    pub fn check_secrets(&self) -> Result<(), ConfigError> {
        let secrets =
            self.secrets.iter().filter_map(|secret| Some((&secret.origin, secret.problem()?)));
        let credentials = self.credentials.iter().filter_map(|named| {
            let error = named.credential.check().err().filter(|error| !error.is_temporary())?;
            Some((&named.origin, Explanation::of(&error)))
        });

        let mut faults: Vec<(&Origin, Explanation)> = secrets.chain(credentials).collect();
        faults.sort_by_key(|(origin, _)| origin.sort_key());
        if faults.is_empty() {
            return Ok(());
        }
        let faults = faults.into_iter().map(|(origin, explanation)| origin.fault(explanation));
        Err(ConfigError(faults.collect()))
    }

    /// Problems that the operator should resolve, but that do not prevent a start: a certificate
    /// that has expired or expires soon and an absent token file (each affects only the tenants
    /// that use it), and secrets in the environment of a service.
    pub fn warnings(&self) -> Vec<Explanation> {
        let now = crate::clock::now();
        let credential_warning = |named: &NamedCredential| {
            if let Err(error) = named.credential.check() {
                return Some(Explanation::of(&error).within(&format!("`{}`", named.name)));
            }
            let end = crate::source::expires_soon(named.credential.as_ref(), now)?;
            let message = format!("the credential `{}` is valid until `{end}`", named.name);
            Some(Explanation::new(message).with_hint("add a new secret or certificate before that"))
        };
        let mut warnings: Vec<Explanation> =
            self.credentials.iter().filter_map(credential_warning).collect();

        // systemd sets `INVOCATION_ID` for a service. For a service, systemd credentials are safer
        // than the environment, which child processes inherit.
        if std::env::var_os("INVOCATION_ID").is_some() {
            let in_environment =
                self.secrets.iter().filter(|secret| matches!(secret.reference, SecretRef::Env(_)));
            warnings.extend(in_environment.map(|secret| {
                let message =
                    format!("the secret `{}` is stored in the environment", secret.reference);
                Explanation::new(message).with_hint("use LoadCredential= and { credential = … }")
            }));
        }

        warnings
    }
}

/// All sources of the configuration with this main file.
fn layers(path: &Path) -> Result<Layers, ConfigError> {
    let hint = "pass --config with the path of the configuration, or run `init` to create one";
    let mut reader = SourceReader::new();
    let mut layers = Layers::of_main(path, reader.read_main(path, hint)?);
    for file in reader.read_directories(path)? {
        layers.add_file(file);
    }

    let variables = variables();
    if let Some(csv) = csv_name(&layers, &variables) {
        layers.add_file(reader.read_csv(path, &csv)?);
    }
    Ok(layers.with_variables(variables))
}

/// The value of `tenants_file`, if it is set.
fn csv_name(layers: &Layers, variables: &[(String, String)]) -> Option<String> {
    layers.tenants_file(variables).filter(|csv| !csv.is_empty()).map(str::to_owned)
}

/// The sources of a configuration that consists of one text and these environment variables.
fn layers_of(file: &str, text: &str, variables: Vec<(String, String)>) -> Layers {
    let main = Source::file(file, text.to_owned());
    Layers::of_main(Path::new(file), main).with_variables(variables)
}

impl ConfigError {
    /// Each fault with its location and its hint. Faults that occur on many lines are explained
    /// once.
    pub fn explanations(&self) -> Vec<Explanation> {
        Fault::group(&self.0).iter().map(FaultGroup::explanation).collect()
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
