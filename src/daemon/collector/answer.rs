//! Reading both collections of a tenant, page by page.

use jiff::Timestamp;

use crate::{
    error::chain,
    ledger::{self, Origin, Rejected, Seen},
    model::{Day, Tenant},
    net::BodyError,
    source::{Api, Collection, Graph, PageOutcome, ReadEvent, SourceError},
    wire,
};

/// Everything read in a poll, before it is judged against the log.
pub(in crate::daemon) struct PollAnswer {
    pub seen: Vec<Seen>,
    pub refused: Vec<Rejected>,
    pub catalog: CatalogRead,
    /// The collection was read to its end, or past the oldest day asked for.
    pub complete: bool,
    /// What Microsoft said is missing in it.
    pub warning: Option<String>,
}

/// What came of the catalog.
pub(in crate::daemon) enum CatalogRead {
    Whole(Vec<wire::ProfileParts>),
    /// The original API has none: its scores say all there is.
    NotNeeded,
    /// A part of it is no catalog.
    Failed(SourceError),
}

/// Bytes of a catalog; some thirty times the largest known.
const MAX_CATALOG: usize = 32 << 20;

/// Reads a tenant back to a day. An error is of the scores; that of the catalog is in the answer.
pub(in crate::daemon) async fn read(
    graph: &Graph,
    tenant: &Tenant,
    oldest: Day,
    now: Timestamp,
) -> Result<PollAnswer, SourceError> {
    let today = Day::of(now);
    let mut scores = Scores {
        tenant,
        oldest,
        today,
        observed_ms: now.as_millisecond(),
        legacy: graph.access().api == Api::LegacyReports,
        seen: Vec::new(),
        refused: Vec::new(),
        complete: false,
        warning: None,
    };
    if scores.legacy {
        let period = u32::try_from(today.number() - oldest.number() + 1).unwrap_or(1).clamp(1, 90);
        graph.read(Collection::LegacyScores { period }, |event| scores.handle(event)).await?;
        return Ok(scores.answer(CatalogRead::NotNeeded));
    }
    // A page for the window; ten days a page when reading back, so that no body gets large.
    let top = if oldest < today.plus(1 - ledger::REREAD_DAYS) { 10 } else { 3 };
    let mut profiles = Profiles::default();
    let (read_scores, read_profiles) = tokio::join!(
        graph.read(Collection::Scores { top }, |event| scores.handle(event)),
        graph.read(Collection::Profiles, |event| profiles.handle(event)),
    );
    read_scores?;
    Ok(scores.answer(match read_profiles {
        Ok(()) => profiles.catalog(),
        Err(error) => CatalogRead::Failed(error),
    }))
}

struct Scores<'a> {
    tenant: &'a Tenant,
    oldest: Day,
    today: Day,
    observed_ms: i64,
    legacy: bool,
    seen: Vec<Seen>,
    refused: Vec<Rejected>,
    complete: bool,
    warning: Option<String>,
}

impl Scores<'_> {
    fn handle(&mut self, event: ReadEvent<'_>) -> Result<PageOutcome, SourceError> {
        match event {
            ReadEvent::Start => {
                self.seen.clear();
                self.refused.clear();
                self.warning = None;
                Ok(PageOutcome::default())
            }
            ReadEvent::Page { body, warning } => self.page(body, warning),
        }
    }

    fn page(&mut self, body: &[u8], warning: Option<&str>) -> Result<PageOutcome, SourceError> {
        let page = if self.legacy { wire::bare_list(body) } else { wire::page(body) };
        let page = page.map_err(|source| SourceError::Wire { what: "secureScores", source })?;
        let mut reached = None;
        for item in &page.items {
            let read = wire::snapshot(item)
                .map_err(|error| ledger::unreadable(item, &chain(&error), self.today));
            let accepted = read.and_then(|snapshot| {
                let (tenant, today) = (self.tenant.id, self.today);
                ledger::accept(&snapshot, item, tenant, today, Origin::Poll, self.observed_ms)
            });
            match accepted {
                Ok(seen) => {
                    reached = Some(seen.facts.day);
                    // A page may reach back further than was asked.
                    if seen.facts.day >= self.oldest {
                        self.seen.push(Seen { partial: warning.is_some(), ..seen });
                    }
                }
                Err(refused) => {
                    tracing::warn!(
                        tenant = self.tenant.name,
                        what = refused.observation.what.as_str(),
                        details = refused.observation.details,
                        "a snapshot is refused"
                    );
                    self.refused.push(refused);
                }
            }
        }
        if let Some(warning) = warning {
            self.warning.get_or_insert_with(|| warning.to_owned());
        }
        let passed = reached.is_some_and(|day| day <= self.oldest);
        self.complete = passed || page.next_link.is_none();
        Ok(PageOutcome {
            item_count: page.items.len(),
            done: passed,
            next_link: page.next_link.map(std::borrow::Cow::into_owned),
        })
    }

    fn answer(self, catalog: CatalogRead) -> PollAnswer {
        let Self { seen, refused, complete, warning, .. } = self;
        PollAnswer { seen, refused, catalog, complete, warning }
    }
}

#[derive(Default)]
struct Profiles {
    parts: Vec<wire::ProfileParts>,
    bytes: usize,
    warning: Option<String>,
    /// The first that could not be read.
    unreadable: Option<wire::WireError>,
}

impl Profiles {
    fn handle(&mut self, event: ReadEvent<'_>) -> Result<PageOutcome, SourceError> {
        let ReadEvent::Page { body, warning } = event else {
            *self = Self::default();
            return Ok(PageOutcome::default());
        };
        let what = "secureScoreControlProfiles";
        self.bytes += body.len();
        if self.bytes > MAX_CATALOG {
            return Err(SourceError::Body { what, source: BodyError::TooLarge(MAX_CATALOG) });
        }
        let page = wire::page(body).map_err(|source| SourceError::Wire { what, source })?;
        for item in &page.items {
            match wire::split_profile(item) {
                Ok(parts) => self.parts.push(parts),
                Err(error) => drop(self.unreadable.get_or_insert(error)),
            }
        }
        if let Some(warning) = warning {
            self.warning.get_or_insert_with(|| warning.to_owned());
        }
        Ok(PageOutcome {
            item_count: page.items.len(),
            done: false,
            next_link: page.next_link.map(std::borrow::Cow::into_owned),
        })
    }

    fn catalog(self) -> CatalogRead {
        let what = "secureScoreControlProfiles";
        match (self.unreadable, self.warning) {
            (Some(source), _) => CatalogRead::Failed(SourceError::Wire { what, source }),
            (None, Some(warning)) => {
                CatalogRead::Failed(SourceError::Partial { warning, body: Vec::new() })
            }
            (None, None) => CatalogRead::Whole(self.parts),
        }
    }
}
