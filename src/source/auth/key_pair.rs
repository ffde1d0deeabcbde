//! A certificate with its RSA key, from PEM or PFX, and the assertions signed with it.
//!
//! Form of the assertion: PS256 with `x5t#S256`, as Entra documents certificate credentials
//! (RFC 7523 over RFC 7515 and RFC 7518).

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    rsa::KeyPair as Rsa,
    signature::RSA_PSS_SHA256,
};
use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_json::json;

/// A key that can sign, and the certificate that Entra knows it by.
pub(super) struct KeyPair {
    key: Rsa,
    /// The certificate first, then what it was issued by.
    chain: Vec<Vec<u8>>,
    pub not_after: Timestamp,
}

/// Before now, for the clocks of others; and after now. Entra takes ten minutes in all.
const BACK_DATED: i64 = 120;
const VALID: i64 = 480;

impl KeyPair {
    /// Reads PEM (certificate and key in any order) or PFX. The error is for people.
    pub(super) fn read(bytes: &[u8], password: &str) -> Result<Self, String> {
        let (key, chain) =
            if is_pem(bytes) { read_pem(bytes)? } else { read_pfx(bytes, password)? };
        let certificate = chain.first().ok_or("it holds no certificate")?;
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
            .map_err(|_| "the certificate cannot be read")?;
        let not_after = Timestamp::from_second(parsed.validity().not_after.timestamp())
            .map_err(|_| "the certificate's last day cannot be read")?;
        let in_certificate = parsed.public_key().subject_public_key.data.as_ref();
        if in_certificate != key_bytes(&key) {
            return Err("the key does not belong to the certificate".to_owned());
        }
        if key.public_modulus_len() < 256 {
            return Err("an RSA key of at least 2048 bits is wanted".to_owned());
        }
        Ok(Self { key, chain, not_after })
    }

    /// A new assertion that this application is who it says it is; each has an id of its own, and
    /// is good for one request.
    pub(super) fn assertion(
        &self,
        client_id: &str,
        audience: &str,
        send_chain: bool,
        now: Timestamp,
    ) -> Result<String, String> {
        let thumbprint = URL_SAFE_NO_PAD
            .encode(digest(&SHA256, self.chain.first().map_or(&[][..], Vec::as_slice)));
        let mut header = json!({ "alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint });
        if send_chain {
            header["x5c"] = self.chain.iter().map(|der| STANDARD.encode(der)).collect();
        }
        let now = now.as_second();
        let claims = json!({
            "aud": audience, "iss": client_id, "sub": client_id, "jti": uuid::Uuid::new_v4().to_string(),
            "iat": now - BACK_DATED, "nbf": now - BACK_DATED, "exp": now + VALID,
        });
        let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(header), encode(claims));
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PSS_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| "the key could not sign")?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyPair(until {})", self.not_after)
    }
}

fn key_bytes(key: &Rsa) -> &[u8] {
    use aws_lc_rs::signature::KeyPair;
    key.public_key().as_ref()
}

fn is_pem(bytes: &[u8]) -> bool {
    bytes.windows(11).any(|window| window == b"-----BEGIN ")
}

type Parts = (Rsa, Vec<Vec<u8>>);

fn read_pem(bytes: &[u8]) -> Result<Parts, String> {
    if bytes.windows(17).any(|window| window == b"ENCRYPTED PRIVATE") {
        return Err("an encrypted PEM key cannot be read; make it a PFX with a password".to_owned());
    }
    let chain = CertificateDer::pem_slice_iter(bytes)
        .map(|der| der.map(|der| der.to_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "its certificates cannot be read")?;
    let key = PrivateKeyDer::from_pem_slice(bytes).map_err(|_| "it holds no private key")?;
    let key = match &key {
        PrivateKeyDer::Pkcs8(der) => Rsa::from_pkcs8(der.secret_pkcs8_der()),
        PrivateKeyDer::Pkcs1(der) => Rsa::from_der(der.secret_pkcs1_der()),
        _ => return Err(NOT_RSA.to_owned()),
    };
    Ok((key.map_err(|_| NOT_RSA)?, chain))
}

const NOT_RSA: &str = "its key is no RSA key, which Entra wants";

fn read_pfx(bytes: &[u8], password: &str) -> Result<Parts, String> {
    use p12_keystore::{KeyStore, Pkcs12ImportPolicy};
    let store = KeyStore::from_pkcs12(bytes, password, Pkcs12ImportPolicy::Strict)
        .map_err(|_| "it is neither PEM nor a PFX that this password opens")?;
    let (_, keys) = store.private_key_chain().ok_or("it holds no private key")?;
    let key = Rsa::from_pkcs8(keys.key().as_der()).map_err(|_| NOT_RSA)?;
    Ok((key, keys.certs().iter().map(|certificate| certificate.as_der().to_vec()).collect()))
}
