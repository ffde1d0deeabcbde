//! The URLs of a collection's pages.
//!
//! Graph returns a link to the next page, but at times it has rejected such links. Two other
//! methods therefore read the same collection without them. A link is followed only if it has the
//! origin and the path that the token is meant for; see [`next_page`]. See decision 0008.

use url::Url;

use super::SourceError;

/// A collection of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collection {
    /// Daily snapshots, newest first. `top` is the number of days on a page, not a limit.
    Scores { top: u32 },
    /// The profiles of all controls, in no particular order.
    Profiles,
    /// The original API of 2017: the days of `period`, 1 to 90, in one response.
    LegacyScores { period: u32 },
}

/// A method to read a collection. The next method is tried if Graph returns HTTP 400 for a link, as
/// it did for all links of the profiles in June 2024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PagingMethod {
    /// Follows `@odata.nextLink`.
    Links,
    /// Requests the collection on a single page, with a large `$top`.
    SinglePage,
    /// Requests each page by offset, with `$skip`.
    Skip,
}

/// The methods in the order in which they are tried.
pub(super) const PAGING_METHODS: [PagingMethod; 3] =
    [PagingMethod::Links, PagingMethod::SinglePage, PagingMethod::Skip];
/// The `$top` of a single page of profiles.
const SINGLE_PAGE_ITEMS: u32 = 999;
/// The `$top` of a page of profiles that is requested by offset.
const SKIP_PAGE_ITEMS: u32 = 100;
const MAX_LINK_BYTES: usize = 8 << 10;

impl Collection {
    /// The URL of the first page, or `None` if the collection does not support the method.
    pub(super) fn first_page(self, graph_url: &Url, method: PagingMethod) -> Option<Url> {
        let mut url = graph_url.clone();

        let (path, top) = match self {
            Self::Scores { top } => ("/v1.0/security/secureScores", Some(top)),
            Self::Profiles => ("/v1.0/security/secureScoreControlProfiles", None),
            Self::LegacyScores { period } => {
                let path = format!("/beta/reports/getTenantSecureScores(period={period})/content");
                url.set_path(&path);
                return (method == PagingMethod::Links).then_some(url);
            }
        };
        url.set_path(path);

        let top = match (method, self) {
            (PagingMethod::Links, _) => top,
            // Snapshots are large: 90 days in one response are about 10 MB.
            (PagingMethod::SinglePage, Self::Scores { .. }) => Some(90),
            (PagingMethod::SinglePage, _) => Some(SINGLE_PAGE_ITEMS),
            (PagingMethod::Skip, Self::Scores { top }) => Some(top),
            (PagingMethod::Skip, _) => Some(SKIP_PAGE_ITEMS),
        };
        url.set_query(top.map(|top| format!("$top={top}")).as_deref());
        Some(url)
    }
}

/// The URL of the page that follows the first `items` items, for [`PagingMethod::Skip`].
pub(super) fn skip_to(first: &Url, items: usize) -> Url {
    let mut url = first.clone();
    let top = first.query().unwrap_or_default();
    url.set_query(Some(&format!("{top}&$skip={items}")));
    url
}

/// Parses the link to a next page. The request carries the bearer token, so the link must have the
/// origin and the path of the first page.
///
/// # Errors
///
/// Returns [`SourceError::NextLink`] for any other link.
pub(super) fn next_page(first: &Url, link: &str) -> Result<Url, SourceError> {
    if link.len() > MAX_LINK_BYTES {
        return Err(SourceError::NextLink("it is longer than 8 KiB"));
    }
    let url = Url::parse(link).map_err(|_| SourceError::NextLink("it is not a valid URL"))?;

    if url.origin() != first.origin() || !url.username().is_empty() || url.password().is_some() {
        return Err(SourceError::NextLink("it points to another server"));
    }
    if !url.path().eq_ignore_ascii_case(first.path()) {
        return Err(SourceError::NextLink("it points to another collection"));
    }
    if url.fragment().is_some() {
        return Err(SourceError::NextLink("it has a fragment"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_links_to_other_origins_and_paths() {
        let first: Url =
            "https://graph.microsoft.com/v1.0/security/secureScores?$top=3".parse().unwrap();
        let ok = "https://graph.microsoft.com/v1.0/security/secureScores?$top=3&$skiptoken=1a";
        assert_eq!(next_page(&first, ok).unwrap().as_str(), ok);

        let long = format!("{ok}{}", "x".repeat(MAX_LINK_BYTES));
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
    fn builds_page_urls_for_every_method() {
        let graph: Url = "https://graph.microsoft.com".parse().unwrap();
        let url = |collection: Collection, method| {
            collection.first_page(&graph, method).map(|url| url.to_string())
        };
        let base = "https://graph.microsoft.com/v1.0/security/secureScore";

        let scores = url(Collection::Scores { top: 3 }, PagingMethod::Links);
        assert_eq!(scores, Some(format!("{base}s?$top=3")));
        let profiles = format!("{base}ControlProfiles");
        assert_eq!(url(Collection::Profiles, PagingMethod::Links), Some(profiles.clone()));
        let by_offset = Collection::Profiles.first_page(&graph, PagingMethod::Skip).unwrap();
        assert_eq!(skip_to(&by_offset, 200).as_str(), format!("{profiles}?$top=100&$skip=200"));

        let legacy = Collection::LegacyScores { period: 9 };
        assert_eq!(
            url(legacy, PagingMethod::Links).as_deref(),
            Some(
                "https://graph.microsoft.com/beta/reports/getTenantSecureScores(period=9)/content"
            )
        );
        assert_eq!(url(legacy, PagingMethod::SinglePage), None);
    }
}
