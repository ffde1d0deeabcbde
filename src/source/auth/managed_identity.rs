//! A managed identity of the host, which needs no secret.
//!
//! The protocols are those of Microsoft's documentation of managed identities for virtual machines
//! (the Instance Metadata Service, IMDS), App Service and Azure Arc. The requests must never use a
//! proxy. Start reading at [`ManagedIdentity::detect`].

use std::path::{Path, PathBuf};

use backon::{ExponentialBuilder, Retryable};
use reqwest::header::HeaderMap;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{
    BoxFuture, Credential, CredentialError, TokenRequestContext, send, send_token_request,
};
use crate::{
    files::{self, FileError},
    net,
    source::SourceError,
    wire::Token,
};

const IMDS: &str = "http://169.254.169.254";
const ARC: &str = "http://127.0.0.1:40342/metadata/identity/oauth2/token";
/// The agent of Azure Arc; its presence shows that the host is an Arc-enabled server.
const ARC_AGENT: &str = "/opt/azcmagent/bin/himds";
const ARC_KEY_DIRECTORY: &str = "/var/opt/azcmagent/tokens";
/// The size limit of the key file, from the documentation of Azure Arc.
const MAX_KEY_BYTES: u64 = 4_096;
/// The server's name in error messages.
const WHAT: &str = "the managed identity endpoint";

/// Selects one of the identities of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagedIdentityId {
    /// The system-assigned identity.
    System,
    /// A user-assigned identity, by client ID.
    Client(String),
    /// A user-assigned identity, by object ID.
    Object(String),
    /// A user-assigned identity, by Azure resource ID.
    Resource(String),
}

/// The managed identity of the host. Azure issues the tokens, so there is no secret.
#[derive(Debug)]
pub struct ManagedIdentity {
    /// The identity to use.
    pub identity: ManagedIdentityId,
    /// The token endpoint of the host.
    pub host: ManagedIdentityHost,
    /// The directory in which the agent of Azure Arc stores the keys of its challenges.
    pub key_directory: PathBuf,
}

/// The kind of host, and its token endpoint.
#[derive(Debug)]
pub enum ManagedIdentityHost {
    /// The metadata service of a virtual machine; a URL without a path.
    Imds(Url),
    /// App Service, Functions or Container Apps.
    AppService {
        /// `IDENTITY_ENDPOINT`: the URL of the token endpoint.
        endpoint: Url,
        /// `IDENTITY_HEADER`: a secret that every request must contain.
        header: SecretString,
    },
    /// The agent of Azure Arc; the URL of its token endpoint.
    Arc(Url),
}

impl ManagedIdentity {
    /// Determines the kind of host from its environment variables and the agent of Azure Arc.
    ///
    /// # Errors
    ///
    /// Returns [`CredentialError::Environment`] if a variable is not a valid URL, or if a request
    /// to it would send a credential over the network in plain text.
    pub fn detect(
        identity: ManagedIdentityId,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, CredentialError> {
        let host = match (variable("IDENTITY_ENDPOINT"), variable("IDENTITY_HEADER")) {
            (Some(endpoint), Some(header)) => ManagedIdentityHost::AppService {
                endpoint: local_url("IDENTITY_ENDPOINT", &endpoint)?,
                header: SecretString::from(header),
            },
            (Some(endpoint), None) if variable("IMDS_ENDPOINT").is_some() => {
                ManagedIdentityHost::Arc(local_url("IDENTITY_ENDPOINT", &endpoint)?)
            }
            _ if Path::new(ARC_AGENT).exists() => {
                ManagedIdentityHost::Arc(local_url("IDENTITY_ENDPOINT", ARC)?)
            }
            _ => {
                let name = "AZURE_POD_IDENTITY_AUTHORITY_HOST";
                let base = variable(name);
                ManagedIdentityHost::Imds(local_url(name, base.as_deref().unwrap_or(IMDS))?)
            }
        };
        Ok(Self { identity, host, key_directory: PathBuf::from(ARC_KEY_DIRECTORY) })
    }

    async fn request_from_imds(
        &self,
        context: TokenRequestContext<'_>,
        base: &Url,
    ) -> Result<Token, SourceError> {
        let mut url = base.clone();
        url.set_path("/metadata/identity/oauth2/token");
        self.append_query(&mut url, "2018-02-01", context, "msi_res_id");
        let request = || context.clients.direct.get(url.clone()).header("Metadata", "true");

        // The service may be unavailable for more than a minute while a machine starts.
        let policy = ExponentialBuilder::default()
            .with_min_delay(std::time::Duration::from_millis(1_300))
            .with_factor(2.0)
            .with_max_times(6)
            .with_jitter();
        (|| async { send_token_request(context, request(), WHAT).await })
            .retry(policy)
            .when(|error| match error {
                SourceError::Throttled { .. } => true,
                SourceError::Status { status, .. } => matches!(status, 404 | 410 | 500..),
                _ => false,
            })
            .await
    }

    /// Azure Arc responds to the first request with a challenge that names a file. The content of
    /// that file authorizes the second request.
    async fn request_from_arc(
        &self,
        context: TokenRequestContext<'_>,
        endpoint: &Url,
    ) -> Result<Token, SourceError> {
        let mut url = endpoint.clone();
        self.append_query(&mut url, "2020-06-01", context, "msi_res_id");
        let request = || context.clients.direct.get(url.clone()).header("Metadata", "true");

        let reply = send(context, request(), WHAT).await?;
        if reply.status != 401 {
            return Err(reply.error(WHAT));
        }

        let directory = &self.key_directory;
        let key = tokio::task::block_in_place(|| read_challenge_key(&reply.headers, directory))?;
        let request = request().header("Authorization", format!("Basic {key}"));
        send_token_request(context, request, WHAT).await
    }

    fn append_query(
        &self,
        url: &mut Url,
        version: &str,
        context: TokenRequestContext<'_>,
        resource_key: &str,
    ) {
        let mut query = url.query_pairs_mut();
        query.append_pair("api-version", version).append_pair("resource", context.resource());
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
        context: TokenRequestContext<'a>,
    ) -> BoxFuture<'a, Result<Token, SourceError>> {
        Box::pin(async move {
            match &self.host {
                ManagedIdentityHost::Imds(base) => self.request_from_imds(context, base).await,
                ManagedIdentityHost::Arc(endpoint) => {
                    self.request_from_arc(context, endpoint).await
                }
                ManagedIdentityHost::AppService { endpoint, header } => {
                    let mut url = endpoint.clone();
                    self.append_query(&mut url, "2019-08-01", context, "mi_res_id");
                    let header = header.expose_secret();
                    let request =
                        context.clients.direct.get(url).header("X-IDENTITY-HEADER", header);
                    send_token_request(context, request, WHAT).await
                }
            }
        })
    }
}

/// The URL in an environment variable. A request to it contains a secret, or its response does.
fn local_url(name: &str, text: &str) -> Result<Url, CredentialError> {
    let rejected = |reason: &str| {
        CredentialError::Environment(format!("environment variable `{name}` {reason}"))
    };
    let url = Url::parse(text).map_err(|_| rejected("is not a valid URL"))?;
    if net::is_safe_platform_url(&url) {
        Ok(url)
    } else {
        Err(rejected("must be https, or http to a loopback or link-local address"))
    }
}

/// Reads the key file that the challenge of Azure Arc names.
///
/// The path is checked first: a process that impersonates the agent must not be able to make the
/// daemon read and send an arbitrary file.
fn read_challenge_key(headers: &HeaderMap, directory: &Path) -> Result<String, CredentialError> {
    let rejected = |reason: &str| CredentialError::KeyFile(reason.to_owned());

    let challenge = headers.get("WWW-Authenticate").and_then(|value| value.to_str().ok());
    let realm = challenge.and_then(|text| text.strip_prefix("Basic realm="));
    let realm = realm.ok_or_else(|| rejected("the challenge does not name a file"))?;
    let path = PathBuf::from(realm.trim_matches('"'));
    if path.parent() != Some(directory) || path.extension().is_none_or(|end| end != "key") {
        return Err(rejected("it is not a `.key` file in the key directory of the agent"));
    }

    let metadata = path.symlink_metadata().map_err(FileError::io("open", &path))?;
    if !metadata.is_file() || metadata.len() > MAX_KEY_BYTES {
        return Err(rejected("it is not a regular file of at most 4096 bytes"));
    }

    let key = String::from_utf8(files::read_secret(&path, MAX_KEY_BYTES)?).unwrap_or_default();
    let key = key.trim().to_owned();
    if key.is_empty() || key.chars().any(|c| c.is_control() || !c.is_ascii()) {
        return Err(rejected("it does not contain a key"));
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_the_host_from_its_environment() {
        let detect = |variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let detected = ManagedIdentity::detect(ManagedIdentityId::System, variable);
            match detected.unwrap().host {
                ManagedIdentityHost::Imds(url) => format!("imds {url}"),
                ManagedIdentityHost::AppService { endpoint, .. } => {
                    format!("app service {endpoint}")
                }
                ManagedIdentityHost::Arc(url) => format!("arc {url}"),
            }
        };

        assert_eq!(detect(&[]), "imds http://169.254.169.254/");
        let pod = ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:1");
        assert_eq!(detect(&[pod]), "imds http://127.0.0.1:1/");

        let endpoint = ("IDENTITY_ENDPOINT", "http://127.0.0.1:2/msi");
        let header = ("IDENTITY_HEADER", "h");
        assert_eq!(detect(&[endpoint, header, pod]), "app service http://127.0.0.1:2/msi");
        assert_eq!(detect(&[endpoint, ("IMDS_ENDPOINT", "y")]), "arc http://127.0.0.1:2/msi");
    }

    /// Regression: the secret header was sent in plain text to any host that a variable named.
    #[test]
    fn endpoints_in_plain_text_must_be_local() {
        let detect = |variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            ManagedIdentity::detect(ManagedIdentityId::System, variable)
        };

        let header = ("IDENTITY_HEADER", "canary");
        for (endpoint, is_accepted) in [
            ("https://identity.example.com/msi", true),
            ("http://localhost:42356/msi/token", true),
            ("http://169.254.129.3:8081/msi/token", true),
            ("http://identity.example.com/msi", false),
            ("http://10.0.0.1/msi", false),
            ("http://canary@127.0.0.1/msi", false),
            ("msi", false),
        ] {
            for variables in [
                &[("IDENTITY_ENDPOINT", endpoint), header][..],
                &[("IDENTITY_ENDPOINT", endpoint), ("IMDS_ENDPOINT", "x")],
            ] {
                let detected = detect(variables);
                assert_eq!(detected.is_ok(), is_accepted, "{endpoint}");
                let message = detected.err().map(|error| error.to_string()).unwrap_or_default();
                assert!(!message.contains("canary"), "{message}");
                assert_eq!(message.contains("`IDENTITY_ENDPOINT`"), !is_accepted, "{message}");
            }
        }

        let pod = ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://metadata.example.com");
        assert!(detect(&[pod]).is_err());
    }

    #[test]
    fn reads_only_key_files_of_the_agent() {
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
            read_challenge_key(&headers, directory.path())
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
