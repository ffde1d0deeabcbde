//! Why a server cannot be reached, and whether a connection in plain text may have failed because
//! the server expects TLS.
//!
//! The errors of the libraries contain the cause, but no remedy. Faults of TLS itself are in `tls`.
//! Start reading at [`UnreachableCause::of`].

use std::{error::Error, io};

use super::tls::TlsFault;
use crate::error::causes;

/// Why a server cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreachableCause {
    /// No process listens on the port.
    Refused,
    /// There is no route to the host, or nothing responds.
    NoRoute,
    /// The name of the host has no address.
    UnknownName,
}

/// The error of rustls for a name that is not valid in the DNS, before it is resolved.
const INVALID_NAME: &str = "invalid dns name";
/// The beginning of an error of the system's resolver.
const RESOLVER_ERROR: &str = "failed to lookup address information";

/// Parts of the messages of the system and of librdkafka, which reports errors only as text.
const MESSAGES: &[(&str, UnreachableCause)] = &[
    ("Connection refused", UnreachableCause::Refused),
    ("No route to host", UnreachableCause::NoRoute),
    ("Network is unreachable", UnreachableCause::NoRoute),
    ("Connection timed out", UnreachableCause::NoRoute),
    ("Connection setup timed out", UnreachableCause::NoRoute),
    ("Failed to resolve", UnreachableCause::UnknownName),
    (RESOLVER_ERROR, UnreachableCause::UnknownName),
];

impl UnreachableCause {
    /// The cause of an error, if the error or one of its causes states that the server cannot be
    /// reached.
    pub fn of(error: &(dyn Error + 'static)) -> Option<Self> {
        causes(error).find_map(Self::of_one)
    }

    /// The cause in a message, for errors that are available only as text.
    pub fn in_message(message: &str) -> Option<Self> {
        let found = MESSAGES.iter().find(|(text, _)| message.contains(text));
        found.map(|(_, cause)| *cause)
    }

    /// The cause as the end of a sentence.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Refused => "the connection was refused",
            Self::NoRoute => "the server cannot be reached",
            Self::UnknownName => "the name of the server cannot be resolved",
        }
    }

    /// What an operator can do about it, as an imperative.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Refused => {
                "check that the receiver is running, and that the address and the port are correct"
            }
            Self::NoRoute => {
                "check the address, and the network and the firewalls between this host and the receiver"
            }
            Self::UnknownName => {
                "check the name of the host in the address, and the DNS servers of this host"
            }
        }
    }

    fn of_one(error: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(error) = error.downcast_ref::<reqwest::Error>() {
            return (error.is_connect() && error.is_timeout()).then_some(Self::NoRoute);
        }

        if error.to_string() == INVALID_NAME {
            return Some(Self::UnknownName);
        }
        let error = error.downcast_ref::<io::Error>()?;
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Some(Self::Refused),
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::TimedOut => Some(Self::NoRoute),
            _ if error.to_string().starts_with(RESOLVER_ERROR) => Some(Self::UnknownName),
            _ => None,
        }
    }
}

/// Whether an exchange in plain text may have failed because the server expects TLS: the server
/// closed the connection without a reason, or its response is not in the expected protocol.
pub fn may_expect_tls(error: &(dyn Error + 'static)) -> bool {
    match TlsFault::of(error) {
        Some(fault) => fault == TlsFault::NotHttp,
        None => causes(error).any(is_close),
    }
}

/// Whether the error itself states that the other side closed the connection.
fn is_close(error: &(dyn Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        return error.is_incomplete_message();
    }
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    matches!(
        kind,
        Some(
            io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
                | io::ErrorKind::UnexpectedEof
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net;

    #[test]
    fn causes_of_unreachable_servers_have_a_remedy() {
        for (kind, cause) in [
            (io::ErrorKind::ConnectionRefused, Some(UnreachableCause::Refused)),
            (io::ErrorKind::HostUnreachable, Some(UnreachableCause::NoRoute)),
            (io::ErrorKind::TimedOut, Some(UnreachableCause::NoRoute)),
            (io::ErrorKind::ConnectionReset, None),
        ] {
            let nested = io::Error::other(io::Error::from(kind));
            assert_eq!(UnreachableCause::of(&nested), cause, "{kind:?}");
        }

        for (message, cause) in [
            (
                "Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms in state CONNECT)",
                Some(UnreachableCause::Refused),
            ),
            (
                "Failed to resolve 'nowhere:9092': Name or service not known",
                Some(UnreachableCause::UnknownName),
            ),
            ("2 request(s) timed out: disconnect", None),
        ] {
            assert_eq!(UnreachableCause::in_message(message), cause, "{message}");
        }
    }

    /// Regression: conditions with `Connection refused` had no hint.
    #[tokio::test]
    async fn refused_requests_name_the_receiver() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);

        let error = net::client(None).unwrap().get(url).send().await.unwrap_err();
        let cause = UnreachableCause::of(&error).unwrap();
        assert_eq!(cause, UnreachableCause::Refused);
        assert!(cause.remedy().contains("the receiver is running"), "{}", cause.remedy());
        assert!(!may_expect_tls(&error));
    }

    #[tokio::test]
    async fn closed_requests_may_expect_tls() {
        let address = net::silent_tls_server().await;
        let client = net::client(None).unwrap();
        let error = client.get(format!("http://{address}/")).send().await.unwrap_err();
        assert!(may_expect_tls(&error), "{error:?}");
        assert_eq!(UnreachableCause::of(&error), None);

        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert!(!may_expect_tls(&refused));
    }
}
