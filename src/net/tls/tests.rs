//! Every fault is produced by real connections between a client with [`tls_config`] or the HTTP
//! client and a server in this process. No message may contain the terms of a library.

use std::{path::Path, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::net::{self, ClientCertificate, tls_config};

/// A certificate authority, or an intermediate one.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pem: String,
}

/// A certificate for a server or a client, with the certificates that are sent after it.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
    pem: String,
}

impl Authority {
    fn new(name: &str, parent: Option<&Self>) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);

        let certificate = match parent {
            Some(parent) => params.signed_by(&key, &parent.issuer).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        let (der, pem) = (certificate.der().clone(), certificate.pem());
        Self { issuer: Issuer::new(params, key), der, pem }
    }

    fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let (params, key) = server(change);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity { chain: vec![certificate.der().clone()], key, pem: certificate.pem() }
    }
}

impl Identity {
    fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (params, key) = server(change);
        let certificate = params.self_signed(&key).unwrap();
        Self { chain: vec![certificate.der().clone()], key, pem: certificate.pem() }
    }

    fn with(mut self, intermediate: &Authority) -> Self {
        self.chain.push(intermediate.der.clone());
        self
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }
}

/// The parameters of a certificate for the loopback address, after a change, and its key.
fn server(change: impl FnOnce(&mut CertificateParams)) -> (CertificateParams, KeyPair) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "server.test");
    change(&mut params);
    (params, KeyPair::generate().unwrap())
}

/// Starts a server that accepts one connection after another, and echoes one message over TLS.
async fn tls_server(identity: &Identity, clients: Option<&Authority>) -> u16 {
    net::install_crypto_provider();
    let builder = ServerConfig::builder();
    let builder = match clients {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let config = builder.with_single_cert(identity.chain.clone(), identity.key()).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                match acceptor.accept(stream).into_fallible().await {
                    Ok(mut stream) => {
                        let mut message = [0; 4];
                        let _ = stream.read_exact(&mut message).await;
                        let _ = stream.write_all(&message).await;
                    }
                    // The connection is not reset, so that the client receives the alert.
                    Err((_, mut stream)) => {
                        let _ = stream.read_to_end(&mut Vec::new()).await;
                    }
                }
            });
        }
    });
    port
}

/// Starts a server in plain text that sends `greeting`, and then closes the connection.
async fn plain_server(greeting: &'static [u8]) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut received = [0; 4_096];
            let _ = stream.read(&mut received).await;
            let _ = stream.write_all(greeting).await;
        }
    });
    port
}

/// The fault of a handshake, or of the exchange of one message after it.
async fn fault_of_stream(
    port: u16,
    name: &str,
    ca_file: &Path,
    client: Option<ClientCertificate<'_>>,
) -> Option<TlsFault> {
    let connector = TlsConnector::from(Arc::new(tls_config(Some(ca_file), client).unwrap()));
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();

    let mut stream = match connector.connect(name, stream).await {
        Ok(stream) => stream,
        Err(error) => return TlsFault::of_handshake(&error),
    };
    let mut reply = [0; 4];
    let _ = stream.write_all(b"ping").await;
    stream.read_exact(&mut reply).await.err().and_then(|error| TlsFault::of(&error))
}

fn assert_clear(fault: &TlsFault) {
    let hint = fault.hint().unwrap_or_default();
    let text = format!("{fault}\n{hint}");
    for term in ["rror(", "UnknownIssuer", "CaUsed", "BadCert", "InvalidC", "Alert", "DnsName("] {
        assert!(!text.contains(term), "{text}");
    }
    assert!(!hint.is_empty() && !text.ends_with('.'), "{text}");
}

/// Connects to a server with this certificate, while `trusted` (PEM) contains the authorities, and
/// asserts that the sentence of the fault contains `expected`.
async fn assert_fault(identity: &Identity, trusted: &str, name: &str, expected: &str) {
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    fs_err::write(&ca_file, trusted).unwrap();

    let port = tls_server(identity, None).await;
    let fault = fault_of_stream(port, name, &ca_file, None).await.unwrap();
    assert!(fault.to_string().contains(expected), "{expected}: {fault}");
    assert!(!fault.is_transient(), "{fault}");
    assert_clear(&fault);
}

/// Regression: the messages of the library were shown, such as
/// `Other(OtherError(CaUsedAsEndEntity))`, without a remedy.
#[tokio::test]
async fn untrusted_issuers_are_named() {
    let (root, other) = (Authority::new("Root", None), Authority::new("Other", None));
    let intermediate = Authority::new("Intermediate", Some(&root));

    let own = Identity::self_signed(|params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    assert_fault(&own, &own.pem, "localhost", "presents the certificate of an authority").await;
    let alone = Identity::self_signed(|_| {});
    assert_fault(&alone, &root.pem, "localhost", "is self-signed and not trusted").await;

    let only = "sent only its own certificate, and the issuer `CN=Intermediate";
    assert_fault(&intermediate.issue(|_| {}), &root.pem, "localhost", only).await;
    let complete = intermediate.issue(|_| {}).with(&intermediate);
    let end = "the certificate chain of the server ends at `CN=Root";
    assert_fault(&complete, &other.pem, "localhost", end).await;
}

#[tokio::test]
async fn wrong_names_and_times_are_named() {
    let root = Authority::new("Root", None);
    let host = "localhost";

    let names = "is valid for `localhost`, `127.0.0.1`, not for `siem.example.com`";
    assert_fault(&root.issue(|_| {}), &root.pem, "siem.example.com", names).await;
    let unnamed = root.issue(|params| params.subject_alt_names.clear());
    let missing = "contains no subject alternative name, and must contain `localhost`";
    assert_fault(&unnamed, &root.pem, host, missing).await;

    let past = root.issue(|params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    assert_fault(&past, &root.pem, host, "expired on `2021-01-01T00:00:00Z`").await;
    let future = root.issue(|params| {
        params.not_before = date_time_ymd(2090, 1, 1);
        params.not_after = date_time_ymd(2091, 1, 1);
    });
    assert_fault(&future, &root.pem, host, "is not valid before `2090-01-01T00:00:00Z`").await;

    let for_clients = root.issue(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    assert_fault(&for_clients, &root.pem, host, "is not issued for servers").await;
}

/// Regression: the message contained all names of the certificate, and a long name was cut without
/// a mark.
#[test]
fn presented_names_are_limited() {
    let fault = |count: usize| {
        let presented = vec![format!("DnsName(\"{}\")", "x".repeat(300)); count];
        let expected = ServerName::try_from("siem.example.com").unwrap();
        let error = CertificateError::NotValidForNameContext { expected, presented };
        TlsFault::of(&rustls::Error::from(error)).unwrap()
    };

    for (count, end) in [
        (1, "x…`, not for `siem.example.com`"),
        (5, "x…`, not for `siem.example.com`"),
        (6, "x…` and 1 other name, not for `siem.example.com`"),
        (5_000, "x…` and 4,995 other names, not for `siem.example.com`"),
    ] {
        let text = fault(count).to_string();
        assert!(text.ends_with(end), "{text}");
        assert_eq!(text.matches('…').count(), count.min(5));
        assert!(text.chars().count() < 1_200, "{text}");
        assert_clear(&fault(count));
    }
}

/// Regression: a server that had received a token disclosed it in the name of a certificate.
#[tokio::test]
async fn names_contain_no_secret() {
    let mut secrets = SentSecrets::default();
    secrets.add("token-canary-1");
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    fs_err::write(&ca_file, &Authority::new("Other", None).pem).unwrap();
    let port = tls_server(&Authority::new("token-canary-1", None).issue(|_| {}), None).await;
    let presented = fault_of_stream(port, "localhost", &ca_file, None).await.unwrap();

    for fault in [
        presented,
        TlsFault::MissingIntermediate { issuer: "CN=token-\u{200b}canary-1".to_owned() },
        TlsFault::UnknownAuthority { issuer: Some("CN=Token-Canary-1,O=x".to_owned()) },
        TlsFault::WrongName {
            expected: "siem.example.com".to_owned(),
            presented: vec!["token-canary-1.example.com".to_owned()],
            omitted: 0,
        },
    ] {
        let fault = fault.redacted(&secrets);
        let text = format!("{fault}\n{}", fault.hint().unwrap()).to_lowercase();
        assert!(text.contains("[redacted]") && !text.contains("canary"), "{text}");
    }
}

/// A self-signed certificate is valid if it is not that of an authority and `ca_file` contains it.
#[tokio::test]
async fn complete_chains_and_pinned_certificates_are_valid() {
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    let root = Authority::new("Root", None);
    let intermediate = Authority::new("Intermediate", Some(&root));
    let complete = intermediate.issue(|_| {}).with(&intermediate);
    let alone = Identity::self_signed(|_| {});

    for (identity, trusted) in [(&complete, &root.pem), (&alone, &alone.pem)] {
        fs_err::write(&ca_file, trusted).unwrap();
        let port = tls_server(identity, None).await;
        assert_eq!(fault_of_stream(port, "localhost", &ca_file, None).await, None);
    }
}

#[tokio::test]
async fn faults_of_client_certificates_are_sentences() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    let (root, other) = (Authority::new("Root", None), Authority::new("Other", None));
    fs_err::write(file("ca.pem"), &root.pem).unwrap();
    for (name, client) in [("known", root.issue(|_| {})), ("unknown", other.issue(|_| {}))] {
        fs_err::write(file(&format!("{name}.pem")), &client.pem).unwrap();
        fs_err::write(file(&format!("{name}.key")), client.key.serialize_pem()).unwrap();
    }

    let port = tls_server(&root.issue(|_| {}), Some(&root)).await;
    for (client, expected) in [
        (None, Some("requires a client certificate")),
        (Some("unknown"), Some("rejected the client certificate: the server does not trust")),
        (Some("known"), None),
    ] {
        let paths = client.map(|name| (file(&format!("{name}.pem")), file(&format!("{name}.key"))));
        let certificate =
            paths.as_ref().map(|(certificate, key)| ClientCertificate { certificate, key });
        let fault = fault_of_stream(port, "localhost", &file("ca.pem"), certificate).await;
        match expected {
            Some(expected) => {
                let fault = fault.unwrap();
                assert!(fault.to_string().contains(expected), "{expected}: {fault}");
                assert_clear(&fault);
            }
            None => assert_eq!(fault, None),
        }
    }
}

#[tokio::test]
async fn plain_text_instead_of_tls_is_recognized() {
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    fs_err::write(&ca_file, Authority::new("Root", None).pem).unwrap();

    for (greeting, expected) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], TlsFault::PlainText),
        (&b"220 mail.example.com ESMTP\r\n"[..], TlsFault::PlainText),
        (&b""[..], TlsFault::Closed),
    ] {
        let port = plain_server(greeting).await;
        let fault = fault_of_stream(port, "localhost", &ca_file, None).await;
        assert_eq!(fault.as_ref(), Some(&expected));
        assert_clear(&expected);

        let client = net::client(Some(&ca_file)).unwrap();
        let error = client.get(format!("https://127.0.0.1:{port}/")).send().await.unwrap_err();
        assert_eq!(TlsFault::of(&error), Some(expected), "{error:?}");
    }
}

/// The HTTP client wraps the errors of TLS in several others.
#[tokio::test]
async fn faults_are_found_inside_http_errors() {
    let directory = tempfile::tempdir().unwrap();
    let ca_file = directory.path().join("ca.pem");
    let root = Authority::new("Root", None);
    fs_err::write(&ca_file, &root.pem).unwrap();
    let client = net::client(Some(&ca_file)).unwrap();
    let fault_at = async |url: String| {
        let error = client.get(url).send().await.unwrap_err();
        TlsFault::of(&error).unwrap_or_else(|| panic!("{error:?}"))
    };

    let port = tls_server(&Identity::self_signed(|_| {}), None).await;
    assert_eq!(fault_at(format!("https://127.0.0.1:{port}/")).await, TlsFault::SelfSigned);
    let port = tls_server(&root.issue(|_| {}), Some(&root)).await;
    let required = fault_at(format!("https://127.0.0.1:{port}/")).await;
    assert_eq!(required, TlsFault::ClientCertificateRequired);
    let port = tls_server(&root.issue(|_| {}), None).await;
    let not_http = fault_at(format!("http://127.0.0.1:{port}/")).await;
    assert_eq!(not_http, TlsFault::NotHttp);
    assert_clear(&not_http);
}

#[test]
fn records_and_responses_of_tls_servers_are_recognized() {
    let alert = [21, 3, 3, 0, 2, 2, 40];
    assert_eq!(TlsFault::in_plain_text(&alert), Some(TlsFault::TlsExpected));
    for other in [&b""[..], b"1 rsp 6 200 OK\n", b"\x15"] {
        assert_eq!(TlsFault::in_plain_text(other), None);
    }

    for (message, is_found) in [
        ("The plain HTTP request was sent to HTTPS port", true),
        ("Client sent an HTTP request to an HTTPS server.", true),
        ("no such index", false),
    ] {
        assert_eq!(TlsFault::in_response(message).is_some(), is_found, "{message}");
    }
    assert_clear(&TlsFault::TlsExpected);
}
