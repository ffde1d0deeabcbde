//! A certificate with its RSA key, from PEM or PFX, and the assertions that the key signs.
//!
//! An assertion is a JWT (RFC 7523) signed with PS256 (RFC 7518), whose header identifies the
//! certificate by `x5t#S256` (RFC 7515), as Entra documents it for certificate credentials.

use std::borrow::Cow;

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    rsa::KeyPair as Rsa,
    signature::RSA_PSS_SHA256,
};
use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use x509_parser::parse_x509_certificate;

use crate::{
    error::Hint,
    net::{PemFault, PemFile, in_order},
};

/// How long before it is signed an assertion becomes valid, so that a server whose clock is behind
/// accepts it.
const BACK_DATED: SignedDuration = SignedDuration::from_mins(2);
/// How long after it is signed an assertion expires. Entra accepts a lifetime of at most ten
/// minutes.
const VALID_FOR: SignedDuration = SignedDuration::from_mins(8);
/// The minimum size of an RSA modulus: 2048 bits.
const MIN_MODULUS_BYTES: usize = 256;

/// Whether an assertion contains the certificate chain, for app registrations that trust a subject
/// name and an issuer instead of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateChain {
    /// The header contains only the thumbprint of the certificate.
    Omit,
    /// The header contains the thumbprint and, as `x5c`, the chain.
    Include,
}

/// Why a certificate and its key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyPairError {
    #[error("the file is neither PEM nor a PFX file that the password decrypts")]
    UnknownFormat,
    #[error(transparent)]
    Pem(PemFault),
    #[error("the file contains no certificate")]
    NoCertificate,
    #[error("the file contains no private key")]
    NoPrivateKey,
    #[error("the certificate cannot be parsed")]
    InvalidCertificate,
    #[error("encrypted PEM keys are not supported")]
    EncryptedPem,
    #[error("the key is not an RSA key")]
    NotRsa,
    #[error("the RSA key has fewer than 2048 bits")]
    TooShort,
    #[error("the key does not belong to the certificate")]
    Mismatch,
    #[error("cannot sign an assertion with the key")]
    Signing,
}

impl Hint for KeyPairError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::UnknownFormat => Some("check the file and its `password`".into()),
            Self::Pem(fault) => fault.hint(),
            Self::Mismatch => {
                Some("use the private key with which the certificate was requested".into())
            }
            Self::EncryptedPem => Some("convert the key to a PFX file with a password".into()),
            Self::NotRsa | Self::TooShort => {
                Some("create a certificate with an RSA key of at least 2048 bits".into())
            }
            _ => None,
        }
    }
}

/// A signing key, and the certificate by which Entra identifies it.
pub(super) struct KeyPair {
    key: Rsa,
    /// The certificate first, then its issuers; each as DER.
    chain: Vec<CertificateDer<'static>>,
    /// The end of the certificate's validity.
    pub not_after: Timestamp,
}

impl KeyPair {
    /// Parses PEM (certificates and key in any order) or PFX. The key can be in a PEM file of its
    /// own. Fails if the format is unknown, the certificate or the key is missing, no certificate
    /// has the key, or the key is not an RSA key of at least 2048 bits.
    pub(super) fn read(
        bytes: Vec<u8>,
        key_file: Option<Vec<u8>>,
        password: &str,
    ) -> Result<Self, KeyPairError> {
        let (key, certificates) = match key_file {
            Some(key_file) => read_pem(bytes, Some(key_file))?,
            None if is_pem(&bytes) => read_pem(bytes, None)?,
            None => read_pfx(&bytes, password)?,
        };

        let (not_after, public_key) = certificate_of(&key, &certificates)?;
        let chain = in_order(&certificates, &public_key).ok_or(KeyPairError::Mismatch)?;
        if key.public_modulus_len() < MIN_MODULUS_BYTES {
            return Err(KeyPairError::TooShort);
        }
        Ok(Self { key, chain, not_after })
    }

    /// A new assertion for one token request. Each has a unique ID, because Entra rejects an
    /// assertion that was used before. Fails only if the key cannot sign.
    pub(super) fn assertion(
        &self,
        client_id: &str,
        audience: &str,
        chain: CertificateChain,
        now: Timestamp,
    ) -> Result<String, KeyPairError> {
        let thumbprint = URL_SAFE_NO_PAD
            .encode(digest(&SHA256, self.chain.first().map_or(&[][..], AsRef::as_ref)));
        let mut header = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint });
        if chain == CertificateChain::Include {
            header["x5c"] = self.chain.iter().map(|der| STANDARD.encode(der)).collect();
        }

        let not_before = now.as_second().saturating_sub(BACK_DATED.as_secs());
        let expires = now.as_second().saturating_add(VALID_FOR.as_secs());
        let claims = json!({
            "aud": audience, "iss": client_id, "sub": client_id, "jti": uuid::Uuid::new_v4().to_string(),
            "iat": not_before, "nbf": not_before, "exp": expires,
        });

        let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PSS_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| KeyPairError::Signing)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyPair(until {})", self.not_after)
    }
}

fn public_key_bytes(key: &Rsa) -> &[u8] {
    use aws_lc_rs::signature::KeyPair;
    key.public_key().as_ref()
}

fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(11).any(|window| window == b"-----BEGIN ")
}

/// The key, and the certificates in the order of the file.
type KeyAndCertificates = (Rsa, Vec<CertificateDer<'static>>);

/// The end of the validity of the certificate with this key, and its public key as DER.
fn certificate_of(
    key: &Rsa,
    certificates: &[CertificateDer<'static>],
) -> Result<(Timestamp, Vec<u8>), KeyPairError> {
    if certificates.is_empty() {
        return Err(KeyPairError::NoCertificate);
    }
    for certificate in certificates {
        let (_, parsed) =
            parse_x509_certificate(certificate).map_err(|_| KeyPairError::InvalidCertificate)?;
        let public_key = parsed.public_key();
        if public_key.subject_public_key.data.as_ref() == public_key_bytes(key) {
            let not_after = Timestamp::from_second(parsed.validity().not_after.timestamp())
                .map_err(|_| KeyPairError::InvalidCertificate)?;
            return Ok((not_after, public_key.raw.to_vec()));
        }
    }
    Err(KeyPairError::Mismatch)
}

fn read_pem(bytes: Vec<u8>, key_file: Option<Vec<u8>>) -> Result<KeyAndCertificates, KeyPairError> {
    let parse = |bytes: Vec<u8>| {
        PemFile::parse(bytes).map_err(|fault| match fault {
            PemFault::Encrypted(_) => KeyPairError::EncryptedPem,
            fault => KeyPairError::Pem(fault),
        })
    };
    let file = parse(bytes)?.require_any().map_err(KeyPairError::Pem)?;
    let PemFile { certificates, keys, .. } = file;
    let keys = match key_file {
        Some(key_file) => parse(key_file)?.keys,
        None => keys,
    };

    let key = match keys.first().ok_or(KeyPairError::NoPrivateKey)? {
        PrivateKeyDer::Pkcs8(der) => Rsa::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => Rsa::from_der(der.secret_pkcs1_der()),
        _ => return Err(KeyPairError::NotRsa),
    };
    Ok((key.map_err(|_| KeyPairError::NotRsa)?, certificates))
}

fn read_pfx(bytes: &[u8], password: &str) -> Result<KeyAndCertificates, KeyPairError> {
    use p12_keystore::{KeyStore, Pkcs12ImportPolicy};

    let store = KeyStore::from_pkcs12(bytes, password, Pkcs12ImportPolicy::Strict)
        .map_err(|_| KeyPairError::UnknownFormat)?;
    let (_, keys) = store.private_key_chain().ok_or(KeyPairError::NoPrivateKey)?;
    let key = Rsa::from_pkcs8(keys.key().as_der()).map_err(|_| KeyPairError::NotRsa)?;
    let certificates = keys.certs().iter();
    let certificates = certificates.map(|certificate| certificate.as_der().to_vec().into());
    Ok((key, certificates.collect()))
}
