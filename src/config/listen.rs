//! The address on which the admin server listens. Parsing must never accept a relative path,
//! because the working directory of the service differs from that of an operator. Start reading at
//! [`ListenAddress::parse`].

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use crate::{error::Explanation, files::require_socket_path, settings::is_unusual};

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
    /// Parses an IP address and port, or `unix:` and an absolute path. Fails with the reason, as a
    /// clause.
    pub(super) fn parse(text: &str) -> Result<Self, Explanation> {
        let Some(path) = text.strip_prefix("unix:") else {
            return text.parse().map(Self::Tcp).map_err(|_| not_an_address(text));
        };
        let path = Path::new(path);
        if !path.is_absolute() {
            let hint = "write the path from the root directory";
            return Err(Explanation::new("the path is not absolute").with_hint(hint));
        }
        require_socket_path(path).map_err(|fault| Explanation {
            message: format!("the path {}", fault.message),
            ..fault
        })?;
        Ok(Self::Unix(path.to_owned()))
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

/// Why a text is not an IP address with a port.
fn not_an_address(text: &str) -> Explanation {
    if let Some(c) = text.chars().find(|c| is_unusual(*c)) {
        let fault = format!("it contains the invisible character U+{:04X}", u32::from(c));
        return Explanation::new(fault).with_hint("delete the character");
    }
    let unbracketed = text.trim_matches(['[', ']']);
    if let Ok(address) = unbracketed.parse::<IpAddr>() {
        let example = SocketAddr::new(address, UNIT_PORT);
        return Explanation::new("it has no port").with_hint(format!("write `{example}`"));
    }
    if text.starts_with('/') {
        let hint = format!("write `unix:{text}` for a socket");
        return Explanation::new("it is a path").with_hint(hint);
    }

    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let is_port = port.parse::<u16>().is_ok();
    match host {
        _ if text.contains("://") => {
            let hint = "remove the scheme, and the path after the port";
            Explanation::new("it is a URL").with_hint(hint)
        }
        "" | "*" if is_port => {
            let hint = format!("write `127.0.0.1:{port}`, or `0.0.0.0:{port}` for all addresses");
            Explanation::new("it has no IP address").with_hint(hint)
        }
        _ if host.contains(':') && is_port => {
            let hint = format!("write `[{host}]:{port}`");
            Explanation::new("an IPv6 address requires brackets").with_hint(hint)
        }
        _ if text.parse::<u16>().is_ok() => {
            let hint = format!("write `127.0.0.1:{text}`");
            Explanation::new("it has no IP address").with_hint(hint)
        }
        _ if host.parse::<IpAddr>().is_ok() => {
            Explanation::new("the port is not a number from 0 to 65535")
        }
        _ => Explanation::new("it contains a name instead of an IP address")
            .with_hint(format!("write an address of this host, such as `127.0.0.1:{UNIT_PORT}`")),
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
    }

    /// Regression: every address that is not valid had the same message.
    #[test]
    fn faults_of_addresses_name_their_cause() {
        let long = format!("unix:/{}", "x".repeat(107));
        let cases = [
            ("127.0.0.1", "it has no port", Some("write `127.0.0.1:9633`")),
            ("::1", "it has no port", Some("write `[::1]:9633`")),
            ("[::1]", "it has no port", Some("write `[::1]:9633`")),
            (":9633", "it has no IP address", Some("write `127.0.0.1:9633`")),
            ("*:80", "it has no IP address", Some("write `127.0.0.1:80`")),
            ("9633", "it has no IP address", Some("write `127.0.0.1:9633`")),
            ("localhost:9633", "it contains a name", Some("write an address of this host")),
            ("localhost", "it contains a name", Some("write an address of this host")),
            ("", "it contains a name", Some("write an address of this host")),
            ("127.0.0.1:99999", "the port is not a number", None),
            ("127.0.0.1:", "the port is not a number", None),
            ("fe80::x:80", "an IPv6 address requires brackets", Some("write `[fe80::x]:80`")),
            ("::1\u{200b}", "it contains the invisible character U+200B", Some("delete")),
            ("http://127.0.0.1:9633/", "it is a URL", Some("remove the scheme")),
            ("/run/admin", "it is a path", Some("write `unix:/run/admin`")),
            ("unix:", "the path is not absolute", Some("from the root directory")),
            ("unix:admin.sock", "the path is not absolute", Some("from the root directory")),
            (
                long.as_str(),
                "the path has 108 bytes, more than the 107",
                Some("set a shorter path"),
            ),
        ];

        for (text, message, hint) in cases {
            let Explanation { message: found, hint: given } =
                ListenAddress::parse(text).unwrap_err();
            assert!(found.starts_with(message), "{text}: {found}");
            assert_eq!(given.is_some(), hint.is_some(), "{text}: {given:?}");
            let contains = |hint: &str| given.as_ref().is_some_and(|given| given.contains(hint));
            assert!(hint.is_none_or(contains), "{text}: {given:?}");
        }
    }
}
