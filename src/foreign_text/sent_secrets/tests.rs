//! Tests of the removal of secrets: what counts as one, and in which encodings it is found.

mod encodings;
mod work;

use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use self::encodings::{ENCODINGS, latin_1};
use super::*;

/// A secret with characters that most encodings escape.
const TOKEN: &str = "s3cr3t/T0k3n+x=_-.";

fn secrets(of: &[&str]) -> SentSecrets {
    let mut secrets = SentSecrets::default();
    for secret in of {
        secrets.add(secret);
    }
    secrets
}

/// A secret in each of the encodings in which it must be found, with their names.
fn encodings(secret: &str) -> Vec<(&'static str, Vec<u8>)> {
    let encoded = ENCODINGS.iter().map(|(name, encode)| (*name, encode(secret)));
    encoded.chain(latin_1(secret).map(|encoded| ("Latin-1", encoded))).collect()
}

/// Base64 of a text that contains a secret, also after other encodings.
fn base64_encodings(secret: &str) -> Vec<String> {
    let mut encoded = Vec::new();
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

fn contains(text: &[u8], part: &str) -> bool {
    text.windows(part.len()).any(|found| found == part.as_bytes())
}

/// How many bytes a text has between these two texts, without those of `[redacted]`.
fn bytes_between(text: &[u8], before: &[u8], after: &[u8]) -> usize {
    let common = |(left, right): &(&u8, &u8)| left == right;
    let start = text.iter().zip(before).take_while(common).count();
    let rest = &text[start..];
    let end = rest.iter().rev().zip(after.iter().rev()).take_while(common).count();

    let between = &rest[..rest.len() - end];
    let redacted = between.windows(REDACTED.len()).filter(|part| *part == REDACTED.as_bytes());
    between.len() - redacted.count() * REDACTED.len()
}

#[test]
fn secrets_are_replaced_in_every_encoding() {
    for secret in
        [TOKEN, "pass", "a b&c<d>\"e\\f", "%41%2F\\u0041&amp;", "pässwörd😀", "pä€s", "пароль-1"]
    {
        let secrets = secrets(&[secret]);
        let base64 = base64_encodings(secret).into_iter().map(|text| ("Base64", text.into_bytes()));
        for (name, encoded) in encodings(secret).into_iter().chain(base64) {
            let text = [&b"no access with "[..], &encoded, b", try again"].concat();
            let redacted = secrets.redact_body(text);
            let text = String::from_utf8_lossy(&redacted);
            assert!(text.contains(REDACTED), "{secret}: {name}: {text}");
            assert!(text.starts_with("no access with"), "{secret}: {name}: {text}");
            assert!(text.ends_with(", try again"), "{secret}: {name}: {text}");
        }
    }
}

/// Regression: only JSON, percent-encoding and the most common references of HTML were decoded.
#[test]
fn mixed_encodings_are_replaced_completely() {
    let secrets = secrets(&["s3cr3t/a=b+c_d.e"]);
    for text in [
        r"s3cr3t\u002fa&equals;b%2Bc&lowbar;d&period;e",
        r"%73\x33cr3t%u002fa\075b&plus;c\U0000005fd.e",
        "s3cr3t&sol;a=3Db+c=5Fd=\r\n.e",
        r"s3cr3t\/a\=b\+c\_d\.e",
        "s%25%32%35%333cr3t&amp;#47;a=b+c_d.e",
        "s\u{ad}3cr3t/a=b&ZeroWidthSpace;+c_d.e",
        "s\\u00003\\u0000c\\u0000r3t/a=b+c_d.e",
    ] {
        assert_eq!(secrets.redact(text), REDACTED, "{text}");
    }
}

/// Regression: an escape with an invisible character in it was not decoded.
#[test]
fn interrupted_escapes_are_replaced() {
    let secrets = secrets(&["s3cr3t/a=b+c_d.e"]);
    for text in [
        "s3c\\x\u{200b}723t/a%\u{ad}3Db%\r\n2Bc&#9\u{2060}5;d.e",
        "s3c\\x\\u200b723t/a=b+c_d.e",
        "s3c%5cx%e2%80%8b723t/a=b+c_d.e",
        "s3cr3t/a=\u{200b}3Db=\n+c=5\u{200b}F=\r\nd.e",
    ] {
        assert_eq!(secrets.redact(text), REDACTED, "{text:?}");
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
fn bodies_of_any_encoding_are_redacted() {
    let secrets = secrets(&["canary-token"]);
    let body = b"\x0a\x0ccanary-token\xff".to_vec();
    assert_eq!(secrets.redact_body(body), b"\x0a\x0c[redacted]\xff");
    let body = b"\xff\xfe\0".to_vec();
    assert_eq!(secrets.redact_body(body.clone()), body);
}

#[test]
fn secrets_in_large_bodies_are_found() {
    let secrets = secrets(&["canary-token"]);
    // The end of a window of the search, or the beginning of the next one, is within the secret.
    for border in [28 << 10, 32 << 10] {
        for before in border - 16..border + 4 {
            let mut body = vec![b' '; before];
            body.extend_from_slice(b"canary%2dtoken");
            body.resize(40_000, b' ');
            let redacted = secrets.redact_body(body);
            assert_eq!(redacted.trim_ascii(), b"[redacted]", "{before}");
        }
    }
}

#[test]
fn a_cut_leaves_no_part_of_a_secret() {
    let secrets = secrets(&["canary-token-0123456789"]);
    for (text, max, expected) in [
        ("", 5, ""),
        ("plain text", 5, "plain"),
        ("x canary-token-0123456789 y", 100, "x [redacted] y"),
        ("x canary-token-0123456789 y", 26, "x [redacted] "),
        ("x canary-token-0123456789 y", 20, "x [redacted]"),
        ("x canary-token-0123456789 y", 3, "x [redacted]"),
        ("x canary-token-0123456789 y", 2, "x "),
        ("x canary-token-0123456789 y", 0, ""),
        ("x %63anary%2dtoken", 4, "x [redacted]"),
        ("x canary-", 7, "x canar"),
    ] {
        let redacted = secrets.redact_beginning(text.as_bytes(), max);
        assert_eq!(String::from_utf8_lossy(&redacted), expected, "{text}: {max}");
    }

    // Some encodings add up to five bytes before or after each character.
    for (name, encoded) in encodings("canary-token-0123456789") {
        let text = [&b"error: "[..], &encoded].concat();
        for max in 7..=text.len() {
            let redacted = secrets.redact_beginning(&text, max);
            let rest = bytes_between(&redacted, b"error: ", b"");
            assert!(rest <= 5, "{name}: {max}: {}", String::from_utf8_lossy(&redacted));
        }
    }
}

/// Regression: bodies of up to 16 MiB were searched completely, which took seconds.
#[test]
fn only_the_beginning_of_an_error_is_searched() {
    let secrets = secrets(&["canary-token"]);
    let mut body = vec![b' '; 8 << 20];
    let redacted = secrets.redact_beginning(&body, MAX_ERROR_BODY_BYTES);
    assert_eq!(redacted.len(), MAX_ERROR_BODY_BYTES);

    let start = MAX_ERROR_BODY_BYTES - 5;
    body[start..start + 12].copy_from_slice(b"canary-token");
    let redacted = secrets.redact_beginning(&body, MAX_ERROR_BODY_BYTES);
    assert_eq!(redacted.trim_ascii_start(), b"[redacted]");
}

#[test]
fn debug_output_of_secrets_is_empty() {
    let secrets = secrets(&["canary-token"]);
    let _ = secrets.redact("x");
    assert_eq!(format!("{secrets:?}"), "SentSecrets { count: 1, .. }");
}

proptest! {
    /// Fewer than eight characters of a long secret remain in any encoding, and fewer than two of a
    /// short one.
    #[test]
    fn no_encoding_of_a_secret_survives(
        secret in "[ -~äß€😀]{4,40}",
        before in "[ -~]{0,20} ",
        after in " [ -~]{0,20}",
    ) {
        let secrets = secrets(&[&secret]);
        let characters = secret.chars().count();
        let limit = if secret.len() < 8 { 2 } else { 8 };

        for (name, encoded) in encodings(&secret) {
            let text = [before.as_bytes(), &encoded, after.as_bytes()].concat();
            let redacted = secrets.redact_body(text);
            let rest = bytes_between(&redacted, before.as_bytes(), after.as_bytes());
            let shown = String::from_utf8_lossy(&redacted);
            prop_assert!(contains(&redacted, REDACTED), "{}: {}", name, shown);
            prop_assert!(rest * characters < limit * encoded.len(), "{}: {}", name, shown);
        }
    }

    #[test]
    fn no_base64_of_a_secret_survives(
        secret in "[ -~äß€😀]{4,40}",
        before in "[ -~]{0,20}",
        after in "[ -~]{0,20}",
    ) {
        let secrets = secrets(&[&secret]);
        for encoded in base64_encodings(&secret) {
            let text = format!("{before} {encoded} {after}");
            let redacted = secrets.redact(&text);
            prop_assert!(redacted.contains(REDACTED), "{}", text);
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
        let redacted = secrets.redact_body(text.clone());
        for max in [0, 1, text.len(), usize::MAX] {
            let beginning = secrets.redact_beginning(&text, max);
            prop_assert!(max < text.len() || beginning == redacted);
        }
    }
}
