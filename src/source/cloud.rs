//! Microsoft's clouds.

use url::Url;

/// A Microsoft cloud: where tokens come from, and where Graph is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloud {
    pub login_url: Url,
    pub graph_url: Url,
}

/// The clouds that have the API, by the name that the configuration gives them.
const CLOUDS: [(&str, &str, &str); 3] = [
    ("global", "https://login.microsoftonline.com", "https://graph.microsoft.com"),
    ("us-gov-high", "https://login.microsoftonline.us", "https://graph.microsoft.us"),
    ("us-gov-dod", "https://login.microsoftonline.us", "https://dod-graph.microsoft.us"),
];

/// Clouds of whose Graph Secure Score is no part, and hosts by which they would be named.
pub const CLOUDS_WITHOUT_SECURE_SCORE: [(&str, &[&str]); 4] = [
    ("china", &["partner.microsoftonline.cn", "chinacloudapi.cn"]),
    ("bleu", &["sovcloud-identity.fr"]),
    ("delos", &["sovcloud-identity.de"]),
    ("govsg", &["sovcloud-identity.sg"]),
];

impl Cloud {
    /// A cloud by name; `None` if there is none of that name.
    pub fn named(name: &str) -> Option<Self> {
        let (_, login, graph) = CLOUDS.into_iter().find(|(known, ..)| *known == name)?;
        Some(Self { login_url: login.parse().ok()?, graph_url: graph.parse().ok()? })
    }

    /// The name of the cloud without the API that a URL leads to, if it does.
    pub fn without_secure_score(url: &Url) -> Option<&'static str> {
        let host = url.host_str()?.to_ascii_lowercase();
        let is_in = |domain: &&str| host == **domain || host.ends_with(&format!(".{domain}"));
        CLOUDS_WITHOUT_SECURE_SCORE
            .iter()
            .find(|(_, domains)| domains.iter().any(&is_in))
            .map(|(n, _)| *n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clouds_are_known_by_name_and_by_host() {
        assert_eq!(
            Cloud::named("us-gov-dod").unwrap().graph_url.as_str(),
            "https://dod-graph.microsoft.us/"
        );
        assert_eq!(Cloud::named("china"), None);
        for (url, cloud) in [
            ("https://login.partner.microsoftonline.cn", Some("china")),
            ("https://microsoftgraph.chinacloudapi.cn", Some("china")),
            ("https://login.sovcloud-identity.fr", Some("bleu")),
            ("https://login.microsoftonline.us", None),
            ("https://notchinacloudapi.cn", None),
        ] {
            assert_eq!(Cloud::without_secure_score(&url.parse().unwrap()), cloud, "{url}");
        }
    }
}
