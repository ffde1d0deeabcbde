//! The headers of requests to Graph and of its responses.
//!
//! A token must never be visible in a log, so its header is marked as sensitive, and it is removed
//! from the headers of a response; a text from a response is cut to one short line. Start reading
//! at [`request_headers`]. See decision 0086.

use std::borrow::Cow;

use jiff::Timestamp;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use super::SourceError;
use crate::{
    foreign_text::{CUT_MARGIN_BYTES, ForeignText, MAX_ERROR_BODY_BYTES, SentSecrets},
    model::ClockOffset,
    net, wire,
};

/// The maximum number of characters of a header in a message.
const MAX_HEADER_CHARS: usize = 200;
/// The maximum size of a header of an unsuccessful response, in bytes. A challenge for claims has
/// some hundred.
const MAX_VALUE_BYTES: usize = 4 << 10;
/// The largest number of UTF-16 code units of an error body that are read. Each of them is at least
/// one byte in UTF-8, or half of a character with four.
const MAX_ERROR_UNITS: usize = MAX_ERROR_BODY_BYTES.saturating_add(CUT_MARGIN_BYTES);
/// The byte-order mark in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The headers of a request. Fails if the token contains characters that no header may contain.
pub(super) fn request_headers(
    token: &SecretString,
    client_request_id: &str,
) -> Result<HeaderMap, SourceError> {
    let invalid = |_| {
        SourceError::TokenRejected(wire::EntraError {
            error: "the token contains characters that a header must not contain".into(),
            ..Default::default()
        })
    };
    let mut bearer =
        HeaderValue::from_str(&format!("Bearer {}", token.expose_secret())).map_err(invalid)?;
    bearer.set_sensitive(true);

    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, bearer);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    let client_request_id = HeaderValue::from_str(client_request_id).map_err(invalid)?;
    headers.insert("client-request-id", client_request_id);
    Ok(headers)
}

/// Removes the secrets of a request from the headers of its response, and cuts long values.
pub(super) fn redact_headers(headers: &mut HeaderMap, secrets: &SentSecrets) {
    let bytes: usize = headers.values().map(HeaderValue::len).sum();
    net::off_worker_to_redact(secrets.search_bytes(bytes), || {
        for value in headers.values_mut() {
            let redacted = net::redact_beginning(secrets, value.as_bytes(), MAX_VALUE_BYTES);
            if redacted != value.as_bytes() {
                *value = HeaderValue::from_bytes(&redacted).unwrap_or(HeaderValue::from_static(""));
            }
        }
    });
}

/// The decoded claims of a challenge `WWW-Authenticate: Bearer …, claims="<base64>"`, as
/// Microsoft's documentation of continuous access evaluation describes it.
pub(super) fn claims_challenge(headers: &HeaderMap) -> Option<String> {
    use base64::{Engine, engine::general_purpose::STANDARD};

    let text = headers.get("WWW-Authenticate")?.to_str().ok()?;
    if !text.contains("insufficient_claims") {
        return None;
    }
    let (_, claims) = text.split_once("claims=\"")?;
    let claims = STANDARD.decode(claims.split('"').next()?).ok()?;
    let claims = String::from_utf8(claims).ok()?;

    // The claims are sent to the token endpoint, so anything but a JSON object is dropped.
    wire::is_object(&claims).then_some(claims)
}

/// Whether the body of a response is JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    header(headers, "Content-Type").to_ascii_lowercase().contains("json")
}

/// How far the clock of this host was ahead at `now`, when a response with these headers had
/// arrived; `None` if the header `Date` is absent or invalid.
pub(super) fn clock_offset(headers: &HeaderMap, now: Timestamp) -> Option<ClockOffset> {
    let date = headers.get("Date")?.to_str().ok()?;
    let date = jiff::fmt::rfc2822::parse(date).ok()?;
    Some(ClockOffset::between(now, date.timestamp()))
}

/// A body without the byte-order mark that some gateways add to JSON. A parser may ignore the mark
/// (RFC 8259, section 8.1), and ours does not.
pub(super) fn without_byte_order_mark(mut body: Vec<u8>) -> Vec<u8> {
    if body.starts_with(BYTE_ORDER_MARK) {
        body.drain(..BYTE_ORDER_MARK.len());
    }
    body
}

/// The beginning of an error body in UTF-8, if it is in UTF-16: with a byte-order mark or, as JSON
/// and HTML do, beginning with an ASCII character. Any other body is returned unchanged.
pub(super) fn in_utf8(body: &[u8]) -> Cow<'_, [u8]> {
    let (text, is_big_endian) = match body {
        [0xFF, 0xFE, rest @ ..] => (rest, false),
        [0xFE, 0xFF, rest @ ..] => (rest, true),
        [b' '..=b'~', 0, ..] => (body, false),
        [0, b' '..=b'~', ..] => (body, true),
        _ => return Cow::Borrowed(body),
    };

    let units = text.as_chunks::<2>().0.iter().take(MAX_ERROR_UNITS).map(|pair| {
        if is_big_endian { u16::from_be_bytes(*pair) } else { u16::from_le_bytes(*pair) }
    });
    let decoded = char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER));
    Cow::Owned(decoded.collect::<String>().into_bytes())
}

/// A header's text on one line; empty if it is absent.
pub(super) fn header(headers: &HeaderMap, name: &str) -> String {
    let text = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    ForeignText::new(text).for_message(MAX_HEADER_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: the message of an error in UTF-16 was lost.
    #[test]
    fn errors_in_utf16_are_decoded() {
        let text = "{\"error\":\"n\u{e4}\u{1f600}\"}";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for body in [
            [&[0xFF, 0xFE], little.as_slice()].concat(),
            [&[0xFE, 0xFF], big.as_slice()].concat(),
            little,
            big,
            text.as_bytes().to_vec(),
        ] {
            assert_eq!(in_utf8(&body), text.as_bytes(), "{body:?}");
        }
        for other in [&b""[..], b"x", b"\0", b"\xFFx", b"\x80\0"] {
            assert_eq!(in_utf8(other), other);
        }
    }

    #[test]
    fn only_objects_are_claims() {
        use base64::{Engine, engine::general_purpose::STANDARD};

        let claims = |json: &str| {
            let claims = STANDARD.encode(json);
            let text = format!("Bearer error=\"insufficient_claims\", claims=\"{claims}\"");
            let mut headers = HeaderMap::new();
            headers.insert("WWW-Authenticate", text.parse().unwrap());
            claims_challenge(&headers)
        };
        let object = r#"{"access_token":{"nbf":{"essential":true}}}"#;
        assert_eq!(claims(object).as_deref(), Some(object));
        for other in ["[1]", "1", "{", ""] {
            assert_eq!(claims(other), None, "{other}");
        }
    }

    #[test]
    fn only_a_valid_date_has_an_offset() {
        let now: Timestamp = "2026-11-22T06:15:00Z".parse().unwrap();
        let offset = |date: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("Date", date.parse().unwrap());
            clock_offset(&headers, now)
        };

        let ahead = offset("Sun, 22 Nov 2026 06:05:00 GMT").unwrap();
        assert_eq!(ahead.to_string(), "10m ahead of Microsoft's");
        for invalid in ["", "yesterday", "2026-11-22T06:15:00Z", "Sun, 22 Nov 2026 26:05:00 GMT"] {
            assert_eq!(offset(invalid), None, "{invalid}");
        }
        assert_eq!(clock_offset(&HeaderMap::new(), now), None);
    }

    #[test]
    fn only_a_leading_mark_is_removed() {
        for (body, expected) in [
            (&b"\xEF\xBB\xBF{}"[..], &b"{}"[..]),
            (b"{}", b"{}"),
            (b"", b""),
            (b"\xEF\xBB", b"\xEF\xBB"),
            (b"{\xEF\xBB\xBF}", b"{\xEF\xBB\xBF}"),
        ] {
            assert_eq!(without_byte_order_mark(body.to_vec()), expected);
        }
    }
}
