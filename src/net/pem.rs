//! Reads the PEM files of certificates and private keys (RFC 7468), with the parts in any order.
//!
//! A part that cannot be used is never skipped silently: the parser of the library ignores an
//! indented part and one that is not on a separate line, and reports others by numbers. Start
//! reading at [`PemFile::parse`].

use std::borrow::Cow;

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{PemObject, SectionKind},
};
use x509_parser::{certificate::X509Certificate, parse_x509_certificate};

use crate::{
    error::Hint,
    files::{EncodingError, decode_text},
};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";

/// The object identifier of signed data (RFC 5652, section 5.1), as DER.
const SIGNED_DATA: [u8; 11] = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];

/// The certificates and private keys of a file, in its order.
#[derive(Debug, Default)]
pub struct PemFile {
    pub certificates: Vec<CertificateDer<'static>>,
    pub keys: Vec<PrivateKeyDer<'static>>,
    /// What the first part is, if the file contains neither certificates nor private keys.
    other: Option<&'static str>,
}

/// Why a file cannot be used. Lines are counted from 1.
#[derive(Debug, thiserror::Error)]
pub enum PemFault {
    #[error("the file is empty")]
    Empty,
    #[error(transparent)]
    Encoding(EncodingError),
    /// A binary format: its name, and the command of OpenSSL that converts it.
    #[error("the file is {0}, not PEM")]
    Binary(&'static str, &'static str),
    #[error("the file contains no line that begins with `-----BEGIN`")]
    NotPem,
    #[error("line {0} is indented")]
    Indented(usize),
    #[error("line {0} contains more than one line of a PEM file")]
    SeveralLines(usize),
    #[error("the part that begins in line {0} has no end")]
    NoEnd(usize),
    #[error("the part that begins in line {0} cannot be decoded")]
    Undecodable(usize),
    #[error("the certificate that begins in line {0} cannot be parsed")]
    Certificate(usize),
    #[error("the certificate that begins in line {0} has a form that only OpenSSL reads")]
    Trusted(usize),
    #[error("the private key that begins in line {0} is encrypted")]
    Encrypted(usize),
    #[error("the private key that begins in line {0} has the unsupported type `{1}`")]
    KeyType(usize, String),
    #[error("the file contains {0}, but no certificate")]
    NoCertificate(&'static str),
    #[error("the file contains {0}, but no private key")]
    NoKey(&'static str),
    #[error("the private key cannot be used")]
    Key(#[source] rustls::Error),
    #[error("the private key does not belong to a certificate in `{0}`")]
    Mismatch(String),
}

/// A part of a file, with the lines that begin and end it.
struct Part<'a> {
    /// The number of the first line.
    line: usize,
    label: &'a str,
    text: &'a str,
}

impl PemFile {
    /// Parses a file. Text around the parts, and parts that are neither certificates nor private
    /// keys, are ignored.
    ///
    /// # Errors
    ///
    /// Fails with the first fault. A missing certificate or key is not a fault here.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, PemFault> {
        if let Some(fault) = binary_format(&bytes) {
            return Err(fault);
        }
        let text = decode_text(bytes).map_err(PemFault::Encoding)?;
        let text = text.trim_start_matches('\u{feff}');
        if text.trim().is_empty() {
            return Err(PemFault::Empty);
        }

        let mut file = Self::default();
        let parts = parts(text)?;
        if parts.is_empty() {
            return Err(PemFault::NotPem);
        }
        for part in &parts {
            file.add(part)?;
        }
        if file.certificates.is_empty() && file.keys.is_empty() {
            file.other = Some(describe(parts.first().map_or("", |part| part.label)));
        }
        Ok(file)
    }

    /// The certificates, of which there is at least one.
    ///
    /// # Errors
    ///
    /// Fails if there is none.
    pub fn require_certificates(self) -> Result<Vec<CertificateDer<'static>>, PemFault> {
        if self.certificates.is_empty() {
            return Err(PemFault::NoCertificate(self.other.unwrap_or("a private key")));
        }
        Ok(self.certificates)
    }

    /// The first private key.
    ///
    /// # Errors
    ///
    /// Fails if there is none.
    pub fn require_key(self) -> Result<PrivateKeyDer<'static>, PemFault> {
        let found = self.other.unwrap_or("a certificate");
        self.keys.into_iter().next().ok_or(PemFault::NoKey(found))
    }

    /// The file itself, if it contains a certificate or a private key.
    ///
    /// # Errors
    ///
    /// Fails if there is neither.
    pub fn require_any(self) -> Result<Self, PemFault> {
        match self.other {
            Some(found) => Err(PemFault::NoCertificate(found)),
            None => Ok(self),
        }
    }

    fn add(&mut self, part: &Part<'_>) -> Result<(), PemFault> {
        match part.label {
            "TRUSTED CERTIFICATE" | "X509 CERTIFICATE" => return Err(PemFault::Trusted(part.line)),
            "ENCRYPTED PRIVATE KEY" => return Err(PemFault::Encrypted(part.line)),
            "CERTIFICATE" | "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => {}
            label if label.ends_with("PRIVATE KEY") => {
                return Err(PemFault::KeyType(part.line, label.to_owned()));
            }
            _ => return Ok(()),
        }
        // The form of encryption of RFC 1421, which has headers before the key.
        if part.text.contains("Proc-Type:") && part.text.contains("ENCRYPTED") {
            return Err(PemFault::Encrypted(part.line));
        }

        // The error of the library can quote a character of a private key.
        let decoded = <(SectionKind, Vec<u8>)>::from_pem_slice(part.text.as_bytes());
        let (kind, der) = decoded.map_err(|_| PemFault::Undecodable(part.line))?;
        if kind != SectionKind::Certificate {
            self.keys.extend(PrivateKeyDer::from_pem(kind, der));
            return Ok(());
        }
        if parse_x509_certificate(&der).is_err() {
            return Err(PemFault::Certificate(part.line));
        }
        self.certificates.push(der.into());
        Ok(())
    }
}

/// The certificates in the order in which TLS sends them (RFC 8446, section 4.4.2): the one with
/// this public key, then the issuer of each. The others follow in their order. `None` if no
/// certificate has the key, which is a `SubjectPublicKeyInfo` in DER.
pub fn in_order(
    certificates: &[CertificateDer<'static>],
    public_key: &[u8],
) -> Option<Vec<CertificateDer<'static>>> {
    let parsed: Vec<Option<X509Certificate<'_>>> =
        certificates.iter().map(|der| Some(parse_x509_certificate(der).ok()?.1)).collect();
    let first = parsed
        .iter()
        .position(|found| found.as_ref().is_some_and(|c| c.public_key().raw == public_key))?;

    let mut order = vec![first];
    while let Some(last) = order.last().and_then(|index| parsed.get(*index)?.as_ref()) {
        let issuer = parsed.iter().enumerate().position(|(index, found)| {
            let subject = found.as_ref().map(|c| c.subject().as_raw());
            !order.contains(&index) && subject == Some(last.issuer().as_raw())
        });
        let Some(issuer) = issuer else { break };
        order.push(issuer);
    }

    let others = (0..certificates.len()).filter(|index| !order.contains(index));
    let complete = order.iter().copied().chain(others);
    Some(complete.filter_map(|index| certificates.get(index).cloned()).collect())
}

/// The parts of a text.
fn parts(text: &str) -> Result<Vec<Part<'_>>, PemFault> {
    let mut parts = Vec::new();
    let mut open: Option<(usize, &str, usize)> = None;
    for (line, start, content) in lines(text) {
        check_line(line, content)?;
        if let Some(rest) = content.strip_prefix(BEGIN) {
            if let Some((first, ..)) = open {
                return Err(PemFault::NoEnd(first));
            }
            open = Some((line, rest.trim_end().trim_end_matches('-'), start));
        } else if content.starts_with(END)
            && let Some((first, label, from)) = open.take()
        {
            let end = start.saturating_add(content.len());
            let text = text.get(from..end).unwrap_or_default();
            parts.push(Part { line: first, label, text });
        }
    }
    match open {
        Some((first, ..)) => Err(PemFault::NoEnd(first)),
        None => Ok(parts),
    }
}

/// Checks that the beginning or the end of a part is on a separate line. Otherwise, a tool has
/// replaced the line breaks, has joined two files without one, or has indented the text.
fn check_line(line: usize, content: &str) -> Result<(), PemFault> {
    let markers = content.matches(BEGIN).count().saturating_add(content.matches(END).count());
    if markers == 0 {
        return Ok(());
    }
    let text = content.trim_start_matches([' ', '\t']);
    let is_first = text.starts_with(BEGIN) || text.starts_with(END);
    if markers > 1 || !is_first || content.contains("\\n") {
        return Err(PemFault::SeveralLines(line));
    }
    if text.len() < content.len() { Err(PemFault::Indented(line)) } else { Ok(()) }
}

/// The lines of a text with their numbers and their offsets. A line ends with LF, CRLF or CR.
fn lines(text: &str) -> impl Iterator<Item = (usize, usize, &str)> {
    let mut number = 0_usize;
    let mut offset = 0_usize;
    text.split_inclusive(['\n', '\r']).filter_map(move |line| {
        let start = offset;
        offset = offset.saturating_add(line.len());
        // The line feed of CRLF is not a separate line.
        let is_rest =
            line == "\n" && text.get(..start).is_some_and(|before| before.ends_with('\r'));
        if is_rest {
            return None;
        }
        number = number.saturating_add(1);
        Some((number, start, line.trim_end_matches(['\n', '\r'])))
    })
}

/// The fault of a file in a binary format: DER begins with a sequence (X.690, 8.9).
fn binary_format(bytes: &[u8]) -> Option<PemFault> {
    if bytes.first() != Some(&0x30) || std::str::from_utf8(bytes).is_ok() {
        return None;
    }
    if parse_x509_certificate(bytes).is_ok() {
        return Some(PemFault::Binary(
            "a certificate in DER",
            "convert it with `openssl x509 -inform der -in FILE -out FILE.pem`",
        ));
    }

    // A PFX begins with its version (RFC 7292, section 4).
    let is_signed_data =
        bytes.windows(SIGNED_DATA.len()).take(32).any(|part| part == SIGNED_DATA.as_slice());
    let has_version_3 = bytes.windows(3).take(8).any(|part| part == [0x02, 0x01, 0x03]);
    let (format, command) = if is_signed_data {
        (
            "PKCS#7 in DER",
            "convert it with `openssl pkcs7 -inform der -print_certs -in FILE -out FILE.pem`",
        )
    } else if has_version_3 {
        ("PKCS#12 (PFX)", "convert it with `openssl pkcs12 -in FILE -out FILE.pem -nodes`")
    } else {
        ("a key in DER", "convert it with `openssl pkey -inform der -in FILE -out FILE.pem`")
    };
    Some(PemFault::Binary(format, command))
}

/// What a part with this label is, for a file that contains nothing else.
fn describe(label: &str) -> &'static str {
    match label {
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => "a certificate request",
        "PUBLIC KEY" | "RSA PUBLIC KEY" => "a public key",
        "PKCS7" => "PKCS#7 data",
        "X509 CRL" => "a revocation list",
        _ => "other data",
    }
}

impl Hint for PemFault {
    fn hint(&self) -> Option<Cow<'static, str>> {
        let hint: Cow<'static, str> = match self {
            Self::Encoding(_) => EncodingError::HINT.into(),
            Self::Binary(_, command) => (*command).into(),
            Self::NotPem | Self::Empty => {
                "set the path of a PEM file, whose parts begin with `-----BEGIN`".into()
            }
            Self::Indented(_) => "remove the spaces at the beginning of the lines".into(),
            Self::SeveralLines(_) => {
                "put each `-----BEGIN …-----` and `-----END …-----` on its own line".into()
            }

            Self::NoEnd(_) | Self::Undecodable(_) | Self::Certificate(_) => {
                "copy the file again, completely".into()
            }
            Self::Trusted(_) => "convert it with `openssl x509 -in FILE -out FILE.pem`".into(),
            Self::Encrypted(_) => {
                "decrypt the key with `openssl pkey -in FILE -out FILE.key`, and protect the new file with mode 640".into()
            }
            Self::NoCertificate("PKCS#7 data") => {
                "convert it with `openssl pkcs7 -print_certs -in FILE -out FILE.pem`".into()
            }
            Self::NoCertificate(_) => "set the path of the file with the certificate".into(),
            Self::NoKey(_) => "set the path of the file with the private key".into(),
            Self::KeyType(..) | Self::Key(_) => {
                "use a private key of the type RSA, ECDSA or Ed25519".into()
            }
            Self::Mismatch(_) => {
                "set `client_certificate` and `client_key` to files that belong together".into()
            }
        };

        Some(hint)
    }
}

#[cfg(test)]
mod tests;
