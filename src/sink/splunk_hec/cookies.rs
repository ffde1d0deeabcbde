//! The cookies of a channel, by which a load balancer recognizes its clients and sends all requests
//! of a channel to the same node.
//!
//! The collector determines them, so their number and their size are limited, and only those for
//! its own host and for its endpoints are stored (RFC 6265, sections 5.1.3 and 5.1.4). They are
//! returned only to the collector that has set them. A cookie that is not stored never fails a
//! request, because the collector has accepted the events of the request. Start reading at
//! [`Cookies::store`]. See decision 0068.

use url::Host;

/// The maximum number of cookies. A load balancer uses one or two.
const MAX_COOKIES: usize = 8;
/// The maximum size of a cookie in bytes: its name and its value. Together, all cookies fit into
/// the headers that servers accept, which are at least 8 KiB.
const MAX_COOKIE_BYTES: usize = 900;
/// The path that the endpoints of a collector have in common.
const ENDPOINTS: &str = "/services/collector";

/// The cookies that a channel returns to its collector.
#[derive(Debug, Default)]
pub(super) struct Cookies(Vec<(String, String)>);

/// What a stored cookie has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CookieChange {
    /// Nothing, or the cookie is a new one.
    Kept,
    /// The cookie has another value than before.
    Replaced,
}

/// Why a cookie is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum IgnoredCookie {
    #[error("it has no name")]
    Unnamed,
    #[error("it is larger than {MAX_COOKIE_BYTES} bytes")]
    TooLarge,
    #[error("the channel already has {MAX_COOKIES} cookies")]
    TooMany,
    #[error("it is for another host")]
    OtherHost,
    #[error("it is for another path")]
    OtherPath,
}

impl Cookies {
    /// Stores the cookie in the value of a `Set-Cookie` header from this host.
    pub(super) fn store(
        &mut self,
        header: &str,
        host: Option<&Host<&str>>,
    ) -> Result<CookieChange, IgnoredCookie> {
        let mut parts = header.split(';').map(str::trim);
        let pair = parts.next().unwrap_or_default();
        let (name, value) = pair.split_once('=').unwrap_or_default();
        let (name, value) = (name.trim_end(), value.trim_start());
        if name.is_empty() {
            return Err(IgnoredCookie::Unnamed);
        }
        if name.len().saturating_add(value.len()) > MAX_COOKIE_BYTES {
            return Err(IgnoredCookie::TooLarge);
        }

        for (attribute, value) in parts.filter_map(|part| part.split_once('=')) {
            if attribute.eq_ignore_ascii_case("Domain") && !is_for_host(value, host) {
                return Err(IgnoredCookie::OtherHost);
            }
            if attribute.eq_ignore_ascii_case("Path") && !is_for_endpoints(value) {
                return Err(IgnoredCookie::OtherPath);
            }
        }

        if let Some((_, known)) = self.0.iter_mut().find(|(known, _)| known == name) {
            if known == value {
                return Ok(CookieChange::Kept);
            }
            value.clone_into(known);
            return Ok(CookieChange::Replaced);
        }
        if self.0.len() == MAX_COOKIES {
            return Err(IgnoredCookie::TooMany);
        }
        self.0.push((name.to_owned(), value.to_owned()));
        Ok(CookieChange::Kept)
    }

    /// The value of the `Cookie` header, if there are cookies.
    pub(super) fn header(&self) -> Option<String> {
        let pairs = self.0.iter().map(|(name, value)| format!("{name}={value}"));
        Some(pairs.collect::<Vec<_>>().join("; ")).filter(|text| !text.is_empty())
    }
}

/// Whether the value of `Domain` is the host or, if that is a name, one of its parent domains. An
/// empty value means the host itself.
fn is_for_host(domain: &str, host: Option<&Host<&str>>) -> bool {
    let domain = domain.trim().trim_start_matches('.').to_ascii_lowercase();
    match host {
        _ if domain.is_empty() => true,
        Some(Host::Domain(name)) => {
            let name = name.to_ascii_lowercase();
            name == domain || name.ends_with(&format!(".{domain}"))
        }
        Some(address) => address.to_string() == domain,
        None => false,
    }
}

/// Whether the value of `Path` contains the endpoints of a collector. A value that is not a path
/// means the path of the request.
fn is_for_endpoints(path: &str) -> bool {
    let path = path.trim();
    let is_parent = |rest: &str| rest.is_empty() || rest.starts_with('/') || path.ends_with('/');
    !path.starts_with('/') || ENDPOINTS.strip_prefix(path).is_some_and(is_parent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOST: Option<&Host<&str>> = Some(&Host::Domain("hec.splunk.example.com"));

    /// Why a cookie with these attributes is not stored.
    fn ignored(attributes: &str, host: Option<&Host<&str>>) -> Option<IgnoredCookie> {
        Cookies::default().store(&format!("a=b; {attributes}"), host).err()
    }

    #[test]
    fn cookies_of_a_load_balancer_are_returned() {
        let mut cookies = Cookies::default();
        assert_eq!(cookies.header(), None);
        for header in
            ["AWSALB=one; Expires=Sun, 29 Nov 2026 10:00:00 GMT; Path=/", "NODE = a=b ; HttpOnly"]
        {
            assert_eq!(cookies.store(header, HOST), Ok(CookieChange::Kept), "{header}");
        }
        assert_eq!(cookies.store("AWSALB=one; Secure", HOST), Ok(CookieChange::Kept));
        assert_eq!(cookies.header().unwrap(), "AWSALB=one; NODE=a=b");

        assert_eq!(cookies.store("AWSALB=two", HOST), Ok(CookieChange::Replaced));
        assert_eq!(cookies.header().unwrap(), "AWSALB=two; NODE=a=b");
    }

    #[test]
    fn cookies_for_other_hosts_and_paths_are_ignored() {
        for (attributes, expected) in [
            ("Domain=hec.splunk.example.com", None),
            ("domain=.Example.com", None),
            ("Domain=", None),
            ("Domain=other.example.com", Some(IgnoredCookie::OtherHost)),
            ("Domain=k.example.com", Some(IgnoredCookie::OtherHost)),
            ("Path=/services", None),
            ("Path=/services/", None),
            ("PATH=/services/collector", None),
            ("Path=relative", None),
            ("Path=/service", Some(IgnoredCookie::OtherPath)),
            ("Path=/en-US/account", Some(IgnoredCookie::OtherPath)),
        ] {
            assert_eq!(ignored(attributes, HOST), expected, "{attributes}");
        }

        let address = Host::Ipv4(std::net::Ipv4Addr::LOCALHOST);
        assert_eq!(ignored("Domain=127.0.0.1", Some(&address)), None);
        let other = ignored("Domain=0.0.1", Some(&address));
        assert_eq!(other, Some(IgnoredCookie::OtherHost));
    }

    #[test]
    fn cookies_without_a_name_are_ignored() {
        for header in ["", "=", "=x", "x", ";a=b", " ; "] {
            let stored = Cookies::default().store(header, HOST);
            assert_eq!(stored, Err(IgnoredCookie::Unnamed), "{header}");
        }
    }

    #[test]
    fn the_number_and_the_size_are_limited() {
        let mut cookies = Cookies::default();
        let large = format!("n={}", "v".repeat(MAX_COOKIE_BYTES));
        assert_eq!(cookies.store(&large, HOST), Err(IgnoredCookie::TooLarge));

        for number in 0..MAX_COOKIES {
            cookies.store(&format!("c{number}=v"), HOST).unwrap();
        }
        assert_eq!(cookies.store("one-more=v", HOST), Err(IgnoredCookie::TooMany));
        assert_eq!(cookies.store("c0=w", HOST), Ok(CookieChange::Replaced));
    }

    proptest! {
        #[test]
        fn the_header_never_exceeds_eight_kibibytes(
            headers in proptest::collection::vec("[a-z]{1,8}=[a-z]{0,1000}", 0..40),
        ) {
            let mut cookies = Cookies::default();
            for header in &headers {
                let _ = cookies.store(header, HOST);
            }
            prop_assert!(cookies.header().unwrap_or_default().len() <= 8 << 10);
        }
    }
}
