//! The lane of dead letters that are retried: derives their records again and sends them.
//!
//! A record that is rejected again stays a dead letter, and does not park the sink. The dead
//! letters of a tenant that waits, or whose data cannot be read, must never delay those of others.
//! The command `dead-letters show` uses the same derivation. Start reading at
//! [`Deliverer::retry_dead_letters`]. See decisions 0022 and 0087.

use jiff::Timestamp;

use crate::{
    checkpoint::{Checkpoint, Lane, LogEntry, Position, QueuedDeadLetter, ReadRequest},
    daemon::{
        blocking,
        deliverer::{
            Catalogs, Deliverer, DeliveryError,
            decoded::{Decoded, ReadContext, observation_entry, rfc3339},
            fill::{ResolvedTenant, ResolvedTenants},
        },
    },
    derive::{Records, Rules, Selection, quality},
    error::chain,
    model::{Day, Record, Tenant},
    sink::BatchOrigin,
};

/// The number of dead letters that are retried at a time.
const MAX_DEAD_LETTERS: usize = 500;

/// What the record of a dead letter is derived from, in addition to its entry.
pub(in crate::daemon) struct DeadLetterContext<'a> {
    /// The checkpoint that contains the entry.
    pub checkpoint: &'a Checkpoint,
    /// The tenant of the dead letter.
    pub tenant: &'a Tenant,
    /// The rules of the tenant.
    pub rules: &'a Rules,
    /// The current selection of the sink. A summary states how many records of its day are
    /// selected.
    pub selection: &'a Selection,
}

/// Derives the record of a dead letter again and passes it to `use_record`, or else the reason why
/// the record no longer exists. Returns the result of `use_record`.
///
/// Fails if the checkpoint cannot be read, or if the entry cannot be decoded.
pub(in crate::daemon) fn derive_dead_letter<T>(
    context: &DeadLetterContext<'_>,
    catalogs: &mut Catalogs,
    letter: &QueuedDeadLetter,
    use_record: impl FnOnce(Result<&Record<'_>, &'static str>) -> T,
) -> Result<T, DeliveryError> {
    let DeadLetterContext { checkpoint, tenant, rules, selection } = *context;
    let range = ReadRequest {
        tenant: letter.tenant,
        first_seq: letter.at.seq,
        last_seq: letter.at.seq,
        first_day: letter.day.unwrap_or(Day::of(Timestamp::UNIX_EPOCH)),
        last_day: None,
        max_bytes: usize::MAX,
        with_bases: true,
        with_observations: true,
    };
    let entries = checkpoint.read(&range)?;
    let baselines = checkpoint.baselines(letter.tenant)?;
    let context = ReadContext { tenant, rules, baselines: &baselines, replayed: true };

    match entries.first() {
        None => Ok(use_record(Err("the day is no longer in the checkpoint"))),
        Some(LogEntry::Observation(stored)) => {
            let observed_time = rfc3339(stored.observed_at);
            let record = quality(&observation_entry(stored, &observed_time, context));
            Ok(use_record(Ok(&record)))
        }
        Some(LogEntry::Snapshot(stored)) => {
            let decoded = Decoded::read(stored, checkpoint, catalogs)?;
            let entry = decoded.entry(stored, context);
            let selected = Records::new(&entry, decoded.snapshot(), selection).selected();

            // The record was selected when it was rejected, so the current selection does not
            // apply to it.
            let everything = Selection::all();
            let records =
                Records::new(&entry, decoded.snapshot(), &everything).with_records_sent(selected);

            // If the day was enriched in the meantime, the record may have another index.
            let is_same = |record: &Record<'_>| record.event_id == letter.event_id;
            let search = || (0..records.end()).filter_map(|index| records.at(index)).find(is_same);
            let found = records.at(letter.at.record_index).filter(is_same).or_else(search);
            Ok(use_record(found.as_ref().ok_or("the day no longer contains the record")))
        }
    }
}

impl Deliverer {
    /// Retries the dead letters of these tenants that are queued for a retry. Returns whether there
    /// were any.
    pub(in crate::daemon::deliverer) async fn retry_dead_letters(
        &mut self,
        tenants: &ResolvedTenants,
    ) -> Result<bool, DeliveryError> {
        let letters = self.next_dead_letters(tenants)?;
        if letters.is_empty() {
            return Ok(false);
        }

        self.ensure_open().await?;
        // All letters are sent in batches, also to a parked target that is tried again.
        self.targets.begin(&[]);
        self.outgoing.lane = Lane::DeadLetters;
        for letter in &letters {
            if let Some(resolved) = tenants.get(&letter.tenant) {
                self.add_dead_letter(letter, resolved).await?;
            }
        }
        self.submit().await?;
        self.settle_all().await?;
        self.outgoing.lane = Lane::Live;
        Ok(true)
    }

    /// The dead letters to retry next. Those of a tenant that may have caused a panic wait as its
    /// log does.
    pub(in crate::daemon::deliverer) fn next_dead_letters(
        &self,
        tenants: &ResolvedTenants,
    ) -> Result<Vec<QueuedDeadLetter>, DeliveryError> {
        let (store, sink) = (self.engine.store(), &self.plan.name);
        let suspects = self.suspects.waiting();
        let served = tenants.keys().copied().filter(|tenant| !suspects.contains(tenant));

        for tenants in self.targets.busy_last(served) {
            let letters = store.run(|checkpoint| {
                checkpoint.pending_dead_letters(sink, &tenants, MAX_DEAD_LETTERS)
            })?;
            if !letters.is_empty() {
                return Ok(letters);
            }
        }
        Ok(Vec::new())
    }

    /// Derives the record of a dead letter again and adds it to the current batch.
    async fn add_dead_letter(
        &mut self,
        letter: &QueuedDeadLetter,
        resolved: &ResolvedTenant,
    ) -> Result<(), DeliveryError> {
        let at = letter.at;
        self.outgoing.begin(letter.tenant, at);
        self.outgoing.batch.set_origin(BatchOrigin::DeadLetters);
        let next = Position { record_index: at.record_index.saturating_add(1), ..at };
        self.outgoing.advance_to(next);
        self.suspects.begin(letter.tenant);
        let encoded = blocking(|| self.encode_dead_letter(letter, resolved));
        self.suspects.end();
        encoded?;

        if self.is_full() {
            self.submit().await?;
            self.outgoing.lane = Lane::DeadLetters;
        }
        Ok(())
    }

    /// Encodes the record of a dead letter into the current batch. A record that no longer exists,
    /// that cannot be derived from the data of its tenant, or that cannot be encoded, is added as
    /// rejected.
    fn encode_dead_letter(
        &mut self,
        letter: &QueuedDeadLetter,
        resolved: &ResolvedTenant,
    ) -> Result<(), DeliveryError> {
        let context = DeadLetterContext {
            checkpoint: self.engine.store().checkpoint(),
            tenant: &resolved.tenant,
            rules: &resolved.rules,
            selection: &self.plan.selection,
        };
        let Some(sink) = self.sink.as_mut() else { return Ok(()) };
        let outgoing = &mut self.outgoing;

        let derived =
            derive_dead_letter(&context, &mut self.catalogs, letter, |record| match record {
                Ok(record) => sink.encode(record, &mut outgoing.batch).err().map(|error| error.0),
                Err(reason) => Some(reason.to_owned()),
            });
        let rejected = match derived {
            Err(error) if error.affects_one_tenant() => Some(chain(&error)),
            derived => derived?,
        };
        self.outgoing.add_dead_letter(letter, rejected);
        Ok(())
    }
}
