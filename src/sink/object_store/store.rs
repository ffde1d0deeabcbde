//! The clients of the stores, and the meaning of their errors.
//!
//! The clients report a rejection by the server only as text, so this module extracts the status
//! and the error code from their messages.

use std::{borrow::Cow, path::Path, sync::Arc};

use async_trait::async_trait;
use object_store::{
    ClientOptions, CredentialProvider, Error, ObjectStore, RetryConfig,
    aws::AmazonS3Builder,
    azure::{AzureCredential, MicrosoftAzureBuilder},
    gcp::GoogleCloudStorageBuilder,
};
use secrecy::{ExposeSecret, SecretString};

use super::{
    client::LimitedConnector,
    codes::{NOT_STORE, conflict, has_transient_code},
    config::{DEFAULT_REGION, ObjectPlan, Store},
    error_document::{code_of, element},
};
use crate::{
    files,
    format::cut,
    net::{self, TlsFault},
    settings::SecretRef,
    sink::{Context, Failure, Tokens, chain},
};

/// The environment variables with paths of credentials that the client of S3 reads.
const AWS_FILES: &[&str] =
    &["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"];
/// The environment variables with paths of credentials that the client of Google Cloud reads.
const GOOGLE_FILES: &[&str] = &[
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "SERVICE_ACCOUNT",
    "GOOGLE_APPLICATION_CREDENTIALS",
];
/// The maximum size of such a file in bytes.
const MAX_CREDENTIAL_BYTES: u64 = 64 << 10;

/// What the probe reports if the store accepts the credential.
pub(super) const ACCEPTED: &str = "the store accepts the credential";

/// Creates the client of the store. Secrets are read here so that a missing one parks the sink
/// before the first object. Fails with `Misconfigured` if a secret or a certificate cannot be read,
/// or if the client rejects the settings.
pub(super) fn open(plan: &ObjectPlan, context: &Context) -> Result<Arc<dyn ObjectStore>, Failure> {
    check_credential_files(&plan.store)?;
    let (connector, options) = client(plan, context)?;
    // The deliverer retries, and reports every failure.
    let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let endpoint = plan.endpoint.as_ref().map(|url| url.as_str().trim_end_matches('/').to_owned());

    let built: Result<Arc<dyn ObjectStore>, Error> = match &plan.store {
        Store::S3 { bucket, region, key } => {
            let mut builder = match key {
                Some((id, secret)) => AmazonS3Builder::new()
                    .with_access_key_id(id)
                    .with_secret_access_key(read(secret)?.expose_secret())
                    .with_region(DEFAULT_REGION),
                None => AmazonS3Builder::from_env(),
            };
            if let Some(region) = region {
                builder = builder.with_region(region);
            }
            if let Some(endpoint) = endpoint {
                builder = builder.with_endpoint(endpoint);
            }

            let builder = builder.with_bucket_name(bucket).with_client_options(options);
            let builder = builder.with_http_connector(connector).with_retry(retry);
            builder.build().map(|store| Arc::new(store) as _)
        }
        Store::Azure { account, container, key } => {
            let mut builder = MicrosoftAzureBuilder::new()
                .with_account(account)
                .with_container_name(container)
                .with_client_options(options)
                .with_http_connector(connector)
                .with_retry(retry);
            builder = match key {
                Some(key) => builder.with_access_key(read(key)?.expose_secret()),
                None => builder.with_credentials(Arc::new(EntraCredential(tokens(context)?))),
            };
            if let Some(endpoint) = endpoint {
                builder = builder.with_endpoint(endpoint);
            }

            builder.build().map(|store| Arc::new(store) as _)
        }
        Store::Google { bucket, service_account } => {
            let mut builder = match service_account {
                Some(key) => GoogleCloudStorageBuilder::new()
                    .with_service_account_key(read(key)?.expose_secret()),
                None => GoogleCloudStorageBuilder::from_env(),
            };
            if let Some(endpoint) = endpoint {
                builder = builder.with_base_url(&endpoint);
            }

            let builder = builder.with_bucket_name(bucket).with_client_options(options);
            let builder = builder.with_http_connector(connector).with_retry(retry);
            builder.build().map(|store| Arc::new(store) as _)
        }
    };

    built.map_err(|error| {
        let cause = summary(&chain(&error));
        Failure::misconfigured(format!("cannot set up the client of the store: {cause}"))
    })
}

fn client(
    plan: &ObjectPlan,
    context: &Context,
) -> Result<(LimitedConnector, ClientOptions), Failure> {
    // The store and the token endpoint can be the same party.
    let sent = context.tokens.as_ref().map_or(&plan.sent, |tokens| tokens.sent());
    let connector = LimitedConnector::new(plan.ca_file.as_deref(), sent)
        .map_err(|error| Failure::misconfigured_by(&error))?;
    // The configuration accepts an `http` endpoint only on a loopback address.
    let is_plain = plan.endpoint.as_ref().is_some_and(|url| url.scheme() == "http");
    Ok((connector, ClientOptions::new().with_allow_http(is_plain)))
}

/// Checks the files of credentials that the clients open themselves: those in the variables of the
/// SDKs, for a store without a key in the configuration.
fn check_credential_files(store: &Store) -> Result<(), Failure> {
    let variables = match store {
        Store::S3 { key: None, .. } => AWS_FILES,
        Store::Google { service_account: None, .. } => GOOGLE_FILES,
        _ => return Ok(()),
    };
    let paths = variables.iter().filter_map(std::env::var_os);
    for path in paths.filter(|path| !path.is_empty()) {
        files::read_secret(Path::new(&path), MAX_CREDENTIAL_BYTES)
            .map_err(|error| Failure::misconfigured_by(&error))?;
    }
    Ok(())
}

fn read(secret: &SecretRef) -> Result<SecretString, Failure> {
    secret.read().map_err(|error| Failure::misconfigured_by(&error))
}

fn tokens(context: &Context) -> Result<Arc<dyn Tokens>, Failure> {
    let tokens = context.tokens.clone();
    tokens.ok_or_else(|| Failure::misconfigured("this sink requires a `credential`"))
}

/// A request for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObjectRequest {
    /// To write it, unless the store has it.
    Write,
    /// To check whether the store has it.
    Check,
}

impl ObjectRequest {
    /// What has failed, for messages.
    pub(super) fn failed(self, name: &str) -> String {
        match self {
            Self::Write => format!("cannot write object `{name}`"),
            Self::Check => format!("cannot check whether the store has object `{name}`"),
        }
    }

    /// The hint for a credential without the permission for the request.
    const fn permission(self) -> &'static str {
        match self {
            Self::Write => "allow the credential to create objects under the prefix",
            Self::Check => "allow the credential to read objects under the prefix",
        }
    }
}

/// Supplies the client of Azure Blob Storage with Entra tokens.
#[derive(Debug)]
struct EntraCredential(Arc<dyn Tokens>);

#[async_trait]
impl CredentialProvider for EntraCredential {
    type Credential = AzureCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AzureCredential>> {
        match self.0.token().await {
            Ok(token) => {
                Ok(Arc::new(AzureCredential::BearerToken(token.expose_secret().to_owned())))
            }
            Err(failure @ Failure::Misconfigured { .. }) => Err(Error::Unauthenticated {
                path: String::new(),
                source: failure.to_string().into(),
            }),
            Err(failure) => {
                Err(Error::Generic { store: "Entra", source: failure.to_string().into() })
            }
        }
    }
}

/// The fault that the endpoint expects TLS, if it closed a connection in plain text; otherwise
/// `failure`, the one for `error`.
pub(super) async fn explained(plan: &ObjectPlan, error: &Error, failure: Failure) -> Failure {
    let endpoint = plan.endpoint.as_ref();
    let address = endpoint.and_then(|endpoint| net::address_to_probe(endpoint, error));
    failure.unless_tls_expected("cannot connect to the store", address.as_deref()).await
}

/// The failure of a request for an object. An object that the store has already is not a failure;
/// see `existence`. A response without an error code of a store can be that of a firewall, which
/// denies the object because of a text in it.
pub(super) fn failure(request: ObjectRequest, name: &str, error: &Error) -> Failure {
    let what = request.failed(name);
    if let Some(fault) = TlsFault::of(error) {
        return Failure::tls_without_client_certificate(&what, &fault);
    }

    let text = chain(error);
    let failure = failure_of_response(request, &what, error, &summary(&text));
    match (request, quoted_response(&text)) {
        (ObjectRequest::Write, Some((_, body))) if code_of(body).is_none() => failure.of_records(),
        _ => failure,
    }
}

/// The failure of a request, from what has failed, the error of the client and its summary.
fn failure_of_response(
    request: ObjectRequest,
    what: &str,
    error: &Error,
    message: &str,
) -> Failure {
    let reason = format!("{what}: {message}");
    match error {
        _ if has_transient_code(message) => Failure::retry(reason),
        Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => {
            conflict(reason, message)
        }
        Error::NotFound { .. } => Failure::Misconfigured { reason, hint: Some(CHECK_URL.into()) },
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            Failure::Misconfigured { reason, hint: Some(request.permission().into()) }
        }
        Error::JoinError { .. } => Failure::retry(reason),
        Error::Generic { .. } if message.contains(NO_METADATA) => not_a_store(what),
        Error::Generic { .. } if !is_rejection(message) => Failure::unreachable(reason, error),
        _ => Failure::Misconfigured { reason, hint: redirect_hint(message) },
    }
}

const CHECK_URL: &str = "create the bucket or container that `url` names, or correct `url`";

/// The message of the clients about a response without the headers that describe an object.
const NO_METADATA: &str = "Unable to extract metadata";

/// Error codes of S3, Azure and Google for a missing object in an existing bucket or container.
const MISSING_OBJECT: [&str; 3] = ["NoSuchKey", "BlobNotFound", "No such object"];
/// Error codes for a valid credential without permission to read. An invalid key and a request that
/// a firewall rule blocks have different codes.
const READ_DENIED: [&str; 2] = ["AccessDenied", "AuthorizationPermissionMismatch"];

/// The result of a probe whose request for a missing object failed with this error.
pub(super) fn probe_result(error: &Error) -> Result<String, Failure> {
    if let Some(fault) = TlsFault::of(error) {
        let what = "cannot connect to the store";
        return Err(Failure::tls_without_client_certificate(what, &fault));
    }

    let message = summary(&chain(error));
    let has_code = |codes: &[&str]| codes.iter().any(|code| message.contains(code));
    match error {
        _ if has_transient_code(&message) => {
            Err(Failure::retry(format!("the store cannot process the request: {message}")))
        }
        Error::AlreadyExists { .. } | Error::Precondition { .. } | Error::NotModified { .. } => {
            Err(conflict(format!("the store rejects the request: {message}"), &message))
        }

        Error::NotFound { .. } if has_code(&MISSING_OBJECT) => Ok(ACCEPTED.to_owned()),
        Error::NotFound { .. } => {
            let reason = format!("the store has no such bucket or container: {message}");
            Err(Failure::Misconfigured { reason, hint: Some(CHECK_URL.into()) })
        }
        Error::PermissionDenied { .. } if has_code(&READ_DENIED) => {
            Ok("the credential is valid but is not allowed to read objects, so the permission to \
             write is unknown (`test-sink` verifies it)"
                .to_owned())
        }
        Error::Generic { .. } if message.contains(NO_METADATA) => {
            Err(not_a_store("cannot read from the store"))
        }
        Error::Generic { .. } if !is_rejection(&message) => {
            Err(Failure::unreachable(format!("no response from the store: {message}"), error))
        }
        _ => {
            let hint = redirect_hint(&message);
            let reason = format!("the store rejects the request: {message}");
            Err(Failure::Misconfigured { reason, hint })
        }
    }
}

/// The failure of a request whose response has none of the headers of an object. A proxy in front
/// of the store can respond like this for a while.
pub(super) fn not_a_store(what: &str) -> Failure {
    Failure::Retry {
        reason: format!("{what}: the response has no headers of an object"),
        after: None,
        hint: Some(NOT_STORE.into()),
    }
}

/// The hint for a redirect, which is not followed, because it could lead to any host.
fn redirect_hint(summary: &str) -> Option<Cow<'static, str>> {
    let is_redirect = status(summary).is_some_and(|status| (300..400).contains(&status));
    is_redirect.then(|| "correct `region` or `endpoint`".into())
}

/// Separates the client's description of the request from the error itself.
const REQUEST_SEPARATOR: &str = " - ";
const STATUS_PREFIX: &str = "Server returned non-2xx status code: ";
const MAX_SUMMARY_CHARS: usize = 300;

/// The part of an error message that is useful to an operator, on one line: without the request,
/// and with only the code and the message of a response in XML.
fn summary(message: &str) -> String {
    let error = message.split_once(REQUEST_SEPARATOR).map_or(message, |(_, error)| error);
    let error = error.strip_prefix(STATUS_PREFIX).unwrap_or(error);

    let summary = match (element(error, "Code"), element(error, "Message")) {
        (Some(code), message) => {
            let status = error.split_once(": ").map_or(error, |(status, _)| status);
            format!("{status}: {code}: {}", message.unwrap_or_default())
        }
        _ => error.to_owned(),
    };
    let words: Vec<&str> = summary.split_whitespace().collect();
    // The separator before an empty body, or an empty message.
    let line = words.join(" ");
    cut(line.trim_end_matches([':', ' ']), MAX_SUMMARY_CHARS).into_owned()
}

/// The status and the body of the response that a message of the client quotes; `None` if there was
/// no response.
pub(super) fn quoted_response(message: &str) -> Option<(u16, &str)> {
    let (_, error) = message.split_once(REQUEST_SEPARATOR)?;
    let response = error.strip_prefix(STATUS_PREFIX)?;
    let body = response.split_once(": ").map_or("", |(_, body)| body);
    Some((status(response)?, body))
}

/// Whether the server rejected the request permanently. The status is available only as the
/// beginning of the summary.
fn is_rejection(summary: &str) -> bool {
    status(summary)
        .is_some_and(|status| (300..500).contains(&status) && ![408, 425, 429].contains(&status))
}

fn status(summary: &str) -> Option<u16> {
    summary.get(..3)?.parse().ok()
}

#[cfg(test)]
mod tests;
