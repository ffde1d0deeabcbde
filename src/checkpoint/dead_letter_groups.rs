//! Groups of dead letters: one fault, such as a wrong mapping of an index, rejects many records
//! with the same message. The database counts them, so that no caller reads all of them. Nothing
//! here changes a dead letter. Start reading at [`Checkpoint::dead_letter_groups`].

use std::{cmp::Reverse, collections::HashMap, ops::ControlFlow};

use super::{
    Checkpoint, CheckpointError, DeadLetterFilter,
    backend::{Statements, StoredRow, values},
    dead_letters::{event_id, is_selected},
    fields::{day, unsigned},
    row_ids::tenant_id,
};
use crate::model::{Day, EventId, SinkName, TenantId, UnixMillis};

/// The dead letters of a sink and a tenant for which the receiver sent the same message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterGroup {
    /// The name of the sink.
    pub sink: SinkName,
    /// The tenant of the records.
    pub tenant: TenantId,
    /// The message of the receiver.
    pub reason: String,
    /// The number of dead letters.
    pub letters: u64,
    /// How many of them are queued for a retry.
    pub queued: u64,
    /// The first and the last day of their entries; `None` if none of the entries exists.
    pub days: Option<(Day, Day)>,
    /// The event ID of the newest one.
    pub newest_id: EventId,
    /// When the newest one was rejected.
    pub newest_at: UnixMillis,
}

/// The dead letters of a sink for which the receiver sent the same message, over several tenants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterReason<'a> {
    /// The name of the sink.
    pub sink: &'a SinkName,
    /// The message of the receiver.
    pub reason: &'a str,
    /// The number of dead letters.
    pub letters: u64,
    /// How many of them are queued for a retry.
    pub queued: u64,
    /// The number of tenants of their records.
    pub tenants: usize,
    /// The tenant of the newest one.
    pub newest_tenant: TenantId,
    /// The first and the last day of their entries; `None` if none of the entries exists.
    pub days: Option<(Day, Day)>,
    /// The event ID of the newest one.
    pub newest_id: EventId,
    /// When the newest one was rejected.
    pub newest_at: UnixMillis,
}

/// SQL: the groups of the selected dead letters of all tenants, the one with the newest dead letter
/// first.
const GROUPS: &str = concat!(
    "SELECT s.name AS sink, t.guid, d.reason, g.letters, g.queued, g.first_day, g.last_day,
        d.event_id, d.rejected
     FROM (SELECT max(d.id) AS newest, count(*) AS letters, count(*) FILTER (WHERE d.retry) AS queued,
            min(e.day) AS first_day, max(e.day) AS last_day
        FROM dead_letter d JOIN sink s ON s.id = d.sink
        LEFT JOIN entry e ON e.tenant = d.tenant AND e.seq = d.seq
        WHERE ",
    is_selected!(),
    " GROUP BY d.sink, d.tenant, d.reason) g
     JOIN dead_letter d ON d.id = g.newest JOIN sink s ON s.id = d.sink JOIN tenant t ON t.id = d.tenant
     ORDER BY d.id DESC"
);

impl Checkpoint {
    /// The selected dead letters by sink, tenant and message. The group with the newest dead letter
    /// is first.
    ///
    /// # Errors
    ///
    /// Fails in the same cases as [`Checkpoint::pending_dead_letters`].
    pub fn dead_letter_groups(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetterGroup>, CheckpointError> {
        self.reading(|store| dead_letter_groups(store, filter))
    }
}

impl<'a> DeadLetterReason<'a> {
    /// Joins the groups of all tenants that have the same sink and the same message. The message
    /// with the most dead letters is first. The groups are in the order of
    /// [`Checkpoint::dead_letter_groups`].
    pub fn of(groups: impl IntoIterator<Item = &'a DeadLetterGroup>) -> Vec<Self> {
        let mut reasons = Self::newest_first(groups);
        // Messages with the same number are in alphabetical order.
        reasons.sort_by_key(|reason| (Reverse(reason.letters), reason.sink, reason.reason));
        reasons
    }

    /// As [`DeadLetterReason::of`], but the message of the newest dead letter is first.
    pub fn newest_first(groups: impl IntoIterator<Item = &'a DeadLetterGroup>) -> Vec<Self> {
        let mut reasons: Vec<Self> = Vec::new();
        let mut known: HashMap<(&SinkName, &str), usize> = HashMap::new();
        for group in groups {
            let key = (&group.sink, group.reason.as_str());
            let index = *known.entry(key).or_insert(reasons.len());
            match reasons.get_mut(index) {
                Some(reason) => reason.add(group),
                None => reasons.push(Self::of_group(group)),
            }
        }
        reasons
    }

    fn of_group(group: &'a DeadLetterGroup) -> Self {
        Self {
            sink: &group.sink,
            reason: &group.reason,
            letters: group.letters,
            queued: group.queued,
            tenants: 1,
            newest_tenant: group.tenant,
            days: group.days,
            newest_id: group.newest_id,
            newest_at: group.newest_at,
        }
    }

    /// Adds the group of another tenant, whose dead letters are not newer.
    fn add(&mut self, group: &DeadLetterGroup) {
        self.letters += group.letters;
        self.queued += group.queued;
        self.tenants += 1;

        let both = self.days.zip(group.days);
        let joined = both.map(|((a, b), (first, last))| (a.min(first), b.max(last)));
        self.days = joined.or(self.days).or(group.days);
    }
}

/// See [`Checkpoint::dead_letter_groups`].
pub(super) fn dead_letter_groups(
    store: &dyn Statements,
    filter: &DeadLetterFilter,
) -> Result<Vec<DeadLetterGroup>, CheckpointError> {
    let selects_tenant = filter.selects_tenant();
    let mut groups = Vec::new();
    store.query(GROUPS, values![filter.sink, filter.event_id_prefix], &mut |row| {
        if selects_tenant(&row.get::<String>("guid")?) {
            groups.push(read_group(row)?);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(groups)
}

fn read_group(row: &dyn StoredRow) -> Result<DeadLetterGroup, CheckpointError> {
    Ok(DeadLetterGroup {
        sink: row.get("sink")?,
        tenant: tenant_id(&row.get::<String>("guid")?)?,
        reason: row.get("reason")?,
        letters: unsigned(row, "letters")?,
        queued: unsigned(row, "queued")?,
        days: day(row, "first_day")?.zip(day(row, "last_day")?),
        newest_id: event_id(row)?,
        newest_at: row.get("rejected")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(sink: &str, tenant: u32, reason: &str, letters: u64) -> DeadLetterGroup {
        let id = format!("{tenant:08x}-0000-4000-8000-00000000c0de");
        DeadLetterGroup {
            sink: sink.into(),
            tenant: TenantId::parse(&id).unwrap(),
            reason: reason.to_owned(),
            letters,
            queued: u64::from(tenant == 2),
            days: None,
            newest_id: EventId::from_bytes([7; 20]),
            newest_at: UnixMillis::new(0),
        }
    }

    #[test]
    fn groups_of_several_tenants_are_joined() {
        let groups = [
            group("splunk", 1, "too large", 1),
            group("splunk", 1, "no index", 2),
            group("elastic", 1, "no index", 3),
            group("splunk", 2, "no index", 1),
        ];
        let found = |reasons: Vec<DeadLetterReason<'_>>| {
            let row = |r: &DeadLetterReason<'_>| {
                format!("{} {}: {} {} {}", r.sink, r.reason, r.letters, r.queued, r.tenants)
            };
            reasons.iter().map(row).collect::<Vec<_>>()
        };

        let (large, splunk) = ("splunk too large: 1 0 1", "splunk no index: 3 1 2");
        let elastic = "elastic no index: 3 0 1";
        assert_eq!(found(DeadLetterReason::newest_first(&groups)), [large, splunk, elastic]);
        assert_eq!(found(DeadLetterReason::of(&groups)), [elastic, splunk, large]);
    }

    #[test]
    fn joined_days_include_those_of_all_groups() {
        let days = |first, last| Day::from_number(first).zip(Day::from_number(last));
        for (one, other, joined) in [
            (None, None, None),
            (days(3, 4), None, days(3, 4)),
            (None, days(3, 4), days(3, 4)),
            (days(3, 4), days(1, 3), days(1, 4)),
            (days(3, 4), days(4, 9), days(3, 9)),
        ] {
            let groups = [
                DeadLetterGroup { days: one, ..group("s", 1, "no", 1) },
                DeadLetterGroup { days: other, ..group("s", 2, "no", 1) },
            ];
            assert_eq!(DeadLetterReason::of(&groups)[0].days, joined);
        }
    }
}
