//! The standard variables of Azure's SDKs, where a credential asks for them by
//! `kind = "environment"`: a secret, else a certificate, else a federated token.

use std::{path::PathBuf, sync::Arc};

use super::{Certificate, ClientSecret, Credential, CredentialError, WorkloadIdentity};
use crate::settings::SecretRef;

/// The credential that the variables describe. `variable` looks one up; an empty one is not set.
pub fn from_environment(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Arc<dyn Credential>, CredentialError> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let fault = |message: &str| CredentialError::Environment(message.to_owned());
    let client_id = set("AZURE_CLIENT_ID").ok_or_else(|| fault("$AZURE_CLIENT_ID is not set"))?;
    let by_name = |name: &str| set(name).map(|_| SecretRef::Env(name.to_owned()));
    if let Some(secret) = by_name("AZURE_CLIENT_SECRET") {
        return Ok(Arc::new(ClientSecret { client_id, secret }));
    }
    if let Some(file) = set("AZURE_CLIENT_CERTIFICATE_PATH") {
        let chain = set("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN");
        let send_chain = chain.is_some_and(|on| matches!(on.as_str(), "1" | "true" | "True"));
        let password = by_name("AZURE_CLIENT_CERTIFICATE_PASSWORD");
        let file = PathBuf::from(file);
        return Ok(Arc::new(Certificate::new(client_id, file, None, password, send_chain)));
    }
    if let Some(file) = set("AZURE_FEDERATED_TOKEN_FILE") {
        return Ok(Arc::new(WorkloadIdentity { client_id, token_file: PathBuf::from(file) }));
    }
    Err(fault(
        "none of $AZURE_CLIENT_SECRET, $AZURE_CLIENT_CERTIFICATE_PATH and $AZURE_FEDERATED_TOKEN_FILE is set",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_before_certificate_before_token() {
        let kind = |variables: &[(&str, &str)]| {
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            match from_environment(variable) {
                Ok(credential) => {
                    let shown = format!("{credential:?}");
                    shown.split(' ').next().unwrap_or_default().to_owned()
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
        assert_eq!(kind(&[secret]), "$AZURE_CLIENT_ID is not set");
        assert!(kind(&[id, ("AZURE_CLIENT_SECRET", "")]).starts_with("none of"));
    }
}
