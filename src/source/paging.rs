//! How a collection is walked: by the links that Graph gives, and by other means where it does not
//! follow its own links.

use url::Url;

use super::SourceError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collection {
    /// Daily snapshots, newest first; `top` is the size of a page, not a limit.
    Scores {
        top: u32,
    },
    Profiles,
    /// The original API: so many days in one answer, 1 to 90.
    LegacyScores {
        period: u32,
    },
}

/// Ways to walk a collection, each tried where the one before met a link that answers 400
/// (as all links of the profiles did for some days in June 2024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Links,
    /// All in one page, if the server will.
    OnePage,
    /// By number.
    Skip,
}

pub(super) const WAYS: [Way; 3] = [Way::Links, Way::OnePage, Way::Skip];
const ONE_PAGE: u32 = 999;
const SKIP_PAGE: u32 = 100;
const MAX_LINK: usize = 8 << 10;

impl Collection {
    /// The first page, walked this way; `None` where that way makes no sense.
    pub(super) fn first_page(self, graph_url: &Url, way: Way) -> Option<Url> {
        let mut url = graph_url.clone();
        let (path, top) = match self {
            Self::Scores { top } => ("/v1.0/security/secureScores", Some(top)),
            Self::Profiles => ("/v1.0/security/secureScoreControlProfiles", None),
            Self::LegacyScores { period } => {
                let path = format!("/beta/reports/getTenantSecureScores(period={period})/content");
                url.set_path(&path);
                return (way == Way::Links).then_some(url);
            }
        };
        url.set_path(path);
        let top = match (way, self) {
            (Way::Links, _) => top,
            // Days are large: ninety of them in one answer are some ten megabytes.
            (Way::OnePage, Self::Scores { .. }) => Some(90),
            (Way::OnePage, _) => Some(ONE_PAGE),
            (Way::Skip, Self::Scores { top }) => Some(top),
            (Way::Skip, _) => Some(SKIP_PAGE),
        };
        url.set_query(top.map(|top| format!("$top={top}")).as_deref());
        Some(url)
    }
}

/// The page after so many items, where pages are asked for by number.
pub(super) fn skip_to(first: &Url, items: usize) -> Url {
    let mut url = first.clone();
    let top = first.query().unwrap_or_default();
    url.set_query(Some(&format!("{top}&$skip={items}")));
    url
}

/// A link is followed only to the place that the token is for: the same origin and path.
pub(super) fn next_page(first: &Url, link: &str) -> Result<Url, SourceError> {
    if link.len() > MAX_LINK {
        return Err(SourceError::NextLink("it is too long"));
    }
    let url = Url::parse(link).map_err(|_| SourceError::NextLink("it is no URL"))?;
    if url.origin() != first.origin() || !url.username().is_empty() || url.password().is_some() {
        return Err(SourceError::NextLink("it leads to another server"));
    }
    if !url.path().eq_ignore_ascii_case(first.path()) {
        return Err(SourceError::NextLink("it leads to another collection"));
    }
    if url.fragment().is_some() {
        return Err(SourceError::NextLink("it leads to a part of a page"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_never_leads_the_token_away() {
        let first: Url =
            "https://graph.microsoft.com/v1.0/security/secureScores?$top=3".parse().unwrap();
        let ok = "https://graph.microsoft.com/v1.0/security/secureScores?$top=3&$skiptoken=1a";
        assert_eq!(next_page(&first, ok).unwrap().as_str(), ok);
        let long = format!("{ok}{}", "x".repeat(MAX_LINK));
        for bad in [
            "https://graph.microsoft.com.evil.example/v1.0/security/secureScores",
            "http://graph.microsoft.com/v1.0/security/secureScores",
            "https://graph.microsoft.com:8443/v1.0/security/secureScores",
            "https://user@graph.microsoft.com/v1.0/security/secureScores",
            "https://169.254.169.254/v1.0/security/secureScores",
            "//evil.example/v1.0/security/secureScores",
            "/v1.0/security/secureScores?$skiptoken=1",
            "https://graph.microsoft.com/v1.0/users",
            "https://graph.microsoft.com/v1.0/security/secureScores/../../users",
            "https://graph.microsoft.com/v1.0/security/secureScores?$top=3#x",
            "",
            long.as_str(),
        ] {
            assert!(next_page(&first, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn first_pages() {
        let graph: Url = "https://graph.microsoft.com".parse().unwrap();
        let url = |collection: Collection, way| {
            collection.first_page(&graph, way).map(|url| url.to_string())
        };
        let base = "https://graph.microsoft.com/v1.0/security/secureScore";
        assert_eq!(url(Collection::Scores { top: 3 }, Way::Links), Some(format!("{base}s?$top=3")));
        let profiles = format!("{base}ControlProfiles");
        assert_eq!(url(Collection::Profiles, Way::Links), Some(profiles.clone()));
        let by_number = Collection::Profiles.first_page(&graph, Way::Skip).unwrap();
        assert_eq!(skip_to(&by_number, 200).as_str(), format!("{profiles}?$top=100&$skip=200"));
        let legacy = Collection::LegacyScores { period: 9 };
        assert_eq!(
            url(legacy, Way::Links).as_deref(),
            Some(
                "https://graph.microsoft.com/beta/reports/getTenantSecureScores(period=9)/content"
            )
        );
        assert_eq!(url(legacy, Way::OnePage), None);
    }
}
