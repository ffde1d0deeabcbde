//! Reads both collections of a tenant, the scores and the control profiles, page by page.
//!
//! This module decides which snapshots and profiles are acceptable; the ledger decides which days
//! are new. What it keeps must never grow with the number of pages or items that a server sends:
//! one copy of each requested day, and the first rejected snapshots. Start reading at [`read`]. See
//! decision 0063.

use std::{borrow::Cow, collections::BTreeMap};

use jiff::Timestamp;

use super::{
    decode::{self, ParsePage, SnapshotContext},
    distinct_profiles::distinct,
};
use crate::{
    error::chain,
    foreign_text::{DocumentSecrets, SentSecrets},
    ledger::{self, AcceptedSnapshot, CatalogMaxima, Rejected, Rejections, SnapshotOrigin},
    model::{DAYS_AT_SOURCE, DataFaults, Day, Observation, Tenant, UnixMillis},
    net::{self, BodyError},
    source::{Api, Collection, Graph, PageOutcome, ReadEvent, SourceError},
    wire::{self, DecodeLimit, WireError},
};

/// Everything that a poll has read, before it is compared with the log.
pub(in crate::daemon) struct PollResponse {
    /// The accepted snapshots, one for each day, oldest first.
    pub snapshots: Vec<AcceptedSnapshot>,
    /// The snapshots that are unreadable, foreign or implausible.
    pub rejected: Rejections,
    /// The control profiles, which are read at the same time.
    pub catalog: CatalogRead,
    /// What is wrong with the profiles of a complete catalog.
    pub catalog_faults: DataFaults,
    /// Whether the scores were read to their end, or past the oldest requested day.
    pub complete: bool,
    /// Microsoft's warning about a missing part of the scores (HTTP 206).
    pub warning: Option<String>,
    /// Why older days could not be read, although newer ones were.
    pub failure: Option<SourceError>,
}

/// The catalog of a poll.
pub(in crate::daemon) enum CatalogRead {
    /// All usable profiles, sorted by ID without duplicates.
    Complete(Vec<wire::ProfileParts>),
    /// The original API has no catalog: its scores contain everything that it offers.
    NotNeeded,
    /// The catalog could not be read, or is partial. A partial catalog is never used.
    Failed(SourceError),
}

/// The size of the largest accepted catalog in bytes; about ten times the largest known one.
const MAX_CATALOG_BYTES: usize = 8 << 20;
/// The largest accepted size of a requested day in memory, in bytes, on average: its facts and its
/// compressed body; about ten times the largest known one. Eight polls of a few days can run at the
/// same time, or two that read further back.
const MAX_DAY_BYTES: usize = 512 << 10;

/// Days per page of a poll that reads further back than the window; limits the size of a response.
const DAYS_PER_PAGE: u32 = 10;
/// Days per page of a poll that reads only the window, so that one page is enough.
const DAYS_PER_WINDOW_PAGE: u32 = 3;

/// The names of the collections in error messages.
const SCORES: &str = "secureScores";
const PROFILES: &str = "secureScoreControlProfiles";

/// Reads the days of a tenant back to `oldest`, and its catalog at the same time.
///
/// Fails only if the scores cannot be read. A failure of the catalog is part of the response, and
/// so is the refusal of older days, after all methods of paging have been tried.
pub(in crate::daemon) async fn read(
    graph: &Graph,
    tenant: &Tenant,
    oldest: Day,
    now: Timestamp,
) -> Result<PollResponse, SourceError> {
    let today = Day::of(now);
    let mut scores = ScoresReader::new(tenant, oldest, now, graph.access().api);

    if scores.is_legacy {
        let days = today.number() - oldest.number() + 1;
        let period = days.clamp(1, DAYS_AT_SOURCE).unsigned_abs();
        graph.read(Collection::LegacyScores { period }, |event| scores.handle(event)).await?;
        return Ok(scores.into_response(CatalogRead::NotNeeded, DataFaults::default(), None));
    }

    let reads_back = oldest < today.plus(1 - ledger::REREAD_DAYS);
    let top = if reads_back { DAYS_PER_PAGE } else { DAYS_PER_WINDOW_PAGE };
    let mut profiles = ProfilesReader::default();
    let (read_scores, read_profiles) = tokio::join!(
        graph.read(Collection::Scores { top }, |event| scores.handle(event)),
        graph.read(Collection::Profiles, |event| profiles.handle(event)),
    );

    let failure = match read_scores {
        Ok(()) => None,
        Err(error) if scores.has_days_despite(&error) => Some(error),
        Err(error) => return Err(error),
    };
    let (catalog, faults) = match read_profiles {
        Ok(()) => profiles.into_catalog(),
        Err(error) => (CatalogRead::Failed(error), DataFaults::default()),
    };
    Ok(scores.into_response(catalog, faults, failure))
}

impl PollResponse {
    /// Compares the scores of the newest days with the maximum scores of a complete catalog, which
    /// does not describe older days. Returns the observation about the catalog itself; `None` if it
    /// is not complete. `secrets` are those that the server may repeat.
    pub(super) fn check_catalog(
        &mut self,
        today: Day,
        secrets: &SentSecrets,
    ) -> Option<Observation> {
        let CatalogRead::Complete(parts) = &self.catalog else { return None };
        let secrets = &DocumentSecrets::new(secrets);

        let maxima = parts.iter().filter_map(|part| Some((part.id.as_str(), part.max_score?)));
        let maxima = CatalogMaxima::new(maxima);
        let window = today.plus(1 - ledger::REREAD_DAYS);
        for snapshot in self.snapshots.iter_mut().filter(|s| s.facts.day >= window) {
            maxima.check(snapshot, secrets);
        }
        Some(ledger::faulty_catalog(&self.catalog_faults, today))
    }
}

struct ScoresReader<'a> {
    tenant: &'a Tenant,
    oldest: Day,
    today: Day,
    observed_at: UnixMillis,
    is_legacy: bool,
    /// One accepted copy of each requested day.
    snapshots: BTreeMap<Day, AcceptedSnapshot>,
    /// What the methods of paging have read that were refused before the end.
    earlier: EarlierAttempts,
    /// The approximate memory that all days take, in bytes.
    memory_bytes: usize,
    max_memory_bytes: usize,
    rejected: Rejections,
    complete: bool,
    warning: Option<String>,
}

/// What earlier attempts to read the scores have read, in case that no attempt reads all of them.
#[derive(Default)]
struct EarlierAttempts {
    /// The days that the current attempt has not read again.
    snapshots: BTreeMap<Day, AcceptedSnapshot>,
    /// The rejected snapshots of the last attempt that had any.
    rejected: Rejections,
}

impl<'a> ScoresReader<'a> {
    /// A reader that has read nothing, of the days from `oldest` to the one of `now`.
    fn new(tenant: &'a Tenant, oldest: Day, now: Timestamp, api: Api) -> Self {
        let today = Day::of(now);
        Self {
            tenant,
            oldest,
            today,
            observed_at: now.into(),
            is_legacy: api == Api::LegacyReports,
            snapshots: BTreeMap::new(),
            earlier: EarlierAttempts::default(),
            memory_bytes: 0,
            max_memory_bytes: max_memory_bytes(oldest, today),
            rejected: Rejections::default(),
            complete: false,
            warning: None,
        }
    }

    fn handle(&mut self, event: ReadEvent<'_>) -> Result<PageOutcome, SourceError> {
        match event {
            // The source may have started again at the first page.
            ReadEvent::Start => {
                self.earlier.snapshots.append(&mut self.snapshots);
                let rejected = std::mem::take(&mut self.rejected);
                if rejected.count() > 0 {
                    self.earlier.rejected = rejected;
                }
                self.warning = None;
                Ok(PageOutcome::default())
            }
            ReadEvent::Page { body, warning, secrets } => self.page(body, warning, secrets),
        }
    }

    fn page(
        &mut self,
        body: &[u8],
        warning: Option<&str>,
        secrets: &SentSecrets,
    ) -> Result<PageOutcome, SourceError> {
        let secrets = &DocumentSecrets::new(secrets);
        let parse: ParsePage = if self.is_legacy { wire::bare_list } else { wire::page };
        let page = decode::page(body, parse, secrets)
            .map_err(|source| SourceError::Wire { what: SCORES, source })?;

        let (tenant, today, origin) = (self.tenant.id, self.today, SnapshotOrigin::Poll);
        let observed_at = self.observed_at;
        let context = SnapshotContext { tenant, today, origin, observed_at, secrets };
        let mut last_day = None;
        for item in &page.items {
            match context.accept(item) {
                Ok(snapshot) => {
                    last_day = Some(snapshot.facts.day);
                    self.keep(AcceptedSnapshot { partial: warning.is_some(), ..snapshot })?;
                }
                Err(rejected) => self.reject(rejected),
            }
        }
        if let Some(warning) = warning {
            self.warning.get_or_insert_with(|| warning.to_owned());
        }

        // Microsoft lists the newest day first.
        let is_done = last_day.is_some_and(|day| day <= self.oldest);
        self.complete = is_done || page.next_link.is_none();
        Ok(PageOutcome {
            item_count: page.items.len(),
            done: is_done,
            next_link: page.next_link.map(Cow::into_owned),
        })
    }

    /// Keeps one copy of a requested day. Fails if all days together are too large.
    fn keep(&mut self, snapshot: AcceptedSnapshot) -> Result<(), SourceError> {
        let day = snapshot.facts.day;
        // A page may contain older days than were requested.
        if day < self.oldest {
            return Ok(());
        }

        if let Some(earlier) = self.earlier.snapshots.remove(&day) {
            self.memory_bytes = self.memory_bytes.saturating_sub(earlier.memory_bytes());
        }
        let snapshot = match self.snapshots.remove(&day) {
            None => snapshot,
            Some(other) => {
                self.memory_bytes = self.memory_bytes.saturating_sub(other.memory_bytes());
                other.or(snapshot)
            }
        };
        self.memory_bytes = self.memory_bytes.saturating_add(snapshot.memory_bytes());
        if self.memory_bytes > self.max_memory_bytes {
            let source = BodyError::TooLarge(self.max_memory_bytes);
            return Err(SourceError::Body { what: SCORES, source });
        }
        self.snapshots.insert(day, snapshot);
        Ok(())
    }

    fn reject(&mut self, rejected: Rejected) {
        if let Some(Rejected { observation, .. }) = self.rejected.push(rejected) {
            tracing::warn!(
                tenant = self.tenant.name,
                what = observation.what.as_str(),
                details = observation.details,
                "snapshot rejected"
            );
        }
    }

    /// Whether an error leaves days that can be used: Graph has refused all methods of paging, and
    /// at least one of them has read a page.
    fn has_days_despite(&self, error: &SourceError) -> bool {
        let is_refusal =
            matches!(error, SourceError::PagingRefused { .. } | SourceError::Graph { .. });
        let has_days = !self.snapshots.is_empty() || !self.earlier.snapshots.is_empty();
        is_refusal && has_days
    }

    /// The response. With a failure, the days of all attempts are used.
    fn into_response(
        self,
        catalog: CatalogRead,
        catalog_faults: DataFaults,
        failure: Option<SourceError>,
    ) -> PollResponse {
        let Self {
            tenant, mut snapshots, mut earlier, mut rejected, mut complete, warning, ..
        } = self;
        if failure.is_some() {
            snapshots.append(&mut earlier.snapshots);
            complete = false;
            if rejected.count() == 0 {
                rejected = earlier.rejected;
            }
        }

        if rejected.further() > 0 {
            let (tenant, count) = (&tenant.name, rejected.further());
            tracing::warn!(tenant, count, "more snapshots rejected");
        }
        let snapshots = snapshots.into_values().collect();
        PollResponse { snapshots, rejected, catalog, catalog_faults, complete, warning, failure }
    }
}

/// The memory that the days from `oldest` to `today` may take, in bytes.
fn max_memory_bytes(oldest: Day, today: Day) -> usize {
    let days = today.number().saturating_sub(oldest.number()).saturating_add(1);
    let days = days.clamp(ledger::REREAD_DAYS, DAYS_AT_SOURCE).unsigned_abs();
    (days as usize).saturating_mul(MAX_DAY_BYTES)
}

#[derive(Default)]
struct ProfilesReader {
    parts: Vec<wire::ProfileParts>,
    bytes: usize,
    warning: Option<String>,
    faults: DataFaults,
    /// The error of the first profile that could not be decoded.
    first_error: Option<WireError>,
    /// The secrets that the last page may repeat.
    secrets: SentSecrets,
}

impl ProfilesReader {
    fn handle(&mut self, event: ReadEvent<'_>) -> Result<PageOutcome, SourceError> {
        let ReadEvent::Page { body, warning, secrets } = event else {
            // The source may have started again at the first page.
            *self = Self::default();
            return Ok(PageOutcome::default());
        };

        self.secrets = secrets.clone();
        let secrets = &DocumentSecrets::new(secrets);
        let page = decode::page(body, wire::page, secrets)
            .map_err(|source| SourceError::Wire { what: PROFILES, source })?;

        for item in &page.items {
            if self.parts.len() >= DecodeLimit::PROFILES.max {
                let source = WireError::Exceeds(DecodeLimit::PROFILES);
                return Err(SourceError::Wire { what: PROFILES, source });
            }
            match decode::profile(item, secrets) {
                Ok(parts) => {
                    self.faults.append(&parts.faults);
                    self.parts.push(parts);
                }
                Err(error) => {
                    self.faults.add(format!("a profile was removed: {}", chain(&error)));
                    self.first_error.get_or_insert(error);
                }
            }
        }
        self.bytes = self.bytes.saturating_add(body.len());
        if self.bytes > MAX_CATALOG_BYTES {
            let source = BodyError::TooLarge(MAX_CATALOG_BYTES);
            // A profile that is too large is the more exact reason.
            return Err(match self.first_error.take() {
                Some(source) => SourceError::Wire { what: PROFILES, source },
                None => SourceError::Body { what: PROFILES, source },
            });
        }

        if let Some(warning) = warning {
            self.warning.get_or_insert_with(|| warning.to_owned());
        }

        Ok(PageOutcome {
            item_count: page.items.len(),
            done: false,
            next_link: page.next_link.map(Cow::into_owned),
        })
    }

    /// The catalog, and what is wrong with its profiles. One that cannot be used does not make it
    /// partial, unless none can be.
    fn into_catalog(mut self) -> (CatalogRead, DataFaults) {
        let catalog = match (self.first_error, self.warning) {
            (Some(source), _) if self.parts.is_empty() => {
                CatalogRead::Failed(SourceError::Wire { what: PROFILES, source })
            }
            (_, Some(warning)) => CatalogRead::Failed(SourceError::partial(warning)),
            (_, None) => {
                let secrets = &DocumentSecrets::new(&self.secrets);
                let bytes = self.parts.len().saturating_mul(DecodeLimit::NAME.max);
                let (parts, faults) = (self.parts, &mut self.faults);
                let work = || distinct(parts, faults, secrets);
                CatalogRead::Complete(net::off_worker_to_redact(bytes, work))
            }
        };
        (catalog, self.faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: the days of a method of paging that was refused before the end were discarded,
    /// although no other method read more.
    #[test]
    fn days_of_refused_methods_are_used() {
        const GUID: &str = "3f5c1d2e-0000-4000-8000-00000000c0de";
        let id = crate::model::TenantId::parse(GUID).unwrap();
        let tenant = Tenant { id, name: "contoso".to_owned(), labels: BTreeMap::new() };
        let oldest = Day::parse("2026-11-01").unwrap();
        let page = |days: &[&str]| {
            let item = |day: &&str| {
                format!(
                    r#"{{"azureTenantId":"{GUID}","createdDateTime":"{day}T00:00:00Z","controlScores":[]}}"#
                )
            };
            let items: Vec<String> = days.iter().map(item).collect();
            format!(r#"{{"value":[{}],"@odata.nextLink":"x"}}"#, items.join(","))
        };
        let refused = SourceError::PagingRefused {
            method: "`$top=50`".to_owned(),
            status: 400,
            error: wire::GraphError::default(),
            request_id: String::new(),
        };

        let now = Timestamp::from_millisecond(1_795_341_600_000).unwrap();
        let mut reader = ScoresReader::new(&tenant, oldest, now, Api::SecureScores);
        assert!(!reader.has_days_despite(&refused));
        let three = ["2026-11-22", "2026-11-21", "2026-11-20"];
        for days in [&three[..], &three[..1], &[]] {
            reader.handle(ReadEvent::Start).unwrap();
            let body = page(days);
            let (body, secrets) = (body.as_bytes(), &SentSecrets::default());
            reader.handle(ReadEvent::Page { body, warning: None, secrets }).unwrap();
        }
        assert!(reader.has_days_despite(&refused));
        let other = SourceError::NextLink("that page was already read");
        assert!(!reader.has_days_despite(&other));

        let bytes = reader.memory_bytes;
        let (catalog, faults) = (CatalogRead::NotNeeded, DataFaults::default());
        let response = reader.into_response(catalog, faults, Some(refused));
        let days: Vec<String> =
            response.snapshots.iter().map(|snapshot| snapshot.facts.day.to_string()).collect();
        assert_eq!(days, ["2026-11-20", "2026-11-21", "2026-11-22"]);
        assert!(!response.complete && response.failure.is_some());
        let used: usize = response.snapshots.iter().map(AcceptedSnapshot::memory_bytes).sum();
        assert_eq!(bytes, used);
        assert!(response.snapshots.iter().all(|snapshot| snapshot.faults.is_empty()));
    }
}
