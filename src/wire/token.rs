//! Responses of Entra: tokens, the claims of a token, and the published ID of a tenant. An access
//! token is a secret, and its claims are read only for diagnosis. Source: RFC 6749, section 5.1,
//! and Microsoft identity platform, "Access tokens".

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{Timestamp, civil};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{DecodeLimit, TokenLifetime, WireError, error::text_of, lenient::NumberOrText};
use crate::model::{Number, TenantId};

/// The response of a token endpoint.
#[derive(Debug)]
pub struct Token {
    /// The bearer token; its content must not be interpreted.
    pub access_token: SecretString,
    /// The time until the token expires.
    pub expires_in: TokenLifetime,
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
/// Returns [`WireError::NotAToken`] if the response is not complete JSON, [`WireError::NoToken`] if
/// it has no token or no valid lifetime, and [`WireError::Exceeds`] if a token is longer than
/// [`DecodeLimit::TOKEN`]. The message of the JSON parser is dropped, because it might quote the
/// token.
pub fn token(body: &[u8], now: Timestamp) -> Result<Token, WireError> {
    #[derive(Deserialize)]
    struct TokenResponse {
        access_token: String,
        #[serde(default)]
        expires_in: NumberOrText,
        #[serde(default)]
        expires_on: NumberOrText,
        refresh_token: Option<String>,
    }

    let response: TokenResponse =
        serde_json::from_slice(body).map_err(|error| not_a_token(body, &error))?;
    let expires_in = TokenLifetime::read(&response.expires_in)
        .or_else(|| until(&response.expires_on, now))
        .ok_or(WireError::NoToken)?;

    if response.access_token.is_empty() {
        return Err(WireError::NoToken);
    }
    let tokens = [Some(&response.access_token), response.refresh_token.as_ref()];
    if tokens.into_iter().flatten().any(|token| token.len() > DecodeLimit::TOKEN.max) {
        return Err(WireError::Exceeds(DecodeLimit::TOKEN));
    }
    Ok(Token {
        access_token: SecretString::from(response.access_token),
        expires_in,
        refresh_token: response.refresh_token.filter(|t| !t.is_empty()).map(SecretString::from),
    })
}

/// The error for a body that cannot be decoded. The title of an HTML page is quoted, and nothing
/// else, because any other text can be a part of a token.
fn not_a_token(body: &[u8], error: &serde_json::Error) -> WireError {
    let found = match body.trim_ascii_start().first() {
        None => Some("an empty response".to_owned()),
        Some(b'<') => text_of(body),
        Some(b'{' | b'[') if error.is_eof() => Some("JSON that ends too early".to_owned()),
        Some(b'{' | b'[') => None,
        Some(_) if error.is_syntax() => Some("a text that is not JSON".to_owned()),
        Some(_) => None,
    };
    found.map_or(WireError::NoToken, WireError::NotAToken)
}

/// The time until a token expires, from the time in UTC at which it does; zero if it has expired.
/// The hosts of managed identities state seconds since 1970 as a number or as text, or one of
/// several date formats. `None` for anything else.
fn until(expires_on: &NumberOrText, now: Timestamp) -> Option<TokenLifetime> {
    let seconds = match (expires_on.number(), expires_on) {
        (Some(seconds), _) => {
            #[expect(clippy::cast_precision_loss, reason = "a time of this century is exact")]
            let now = now.as_second() as f64;
            seconds.get() - now
        }
        (None, NumberOrText::Text(text)) => date(text)?.duration_since(now).as_secs_f64(),
        (None, _) => return None,
    };
    Number::new(seconds).map(TokenLifetime::of)
}

/// A date and time in UTC, in one of the formats of the hosts of managed identities.
fn date(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(timestamp) = text.parse() {
        return Some(timestamp);
    }

    // Some of the formats end with the offset `+00:00`.
    let text = text.trim_end_matches("+00:00").trim_end();
    let formats = ["%m/%d/%Y %I:%M:%S %p", "%m/%d/%Y %H:%M:%S", "%Y-%m-%d %H:%M:%S"];
    let read = formats.iter().find_map(|format| civil::DateTime::strptime(format, text).ok())?;
    Some(read.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

/// Whether a text is a JSON object, such as the claims that Graph requires in the next token.
pub fn is_object(json: &str) -> bool {
    serde_json::from_str::<&RawValue>(json).is_ok_and(|value| value.get().starts_with('{'))
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
            let token = token(body.as_bytes(), now()).ok();
            let expires_in = token.map(|token| token.expires_in.get().as_secs());
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
        check(r#""expires_in":"soon","expires_on":"2026-11-22T11:00:00Z""#, Some(3_600));
        check(r#""x":1"#, None);
        assert!(token(br#"{"expires_in":60,"access_token":""}"#, now()).is_err());
        assert!(token(br#"{"expires_in":60}"#, now()).is_err());
    }

    /// Regression: nothing was reported of a response that is not a token.
    #[test]
    fn other_responses_are_named() {
        for (body, message) in [
            ("", "an empty response instead of a token"),
            ("<html><title>Sign in</title>", "an HTML page, `Sign in` instead of a token"),
            (r#"{"access_token":"canary"#, "JSON that ends too early instead of a token"),
            ("canary", "a text that is not JSON instead of a token"),
            ("{}", "the response contains no token"),
            ("[1]", "the response contains no token"),
            (r#"{"access_token":"canary"}"#, "the response contains no token"),
        ] {
            let error = token(body.as_bytes(), now()).unwrap_err().to_string();
            assert_eq!(error, message, "{body}");
        }
    }

    /// Regression: a lifetime near 2^63 seconds ended the process when it was added to a time.
    #[test]
    fn lifetimes_are_at_most_a_day() {
        const DAY: u64 = 86_400;
        for (number, expires_in, expires_on) in [
            ("0", 0, 0),
            ("-1", 0, 0),
            ("-0.5", 0, 0),
            ("2147483648", DAY, DAY),
            ("9223372036854775807", DAY, DAY),
            ("18446744073709551615", DAY, DAY),
            ("1e308", DAY, DAY),
            ("-1e308", 0, 0),
        ] {
            for (key, expected) in [("expires_in", expires_in), ("expires_on", expires_on)] {
                for value in [number.to_owned(), format!("\"{number}\"")] {
                    let body = format!(r#"{{"access_token":"a","{key}":{value}}}"#);
                    let token = token(body.as_bytes(), now()).unwrap();
                    assert_eq!(token.expires_in.get().as_secs(), expected, "{key} {value}");
                }
            }
        }

        for number in ["NaN", "\"NaN\"", "1e999", "\"1e999\"", "null", "[1]"] {
            for key in ["expires_in", "expires_on"] {
                let body = format!(r#"{{"access_token":"a","{key}":{number}}}"#);
                assert!(token(body.as_bytes(), now()).is_err(), "{key} {number}");
            }
        }
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
