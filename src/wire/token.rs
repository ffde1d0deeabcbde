//! Entra's answers: a token, what stands in one, and what it publishes of a tenant.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{Timestamp, civil};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use super::WireError;
use crate::model::TenantId;

/// A token, and how long it is good for.
#[derive(Debug)]
pub struct Token {
    pub access_token: SecretString,
    /// Seconds.
    pub expires_in: u64,
    /// Of a person who signed in; it replaces the one before.
    pub refresh_token: Option<SecretString>,
}

/// What a token grants, for diagnosis; nothing is decided by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenGrants {
    /// Application permissions.
    pub roles: Vec<String>,
    /// Delegated permissions.
    pub scopes: Vec<String>,
    pub tenant: Option<String>,
}

/// Reads the answer of a token endpoint. The parser's own words are kept out of the error: they
/// might quote the token.
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
    let answer: TokenResponse = serde_json::from_slice(body).map_err(|_| WireError::NoToken)?;
    let on = || {
        let seconds = instant(&answer.expires_on)?.as_second() - now.as_second();
        u64::try_from(seconds).ok()
    };
    let expires_in = whole(&answer.expires_in).or_else(on).ok_or(WireError::NoToken)?;
    if answer.access_token.is_empty() {
        return Err(WireError::NoToken);
    }
    Ok(Token {
        access_token: SecretString::from(answer.access_token),
        expires_in,
        refresh_token: answer.refresh_token.filter(|t| !t.is_empty()).map(SecretString::from),
    })
}

/// A whole number, or its text.
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// A time as a managed identity's hosts write it: seconds since 1970 as number or text, or a date
/// in one of three forms, in UTC.
fn instant(value: &Value) -> Option<Timestamp> {
    if let Some(seconds) = whole(value) {
        return Timestamp::from_second(i64::try_from(seconds).ok()?).ok();
    }
    let text = value.as_str()?.trim();
    if let Ok(instant) = text.parse() {
        return Some(instant);
    }
    // A zone of `+00:00` stands behind some of them.
    let text = text.trim_end_matches("+00:00").trim_end();
    let forms = ["%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %H:%M:%S", "%Y-%m-%d %H:%M:%S"];
    let read = forms.iter().find_map(|form| civil::DateTime::strptime(form, text).ok())?;
    Some(read.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

/// Looks into a token, if it is one that can be looked into.
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

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn every_form_of_a_tokens_end() {
        let check = |end: &str, want: Option<u64>| {
            let body = format!(r#"{{"token_type":"Bearer","access_token":"a",{end}}}"#);
            assert_eq!(token(body.as_bytes(), now()).ok().map(|t| t.expires_in), want, "{end}");
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
    fn tokens_are_never_printed() {
        let body = br#"{"expires_in":1,"access_token":"canary","refresh_token":"canary"}"#;
        let token = token(body, now()).unwrap();
        assert!(token.refresh_token.is_some() && !format!("{token:?}").contains("canary"));
    }

    #[test]
    fn what_a_token_grants() {
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
    fn issuers() {
        let issuer = br#"{"issuer":"https://login.microsoftonline.com/3f5c1d2e-0000-4000-8000-00000000c0de/v2.0"}"#;
        assert_eq!(
            issuer_tenant(issuer).unwrap().to_string(),
            "3f5c1d2e-0000-4000-8000-00000000c0de"
        );
        assert!(issuer_tenant(br#"{"issuer":"https://login.example/{tenantid}/v2.0"}"#).is_none());
    }
}
