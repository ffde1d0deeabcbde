//! Addresses of the form `host:port`, and why a text is not one: most often, the port was
//! forgotten.
//!
//! No fault contains the text, because an address can contain a user name and a password. Start
//! reading at [`HostPort::parse`].

use std::net::Ipv6Addr;

use crate::foreign_text::{is_hidden, is_joiner};

/// A host and a port. Parsing resolves no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort<'a> {
    /// A name or an IP address, without the brackets of an IPv6 address.
    pub host: &'a str,
    /// Never 0.
    pub port: u16,
}

/// Why a text is not an address. Displayed as a clause about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    #[error("it contains a space")]
    Space,
    /// A character that is not shown, or that looks like a space.
    #[error("it contains the invisible character U+{:04X}", u32::from(*.0))]
    Invisible(char),
    #[error("it contains several addresses")]
    Several,
    #[error("it begins with a scheme such as `https://`")]
    Scheme,
    #[error("it contains a path")]
    Path,
    #[error("an IPv6 address requires brackets, as in `[::1]:514`")]
    Ipv6WithoutBrackets,
    #[error("it is not a valid IPv6 address")]
    Ipv6,
    #[error("it has no host")]
    NoHost,
    #[error("it has no port")]
    NoPort,
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

impl<'a> HostPort<'a> {
    /// Parses `HOST:PORT`, where the host is a name, an IPv4 address, or an IPv6 address in
    /// brackets.
    ///
    /// # Errors
    ///
    /// Fails with the first fault.
    pub fn parse(text: &'a str) -> Result<Self, AddressFault> {
        if let Some(fault) = text.chars().find_map(unusable_character) {
            return Err(fault);
        }
        if text.contains("://") {
            return Err(AddressFault::Scheme);
        }
        if text.contains(',') {
            return Err(AddressFault::Several);
        }
        if text.contains(['/', '?', '#']) {
            return Err(AddressFault::Path);
        }

        let (host, port) = split(text)?;
        if host.is_empty() {
            return Err(AddressFault::NoHost);
        }
        let digits = port.filter(|digits| !digits.is_empty()).ok_or(AddressFault::NoPort)?;
        let is_number = digits.bytes().all(|digit| digit.is_ascii_digit());
        let port = digits.parse::<u16>().ok().filter(|port| is_number && *port > 0);
        Ok(Self { host, port: port.ok_or_else(|| port_fault(digits))? })
    }
}

/// The fault of a character that no address contains. Names of hosts can contain joiners.
fn unusable_character(c: char) -> Option<AddressFault> {
    match c {
        ' ' => Some(AddressFault::Space),
        c if c.is_whitespace() || is_hidden(c) => Some(AddressFault::Invisible(c)),
        _ => None,
    }
}

/// The fault of a port that is not a number.
fn port_fault(digits: &str) -> AddressFault {
    let joiner = digits.chars().find(|c| is_joiner(*c));
    joiner.map_or(AddressFault::Port, AddressFault::Invisible)
}

/// The host, and what follows the colon after it.
fn split(text: &str) -> Result<(&str, Option<&str>), AddressFault> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(AddressFault::Ipv6WithoutBrackets);
    }
    let Some(rest) = text.strip_prefix('[') else {
        return match text.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => Err(AddressFault::Ipv6WithoutBrackets),
            Some((host, port)) => Ok((host, Some(port))),
            None => Ok((text, None)),
        };
    };

    let (host, after) = rest.split_once(']').ok_or(AddressFault::Ipv6)?;
    // The zone of a link-local address (RFC 4007, section 11) follows a percent sign.
    let address = host.split('%').next().unwrap_or_default();
    address.parse::<Ipv6Addr>().map_err(|_| AddressFault::Ipv6)?;
    match after.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if after.is_empty() => Ok((host, None)),
        None => Err(AddressFault::Ipv6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for (text, host, port) in [
            ("siem.example.com:514", "siem.example.com", 514),
            ("127.0.0.1:65535", "127.0.0.1", 65_535),
            ("[::1]:6514", "::1", 6_514),
            ("[fe80::1%eth0]:514", "fe80::1%eth0", 514),
            ("broker_1:9092", "broker_1", 9_092),
        ] {
            assert_eq!(HostPort::parse(text), Ok(HostPort { host, port }), "{text}");
        }
    }

    /// Regression: a forgotten port, a space and a scheme were the same fault, and some of them
    /// were accepted; an invisible character in a port was one of the number.
    #[test]
    fn each_fault_of_an_address_is_named() {
        let cases = [
            ("", AddressFault::NoHost),
            (":514", AddressFault::NoHost),
            ("siem.example.com", AddressFault::NoPort),
            ("siem.example.com:", AddressFault::NoPort),
            ("10.0.0.1", AddressFault::NoPort),
            ("[::1]", AddressFault::NoPort),
            ("siem:0", AddressFault::Port),
            ("siem:65536", AddressFault::Port),
            ("siem:+514", AddressFault::Port),
            ("siem:syslog", AddressFault::Port),
            ("::1", AddressFault::Ipv6WithoutBrackets),
            ("::1:514", AddressFault::Ipv6WithoutBrackets),
            ("[::1", AddressFault::Ipv6),
            ("[siem]:514", AddressFault::Ipv6),
            ("[::1]514", AddressFault::Ipv6),
            (" siem:514", AddressFault::Space),
            ("siem:514\u{a0}", AddressFault::Invisible('\u{a0}')),
            ("siem:51\u{200b}4", AddressFault::Invisible('\u{200b}')),
            ("siem:51\u{200d}4", AddressFault::Invisible('\u{200d}')),
            ("siem:514\t", AddressFault::Invisible('\t')),
            ("a:9092,b:9092", AddressFault::Several),
            ("kafka://a:9092", AddressFault::Scheme),
            ("siem:514/", AddressFault::Path),
        ];

        for (text, fault) in cases {
            assert_eq!(HostPort::parse(text), Err(fault), "{text}");
        }
    }
}
