//! Reads the collections of one tenant, page by page.
//!
//! A page that Graph refuses does not end the read: the next method of paging is tried, up to the
//! last one. A collection is read completely or not at all, and the number of its pages is bounded.
//! Start reading at [`Graph::read`]. See decisions 0008, 0079 and 0080.

use std::collections::HashSet;

use aws_lc_rs::digest::{SHA256, digest};
use url::Url;

use super::{
    Collection, Graph, SourceError,
    paging::{PagingMethod, PagingMethods, RefusedPage, next_page, skip_to},
};
use crate::{foreign_text::SentSecrets, model::ClockAccuracy, net};

/// The maximum number of pages of one collection; a collection with more is rejected.
const MAX_PAGES: usize = 200;
/// The maximum number of pages that all methods of paging together request.
const MAX_PAGES_OF_ALL_METHODS: usize = 2 * MAX_PAGES;
/// The statuses with which Graph, or a gateway in front of it, refuses the options of a page. With
/// HTTP 200, the body is an error instead of a page.
const REFUSAL_STATUSES: [u16; 8] = [200, 400, 405, 410, 413, 414, 422, 501];
/// The further statuses that refuse a link or an offset. The first page was returned, so the
/// collection exists and the server works; HTTP 500 has persisted through all retries.
const REFUSAL_STATUSES_OF_LATER_PAGES: [u16; 2] = [404, 500];

/// An event that [`Graph::read`] passes to its callback.
#[derive(Clone, Copy)]
pub enum ReadEvent<'a> {
    /// Reading starts at the first page, possibly for a second time. What was received before does
    /// not belong to the collection that is read now.
    Start,
    /// A complete page.
    Page {
        /// The JSON as Microsoft sent it, uncompressed.
        body: &'a [u8],
        /// The `Warning` header that names what is missing in the body (HTTP 206).
        warning: Option<&'a str>,
        /// The secrets that the body may repeat. Every text of it must be redacted before a message
        /// quotes it.
        secrets: &'a SentSecrets,
    },
}

/// What the callback of [`Graph::read`] found in a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PageOutcome {
    /// The number of items in the page; a page may have none.
    pub item_count: usize,
    /// The page's `@odata.nextLink`, unchanged.
    pub next_link: Option<String>,
    /// Whether the callback requires no further page.
    pub done: bool,
}

/// How reading with one method of paging has ended.
enum ReadOutcome {
    /// Everything that is required was read.
    Complete,
    /// This page was refused, so another method must be tried.
    Refused(RefusedPage, SourceError),
}

impl Graph {
    /// Reads a collection and passes each page to `on_event` until it reports `done` or there is no
    /// further page.
    ///
    /// # Errors
    ///
    /// Fails if a page cannot be read after retries, if `on_event` fails, if no method of paging
    /// reads the whole collection ([`SourceError::PagingRefused`], or [`SourceError::NextLink`] if
    /// only links were at fault), or if the clock of this host is wrong by more than a day
    /// ([`SourceError::Clock`]).
    pub async fn read(
        &self,
        collection: Collection,
        mut on_event: impl FnMut(ReadEvent<'_>) -> Result<PageOutcome, SourceError>,
    ) -> Result<(), SourceError> {
        let mut methods = PagingMethods::of(collection);
        let mut pages_left = MAX_PAGES_OF_ALL_METHODS;
        let mut refusal = None;

        while let Some(method) = methods.take_next() {
            let first = collection.first_page(&self.access().cloud.graph_url, method);
            on_event(ReadEvent::Start)?;
            let read = self.read_pages(&first, method, &mut pages_left, &mut on_event).await?;
            let ReadOutcome::Refused(page, error) = read else { return Ok(()) };

            tracing::info!(%error, "Graph refused a method of paging");
            methods.refused(method, &first, page);
            // Graph's own message explains more than a fault of its pages.
            if refusal.is_none() || !matches!(error, SourceError::NextLink(_)) {
                refusal = Some(error);
            }
        }

        Err(refusal.unwrap_or(SourceError::NextLink("no paging method works")))
    }

    async fn read_pages(
        &self,
        first: &Url,
        method: PagingMethod,
        pages_left: &mut usize,
        on_event: &mut impl FnMut(ReadEvent<'_>) -> Result<PageOutcome, SourceError>,
    ) -> Result<ReadOutcome, SourceError> {
        let mut url = first.clone();
        let mut visited = HashSet::new();
        let mut item_count = 0;

        for number in 0..MAX_PAGES {
            let Some(left) = pages_left.checked_sub(1) else {
                return Err(SourceError::NextLink(
                    "all methods of paging together have requested 400 pages",
                ));
            };
            *pages_left = left;

            let response = match self.fetch(&url).await {
                Ok(response) => response,
                Err(error) => {
                    let page = if number == 0 { RefusedPage::First } else { RefusedPage::Later };
                    let refused = refusal(error, method, first, page)?;
                    return Ok(ReadOutcome::Refused(page, refused));
                }
            };
            self.check_clock()?;
            let (warning, secrets) = (response.warning.as_deref(), &self.sent_secrets());
            let page = net::off_worker(response.body.len(), || {
                on_event(ReadEvent::Page { body: &response.body, warning, secrets })
            })?;
            item_count = page.item_count.saturating_add(item_count);

            let next = match (method, page.next_link) {
                _ if page.done => return Ok(ReadOutcome::Complete),
                (PagingMethod::Skip { .. }, _) if page.item_count == 0 => {
                    return Ok(ReadOutcome::Complete);
                }
                (PagingMethod::Skip { .. }, _) => skip_to(first, item_count),
                (_, None) => return Ok(ReadOutcome::Complete),
                (_, Some(link)) => match next_page(first, &link) {
                    Ok(next) => next,
                    Err(error) => return Ok(ReadOutcome::Refused(RefusedPage::Later, error)),
                },
            };

            // A server that ignores `$skip` returns the same page again and again, so pages that
            // are requested by offset are compared by content.
            let key = match method {
                PagingMethod::Skip { .. } => digest(&SHA256, &response.body).as_ref().to_vec(),
                _ => next.as_str().as_bytes().to_vec(),
            };
            if !visited.insert(key) {
                let repeated = SourceError::NextLink("that page was already read");
                return Ok(ReadOutcome::Refused(RefusedPage::Later, repeated));
            }
            url = next;
        }

        Err(SourceError::NextLink("the collection has more than 200 pages"))
    }

    /// Fails if the clock of this host is wrong by more than a day: the days that are requested,
    /// and those that count as missing, follow from it.
    fn check_clock(&self) -> Result<(), SourceError> {
        match self.clock_offset().filter(|offset| offset.accuracy() == ClockAccuracy::Unusable) {
            Some(offset) => Err(SourceError::Clock(offset)),
            None => Ok(()),
        }
    }
}

/// The refusal of a page by this error. Fails with the error itself if another method cannot help.
fn refusal(
    error: SourceError,
    method: PagingMethod,
    first: &Url,
    page: RefusedPage,
) -> Result<SourceError, SourceError> {
    let is_refusal = |status| {
        REFUSAL_STATUSES.contains(&status)
            || page == RefusedPage::Later && REFUSAL_STATUSES_OF_LATER_PAGES.contains(&status)
    };
    if !matches!(error, SourceError::Graph { status, .. } if is_refusal(status)) {
        return Err(error);
    }

    // A first page without `$top` is refused without a method that a message could name.
    let has_paging = page == RefusedPage::Later || first.query().is_some();
    match error {
        SourceError::Graph { status, error, request_id, .. } if has_paging => {
            let method = method.to_string();
            Ok(SourceError::PagingRefused { method, status, error, request_id })
        }
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::GraphError;

    /// Regression: only HTTP 400, 410 and 501 led to another method of paging.
    #[test]
    fn refusals_lead_to_another_method() {
        let base = "https://graph.microsoft.com/v1.0/security/secureScores";
        let with_top: Url = format!("{base}?$top=3").parse().unwrap();
        let without_top: Url = base.parse().unwrap();

        for (status, refuses_first, refuses_later) in [
            (200, true, true),
            (400, true, true),
            (401, false, false),
            (403, false, false),
            (404, false, true),
            (405, true, true),
            (410, true, true),
            (413, true, true),
            (414, true, true),
            (422, true, true),
            (500, false, true),
            (501, true, true),
            (502, false, false),
        ] {
            let outcome = |first: &Url, page| {
                let (error, request_id) = (GraphError::default(), String::new());
                let error = SourceError::Graph { status, error, request_id, claims: None };
                refusal(error, PagingMethod::Links, first, page)
            };
            let later = outcome(&with_top, RefusedPage::Later);
            assert_eq!(later.is_ok(), refuses_later, "{status}");
            let first = outcome(&with_top, RefusedPage::First);
            assert_eq!(first.is_ok(), refuses_first, "{status}");
            let is_named = matches!(first, Ok(SourceError::PagingRefused { .. }));
            assert_eq!(is_named, refuses_first, "{status}");

            let unpaged = outcome(&without_top, RefusedPage::First);
            assert_eq!(unpaged.is_ok(), refuses_first, "{status}");
            let (Ok(error) | Err(error)) = unpaged;
            assert!(matches!(error, SourceError::Graph { .. }), "{status}");
        }
    }
}
