//! Microsoft's clouds and their addresses. Source: Microsoft Graph, "National cloud deployments". A
//! tenant exists in exactly one cloud, and its token must never be sent to another one.

use url::Url;

/// A Microsoft cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloud {
    /// The sign-in service, which issues tokens.
    pub login_url: Url,
    /// Microsoft Graph, which is also the resource of its tokens.
    pub graph_url: Url,
}

/// The clouds that offer Secure Score: name in the configuration, sign-in URL, Graph URL.
const CLOUDS: [(&str, &str, &str); 3] = [
    ("global", "https://login.microsoftonline.com", "https://graph.microsoft.com"),
    ("us-gov-high", "https://login.microsoftonline.us", "https://graph.microsoft.us"),
    ("us-gov-dod", "https://login.microsoftonline.us", "https://dod-graph.microsoft.us"),
];

/// The clouds whose Graph does not offer Secure Score: name, and the domains of their hosts.
pub const CLOUDS_WITHOUT_SECURE_SCORE: [(&str, &[&str]); 4] = [
    ("china", &["partner.microsoftonline.cn", "chinacloudapi.cn"]),
    ("bleu", &["sovcloud-identity.fr"]),
    ("delos", &["sovcloud-identity.de"]),
    ("govsg", &["sovcloud-identity.sg"]),
];

impl Cloud {
    /// The cloud with this name, or `None` if the name is unknown.
    pub fn named(name: &str) -> Option<Self> {
        let (_, login, graph) = CLOUDS.into_iter().find(|(known, ..)| *known == name)?;
        Some(Self { login_url: login.parse().ok()?, graph_url: graph.parse().ok()? })
    }

    /// The name of the cloud without Secure Score that the URL belongs to, if it belongs to one.
    pub fn without_secure_score(url: &Url) -> Option<&'static str> {
        let host = url.host_str()?.to_ascii_lowercase();
        let is_in = |domain: &&str| host == **domain || host.ends_with(&format!(".{domain}"));

        CLOUDS_WITHOUT_SECURE_SCORE
            .iter()
            .find(|(_, domains)| domains.iter().any(&is_in))
            .map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_clouds_by_name_and_by_host() {
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
