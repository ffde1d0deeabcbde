//! Responses of Entra: tokens, the claims of a token, and the published ID of a tenant. An access
//! token is a secret, and its claims are read only for diagnosis. Source: RFC 6749, section 5.1,
//! and Microsoft identity platform, "Access tokens".

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{Timestamp, civil};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use super::WireError;
use crate::model::TenantId;

/// The response of a token endpoint.
#[derive(Debug)]
pub struct Token {
    /// The bearer token; its content must not be interpreted.
    pub access_token: SecretString,
    /// The time until the token expires, in whole seconds.
    pub expires_in: Duration,
    /// The refresh token of a signed-in user; it replaces the previous one.
    pub refresh_token: Option<SecretString>,
}

/// The permissions in a token, for diagnosis only. A client must not depend on the content of an
/// access token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenGrants {
    /// Application permissions.
    pub roles: Vec<String>,
    /// Delegated permissions.
    pub scopes: Vec<String>,
    /// The claim `tid`: the tenant that issued the token.
    pub tenant: Option<String>,
}

/// Parses the response of a token endpoint.
///
/// # Errors
///
/// Returns [`WireError::NoToken`] if the response has no token or no valid lifetime. The message
/// of the JSON parser is dropped, because it might quote the token.
pub fn token(body: &[u8], now: Timestamp) -> Result<Token, WireError> {
    #[derive(Deserialize)]
    struct TokenResponse {
        access_token: String,
        #[serde(default)]
        expires_in: Value,
        #[serde(default)]
        expires_on: Value,
        refresh_token: Option<String>,
    }

    let response: TokenResponse = serde_json::from_slice(body).map_err(|_| WireError::NoToken)?;
    let until_expiry = || {
        let seconds = timestamp(&response.expires_on)?.as_second() - now.as_second();
        u64::try_from(seconds).ok()
    };
    let expires_in =
        integer(&response.expires_in).or_else(until_expiry).ok_or(WireError::NoToken)?;

    if response.access_token.is_empty() {
        return Err(WireError::NoToken);
    }
    Ok(Token {
        access_token: SecretString::from(response.access_token),
        expires_in: Duration::from_secs(expires_in),
        refresh_token: response.refresh_token.filter(|t| !t.is_empty()).map(SecretString::from),
    })
}

/// An integer, as a number or as text.
fn integer(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// A time in UTC in the forms that the hosts of managed identities use: seconds since 1970 as a
/// number or as text, or one of several date formats.
fn timestamp(value: &Value) -> Option<Timestamp> {
    if let Some(seconds) = integer(value) {
        return Timestamp::from_second(i64::try_from(seconds).ok()?).ok();
    }

    let text = value.as_str()?.trim();
    if let Ok(timestamp) = text.parse() {
        return Some(timestamp);
    }

    // Some of the formats end with the offset `+00:00`.
    let text = text.trim_end_matches("+00:00").trim_end();
    let formats = ["%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %H:%M:%S", "%Y-%m-%d %H:%M:%S"];
    let read = formats.iter().find_map(|format| civil::DateTime::strptime(format, text).ok())?;
    Some(read.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

/// The permissions in a token, or `None` if the token is not a readable JWT.
pub fn granted(token: &str) -> Option<TokenGrants> {
    #[derive(Deserialize)]
    struct Claims {
        #[serde(default)]
        roles: Vec<String>,
        #[serde(default)]
        scp: String,
        tid: Option<String>,
    }

    let claims = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let claims: Claims = serde_json::from_slice(&claims).ok()?;

    let scopes = claims.scp.split_whitespace().map(str::to_owned).collect();
    Some(TokenGrants { roles: claims.roles, scopes, tenant: claims.tid })
}

/// The tenant in the `issuer` of an OpenID configuration (OpenID Connect Discovery 1.0), which is
/// `https://…/<GUID>/v2.0`.
pub fn issuer_tenant(body: &[u8]) -> Option<TenantId> {
    #[derive(Deserialize)]
    struct OpenIdConfiguration {
        issuer: String,
    }

    let configuration: OpenIdConfiguration = serde_json::from_slice(body).ok()?;
    configuration.issuer.split('/').find_map(|part| TenantId::parse(part).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn parses_every_form_of_expiry() {
        let check = |expiry: &str, expected: Option<u64>| {
            let body = format!(r#"{{"token_type":"Bearer","access_token":"a",{expiry}}}"#);
            let expires_in = token(body.as_bytes(), now()).ok().map(|t| t.expires_in.as_secs());
            assert_eq!(expires_in, expected, "{expiry}");
        };
        check(r#""expires_in":3599"#, Some(3_599));
        check(r#""expires_in":"60""#, Some(60));
        let hour = now().as_second() + 3_600;
        check(&format!(r#""expires_on":{hour}"#), Some(3_600));
        check(&format!(r#""expires_on":"{hour}""#), Some(3_600));
        check(r#""expires_on":"11/22/2026 11:00:00 AM +00:00""#, Some(3_600));
        check(r#""expires_on":"11/22/2026 11:00:00 +00:00""#, Some(3_600));
        check(r#""expires_on":"11/22/2026 11:00:00""#, Some(3_600));
        check(r#""expires_on":"2026-11-22 11:00:00""#, Some(3_600));
        check(r#""expires_on":"2026-11-22 11:00:00+00:00""#, Some(3_600));
        check(r#""expires_on":"2026-11-22T11:00:00Z""#, Some(3_600));
        check(r#""expires_on":"soon""#, None);
        check(r#""x":1"#, None);
        assert!(token(br#"{"expires_in":60,"access_token":""}"#, now()).is_err());
        assert!(token(br#"{"expires_in":60}"#, now()).is_err());
    }

    #[test]
    fn debug_output_hides_tokens() {
        let body = br#"{"expires_in":1,"access_token":"canary","refresh_token":"canary"}"#;
        let token = token(body, now()).unwrap();
        assert!(token.refresh_token.is_some() && !format!("{token:?}").contains("canary"));
    }

    #[test]
    fn reads_permissions_of_a_token() {
        let encode = |json: &str| format!("x.{}.y", URL_SAFE_NO_PAD.encode(json));
        let app = granted(&encode(r#"{"roles":["SecurityEvents.Read.All"],"tid":"t"}"#)).unwrap();
        assert_eq!((app.roles.len(), app.tenant.as_deref()), (1, Some("t")));
        let user = granted(&encode(r#"{"scp":"User.Read SecurityEvents.Read.All"}"#)).unwrap();
        assert_eq!(user.scopes, ["User.Read", "SecurityEvents.Read.All"]);

        for opaque in ["", "EwB4", "a.b.c", "a.!.c"] {
            assert_eq!(granted(opaque), None);
        }
    }

    #[test]
    fn reads_the_tenant_of_an_issuer() {
        let issuer = br#"{"issuer":"https://login.microsoftonline.com/3f5c1d2e-0000-4000-8000-00000000c0de/v2.0"}"#;
        assert_eq!(
            issuer_tenant(issuer).unwrap().to_string(),
            "3f5c1d2e-0000-4000-8000-00000000c0de"
        );
        assert!(issuer_tenant(br#"{"issuer":"https://login.example/{tenantid}/v2.0"}"#).is_none());
    }
}
