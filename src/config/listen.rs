//! The address on which the admin server listens. Parsing must never accept a relative path,
//! because the working directory of the service differs from that of an operator. Start reading at
//! [`ListenAddress::parse`].

use std::{fmt, net::SocketAddr, path::PathBuf};

/// A TCP address, or the path of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A process without capabilities may not listen on a lower port.
const FIRST_UNPRIVILEGED_PORT: u16 = 1_024;
/// The port on which the unit of the packages permits the service to listen.
const UNIT_PORT: u16 = 9_633;

impl ListenAddress {
    /// Parses an IP address and port, or `unix:` and an absolute path. `None` if it is neither.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix("unix:") {
            Some(path) => {
                let path = PathBuf::from(path);
                path.is_absolute().then_some(Self::Unix(path))
            }
            None => text.parse().ok().map(Self::Tcp),
        }
    }

    /// What to do if the kernel does not permit this address.
    pub fn permission_hint(&self) -> String {
        match self {
            Self::Unix(_) => {
                "set a path in a directory of the service, such as `unix:/run/secure-score-forwarder/admin.sock`".to_owned()
            }
            Self::Tcp(address) if (1..FIRST_UNPRIVILEGED_PORT).contains(&address.port()) => {
                format!("set a port of at least {FIRST_UNPRIVILEGED_PORT}")
            }
            Self::Tcp(address) => format!(
                "set port {UNIT_PORT}, or permit the port in the unit: run `systemctl edit secure-score-forwarder`, and add `SocketBindAllow=tcp:{}` to `[Service]`",
                address.port()
            ),
        }
    }

    /// Whether other hosts can reach the address.
    pub(super) fn is_remote(&self) -> bool {
        match self {
            Self::Tcp(address) => !address.ip().to_canonical().is_loopback(),
            Self::Unix(_) => false,
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_and_displayed() {
        for (text, is_remote) in [
            ("127.0.0.1:9633", false),
            ("[::1]:9633", false),
            ("[::ffff:127.0.0.1]:9633", false),
            ("0.0.0.0:9633", true),
            ("10.0.0.7:80", true),
            ("unix:/run/secure-score-forwarder/admin.sock", false),
        ] {
            let address = ListenAddress::parse(text).unwrap();
            assert_eq!((address.to_string().as_str(), address.is_remote()), (text, is_remote));
        }
        for (text, hint) in [
            ("127.0.0.1:80", "set a port of at least 1024"),
            ("0.0.0.0:9700", "add `SocketBindAllow=tcp:9700`"),
            ("unix:/root/admin.sock", "set a path in a directory of the service"),
        ] {
            let given = ListenAddress::parse(text).unwrap().permission_hint();
            assert!(given.contains(hint), "{text}: {given}");
        }
        for text in ["", "localhost:9633", "127.0.0.1", "unix:", "unix:admin.sock", "/run/admin"] {
            assert_eq!(ListenAddress::parse(text), None, "{text}");
        }
    }
}
