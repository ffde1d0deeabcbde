//! Why TLS with a server failed, as a sentence with a remedy. The errors of the libraries name the
//! fault in their own terms, such as `UnknownIssuer`, so they are only logged. The source and every
//! sink use this module. A certificate is presented by an unauthenticated peer, so its names are
//! foreign text, which may repeat a secret: a caller that sends secrets must call
//! [`TlsFault::redacted`]. Start reading at [`TlsFault::of`]. See decision 0092.

use std::{borrow::Cow, error::Error, fmt, io};

use jiff::Timestamp;
use rustls::{
    AlertDescription, CertificateError, InvalidMessage, PeerIncompatible,
    pki_types::{ServerName, UnixTime},
};

use super::tls_config::UntrustedChain;
use crate::{
    error::{Hint, causes, chain},
    foreign_text::{ForeignText, SentSecrets},
    text::count,
};

/// The message of tokio-rustls for a connection that ends during the handshake.
const HANDSHAKE_EOF: &str = "tls handshake eof";

/// The maximum number of names of a certificate in a fault, because a hostile server can present
/// thousands.
const MAX_PRESENTED_NAMES: usize = 5;
/// The maximum number of characters of a name of a certificate in a message.
const MAX_NAME_CHARS: usize = 200;
/// The maximum number of characters of a library's error in the log.
const MAX_LOGGED_CHARS: usize = 1_000;

/// A fault of TLS between this program, which is the client, and a server. The names of a
/// certificate are as the server presented them; [`Display`](fmt::Display) shows the beginning of
/// each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsFault {
    /// The server presents the certificate of an authority, often its own self-signed one.
    AuthorityAsServer,
    /// The server's certificate is self-signed, and is not one of the trusted authorities.
    SelfSigned,
    /// The server sent no certificate of an issuer, and its issuer is not trusted. Either the
    /// server should send an intermediate certificate, or the issuer is an unknown authority.
    MissingIntermediate {
        issuer: String,
    },
    /// The last issuer in the chain that the server sent is not trusted; `None` if its name is
    /// unknown.
    UnknownAuthority {
        issuer: Option<String>,
    },
    /// The certificate is for other names than the expected one. `presented` has the first subject
    /// alternative names, which are the only names that are compared, and `omitted` is the number
    /// of the others.
    WrongName {
        expected: String,
        presented: Vec<String>,
        omitted: usize,
    },
    Expired {
        end: Option<Timestamp>,
    },
    NotYetValid {
        start: Option<Timestamp>,
    },
    Revoked,
    /// The extended key usage of the certificate does not include server authentication.
    NotForServers,
    /// The certificate cannot be verified: its issuer, its name or its validity; the library of
    /// Kafka reports no more.
    Untrusted,
    /// The certificate cannot be verified for another reason.
    Unverified,
    /// The server responded in plain text.
    PlainText,
    /// The server closed the connection during the handshake.
    Closed,
    /// The server did not respond to the handshake in time.
    Unanswered,
    /// The server expects TLS, but this program sent plain text.
    TlsExpected,
    /// The server's response is not HTTP; a server that expects TLS responds like this.
    NotHttp,
    ClientCertificateRequired,
    /// The reason is a clause about the client certificate.
    ClientCertificateRejected {
        reason: &'static str,
    },
    /// The server rejected the handshake without a specific reason.
    HandshakeRejected,
    /// The server supports neither TLS 1.2 nor TLS 1.3, or no cipher suite of these.
    Outdated,
    /// The server has no certificate for the requested name.
    UnknownName,
}

impl TlsFault {
    /// The fault that caused an error, if the error or one of its causes is a fault of TLS.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        let fault = causes(error).find_map(Self::of_one)?;
        // The error would quote the names, which are not redacted yet, and would add nothing.
        if !fault.quotes_certificate() {
            let error = chain(error);
            let logged = ForeignText::new(&error).for_message(MAX_LOGGED_CHARS);
            tracing::debug!(error = logged, "TLS failed");
        }
        Some(fault)
    }

    /// The fault without secrets in the names of the certificate, which the server may have
    /// received on an earlier connection.
    #[must_use]
    pub fn redacted(self, secrets: &SentSecrets) -> Self {
        let without = |name: String| super::redact(secrets, &name).into_owned();
        match self {
            Self::MissingIntermediate { issuer } => {
                Self::MissingIntermediate { issuer: without(issuer) }
            }
            Self::UnknownAuthority { issuer } => {
                Self::UnknownAuthority { issuer: issuer.map(without) }
            }
            Self::WrongName { expected, presented, omitted } => {
                let presented = presented.into_iter().map(without).collect();
                Self::WrongName { expected, presented, omitted }
            }
            other => other,
        }
    }

    /// Whether the fault contains names of the server's certificate.
    fn quotes_certificate(&self) -> bool {
        matches!(
            self,
            Self::MissingIntermediate { .. }
                | Self::UnknownAuthority { issuer: Some(_) }
                | Self::WrongName { .. }
        )
    }

    /// Like [`Self::of`], for an error that occurred during a handshake: a connection that ends
    /// then is a fault too.
    pub fn of_handshake(error: &io::Error) -> Option<Self> {
        let is_end = matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
        );
        Self::of(error).or(is_end.then_some(Self::Closed))
    }

    /// The fault of a server that sends a TLS record (RFC 8446, 5.1), an alert or a handshake
    /// message, on a connection in plain text.
    pub fn in_plain_text(received: &[u8]) -> Option<Self> {
        matches!(received, [21 | 22, 3, ..]).then_some(Self::TlsExpected)
    }

    /// The fault of an HTTP server that expects TLS and explains it in a response in plain text.
    /// The sentences are those of nginx, Apache, Go and Java servers.
    pub fn in_response(message: &str) -> Option<Self> {
        let message = message.to_ascii_lowercase();
        let sentences = [
            "http request was sent to https port",
            "http request to an https server",
            "speaking plain http to an ssl-enabled server port",
            "this combination of host and port requires tls",
        ];
        sentences.iter().any(|text| message.contains(text)).then_some(Self::TlsExpected)
    }

    /// Whether the fault can clear without an operator, for example while a server restarts.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Closed | Self::Unanswered | Self::NotHttp)
    }

    /// The fault that the error itself represents, regardless of its causes.
    fn of_one(error: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(fault) = error.downcast_ref::<Self>() {
            return Some(fault.clone());
        }
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Self::of_rustls(error);
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return error.is_parse().then_some(Self::NotHttp);
        }

        let error = error.downcast_ref::<io::Error>()?;
        if error.kind() == io::ErrorKind::UnexpectedEof && error.to_string() == HANDSHAKE_EOF {
            return Some(Self::Closed);
        }
        // The HTTP client wraps an error of the handshake, but not one of a later operation, in
        // another `io::Error`.
        let inner = error.get_ref()?.downcast_ref::<io::Error>()?;
        (inner.kind() == io::ErrorKind::ConnectionReset).then_some(Self::Closed)
    }

    fn of_rustls(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::InvalidCertificate(error) => Some(Self::of_certificate(error)),
            rustls::Error::AlertReceived(alert) => Self::of_alert(*alert),
            rustls::Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge,
            ) => Some(Self::PlainText),
            rustls::Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::NoCipherSuitesInCommon
                | PeerIncompatible::NoKxGroupsInCommon
                | PeerIncompatible::NoSignatureSchemesInCommon,
            ) => Some(Self::Outdated),
            rustls::Error::NoCertificatesPresented => Some(Self::Unverified),
            _ => None,
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer => Self::UnknownAuthority { issuer: None },
            CertificateError::NotValidForName => {
                Self::WrongName { expected: String::new(), presented: Vec::new(), omitted: 0 }
            }
            CertificateError::NotValidForNameContext { expected, presented } => {
                let mut names = presented.iter().filter_map(|name| presented_name(name));
                Self::WrongName {
                    expected: name(expected),
                    presented: names.by_ref().take(MAX_PRESENTED_NAMES).collect(),
                    omitted: names.count(),
                }
            }
            CertificateError::Expired => Self::Expired { end: None },
            CertificateError::ExpiredContext { not_after, .. } => {
                Self::Expired { end: timestamp(*not_after) }
            }
            CertificateError::NotValidYet => Self::NotYetValid { start: None },
            CertificateError::NotValidYetContext { not_before, .. } => {
                Self::NotYetValid { start: timestamp(*not_before) }
            }
            CertificateError::Revoked => Self::Revoked,
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                Self::NotForServers
            }
            CertificateError::Other(other) => Self::of_other(other.0.as_ref()),
            _ => Self::Unverified,
        }
    }

    /// The fault of an error that rustls has no variant for: one of this crate's verifier, or one
    /// of the libraries, whose types are private and are recognized by their messages.
    fn of_other(error: &(dyn Error + Send + Sync + 'static)) -> Self {
        match error.downcast_ref::<UntrustedChain>() {
            Some(UntrustedChain::SelfSigned) => return Self::SelfSigned,
            Some(UntrustedChain::OnlyServerCertificate(issuer)) => {
                return Self::MissingIntermediate { issuer: issuer.clone() };
            }
            Some(UntrustedChain::EndsAt(issuer)) => {
                return Self::UnknownAuthority { issuer: Some(issuer.clone()) };
            }
            None => {}
        }

        match error.to_string().as_str() {
            "CaUsedAsEndEntity" => Self::AuthorityAsServer,
            "certificate had invalid extensions" => Self::NotForServers,
            _ => Self::Unverified,
        }
    }

    /// The fault that a server reports with an alert (RFC 8446, 6.2). `None` for alerts about the
    /// protocol itself.
    fn of_alert(alert: AlertDescription) -> Option<Self> {
        let rejected = |reason| Some(Self::ClientCertificateRejected { reason });
        match alert {
            AlertDescription::CertificateRequired => Some(Self::ClientCertificateRequired),
            AlertDescription::UnknownCA => rejected("the server does not trust its issuer"),
            AlertDescription::CertificateExpired => rejected("it is expired or not valid yet"),
            AlertDescription::CertificateRevoked => rejected("it is revoked"),
            AlertDescription::UnsupportedCertificate => {
                rejected("its type or its purpose is not supported")
            }
            AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError => rejected("the server does not accept it"),
            AlertDescription::HandshakeFailure => Some(Self::HandshakeRejected),
            AlertDescription::ProtocolVersion | AlertDescription::InsufficientSecurity => {
                Some(Self::Outdated)
            }
            AlertDescription::UnrecognisedName => Some(Self::UnknownName),
            _ => None,
        }
    }
}

fn name(name: &ServerName<'_>) -> String {
    name.to_str().into_owned()
}

/// The name in webpki's description of a subject alternative name, such as `DnsName("example")` or
/// `IpAddress(10.0.0.7)`; `None` for other kinds of name.
fn presented_name(described: &str) -> Option<String> {
    let dns = described.strip_prefix("DnsName(\"").and_then(|rest| rest.strip_suffix("\")"));
    let ip = || described.strip_prefix("IpAddress(").and_then(|rest| rest.strip_suffix(')'));
    dns.or_else(ip).map(str::to_owned)
}

/// A name of a certificate as it is shown.
fn shown(name: &str) -> String {
    ForeignText::new(name).for_message(MAX_NAME_CHARS)
}

fn timestamp(time: UnixTime) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(time.as_secs()).ok()?).ok()
}

impl Error for TlsFault {}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.detailed_sentence() {
            Some(sentence) => f.write_str(&sentence),
            None => f.write_str(self.sentence()),
        }
    }
}

impl Hint for TlsFault {
    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::MissingIntermediate { issuer } => format!(
                "configure the server to send its complete certificate chain if `{issuer}` is an intermediate authority; otherwise add the certificate of `{issuer}` to `ca_file`",
                issuer = shown(issuer)
            )
            .into(),
            _ => self.remedy().into(),
        })
    }
}

impl TlsFault {
    /// The sentence of a fault whose details are known.
    fn detailed_sentence(&self) -> Option<String> {
        Some(match self {
            Self::MissingIntermediate { issuer } => format!(
                "the server sent only its own certificate, and the issuer `{}` is not trusted",
                shown(issuer)
            ),
            Self::UnknownAuthority { issuer } => {
                let issuer = shown(issuer.as_ref()?);
                format!(
                    "the certificate chain of the server ends at `{issuer}`, which is not trusted"
                )
            }
            Self::WrongName { expected, presented, omitted } => {
                wrong_name(expected, presented, *omitted)?
            }
            Self::Expired { end } => {
                let end = (*end)?;
                format!("a certificate of the server expired on `{end}`")
            }
            Self::NotYetValid { start } => {
                let start = (*start)?;
                format!("a certificate of the server is not valid before `{start}`")
            }
            Self::ClientCertificateRejected { reason } => {
                format!("the server rejected the client certificate: {reason}")
            }
            _ => return None,
        })
    }

    /// The sentence of a fault without details.
    fn sentence(&self) -> &'static str {
        match self {
            Self::AuthorityAsServer => {
                "the server presents the certificate of an authority, which cannot identify a server"
            }
            Self::SelfSigned => "the server's certificate is self-signed and not trusted",
            Self::MissingIntermediate { .. } | Self::UnknownAuthority { .. } => {
                "the issuer of the server's certificate is not trusted"
            }
            Self::WrongName { .. } => "the server's certificate is for another name",
            Self::Expired { .. } => "a certificate of the server expired",
            Self::NotYetValid { .. } => "a certificate of the server is not valid yet",
            Self::Revoked => "the server's certificate is revoked",
            Self::NotForServers => "the server's certificate is not issued for servers",
            Self::Untrusted | Self::Unverified => "the server's certificate cannot be verified",
            Self::PlainText => "the server does not use TLS on this port",
            Self::Closed => "the server closed the connection during the TLS handshake",
            Self::Unanswered => "the server did not respond to the TLS handshake",
            Self::TlsExpected => "the server expects TLS on this port",
            Self::NotHttp => "the response of the server is not HTTP",
            Self::ClientCertificateRequired => "the server requires a client certificate",
            Self::ClientCertificateRejected { .. } => "the server rejected the client certificate",
            Self::HandshakeRejected => "the server rejected the TLS handshake",
            Self::Outdated => {
                "the server supports neither TLS 1.2 nor TLS 1.3 with a secure cipher suite"
            }
            Self::UnknownName => "the server has no certificate for the requested name",
        }
    }

    /// The hint of a fault, without its details.
    fn remedy(&self) -> &'static str {
        match self {
            Self::AuthorityAsServer => {
                "replace the certificate of the server by one with `CA:FALSE` in its basic constraints, for example one that this authority issues, and keep the authority in `ca_file`"
            }
            Self::SelfSigned => {
                "set `ca_file` to a file that contains this certificate after you have compared it with the one on the server, or install a certificate of a trusted authority on the server"
            }
            Self::MissingIntermediate { .. } | Self::UnknownAuthority { .. } => {
                "set `ca_file` to a file with the certificate of this authority, or install it as an authority of this system; if it is an intermediate authority, configure the server to send its complete certificate chain"
            }
            Self::WrongName { .. } => {
                "use a name in the certificate as the address or, for syslog, as `server_name`; or replace the certificate"
            }
            Self::Expired { .. } => {
                "renew the certificate of the server, and check the clock of this host"
            }
            Self::NotYetValid { .. } => {
                "check the clock of this host, and the certificate of the server"
            }
            Self::Untrusted => {
                "set `ca_file` to the authority of the server's certificate, and check that the certificate contains the address and is not expired"
            }
            Self::Revoked | Self::NotForServers | Self::Unverified => {
                "replace the certificate of the server"
            }
            Self::PlainText => {
                "use the port on which the server expects TLS, or an address without TLS"
            }
            Self::Closed | Self::Unanswered => {
                "check that the server expects TLS on this port, and read its log"
            }
            Self::TlsExpected => {
                "use TLS: `https://` in a URL, `tls://` or `relps://` for syslog, the table `tls` for Kafka, `tls = \"implicit\"` for email"
            }
            Self::NotHttp => "check the port, and use `https://` if the server expects TLS on it",
            Self::ClientCertificateRequired => "set `client_certificate` and `client_key`",
            Self::ClientCertificateRejected { .. } => {
                "set `client_certificate` and `client_key` to a certificate that the server accepts, and read the log of the server"
            }
            Self::HandshakeRejected => {
                "set `client_certificate` and `client_key` if the server requires a client certificate, and read the log of the server"
            }
            Self::Outdated => "enable TLS 1.2 or TLS 1.3 on the server",
            Self::UnknownName => "use the name for which the server has a certificate",
        }
    }
}

/// The sentence for a certificate with other names; `None` if the expected name is unknown.
fn wrong_name(expected: &str, presented: &[String], omitted: usize) -> Option<String> {
    if expected.is_empty() {
        return None;
    }
    if presented.is_empty() {
        return Some(format!(
            "the server's certificate contains no subject alternative name, and must contain `{expected}`"
        ));
    }

    let names: Vec<String> = presented.iter().map(|name| shown(name)).collect();
    let names = names.join("`, `");
    let others = match omitted {
        0 => String::new(),
        _ => format!(" and {}", count(omitted, "other name")),
    };
    Some(format!("the server's certificate is valid for `{names}`{others}, not for `{expected}`"))
}

#[cfg(test)]
mod tests;
