//! The URLs of a collection's pages, and the order in which the methods of paging are tried.
//!
//! Graph returns a link to the next page, but at times it has rejected such links, or a `$top` that
//! it accepted before. Every other documented method is therefore tried until one reads the whole
//! collection; see [`PagingMethods`]. A link is followed only if it has the origin and the path
//! that the token is meant for; see [`next_page`]. See decisions 0008 and 0080.

use std::{collections::VecDeque, fmt};

use url::Url;

use super::SourceError;
use crate::model::DAYS_AT_SOURCE;

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

/// A method to read a collection. The next method is tried if Graph refuses this one, as it did for
/// all links of the profiles in June 2024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PagingMethod {
    /// Follows `@odata.nextLink`.
    Links,
    /// Requests the collection on a single page of this many items.
    SinglePage { top: u32 },
    /// Requests each page of this many items by offset, with `$skip`.
    Skip { top: u32 },
    /// Requests the collection without the size of a page.
    Unpaged,
}

/// The page of a method that Graph refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedPage {
    /// The first one: its `$top` is not accepted.
    First,
    /// A later one: its `$top` is accepted, and its link or its `$skip` is not.
    Later,
}

/// The methods of a collection that have not been tried, in the order in which they are tried.
#[derive(Clone, Debug)]
pub(super) struct PagingMethods(VecDeque<PagingMethod>);

/// The sizes of a single page of snapshots. Snapshots are large: 90 days in one response are about
/// 10 MB.
const SINGLE_PAGES_OF_DAYS: [u32; 3] = [DAYS_AT_SOURCE.unsigned_abs(), 50, 30];
/// The sizes of a single page of profiles.
const SINGLE_PAGES_OF_PROFILES: [u32; 5] = [999, 500, 250, 100, 50];
/// The sizes of a page of profiles that is requested by offset. With the smallest one, the maximum
/// number of pages is still enough for a thousand profiles.
const SKIP_PAGES_OF_PROFILES: [u32; 5] = [100, 50, 25, 10, 5];
const MAX_LINK_BYTES: usize = 8 << 10;

impl Collection {
    /// The URL of the first page.
    pub(super) fn first_page(self, graph_url: &Url, method: PagingMethod) -> Url {
        let mut url = graph_url.clone();

        let links_top = match self {
            Self::Scores { top } => {
                url.set_path("/v1.0/security/secureScores");
                Some(top)
            }
            Self::Profiles => {
                url.set_path("/v1.0/security/secureScoreControlProfiles");
                None
            }
            Self::LegacyScores { period } => {
                let path = format!("/beta/reports/getTenantSecureScores(period={period})/content");
                url.set_path(&path);
                None
            }
        };

        let top = if method == PagingMethod::Links { links_top } else { method.top() };
        url.set_query(top.map(|top| format!("$top={top}")).as_deref());
        url
    }
}

impl PagingMethod {
    /// The `$top` that the method adds to a collection; `None` if it adds none.
    const fn top(self) -> Option<u32> {
        match self {
            Self::Links | Self::Unpaged => None,
            Self::SinglePage { top } | Self::Skip { top } => Some(top),
        }
    }

    /// Whether both methods request later pages in the same way.
    const fn is_similar(self, other: Self) -> bool {
        matches!(
            (self, other),
            (Self::SinglePage { .. }, Self::SinglePage { .. })
                | (Self::Skip { .. }, Self::Skip { .. })
        )
    }
}

/// For messages.
impl fmt::Display for PagingMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Links => f.write_str("`@odata.nextLink`"),
            Self::SinglePage { top } => write!(f, "`$top={top}`"),
            Self::Skip { top } => write!(f, "`$top={top}` and `$skip`"),
            Self::Unpaged => f.write_str("a request without `$top`"),
        }
    }
}

impl PagingMethods {
    /// All methods of a collection.
    pub(super) fn of(collection: Collection) -> Self {
        let single = |tops: &[u32]| {
            tops.iter().map(|top| PagingMethod::SinglePage { top: *top }).collect::<Vec<_>>()
        };
        let by_offset = |tops: &[u32]| {
            tops.iter().map(|top| PagingMethod::Skip { top: *top }).collect::<Vec<_>>()
        };

        let others = match collection {
            Collection::Scores { top } => {
                [single(&SINGLE_PAGES_OF_DAYS), by_offset(&[top, 1]), vec![PagingMethod::Unpaged]]
                    .concat()
            }
            // Links begin with a request without `$top`, so no separate method is needed for it.
            Collection::Profiles => {
                [single(&SINGLE_PAGES_OF_PROFILES), by_offset(&SKIP_PAGES_OF_PROFILES)].concat()
            }
            Collection::LegacyScores { .. } => Vec::new(),
        };
        Self(std::iter::once(PagingMethod::Links).chain(others).collect())
    }

    /// The next method, which then counts as tried; `None` if all have been tried.
    pub(super) fn take_next(&mut self) -> Option<PagingMethod> {
        self.0.pop_front()
    }

    /// Removes the methods that Graph would refuse for the same reason as `method`, whose first
    /// page is `first`.
    pub(super) fn refused(&mut self, method: PagingMethod, first: &Url, page: RefusedPage) {
        match page {
            RefusedPage::First => {
                let top = first.query().and_then(|query| query.strip_prefix("$top="));
                let refused: Option<u32> = top.and_then(|top| top.parse().ok());
                self.0.retain(|other| match (other.top(), refused) {
                    (Some(top), Some(refused)) => top < refused,
                    _ => true,
                });
            }
            RefusedPage::Later => self.0.retain(|other| !other.is_similar(method)),
        }
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
            collection.first_page(&graph, method).as_str().to_owned()
        };
        let base = "https://graph.microsoft.com/v1.0/security/secureScore";
        let (scores, profiles) = (Collection::Scores { top: 3 }, Collection::Profiles);

        assert_eq!(url(scores, PagingMethod::Links), format!("{base}s?$top=3"));
        let single = PagingMethod::SinglePage { top: 50 };
        assert_eq!(url(scores, single), format!("{base}s?$top=50"));
        assert_eq!(url(scores, PagingMethod::Unpaged), format!("{base}s"));
        let base = format!("{base}ControlProfiles");
        assert_eq!(url(profiles, PagingMethod::Links), base);
        let by_offset = profiles.first_page(&graph, PagingMethod::Skip { top: 100 });
        assert_eq!(skip_to(&by_offset, 200).as_str(), format!("{base}?$top=100&$skip=200"));

        let legacy = Collection::LegacyScores { period: 9 };
        let expected =
            "https://graph.microsoft.com/beta/reports/getTenantSecureScores(period=9)/content";
        assert_eq!(url(legacy, PagingMethod::Links), expected);
        assert_eq!(PagingMethods::of(legacy).0, [PagingMethod::Links]);
    }

    /// The methods that are tried if Graph accepts a `$top` of at most `max_top`, and refuses every
    /// page after the first one.
    fn tried(collection: Collection, max_top: u32) -> Vec<PagingMethod> {
        let graph: Url = "https://graph.microsoft.com".parse().unwrap();
        let (mut methods, mut tried) = (PagingMethods::of(collection), Vec::new());
        while let Some(method) = methods.take_next() {
            tried.push(method);
            let first = collection.first_page(&graph, method);
            let top = first.query().map(|query| query.trim_start_matches("$top="));
            let is_accepted = top.is_none_or(|top| top.parse::<u32>().unwrap() <= max_top);
            let page = if is_accepted { RefusedPage::Later } else { RefusedPage::First };
            methods.refused(method, &first, page);
        }
        tried
    }

    /// Regression: the methods ended at the first one whose first page was refused.
    #[test]
    fn every_method_is_tried_up_to_the_last() {
        use PagingMethod::{Links, SinglePage, Skip, Unpaged};

        let profiles = |max_top| tried(Collection::Profiles, max_top);
        assert_eq!(profiles(999), [Links, SinglePage { top: 999 }, Skip { top: 100 }]);
        assert_eq!(
            profiles(50),
            [
                Links,
                SinglePage { top: 999 },
                SinglePage { top: 500 },
                SinglePage { top: 250 },
                SinglePage { top: 100 },
                SinglePage { top: 50 },
                Skip { top: 50 },
            ]
        );
        for (max_top, last) in [(30, 25), (25, 25), (20, 10), (10, 10), (9, 5)] {
            assert_eq!(profiles(max_top).last(), Some(&Skip { top: last }), "{max_top}");
        }
        let scores = tried(Collection::Scores { top: 3 }, 999);
        assert_eq!(scores, [Links, SinglePage { top: 90 }, Skip { top: 3 }, Unpaged]);
        let scores = tried(Collection::Scores { top: 3 }, 2);
        assert_eq!(scores, [Links, Skip { top: 1 }, Unpaged]);
    }

    #[test]
    fn the_number_of_methods_is_bounded() {
        for max_top in 0..=1_000 {
            for collection in [Collection::Profiles, Collection::Scores { top: 10 }] {
                let tried = tried(collection, max_top);
                assert!(tried.len() <= 9, "{collection:?} {max_top}: {tried:?}");
                for (index, method) in tried.iter().enumerate() {
                    assert!(!tried[..index].contains(method), "{method:?} is repeated");
                }
            }
        }
    }
}
