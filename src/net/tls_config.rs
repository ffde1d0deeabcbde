//! The TLS configuration of every client: TLS 1.2 or later, and the certificate authorities of the
//! system or of a file. The certificates of servers are always verified; the verifier only adds the
//! name of the issuer that is not trusted, which the error of the library does not contain. Start
//! reading at [`tls_config`].

#[cfg(test)]
use std::sync::OnceLock;
use std::{path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
};
use x509_parser::{
    certificate::X509Certificate, extensions::ParsedExtension, parse_x509_certificate,
};

use super::{
    ClientError,
    pem::{PemFault, PemFile, in_order},
};
use crate::files;

/// The maximum size of a PEM file in bytes. That of all public authorities has about 250 KB.
const MAX_PEM_BYTES: u64 = 4 << 20;

/// The paths of the PEM files of a client certificate, with its chain, and of its private key.
#[derive(Clone, Copy, Debug)]
pub struct ClientCertificate<'a> {
    pub certificate: &'a Path,
    pub key: &'a Path,
}

/// Why the issuer of a server's certificate is not trusted. Names are those of RFC 4514, such as
/// `CN=Example Root CA`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UntrustedChain {
    #[error("the certificate is self-signed")]
    SelfSigned,
    /// The server sent no certificate of an issuer.
    #[error("the server sent only its own certificate, which `{0}` issued")]
    OnlyServerCertificate(String),
    /// The name is that of the last issuer in the chain that the server sent.
    #[error("the chain ends at `{0}`")]
    EndsAt(String),
}

/// Verifies certificates with another verifier, and explains why an issuer is not trusted.
#[derive(Debug)]
struct ExplainingVerifier(Arc<dyn ServerCertVerifier>);

/// A client certificate that belongs to its private key.
struct ClientFiles {
    /// The certificates in the order of their file.
    in_file: Vec<CertificateDer<'static>>,
    /// The certificates in the order of TLS.
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Installs the cryptography provider of rustls, which is required once per process.
pub fn install_crypto_provider() {
    // Fails only if a provider is already installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// The configuration of a client. The certificate authorities in `ca_file` (PEM) replace those of
/// the system.
///
/// # Errors
///
/// Fails if a file cannot be read, or does not contain what it must contain, or if all users can
/// change the private key.
pub fn tls_config(
    ca_file: Option<&Path>,
    client: Option<ClientCertificate<'_>>,
) -> Result<ClientConfig, ClientError> {
    install_crypto_provider();
    let builder = ClientConfig::builder();
    let provider = Arc::clone(builder.crypto_provider());

    let verifier: Arc<dyn ServerCertVerifier> = match ca_file {
        Some(path) => {
            let roots = Arc::new(read_authorities(path)?);
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(|error| ClientError::Verifier(path.display().to_string(), error))?
        }
        None => system_verifier(&provider)?,
    };
    let verifier = Arc::new(ExplainingVerifier(verifier));
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);

    let Some(client) = client else {
        return Ok(builder.with_no_client_auth());
    };
    let ClientFiles { chain, key, .. } = read_client(client, &provider)?;
    let name = client.certificate.display().to_string();
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| ClientError::ClientCertificate(name, error))
}

/// The verifier that trusts the certificate authorities of the system.
fn read_system_verifier(
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, ClientError> {
    let verifier = rustls_platform_verifier::Verifier::new(Arc::clone(provider));
    Ok(Arc::new(verifier.map_err(system_authorities_error)?))
}

#[cfg(not(test))]
use read_system_verifier as system_verifier;

/// As in the program, but the authorities are read once: unit tests build thousands of clients.
#[cfg(test)]
fn system_verifier(
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, ClientError> {
    static SHARED: OnceLock<Arc<dyn ServerCertVerifier>> = OnceLock::new();
    if let Some(verifier) = SHARED.get() {
        return Ok(Arc::clone(verifier));
    }
    let verifier = read_system_verifier(provider)?;
    Ok(Arc::clone(SHARED.get_or_init(|| verifier)))
}

/// The error of the library does not state why no file could be read.
fn system_authorities_error(error: rustls::Error) -> ClientError {
    match files::require_descriptor() {
        Err(cause) => cause.into(),
        Ok(()) => ClientError::SystemAuthorities(error),
    }
}

/// Checks the file of the certificate authorities without a connection.
///
/// # Errors
///
/// Fails as [`tls_config`] does.
pub fn check_authorities(path: &Path) -> Result<(), ClientError> {
    read_authorities(path).map(drop)
}

/// Checks the files of a client certificate without a connection. Returns its position in its file,
/// counted from 0.
///
/// # Errors
///
/// Fails as [`tls_config`] does.
pub fn check_client_certificate(client: ClientCertificate<'_>) -> Result<usize, ClientError> {
    install_crypto_provider();
    let builder = ClientConfig::builder();
    let ClientFiles { in_file, chain, .. } = read_client(client, builder.crypto_provider())?;
    let position = in_file.iter().position(|certificate| Some(certificate) == chain.first());
    Ok(position.unwrap_or_default())
}

/// Reads a client certificate with its chain, and its private key.
fn read_client(
    client: ClientCertificate<'_>,
    provider: &CryptoProvider,
) -> Result<ClientFiles, ClientError> {
    let ClientCertificate { certificate, key: key_file } = client;
    let in_file = read_certificates(certificate)?;
    let pem = files::read_secret(key_file, MAX_PEM_BYTES)?;
    let invalid = |fault| ClientError::Pem(key_file.display().to_string(), fault);
    let key = PemFile::parse(pem).and_then(PemFile::require_key).map_err(invalid)?;

    let signing = provider.key_provider.load_private_key(key.clone_key());
    let signing = signing.map_err(|error| invalid(PemFault::Key(error)))?;
    // A key of the library always has a public key; that of another provider is not compared.
    let chain = match signing.public_key() {
        Some(public_key) => in_order(&in_file, &public_key),
        None => Some(in_file.clone()),
    };
    let mismatch = || invalid(PemFault::Mismatch(certificate.display().to_string()));
    Ok(ClientFiles { chain: chain.ok_or_else(mismatch)?, in_file, key })
}

fn read_authorities(path: &Path) -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| ClientError::Authorities(path.display().to_string(), error))?;
    }
    Ok(roots)
}

/// Reads the certificates of a PEM file. Fails if the file cannot be read or contains none.
fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let pem = files::read_limited(path, MAX_PEM_BYTES)?;
    let read = PemFile::parse(pem).and_then(PemFile::require_certificates);
    read.map_err(|fault| ClientError::Pem(path.display().to_string(), fault))
}

impl ServerCertVerifier for ExplainingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified =
            self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);

        verified.map_err(|error| match error {
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                match UntrustedChain::of(end_entity, intermediates) {
                    Some(chain) => CertificateError::Other(OtherError(Arc::new(chain))).into(),
                    None => error,
                }
            }
            other => other,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

impl UntrustedChain {
    /// Describes a chain whose issuer is not trusted; `None` if the server's certificate cannot be
    /// parsed.
    fn of(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Option<Self> {
        let (_, server) = parse_x509_certificate(end_entity).ok()?;
        if is_self_signed(&server) {
            return Some(Self::SelfSigned);
        }

        // Servers send intermediate certificates in any order.
        let sent: Vec<X509Certificate<'_>> = intermediates
            .iter()
            .filter_map(|der| Some(parse_x509_certificate(der).ok()?.1))
            .collect();
        let mut last = &server;
        for _ in 0..sent.len() {
            let is_issuer = |candidate: &&X509Certificate<'_>| {
                candidate.subject().as_raw() == last.issuer().as_raw()
            };
            match sent.iter().find(is_issuer) {
                Some(issuer) if !is_self_signed(last) => last = issuer,
                _ => break,
            }
        }

        let issuer = last.issuer().to_string();
        let is_server = std::ptr::eq(last, &raw const server);
        Some(if is_server { Self::OnlyServerCertificate(issuer) } else { Self::EndsAt(issuer) })
    }
}

/// Whether a certificate names itself as its issuer. Different authorities can have the same name,
/// so the identifiers of the keys are compared too, if the certificate contains both.
fn is_self_signed(certificate: &X509Certificate<'_>) -> bool {
    let (mut own_key, mut issuer_key) = (None, None);
    for extension in certificate.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(key) => own_key = Some(key.0),
            ParsedExtension::AuthorityKeyIdentifier(authority) => {
                issuer_key = authority.key_identifier.as_ref().map(|key| key.0);
            }
            _ => {}
        }
    }

    let has_other_issuer = own_key.zip(issuer_key).is_some_and(|(own, issuer)| own != issuer);
    certificate.subject().as_raw() == certificate.issuer().as_raw() && !has_other_issuer
}
