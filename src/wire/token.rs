//! Entra's answers: a token, and what it publishes of a tenant.

use serde::Deserialize;

use super::WireError;
use crate::model::TenantId;

/// A token; not `Debug`, so that it cannot be printed by mistake.
pub struct Token {
    pub access_token: String,
    /// Seconds.
    pub expires_in: u64,
}

/// Reads the answer of the token endpoint. The parser's own words are kept out of the error: they
/// might quote the token.
pub fn token(body: &[u8]) -> Result<Token, WireError> {
    #[derive(Deserialize)]
    struct Answer {
        access_token: String,
        expires_in: serde_json::Value,
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|_| WireError::NoToken)?;
    let seconds = answer.expires_in.as_u64().or_else(|| answer.expires_in.as_str()?.parse().ok());
    Ok(Token { access_token: answer.access_token, expires_in: seconds.ok_or(WireError::NoToken)? })
}

/// The tenant in the `issuer` of an OpenID configuration: `https://…/<GUID>/v2.0`.
pub fn issuer_tenant(body: &[u8]) -> Option<TenantId> {
    #[derive(Deserialize)]
    struct Configuration {
        issuer: String,
    }
    let configuration: Configuration = serde_json::from_slice(body).ok()?;
    configuration.issuer.split('/').find_map(|part| TenantId::parse(part).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_and_issuers() {
        assert_eq!(
            token(br#"{"token_type":"Bearer","expires_in":3599,"access_token":"a"}"#)
                .unwrap()
                .expires_in,
            3599
        );
        assert_eq!(token(br#"{"expires_in":"60","access_token":"a"}"#).unwrap().expires_in, 60);
        assert!(token(br#"{"access_token":"a"}"#).is_err());
        let issuer = br#"{"issuer":"https://login.microsoftonline.com/3f5c1d2e-0000-4000-8000-00000000c0de/v2.0"}"#;
        assert_eq!(
            issuer_tenant(issuer).unwrap().to_string(),
            "3f5c1d2e-0000-4000-8000-00000000c0de"
        );
        assert!(issuer_tenant(br#"{"issuer":"https://login.example/{tenantid}/v2.0"}"#).is_none());
    }
}
