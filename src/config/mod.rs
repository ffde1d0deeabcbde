//! The configuration: as written (TOML against tables of keys) and as meant (this).

mod files;
mod keys;
mod read;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use keys::KEYS;

use crate::{
    derive::{Glob, Rules, Selection},
    error::Explanation,
    format::Texts,
    model::{Day, TenantId},
    schedule::Schedule,
    settings::{Fault, Faults, Location, SecretRef, SecretUse},
    sink::Plan,
    source::{Access, Credential, HttpOptions},
};

/// Where it is looked for when nothing else is said.
pub const DEFAULT_PATH: &str = "/etc/secure-score-forwarder/config.toml";

/// The whole configuration, validated.
#[derive(Clone, Debug)]
pub struct Configuration {
    pub state_directory: PathBuf,
    /// How long texts of days are kept that every sink has had; facts stay for ever.
    pub retention_days: i32,
    /// Bytes that the checkpoint may use before older texts go earlier.
    pub max_size: Option<u64>,
    pub schedule: Schedule,
    /// How long a day is held back of which only a part could be had.
    pub partial_hold: Duration,
    pub http: HttpOptions,
    pub admin: Option<AdminPlan>,
    pub tenants: Vec<TenantPlan>,
    /// Each once, shared or not, by name.
    pub credentials: Vec<NamedCredential>,
    pub sinks: Vec<SinkPlan>,
    secrets: Vec<SecretUse>,
}

/// Where metrics, health and the status page are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminPlan {
    pub listen: SocketAddr,
    /// Names under which it may be asked, beside those of loopback.
    pub hosts: Vec<String>,
    /// No more tenants than this have series of their own.
    pub tenant_series: usize,
}

/// A credential, and where the configuration says it.
#[derive(Clone, Debug)]
pub struct NamedCredential {
    /// `tenant NAME` for one that a tenant has for itself.
    pub name: String,
    pub credential: Arc<dyn Credential>,
    file: String,
    location: Location,
}

#[derive(Clone, Debug)]
pub struct TenantPlan {
    pub name: String,
    pub id: TenantName,
    pub labels: std::collections::BTreeMap<String, String>,
    pub access: Access,
    /// 1 to 90.
    pub initial_backfill_days: i32,
    /// How much its changes matter, and which decisions are expected.
    pub rules: Arc<Rules>,
}

/// How the configuration names a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantName {
    Guid(TenantId),
    /// Resolved once, and kept.
    Domain(String),
}

/// Tenants by name, id or label; no pattern means all.
#[derive(Clone, Debug, Default)]
pub struct TenantFilter(pub Vec<TenantPattern>);

#[derive(Clone, Debug)]
pub enum TenantPattern {
    /// Of the name, or the id as configured.
    Name(Glob),
    Label(String, Glob),
}

#[derive(Clone, Debug)]
pub struct SinkPlan {
    pub name: String,
    /// The value of `type`.
    pub kind: &'static str,
    pub selection: Arc<Selection>,
    /// Which tenants it gets.
    pub tenants: TenantFilter,
    /// Records a second, at most.
    pub max_rate: Option<u32>,
    pub texts: Texts,
    /// Names and texts that stand in every record.
    pub fields: Vec<(String, String)>,
    /// No day before this one is sent; `None`: 90 days back when the sink is new.
    pub start_from: Option<Day>,
    /// How it signs in to Entra, if it does.
    pub sign_in: Option<SignIn>,
    /// The name that it had.
    pub renamed_from: Option<String>,
    /// It is on its way out: what waits for it is forgotten.
    pub discarded: bool,
    pub plan: Arc<dyn Plan>,
}

/// A credential, a tenant, and what for.
#[derive(Clone, Debug)]
pub struct SignIn {
    pub credential: Arc<dyn Credential>,
    pub tenant: String,
    pub login_url: url::Url,
    pub resource: url::Url,
}

/// All that is wrong with a configuration.
#[derive(Debug)]
pub struct ConfigError(pub Vec<Fault>);

impl TenantFilter {
    pub fn matches(&self, tenant: &TenantPlan) -> bool {
        let id = match &tenant.id {
            TenantName::Guid(id) => id.to_string(),
            TenantName::Domain(domain) => domain.clone(),
        };
        let is_it = |pattern: &TenantPattern| match pattern {
            TenantPattern::Name(glob) => glob.matches(&tenant.name) || glob.matches(&id),
            TenantPattern::Label(label, glob) => {
                tenant.labels.get(label).is_some_and(|value| glob.matches(value))
            }
        };
        self.0.is_empty() || self.0.iter().any(is_it)
    }
}

impl Configuration {
    /// Reads and validates a file, and those beside it that hold tenants; no secret is read and
    /// nothing is opened.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let hint = "name a file with --config, or write one; the README has a first configuration";
        let main = files::read(path, hint)?;
        let more = files::more_tenants(path, &main.text)?;
        read::parse(&main, &more).map_err(ConfigError)
    }

    /// Where the checkpoint is, by a file that may have faults elsewhere.
    pub fn state_directory_in(path: &Path) -> Option<PathBuf> {
        let text = fs_err::read_to_string(path).ok()?;
        let whole: toml::Table = text.parse().ok()?;
        Some(whole.get("state")?.get("directory")?.as_str()?.into())
    }

    /// As [`Self::load`], from the text of a file.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let main = read::Text { faults: Faults::new(file, text), text: text.to_owned() };
        read::parse(&main, &[]).map_err(ConfigError)
    }

    /// Looks at every secret and key once, to find those that cannot be had before anything
    /// starts.
    pub fn check_secrets(&self) -> Result<(), ConfigError> {
        let fault = |file: &String, location: Location, explanation: Explanation| {
            let Explanation { message, hint } = explanation;
            Fault { file: file.clone(), location: Some(location), message, hint }
        };
        let secrets = self.secrets.iter().filter_map(|secret| {
            let error = secret.reference.read().err()?;
            Some(fault(&secret.file, secret.location, crate::error::chain(&error).into()))
        });
        let credentials = self.credentials.iter().filter_map(|named| {
            let error = named.credential.check().err().filter(|error| !error.is_temporary())?;
            Some(fault(&named.file, named.location, Explanation::of(&error)))
        });
        let mut faults: Vec<Fault> = secrets.chain(credentials).collect();
        faults.sort_by_key(|fault| (fault.file.clone(), fault.location));
        if faults.is_empty() { Ok(()) } else { Err(ConfigError(faults)) }
    }

    /// What should not stay: a certificate that has expired or soon will, a token file that is not
    /// there, which stop no other tenant; secrets in the environment of a service.
    pub fn warnings(&self) -> Vec<String> {
        let now = crate::clock::now();
        let mut warnings: Vec<String> = self
            .credentials
            .iter()
            .filter_map(|named| {
                if let Err(error) = named.credential.check() {
                    return Some(format!("`{}`: {}", named.name, crate::error::chain(&error)));
                }
                let end = crate::source::expires_soon(named.credential.as_ref(), now)?;
                Some(format!("the certificate of `{}` is good until {end} only", named.name))
            })
            .collect();
        if std::env::var_os("INVOCATION_ID").is_some() {
            let in_environment =
                self.secrets.iter().filter(|secret| matches!(secret.reference, SecretRef::Env(_)));
            warnings.extend(in_environment.map(|secret| {
                format!(
                    "{} holds a secret: under systemd use LoadCredential= and {{ credential = … }}",
                    secret.reference
                )
            }));
        }
        warnings
    }
}

impl ConfigError {
    /// Each fault with its location and its hint.
    pub fn explanations(&self) -> Vec<Explanation> {
        self.0.iter().map(Fault::explanation).collect()
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
