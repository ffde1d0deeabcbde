//! Tests of the removal of secrets: what counts as one, and in which encodings it is found.

use std::fmt::Write as _;

use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;

fn secrets(of: &[&str]) -> SentSecrets {
    let mut secrets = SentSecrets::default();
    for secret in of {
        secrets.add(secret);
    }
    secrets
}

/// Every byte as a percent-encoded one.
fn percent(text: &str, is_lower: impl Fn(usize) -> bool) -> String {
    text.bytes().enumerate().fold(String::new(), |mut out, (at, byte)| {
        let _ = if is_lower(at) { write!(out, "%{byte:02x}") } else { write!(out, "%{byte:02X}") };
        out
    })
}

/// Every UTF-16 unit as an escape of JSON.
fn unicode_escapes(text: &str) -> String {
    text.encode_utf16().fold(String::new(), |mut out, unit| {
        let _ = write!(out, "\\u{unit:04x}");
        out
    })
}

/// The content of a string of JSON.
fn json(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap();
    quoted[1..quoted.len() - 1].to_owned()
}

/// A text in each of the encodings in which it must be found.
fn encodings(secret: &str) -> Vec<String> {
    let mut encoded = vec![
        secret.to_owned(),
        percent(secret, |_| false),
        percent(secret, |_| true),
        percent(secret, |at| at % 2 == 0),
        unicode_escapes(secret),
        unicode_escapes(secret).to_uppercase().replace("\\U", "\\u"),
        secret.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;"),
        percent(secret, |_| true).replace('%', "%25"),
    ];
    // Some serializers also escape the slash.
    let escaped = json(secret);
    encoded.extend([escaped.replace('/', "\\/"), json(&escaped), escaped]);

    for preceding in ["", "u", "us", "user:"] {
        for following in ["", ":", "::", "…"] {
            let bytes = format!("{preceding}{secret}{following}");
            encoded.push(STANDARD.encode(&bytes));
            encoded.push(URL_SAFE.encode(&bytes));
            encoded.push(URL_SAFE_NO_PAD.encode(&bytes));
            encoded.push(STANDARD.encode(&bytes).replace('/', "\\/"));
            encoded.push(STANDARD.encode(&bytes).replace('+', "%2B").replace('/', "%2f"));
        }
    }
    encoded
}

#[test]
fn secrets_are_replaced_in_every_encoding() {
    for secret in ["s3cr3t/T0k3n+x", "pass", "a b&c<d>\"e\\f", "%41%2F\\u0041&amp;", "pässwörd😀"]
    {
        let secrets = secrets(&[secret]);
        for encoded in encodings(secret) {
            let text = format!("no access with {encoded}, try again");
            let redacted = secrets.redact(&text);
            assert!(redacted.contains("[redacted]"), "{secret}: {text}");
            assert!(redacted.starts_with("no access with "), "{redacted}");
            assert!(redacted.ends_with(", try again"), "{redacted}");
        }
    }
}

/// Regression: a receiver that cut its echo wrote the beginning of the secret to the log.
#[test]
fn parts_of_a_long_secret_are_replaced() {
    let secrets = secrets(&["0123456789abcdefghij"]);
    for (text, expected) in [
        ("key 01234567", "key [redacted]"),
        ("key 0123456", "key 0123456"),
        ("…cdefghij failed", "…[redacted] failed"),
        ("key 01234567…cdefghij.", "key [redacted]…[redacted]."),
        ("key 23456789ABCDEF", "key [redacted]"),
        ("unrelated 9876543210", "unrelated 9876543210"),
    ] {
        assert_eq!(secrets.redact(text), expected);
    }
}

#[test]
fn short_secrets_are_replaced_as_words() {
    let secrets = secrets(&["pin", "abcd", ""]);
    for (text, expected) in [
        ("wrong pin", "wrong [redacted]"),
        ("pin=pin;spinning", "[redacted]=[redacted];spinning"),
        ("xabcdx", "x[redacted]x"),
        ("abc", "abc"),
    ] {
        assert_eq!(secrets.redact(text), expected);
    }
    assert_eq!(SentSecrets::default().redact("text"), "text");
}

#[test]
fn headers_contain_secrets_after_their_scheme() {
    for (header, echo, expected) in [
        ("Bearer token-canary", "Bearer token-canary", "Bearer [redacted]"),
        ("Splunk 1111-canary", "token 1111-canary", "token [redacted]"),
        ("plain-canary", "plain-canary", "[redacted]"),
        ("unknown canary-key", "canary-key", "[redacted]"),
        ("Basic dXNlcjpjYW5hcnktcGFzcw==", "user canary-pass", "user [redacted]"),
        ("Basic dXNlcjpjYW5hcnktcGFzcw==", "x dXNlcjpjYW5hcnktcGFzcw== y", "x [redacted] y"),
        (
            "AWS4-HMAC-SHA256 Credential=AKID/eu-west-1, Signature=0a1b2c3d4e",
            "eu-west-1",
            "eu-west-1",
        ),
        ("AWS4-HMAC-SHA256 Credential=AKID, Signature=0a1b2c3d4e", "0A1B2C3D4E", "[redacted]"),
        ("SharedKey account:c2lnbmF0dXJl", "account:c2lnbmF0dXJl", "account:[redacted]"),
    ] {
        let mut secrets = SentSecrets::default();
        secrets.add_header(header);
        assert_eq!(secrets.redact(echo), expected, "{header}");
    }
}

#[test]
fn only_secret_fields_of_forms_are_removed() {
    let mut secrets = SentSecrets::default();
    secrets.add_form("client_id=public-client&client_secret=a%2Fcanary+x&scope=public-scope");
    assert_eq!(secrets.redact("public-client a/canary x"), "public-client [redacted]");
    assert_eq!(secrets.redact("client_secret=a%2Fcanary+x"), "client_secret=[redacted]");
    assert_eq!(secrets.redact("public-scope"), "public-scope");

    secrets.add_form("client%5Fsecret=encoded-name&client%5Fid=other-client");
    assert_eq!(secrets.redact("encoded-name, other-client"), "[redacted], other-client");
}

#[test]
fn words_in_secret_urls_are_replaced_completely() {
    let mut secrets = SentSecrets::default();
    secrets.add_url("https://h.example/workflows/T0000000CANARY?api=1.0&sig=abcdefgh1");
    for (text, expected) in [
        ("workflow not found, HTTP 1.0", "workflow not found, HTTP 1.0"),
        ("/workflows/x", "/[redacted]/x"),
        ("T0000000", "[redacted]"),
        ("sig abcdefgh", "sig [redacted]"),
        ("https://h.example/", "https://h.example/"),
    ] {
        assert_eq!(secrets.redact(text), expected);
    }
}

#[test]
fn binary_bodies_keep_their_length() {
    let secrets = secrets(&["canary-token"]);
    let body = b"\x0a\x0ccanary-token\xff".to_vec();
    assert_eq!(secrets.mask_body(body.clone()), b"\x0a\x0c************\xff");
    assert_eq!(secrets.redact_body(body), b"\x0a\x0c[redacted]\xff");
}

#[test]
fn secrets_in_large_bodies_are_found() {
    let secrets = secrets(&["canary-token"]);
    // The end of a window of the search is within or near the secret.
    for before in (32 << 10) - 20..(32 << 10) + 20 {
        let mut body = vec![b' '; before];
        body.extend_from_slice(b"canary%2dtoken");
        body.resize(100_000, b' ');
        let redacted = secrets.redact_body(body);
        assert_eq!(redacted.trim_ascii(), b"[redacted]", "{before}");
    }
}

#[test]
fn debug_output_of_secrets_is_empty() {
    let secrets = secrets(&["canary-token"]);
    let _ = secrets.redact("x");
    assert_eq!(format!("{secrets:?}"), "SentSecrets { count: 1, .. }");
}

proptest! {
    #[test]
    fn no_encoding_of_a_secret_survives(
        secret in "[ -~äß€😀]{4,40}",
        before in "[ -~]{0,20}",
        after in "[ -~]{0,20}",
    ) {
        let secrets = secrets(&[&secret]);
        for encoded in encodings(&secret) {
            let text = format!("{before} {encoded} {after}");
            let redacted = secrets.redact(&text);
            prop_assert!(redacted.contains("[redacted]"), "{}", text);
            prop_assert!(!redacted.contains(&encoded), "{}", text);
        }
    }

    #[test]
    fn every_cut_of_a_secret_is_replaced(secret in "[A-Za-z0-9._~-]{8,60}", cut in 8_usize..60) {
        let length = cut.min(secret.len());
        let secrets = secrets(&[&secret]);
        for part in [&secret[..length], &secret[secret.len() - length..]] {
            let echo = format!("({part})");
            prop_assert_eq!(secrets.redact(&echo), "([redacted])");
        }
    }

    #[test]
    fn no_text_causes_a_panic(
        values in proptest::collection::vec(".{0,20}", 0..4),
        text in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut secrets = SentSecrets::default();
        for value in &values {
            secrets.add(value);
            secrets.add_header(value);
            secrets.add_url(value);
            secrets.add_form(value);
            secrets.add_cookies(value);
        }
        let _ = secrets.redact(&String::from_utf8_lossy(&text));
        prop_assert_eq!(secrets.mask_body(text.clone()).len(), text.len());
    }
}
