//! The clouds' own clients, and what their errors mean.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use object_store::{
    Certificate, ClientOptions, CredentialProvider, Error, ObjectStore, RetryConfig,
    aws::AmazonS3Builder,
    azure::{AzureCredential, MicrosoftAzureBuilder},
    gcp::GoogleCloudStorageBuilder,
};
use secrecy::{ExposeSecret, SecretString};

use super::config::{DEFAULT_REGION, ObjectPlan, Store};
use crate::{
    format::cut,
    net,
    settings::SecretRef,
    sink::{Context, Failure, Tokens, chain},
};

/// Secrets are read now, so that a missing one parks the sink before the first object.
pub(super) fn open(plan: &ObjectPlan, context: &Context) -> Result<Arc<dyn ObjectStore>, Failure> {
    net::install_crypto_provider();
    let options = options(plan)?;
    // The deliverer tries again, and says so.
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
            builder.with_retry(retry).build().map(|store| Arc::new(store) as _)
        }
        Store::Azure { account, container, key } => {
            let mut builder = MicrosoftAzureBuilder::new()
                .with_account(account)
                .with_container_name(container)
                .with_client_options(options)
                .with_retry(retry);
            builder = match key {
                Some(key) => builder.with_access_key(read(key)?.expose_secret()),
                None => builder.with_credentials(Arc::new(Entra(tokens(context)?))),
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
            builder.with_retry(retry).build().map(|store| Arc::new(store) as _)
        }
    };
    built.map_err(|error| Failure::misconfigured(chain(&error)))
}

fn options(plan: &ObjectPlan) -> Result<ClientOptions, Failure> {
    let mut options = ClientOptions::new()
        .with_connect_timeout(net::CONNECT_TIMEOUT)
        .with_timeout(net::TOTAL_TIMEOUT)
        .with_pool_idle_timeout(Duration::from_secs(30))
        // The configuration lets it be http to this host, and nowhere else.
        .with_allow_http(plan.endpoint.as_ref().is_some_and(|url| url.scheme() == "http"));
    if let Some(path) = &plan.ca_file {
        let misconfigured = |reason: String| Failure::misconfigured(reason);
        let pem = fs_err::read(path).map_err(|error| misconfigured(chain(&error)))?;
        let certificates =
            Certificate::from_pem_bundle(&pem).map_err(|error| misconfigured(chain(&error)))?;
        options = options.with_no_system_certificates(true);
        for certificate in certificates {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

fn read(secret: &SecretRef) -> Result<SecretString, Failure> {
    secret.read().map_err(|error| Failure::misconfigured(chain(&error)))
}

fn tokens(context: &Context) -> Result<Arc<dyn Tokens>, Failure> {
    context.tokens.clone().ok_or_else(|| Failure::misconfigured("this sink wants a `credential`"))
}

/// Entra's tokens, as this client asks for them.
#[derive(Debug)]
struct Entra(Arc<dyn Tokens>);

#[async_trait]
impl CredentialProvider for Entra {
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

/// What becomes of an object that could not be put. The store's own words are kept.
pub(super) fn failure(name: &str, error: &Error) -> Failure {
    let words = words(&chain(error));
    let said = format!("`{name}` could not be put: {words}");
    match error {
        Error::NotFound { .. } => {
            Failure::misconfigured(format!("{said}; create what `url` names, or mend `url`"))
        }
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => Failure::misconfigured(
            format!("{said}; the credential must be allowed to write objects there"),
        ),
        Error::JoinError { .. } => Failure::retry(said),
        Error::Generic { .. } if !is_refusal(&words) => Failure::retry(said),
        _ => Failure::misconfigured(said),
    }
}

/// Codes of S3, Azure and Google for an object that is not there, where what would hold it is.
const NO_OBJECT: [&str; 3] = ["NoSuchKey", "BlobNotFound", "No such object"];
/// Codes for somebody who is known, and may not read. A wrong key or a closed firewall has others.
const NOT_TO_READ: [&str; 2] = ["AccessDenied", "AuthorizationPermissionMismatch"];

/// What it says of a store that it has not the object that it was asked for.
pub(super) fn asked_in_vain(error: &Error) -> Result<String, Failure> {
    let words = words(&chain(error));
    let says = |codes: &[&str]| codes.iter().any(|code| words.contains(code));
    match error {
        Error::NotFound { .. } if says(&NO_OBJECT) => Ok("the store lets us in".to_owned()),
        Error::NotFound { .. } => {
            Err(Failure::misconfigured(format!("{words}; create what `url` names, or mend `url`")))
        }
        Error::PermissionDenied { .. } if says(&NOT_TO_READ) => {
            Ok("the store knows us, and does not let us look: `test-sink` shows whether it lets us write".to_owned())
        }
        Error::Generic { .. } if !is_refusal(&words) => Err(Failure::retry(words)),
        _ => Err(Failure::misconfigured(words)),
    }
}

/// What the client says before it comes to the point: which request, to where.
const ABOUT: &str = " - ";
const STATUS: &str = "Server returned non-2xx status code: ";
const LONGEST: usize = 300;

/// What the server said, or what was the matter with the connection: on one line, without the
/// request that everybody knows, and of an answer in XML its code and message.
fn words(said: &str) -> String {
    let point = said.split_once(ABOUT).map_or(said, |(_, point)| point);
    let point = point.strip_prefix(STATUS).unwrap_or(point);
    let element = |name: &str| {
        let (_, rest) = point.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(text, _)| text.lines().next().unwrap_or(""))
    };
    let words = match (element("Code"), element("Message")) {
        (Some(code), message) => {
            let status = point.split_once(": ").map_or(point, |(status, _)| status);
            format!("{status}: {code}: {}", message.unwrap_or_default())
        }
        _ => point.to_owned(),
    };
    let words: Vec<&str> = words.split_whitespace().collect();
    cut(&words.join(" "), LONGEST).into_owned()
}

/// Whether a server answered that asking again is of no use. The client tells the status in its
/// words only.
fn is_refusal(words: &str) -> bool {
    let status = words.get(..3).and_then(|status| status.parse().ok());
    status.is_some_and(|status: u16| {
        (300..500).contains(&status) && ![408, 425, 429].contains(&status)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_asked_for_in_vain() {
        let error = |status: u16, code: &str| {
            let said = format!(
                "Server returned non-2xx status code: {status} Word: <Error><Code>{code}</Code></Error>"
            );
            let (path, source) =
                (String::new(), format!("Error performing GET u in 1ms - {said}").into());
            match status {
                404 => Error::NotFound { path, source },
                401 => Error::Unauthenticated { path, source },
                403 => Error::PermissionDenied { path, source },
                _ => Error::Generic { store: "S3", source },
            }
        };
        for (status, code, wanted) in [
            (404, "NoSuchKey", "in"),
            (404, "BlobNotFound", "in"),
            (404, "NoSuchBucket", "config"),
            (404, "ContainerNotFound", "config"),
            (404, "", "config"),
            (403, "AccessDenied", "in"),
            (403, "AuthorizationPermissionMismatch", "in"),
            (403, "InvalidAccessKeyId", "config"),
            (403, "SignatureDoesNotMatch", "config"),
            (403, "AuthorizationFailure", "config"),
            (401, "InvalidAuthenticationInfo", "config"),
            (400, "AuthorizationHeaderMalformed", "config"),
            (503, "SlowDown", "retry"),
        ] {
            let found = match asked_in_vain(&error(status, code)) {
                Ok(_) => "in",
                Err(Failure::Retry { .. }) => "retry",
                Err(_) => "config",
            };
            assert_eq!(found, wanted, "{status} {code}");
        }
    }

    #[test]
    fn what_the_server_said_is_kept_and_nothing_else() {
        for (said, wanted, refused) in [
            (
                "Generic S3 error: Error performing PUT http://h/b/k in 5ms - Server returned non-2xx status code: 400 Bad Request: <?xml?>\n<Error>\n  <Code>AuthorizationHeaderMalformed</Code>\n  <Message>the region is wrong\nRequestId:1</Message></Error>",
                "400 Bad Request: AuthorizationHeaderMalformed: the region is wrong",
                true,
            ),
            (
                "Generic GCS error: Error performing PUT http://h/b/k in 5ms - Server returned non-2xx status code: 503 Service Unavailable: \nslow\ndown",
                "503 Service Unavailable: slow down",
                false,
            ),
            (
                "Generic S3 error: Error performing PUT http://h/b/k in 5ms - HTTP error: error sending request: Connection refused",
                "HTTP error: error sending request: Connection refused",
                false,
            ),
            ("Generic GCS error: no ETag", "Generic GCS error: no ETag", false),
        ] {
            let found = words(said);
            assert_eq!((found.as_str(), is_refusal(&found)), (wanted, refused));
        }
    }
}
