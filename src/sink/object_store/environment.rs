//! The environment variables from which the libraries of the stores take addresses, if the
//! configuration has no key for the store. A credential is sent to such an address, or received
//! from it, so the address must be as safe as one in the configuration. The credentials themselves
//! are never read here. Start reading at [`check_addresses`]. See decision 0066.

use url::Url;

use crate::{
    net::{is_safe_platform_url, is_safe_url},
    settings::{Named, Section},
};

/// The library that takes its addresses from the environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressSource {
    Aws,
    Google,
}

/// A variable that contains an address.
struct AddressVariable {
    name: &'static str,
    /// What the library writes before the value.
    prefix: &'static str,
    peer: Peer,
}

/// The server at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Peer {
    /// The store, or a service that issues tokens for it.
    Receiver,
    /// A service of the host's platform, which may be at a link-local address.
    Platform,
}

const AWS: &[AddressVariable] = &[
    AddressVariable { name: "AWS_ENDPOINT", prefix: "", peer: Peer::Receiver },
    AddressVariable { name: "AWS_ENDPOINT_URL", prefix: "", peer: Peer::Receiver },
    AddressVariable { name: "AWS_ENDPOINT_URL_S3", prefix: "", peer: Peer::Receiver },
    AddressVariable { name: "AWS_ENDPOINT_URL_STS", prefix: "", peer: Peer::Receiver },
    AddressVariable {
        name: "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        prefix: "",
        peer: Peer::Platform,
    },
    AddressVariable { name: "AWS_METADATA_ENDPOINT", prefix: "", peer: Peer::Platform },
];

const GOOGLE: &[AddressVariable] = &[
    AddressVariable { name: "GOOGLE_BASE_URL", prefix: "", peer: Peer::Receiver },
    AddressVariable { name: "GCE_METADATA_HOST", prefix: "http://", peer: Peer::Platform },
    AddressVariable { name: "GCE_METADATA_ROOT", prefix: "http://", peer: Peer::Platform },
    AddressVariable { name: "GCE_METADATA_IP", prefix: "http://", peer: Peer::Platform },
];

/// Adds a fault at the key for each variable with an address to which a credential must not be
/// sent.
pub(super) fn check_addresses(section: &Section<'_>, key: &impl Named, source: AddressSource) {
    let variables = match source {
        AddressSource::Aws => AWS,
        AddressSource::Google => GOOGLE,
    };
    for problem in problems(variables, |name| std::env::var(name).ok()) {
        section.fault(key, problem);
    }
}

/// What is wrong with the values that `value` returns for the variables.
fn problems(variables: &[AddressVariable], value: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let problem = |variable: &AddressVariable| {
        let AddressVariable { name, prefix, peer } = variable;
        let url = Url::parse(&format!("{prefix}{}", value(name)?));
        let (is_safe, addresses): (fn(&Url) -> bool, _) = match peer {
            Peer::Receiver => (is_safe_url, "a loopback address"),
            Peer::Platform => (is_safe_platform_url, "a loopback or link-local address"),
        };
        let message =
            format!("environment variable `{name}` must be https, or http to {addresses}");
        (!url.is_ok_and(|url| is_safe(&url))).then_some(message)
    };
    variables.iter().filter_map(problem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: the token of a container was sent in plain text to any address in a variable.
    #[test]
    fn addresses_of_the_environment_are_checked() {
        for (variables, name, value, is_safe) in [
            (AWS, "AWS_ENDPOINT_URL", "https://s3.example.com", true),
            (AWS, "AWS_ENDPOINT_URL", "http://127.0.0.1:9000", true),
            (AWS, "AWS_ENDPOINT_URL_S3", "http://s3.example.com", false),
            (AWS, "AWS_ENDPOINT_URL_STS", "http://169.254.1.1", false),
            (AWS, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1", true),
            (AWS, "AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://canary.example.com/v1", false),
            (AWS, "AWS_METADATA_ENDPOINT", "http://[fd00:ec2::254]", true),
            (AWS, "AWS_METADATA_ENDPOINT", "canary", false),
            (GOOGLE, "GCE_METADATA_HOST", "metadata.google.internal", true),
            (GOOGLE, "GCE_METADATA_HOST", "127.0.0.1:8080", true),
            (GOOGLE, "GCE_METADATA_IP", "10.0.0.1", false),
            (GOOGLE, "GOOGLE_BASE_URL", "http://canary.example.com", false),
        ] {
            let found = problems(variables, |known| (known == name).then(|| value.to_owned()));
            assert_eq!(found.is_empty(), is_safe, "{name}={value}: {found:?}");
            assert!(found.iter().all(|problem| problem.contains(name)), "{found:?}");
            assert!(!found.concat().contains("canary"), "{found:?}");
        }
        assert!(problems(AWS, |_| None).is_empty());
    }
}
