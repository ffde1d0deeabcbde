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

use crate::sink::{Batch, batch::hash_of_ids};

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

/// The key of a secret: the decoded base64 after `whsec_`, or else the bytes of the text.
fn key(secret: &SecretString) -> Vec<u8> {
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let text = secret.expose_secret();
    let decoded = text
        .strip_prefix("whsec_")
        .and_then(|encoded| GeneralPurpose::new(&ALPHABET, lenient).decode(encoded).ok());
    decoded.unwrap_or_else(|| text.as_bytes().to_vec())
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
}
