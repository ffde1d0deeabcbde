//! The Standard Webhooks scheme: the headers `webhook-id`, `webhook-timestamp` and
//! `webhook-signature`.
//!
//! A signature is `v1,` and the base64 of HMAC-SHA256 over `id.timestamp.body`. During the rotation
//! of a secret the header contains one signature for each secret, separated by a space.
//!
//! Source: github.com/standard-webhooks/standard-webhooks, specification 1.0.

use aws_lc_rs::hmac;
use base64::{
    Engine,
    alphabet::STANDARD as ALPHABET,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    error::Explanation,
    settings::{check_key, check_variety},
    sink::{Batch, batch::hash_of_ids},
};

/// The prefix of a secret whose rest is base64.
const PREFIX: &str = "whsec_";
/// The sizes in bytes of a key that the specification permits.
const MIN_KEY_BYTES: usize = 24;
const MAX_KEY_BYTES: usize = 64;

/// The hint for a secret that is not acceptable.
const GENERATE: &str = "generate a secret: `whsec_` followed by the output of `openssl rand -base64 32`, and set it at the endpoint as well";

/// The ID of a request. It is the same whenever the same records are sent together.
pub(super) fn id(batch: &Batch) -> String {
    format!("msg_{}", hash_of_ids(batch.items()))
}

/// The value of `webhook-signature` for a request with the whole seconds of this time as
/// `webhook-timestamp`.
pub(super) fn sign(secrets: &[SecretString], id: &str, time: Timestamp, body: &[u8]) -> String {
    let timestamp = time.as_second();
    let signatures = secrets.iter().map(|secret| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key(secret));
        let mut context = hmac::Context::with_key(&key);
        context.update(format!("{id}.{timestamp}.").as_bytes());
        context.update(body);
        format!("v1,{}", STANDARD.encode(context.sign()))
    });
    signatures.collect::<Vec<_>>().join(" ")
}

/// Checks that a secret is a key of the size that the specification requires, and that it cannot be
/// guessed. Fails with the reason, as a predicate that does not contain the secret.
pub(super) fn check_secret(text: &str) -> Result<(), Explanation> {
    let problem = |problem: String| Explanation::new(problem).with_hint(GENERATE);
    let Some(encoded) = text.strip_prefix(PREFIX) else {
        return check_key(text).map_err(|found| found.with_hint(GENERATE));
    };

    let key = decode(encoded);
    let key = key.ok_or_else(|| problem(format!("is not base64 after `{PREFIX}`")))?;
    if !(MIN_KEY_BYTES..=MAX_KEY_BYTES).contains(&key.len()) {
        let sizes = format!("{MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes");
        return Err(problem(format!("does not contain {sizes} in base64 after `{PREFIX}`")));
    }
    check_variety(&key).map_err(|found| found.with_hint(GENERATE))
}

/// The key of a secret: the decoded base64 after `whsec_`, or else the bytes of the text.
fn key(secret: &SecretString) -> Vec<u8> {
    let text = secret.expose_secret();
    let decoded = text.strip_prefix(PREFIX).and_then(decode);
    decoded.unwrap_or_else(|| text.as_bytes().to_vec())
}

/// The bytes of base64 with or without padding.
fn decode(encoded: &str) -> Option<Vec<u8>> {
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&ALPHABET, lenient).decode(encoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected signature is the example from the specification.
    #[test]
    fn signs_the_published_example() {
        let secret = SecretString::from("whsec_plJ3nmyCDGBKInavdOK15jsl");
        let body = br#"{"event_type":"ping","data":{"success":true}}"#;
        let time = Timestamp::from_second(1_731_705_121).unwrap();
        let signature = sign(&[secret], "msg_loFOjxBNrRLzqYUf", time, body);
        assert_eq!(signature, "v1,rAvfW3dJ/X/qxhsaXPOyyCGmRKsaKWcsNccKXlIktD0=");
    }

    /// Regression: every secret was accepted, also one that can be guessed.
    #[test]
    fn secrets_must_be_keys_of_the_standard() {
        let encoded = |bytes: &[u8]| format!("{PREFIX}{}", STANDARD.encode(bytes));
        let random: Vec<u8> = (0_u8..65).map(|index| index.wrapping_mul(37)).collect();
        for (secret, problem) in [
            ("k".to_owned(), Some("fewer than 32 characters")),
            ("a".repeat(40), Some("fewer than 8 different")),
            ("whsec_".to_owned(), Some("24 to 64 bytes")),
            (encoded(&random[..23]), Some("24 to 64 bytes")),
            (encoded(&random), Some("24 to 64 bytes")),
            (encoded(&[7; 32]), Some("fewer than 8 different")),
            ("whsec_plJ3nmyCDGBKInav-OK15jsl".to_owned(), Some("is not base64")),
            (encoded(&random[..24]), None),
            (encoded(&random[..64]).trim_end_matches('=').to_owned(), None),
            ("correct horse battery staple again".to_owned(), None),
        ] {
            let found = check_secret(&secret).err();
            assert_eq!(found.is_some(), problem.is_some(), "{secret}: {found:?}");
            let Some(found) = found else { continue };
            assert!(problem.is_some_and(|problem| found.message.contains(problem)), "{found:?}");
            assert!(found.hint.is_some_and(|hint| hint.contains("openssl rand -base64 32")));
        }
    }
}
