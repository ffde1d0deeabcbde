//! The environment variables of the Azure SDKs, for `kind = "environment"`. A client secret takes
//! precedence over a certificate, and a certificate over a federated token.

use std::{path::PathBuf, sync::Arc};

use super::{
    Certificate, CertificateChain, ClientSecret, Credential, CredentialError, WorkloadIdentity,
};
use crate::settings::{SecretRef, require_absolute};

/// The credential that the variables describe. `variable` returns the value of a variable; an
/// empty value counts as not set.
///
/// # Errors
///
/// Returns [`CredentialError::Environment`] if a required variable is not set.
pub fn from_environment(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Arc<dyn Credential>, CredentialError> {
    let value_of = |name: &str| variable(name).filter(|value| !value.is_empty());
    let secret_of = |name: &str| value_of(name).map(|_| SecretRef::Env(name.to_owned()));
    let environment_error = |message: &str| CredentialError::Environment(message.to_owned());

    let path_of = |name: &str| -> Result<Option<PathBuf>, CredentialError> {
        let path = value_of(name).map(PathBuf::from);
        if let Some(path) = &path {
            let absolute = require_absolute(name, path);
            absolute.map_err(|fault| environment_error(&fault.message))?;
        }
        Ok(path)
    };

    let client_id = value_of("AZURE_CLIENT_ID")
        .ok_or_else(|| environment_error("environment variable `AZURE_CLIENT_ID` is not set"))?;

    if let Some(secret) = secret_of("AZURE_CLIENT_SECRET") {
        return Ok(Arc::new(ClientSecret { client_id, secret, expires: None }));
    }

    if let Some(file) = path_of("AZURE_CLIENT_CERTIFICATE_PATH")? {
        let chain = value_of("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN");
        let chain = match chain.as_deref() {
            Some("1" | "true" | "True") => CertificateChain::Include,
            _ => CertificateChain::Omit,
        };
        let password = secret_of("AZURE_CLIENT_CERTIFICATE_PASSWORD");
        return Ok(Arc::new(Certificate::new(client_id, file, None, password, chain)));
    }

    if let Some(token_file) = path_of("AZURE_FEDERATED_TOKEN_FILE")? {
        return Ok(Arc::new(WorkloadIdentity { client_id, token_file }));
    }

    Err(environment_error(
        "none of the environment variables `AZURE_CLIENT_SECRET`, `AZURE_CLIENT_CERTIFICATE_PATH` and `AZURE_FEDERATED_TOKEN_FILE` is set",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefers_secret_to_certificate_to_token() {
        let kind = |variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            match from_environment(variable) {
                Ok(credential) => {
                    let debug = format!("{credential:?}");
                    debug.split(' ').next().unwrap_or_default().to_owned()
                }
                Err(error) => error.to_string(),
            }
        };
        let (id, secret) = (("AZURE_CLIENT_ID", "i"), ("AZURE_CLIENT_SECRET", "s"));
        let certificate = ("AZURE_CLIENT_CERTIFICATE_PATH", "/c");
        let token = ("AZURE_FEDERATED_TOKEN_FILE", "/t");

        assert_eq!(kind(&[id, token, certificate, secret]), "ClientSecret");
        assert_eq!(kind(&[id, token, certificate]), "Certificate");
        assert_eq!(kind(&[id, token]), "WorkloadIdentity");
        assert_eq!(kind(&[secret]), "environment variable `AZURE_CLIENT_ID` is not set");
        assert!(kind(&[id, ("AZURE_CLIENT_SECRET", "")]).starts_with("none of"));
    }
}
