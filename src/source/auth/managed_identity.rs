//! A managed identity: the host vouches for itself, and there is no secret at all.
//!
//! Source of the protocols: Microsoft's documentation of managed identities for virtual machines
//! (IMDS), App Service and Azure Arc.

use std::path::{Path, PathBuf};

use backon::{ExponentialBuilder, Retryable};
use reqwest::header::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{
    BoxFuture, Credential, CredentialError, TokenRequestContext, answer, exchange, refusal,
};
use crate::{source::SourceError, wire::Token};

/// Which of a host's identities; none is the one of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagedIdentityId {
    System,
    Client(String),
    Object(String),
    Resource(String),
}

#[derive(Debug)]
pub struct ManagedIdentity {
    pub identity: ManagedIdentityId,
    pub host: ManagedIdentityHost,
    /// Where Arc's agent leaves its challenges.
    pub key_directory: PathBuf,
}

/// Who vouches.
#[derive(Debug)]
pub enum ManagedIdentityHost {
    /// A virtual machine's metadata service.
    Imds(Url),
    AppService {
        endpoint: Url,
        header: SecretString,
    },
    Arc(Url),
}

const IMDS: &str = "http://169.254.169.254";
const ARC: &str = "http://127.0.0.1:40342/metadata/identity/oauth2/token";
const HIMDS: &str = "/opt/azcmagent/bin/himds";
const KEY_DIRECTORY: &str = "/var/opt/azcmagent/tokens";
const MAX_KEY: u64 = 4_096;
const WHAT: &str = "the managed identity endpoint";

impl ManagedIdentity {
    /// Finds out from the environment who vouches here.
    pub fn detect(
        identity: ManagedIdentityId,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, CredentialError> {
        let url = |name: &str, text: &str| {
            Url::parse(text).map_err(|_| CredentialError::Environment(format!("${name} is no URL")))
        };
        let host = match (variable("IDENTITY_ENDPOINT"), variable("IDENTITY_HEADER")) {
            (Some(endpoint), Some(header)) => {
                let header = SecretString::from(header);
                ManagedIdentityHost::AppService {
                    endpoint: url("IDENTITY_ENDPOINT", &endpoint)?,
                    header,
                }
            }
            (Some(endpoint), None) if variable("IMDS_ENDPOINT").is_some() => {
                ManagedIdentityHost::Arc(url("IDENTITY_ENDPOINT", &endpoint)?)
            }
            _ if Path::new(HIMDS).exists() => {
                ManagedIdentityHost::Arc(url("IDENTITY_ENDPOINT", ARC)?)
            }
            _ => {
                let name = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
                ManagedIdentityHost::Imds(url(name, variable(name).as_deref().unwrap_or(IMDS))?)
            }
        };
        Ok(Self { identity, host, key_directory: PathBuf::from(KEY_DIRECTORY) })
    }

    async fn ask_imds(
        &self,
        ask: TokenRequestContext<'_>,
        base: &Url,
    ) -> Result<Token, SourceError> {
        let mut url = base.clone();
        url.set_path("/metadata/identity/oauth2/token");
        self.query(&mut url, "2018-02-01", ask, "msi_res_id");
        let request = || ask.clients.direct.get(url.clone()).header("Metadata", "true");
        // Not there yet, or busy: for more than a minute while a machine starts.
        let policy = ExponentialBuilder::default()
            .with_min_delay(std::time::Duration::from_millis(1_300))
            .with_factor(2.0)
            .with_max_times(6)
            .with_jitter();
        (|| async { answer(request(), WHAT).await })
            .retry(policy)
            .when(|error| match error {
                SourceError::Throttled { .. } => true,
                SourceError::Status { status, .. } => matches!(status, 404 | 410 | 500..),
                _ => false,
            })
            .await
    }

    async fn ask_arc(
        &self,
        ask: TokenRequestContext<'_>,
        endpoint: &Url,
    ) -> Result<Token, SourceError> {
        let mut url = endpoint.clone();
        self.query(&mut url, "2020-06-01", ask, "msi_res_id");
        let request = || ask.clients.direct.get(url.clone()).header("Metadata", "true");
        let (status, headers, body) = exchange(request(), WHAT).await?;
        if status != 401 {
            return Err(refusal(status, &headers, &body, WHAT));
        }
        let directory = &self.key_directory;
        let key = tokio::task::block_in_place(|| read_challenge(&headers, directory))?;
        answer(request().header("Authorization", format!("Basic {key}")), WHAT).await
    }

    fn query(
        &self,
        url: &mut Url,
        version: &str,
        ask: TokenRequestContext<'_>,
        resource_key: &str,
    ) {
        let mut query = url.query_pairs_mut();
        query.append_pair("api-version", version).append_pair("resource", ask.resource());
        match &self.identity {
            ManagedIdentityId::System => {}
            ManagedIdentityId::Client(id) => drop(query.append_pair("client_id", id)),
            ManagedIdentityId::Object(id) => drop(query.append_pair("object_id", id)),
            ManagedIdentityId::Resource(id) => drop(query.append_pair(resource_key, id)),
        }
    }
}

impl Credential for ManagedIdentity {
    fn token<'a>(
        &'a self,
        ask: TokenRequestContext<'a>,
    ) -> BoxFuture<'a, Result<Token, SourceError>> {
        Box::pin(async move {
            match &self.host {
                ManagedIdentityHost::Imds(base) => self.ask_imds(ask, base).await,
                ManagedIdentityHost::Arc(endpoint) => self.ask_arc(ask, endpoint).await,
                ManagedIdentityHost::AppService { endpoint, header } => {
                    let mut url = endpoint.clone();
                    self.query(&mut url, "2019-08-01", ask, "mi_res_id");
                    let header = header.expose_secret();
                    let request = ask.clients.direct.get(url).header("X-IDENTITY-HEADER", header);
                    answer(request, WHAT).await
                }
            }
        })
    }
}

/// Reads the file that Arc's agent names, having looked at the name first: whoever answers there
/// must not be able to have any file of this host read.
fn read_challenge(headers: &HeaderMap, directory: &Path) -> Result<String, CredentialError> {
    let refused = |why: &str| CredentialError::KeyFile(why.to_owned());
    let challenge = headers.get("WWW-Authenticate").and_then(|value| value.to_str().ok());
    let realm = challenge.and_then(|text| text.strip_prefix("Basic realm="));
    let path = PathBuf::from(realm.ok_or_else(|| refused("none is named"))?.trim_matches('"'));
    if path.parent() != Some(directory) || path.extension().is_none_or(|end| end != "key") {
        return Err(refused("it is not where the agent keeps its keys"));
    }
    let metadata = std::fs::symlink_metadata(&path)
        .map_err(|error| CredentialError::Read(path.display().to_string(), error))?;
    if !metadata.is_file() || metadata.len() > MAX_KEY {
        return Err(refused("it is no file of a key's size"));
    }
    let key = std::fs::read_to_string(&path)
        .map_err(|error| CredentialError::Read(path.display().to_string(), error))?;
    let key = key.trim().to_owned();
    if key.is_empty() || key.chars().any(|c| c.is_control() || !c.is_ascii()) {
        return Err(refused("it holds no key"));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_told_from_its_environment() {
        let detect = |variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            match ManagedIdentity::detect(ManagedIdentityId::System, variable).unwrap().host {
                ManagedIdentityHost::Imds(url) => format!("imds {url}"),
                ManagedIdentityHost::AppService { endpoint, .. } => {
                    format!("app service {endpoint}")
                }
                ManagedIdentityHost::Arc(url) => format!("arc {url}"),
            }
        };
        assert_eq!(detect(&[]), "imds http://169.254.169.254/");
        let moved = ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1");
        assert_eq!(detect(&[moved]), "imds http://127.0.0.1:1/");
        let endpoint = ("IDENTITY_ENDPOINT", "http://127.0.0.1:2/msi");
        let header = ("IDENTITY_HEADER", "h");
        assert_eq!(detect(&[endpoint, header, moved]), "app service http://127.0.0.1:2/msi");
        assert_eq!(detect(&[endpoint, ("IMDS_ENDPOINT", "y")]), "arc http://127.0.0.1:2/msi");
    }

    #[test]
    fn no_other_file_than_the_agents_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("good.key"), "a2V5\n").unwrap();
        std::fs::write(at("other.txt"), "x").unwrap();
        std::fs::write(at("large.key"), "x".repeat(4_097)).unwrap();
        std::fs::write(at("empty.key"), "\n").unwrap();
        std::fs::create_dir(at("sub")).unwrap();
        std::fs::write(at("sub/deep.key"), "x").unwrap();
        std::os::unix::fs::symlink(at("other.txt"), at("link.key")).unwrap();
        let read = |realm: String| {
            let mut headers = HeaderMap::new();
            headers.insert("WWW-Authenticate", realm.parse().unwrap());
            read_challenge(&headers, directory.path())
        };
        let basic = |path: &Path| format!("Basic realm={}", path.display());
        assert_eq!(read(basic(&at("good.key"))).unwrap(), "a2V5");
        for bad in ["other.txt", "large.key", "empty.key", "sub/deep.key", "link.key", "none.key"] {
            assert!(read(basic(&at(bad))).is_err(), "{bad}");
        }
        assert!(read(basic(&directory.path().join("sub/../good.key"))).is_err());
        assert!(read("Basic realm=/etc/shadow".to_owned()).is_err());
        assert!(read("Bearer".to_owned()).is_err());
    }
}
