//! The rule for credentials: they are sent only over TLS, except within this host.
//!
//! Every sender of a password, a token or another secret must apply this rule when its
//! configuration is read, and also when another server names the destination. No sender may decide
//! itself which addresses are within this host. Start reading at [`CredentialChannel`]. See
//! decision 0066.

use std::net::{IpAddr, Ipv6Addr};

use url::{Host, Url};

/// A connection over which a credential would be sent. A Unix socket is not listed, because its
/// data never leaves the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialChannel<'a> {
    /// TLS with a verified certificate.
    Tls,
    /// Plain text to a host: a name, or an IP address without brackets.
    PlainText(&'a str),
}

/// Addresses outside the link-local range at which the platforms of cloud providers serve
/// credentials to their hosts: EC2 and EKS over IPv6.
const PLATFORM_ADDRESSES: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
];

/// The name of Google's metadata service, which every host of that platform resolves to a
/// link-local address.
const PLATFORM_NAME: &str = "metadata.google.internal";

impl CredentialChannel<'_> {
    /// Whether a credential on this connection can be read only by its receiver: over TLS, and
    /// within this host, which is a loopback address or the name `localhost`.
    pub fn is_confidential(self) -> bool {
        match self {
            Self::Tls => true,
            Self::PlainText(host) => is_loopback(host),
        }
    }
}

/// Whether a credential may be sent to the URL: it uses HTTPS, or HTTP to a loopback address, and
/// contains neither a user name nor a password.
pub fn is_safe_url(url: &Url) -> bool {
    has_no_user(url) && channel(url).is_some_and(CredentialChannel::is_confidential)
}

/// Whether a credential of this host may be sent to, or requested from, a service of its platform,
/// such as the token endpoint of a managed identity: like [`is_safe_url`], or HTTP to an address
/// that is not routed beyond the link of the host. Such an address must not be used for a receiver.
pub fn is_safe_platform_url(url: &Url) -> bool {
    is_safe_url(url) || (has_no_user(url) && url.scheme() == "http" && is_platform_url(url))
}

/// Whether the host of the URL is a service of the host's platform, such as a metadata service.
pub fn is_platform_url(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_link_local(),
        Some(Host::Ipv6(address)) => {
            address.is_unicast_link_local() || PLATFORM_ADDRESSES.contains(&address)
        }
        Some(Host::Domain(name)) => name == PLATFORM_NAME,
        None => false,
    }
}

/// The channel of a request to the URL; `None` for a URL without a host, and for other schemes than
/// HTTP and HTTPS.
fn channel(url: &Url) -> Option<CredentialChannel<'_>> {
    let host = url.host_str()?;
    match url.scheme() {
        "https" => Some(CredentialChannel::Tls),
        "http" => {
            let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
            Some(CredentialChannel::PlainText(literal.unwrap_or(host)))
        }
        _ => None,
    }
}

/// A name other than `localhost` is never resolved: another answer of DNS would make it unsafe.
fn is_loopback(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn has_no_user(url: &Url) -> bool {
    url.username().is_empty() && url.password().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_credentials_over_https_or_loopback() {
        for (url, is_safe) in [
            ("https://graph.microsoft.com", true),
            ("https://169.254.169.254", true),
            ("http://127.0.0.1:8080", true),
            ("http://127.8.9.10", true),
            ("http://[::1]:8080", true),
            ("http://localhost:1", true),
            ("http://LOCALHOST", true),
            ("http://graph.microsoft.com", false),
            ("http://127.0.0.1.example.com", false),
            ("http://localhost.example.com", false),
            ("http://localhost.", false),
            ("http://0.0.0.0", false),
            ("http://[::]", false),
            ("http://10.0.0.1", false),
            ("http://169.254.169.254", false),
            ("https://user@graph.microsoft.com", false),
            ("ftp://127.0.0.1", false),
            ("unix:/run/socket", false),
        ] {
            assert_eq!(is_safe_url(&url.parse().unwrap()), is_safe, "{url}");
        }
    }

    #[test]
    fn services_of_the_platform_are_not_routed() {
        for (url, is_safe) in [
            ("http://169.254.169.254/metadata", true),
            ("http://169.254.129.3:8081/msi/token", true),
            ("http://[fe80::1]/", true),
            ("http://[fd00:ec2::23]/v1/credentials", true),
            ("http://[fd00:ec2::254]/", true),
            ("http://metadata.google.internal/", true),
            ("http://localhost:42356/msi/token", true),
            ("https://identity.example.com", true),
            ("http://identity.example.com", false),
            ("http://169.255.169.254", false),
            ("http://[fd00:ec3::23]/", false),
            ("http://metadata.google.internal.example.com/", false),
            ("http://user@169.254.169.254", false),
            ("ftp://169.254.169.254", false),
        ] {
            assert_eq!(is_safe_platform_url(&url.parse().unwrap()), is_safe, "{url}");
        }
    }

    #[test]
    fn hosts_without_a_url_follow_the_same_rule() {
        assert!(CredentialChannel::Tls.is_confidential());
        for (host, is_confidential) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("Localhost", true),
            ("broker.example.com", false),
            ("10.0.0.25", false),
            ("::ffff:10.0.0.1", false),
            ("", false),
        ] {
            let channel = CredentialChannel::PlainText(host);
            assert_eq!(channel.is_confidential(), is_confidential, "{host}");
        }
    }
}
