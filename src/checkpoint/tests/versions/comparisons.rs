//! Statements about the tables of old versions, and functions that return the same facts from a
//! checkpoint. The statements are written once, with placeholders for what the versions name
//! differently. Start reading at [`COMPARISONS`].

use super::*;
use crate::{
    ledger::{DayPresence, MissingDay},
    model::hex,
};

/// What the placeholders in the statements represent, from a version on. A placeholder may contain
/// others that follow it.
const PLACEHOLDERS: &[(&str, &[(i32, &str)])] = &[
    (
        "$is_sent",
        &[(
            1,
            "(e.kind = 1 AND e.body IS NOT NULL OR e.kind = 2 AND $quality
                AND NOT (e.what = 'dead_letter' AND e.subject = s.name))",
        )],
    ),
    ("$day", &[(1, "CASE WHEN e.kind = 1 THEN e.day ELSE e.observed / 86400000 END")]),
    ("$quality", &[(1, "0"), (3, "s.quality")]),
    ("$removed", &[(1, "NULL"), (6, "s.removed")]),
    ("$active", &[(1, "1"), (2, "c.active")]),
    ("$truncated", &[(1, "0"), (2, "s.truncated")]),
    ("$retry", &[(1, "0"), (2, "d.again"), (5, "d.retry")]),
    ("$index", &[(1, "place"), (5, "record_index")]),
    ("$acknowledged", &[(1, "last_proof"), (5, "last_acknowledgement")]),
    ("$catalog", &[(1, "catalogue"), (5, "catalog")]),
    ("$missing", &[(1, "owed"), (5, "missing")]),
    ("$requests", &[(1, "asks"), (5, "requests")]),
    ("$last_requested", &[(1, "last_asked"), (5, "last_requested")]),
    ("$polled_back_to", &[(1, "asked_back_to"), (5, "polled_back_to")]),
];

/// A statement about an old database, and the same facts from the checkpoint.
pub(super) struct Comparison {
    /// The first version that has the tables.
    pub(super) since: i32,
    /// The least number of lines, so that no comparison is empty by mistake.
    pub(super) lines: usize,
    /// SQL: the column `line`, with [`PLACEHOLDERS`].
    pub(super) sql: &'static str,
    pub(super) found: fn(&Checkpoint) -> Vec<String>,
}

pub(super) const COMPARISONS: &[Comparison] = &[
    Comparison {
        since: 1,
        lines: 1,
        sql: "SELECT value AS line FROM meta WHERE key = 'checkpoint_id'",
        found: |checkpoint| vec![checkpoint.id().to_string()],
    },
    Comparison {
        since: 1,
        lines: 3,
        sql: "SELECT t.guid || ' ' || e.seq || ' ' || e.day AS line
              FROM entry e JOIN tenant t ON t.id = e.tenant
              WHERE t.guid <> '-' AND (e.kind = 2 OR e.body IS NOT NULL) ORDER BY t.id, e.seq",
        found: entries,
    },
    Comparison {
        since: 1,
        lines: 2,
        sql: "SELECT guid || ' ' || next_seq AS line FROM tenant WHERE guid <> '-' ORDER BY id",
        found: |checkpoint| {
            of_tenants(checkpoint, |id| vec![checkpoint.next_seq(id).unwrap().to_string()])
        },
    },
    Comparison {
        since: 1,
        lines: 1,
        sql: "SELECT 'catalogs ' || count(*) AS line FROM $catalog HAVING count(*) > 0",
        found: |checkpoint| {
            vec![format!("catalogs {}", query_number(checkpoint, "SELECT count(*) FROM catalog"))]
        },
    },
    Comparison {
        since: 1,
        lines: 2,
        sql: "SELECT s.name || ' ' || t.guid || ' ' || c.seq || ' ' || c.$index AS line
              FROM cursor c JOIN sink s ON s.id = c.sink JOIN tenant t ON t.id = c.tenant
              ORDER BY s.name, t.guid",
        found: cursors,
    },
    Comparison {
        since: 1,
        lines: 2,
        sql: "SELECT s.name || ' ' || t.guid || ' ' || c.seq || ' ' || c.$index || ' ' || c.floor
                || ' ' || max(e.seq) || ' ' || count(*) AS line
              FROM sink s JOIN cursor c ON c.sink = s.id JOIN tenant t ON t.id = c.tenant
              JOIN entry e ON e.tenant = c.tenant AND e.seq >= c.seq
                AND $day >= c.floor AND $is_sent
              WHERE $active GROUP BY s.id, t.id ORDER BY s.id, t.id",
        found: backlogs,
    },
    Comparison {
        since: 1,
        lines: 2,
        sql: "SELECT s.name || ' ' || s.sent || ' ' || s.rejected || ' ' || $truncated || ' '
                || coalesce(s.$acknowledged, '-') || ' ' || lower(hex(s.mark)) || ' '
                || coalesce(s.last_error, '-') AS line
              FROM sink s WHERE $removed IS NULL ORDER BY s.id",
        found: sinks,
    },
    Comparison {
        since: 1,
        lines: 1,
        sql: "SELECT s.name || ' ' || t.guid || ' ' || d.seq || ' ' || d.$index || ' '
                || d.event_id || ' ' || d.rejected || ' ' || $retry || ' ' || d.reason AS line
              FROM dead_letter d JOIN sink s ON s.id = d.sink JOIN tenant t ON t.id = d.tenant
              WHERE $removed IS NULL ORDER BY d.id DESC",
        found: dead_letters,
    },
    Comparison {
        since: 2,
        lines: 1,
        sql: "SELECT s.name || ' ' || r.first_day || ' ' || r.last_day || ' ' || count(*) AS line
              FROM replay r JOIN replay_cursor c ON c.replay = r.id
              JOIN sink s ON s.id = r.sink AND $removed IS NULL
              JOIN cursor live ON live.sink = r.sink AND live.tenant = c.tenant AND live.active
              JOIN entry e ON e.tenant = c.tenant AND e.seq BETWEEN c.seq AND c.last
                AND $day BETWEEN r.first_day AND r.last_day AND $is_sent
              GROUP BY r.id ORDER BY r.id",
        found: replays,
    },
    Comparison {
        since: 2,
        lines: 1,
        sql: "SELECT t.guid || ' ' || c.seq || ' ' || c.$index || ' ' || c.last AS line
              FROM replay_cursor c JOIN tenant t ON t.id = c.tenant ORDER BY c.replay, c.tenant",
        found: |checkpoint| {
            let sql =
                "SELECT t.guid || ' ' || c.seq || ' ' || c.record_index || ' ' || c.last AS line
                       FROM replay_cursor c JOIN tenant t ON t.id = c.tenant
                       ORDER BY c.replay, c.tenant";
            checkpoint.raw().texts(sql, "line")
        },
    },
    Comparison {
        since: 1,
        lines: 0,
        sql: "SELECT t.guid || ' ' || m.day || ' ' || m.$requests || ' ' || m.$last_requested
                || ' ' || m.absent AS line
              FROM $missing m JOIN tenant t ON t.id = m.tenant ORDER BY t.id, m.day",
        found: missing_days,
    },
    Comparison {
        since: 1,
        lines: 0,
        sql: "SELECT t.guid || ' ' || h.day || ' ' || h.since || ' ' || h.observed AS line
              FROM held h JOIN tenant t ON t.id = h.tenant ORDER BY t.id, h.day",
        found: held_days,
    },
    Comparison {
        since: 1,
        lines: 2,
        sql: "SELECT guid || ' ' || coalesce(last_attempt, '-') || ' '
                || coalesce(last_success, '-') || ' ' || failures || ' '
                || coalesce(not_before, '-') || ' ' || coalesce($polled_back_to, '-') AS line
              FROM tenant WHERE guid <> '-' ORDER BY id",
        found: polls,
    },
    Comparison {
        since: 1,
        lines: 0,
        sql: "SELECT t.guid || ' ' || replace(o.what, 'catalogue', 'catalog') || ' ' || o.first_day
                AS line
              FROM open_observation o JOIN tenant t ON t.id = o.tenant
              WHERE t.guid <> '-' AND NOT EXISTS (SELECT 1 FROM $missing m WHERE o.what = 'gap'
                AND m.tenant = o.tenant AND m.day = o.first_day AND m.absent)
              ORDER BY t.id, o.first_day, o.what, o.subject",
        found: open_observations,
    },
    Comparison {
        since: 1,
        lines: 0,
        sql: "SELECT domain || ' ' || guid AS line FROM domain ORDER BY domain",
        found: domains,
    },
    Comparison {
        since: 3,
        lines: 0,
        sql: "SELECT t.guid || ' ' || b.since || ' ' || b.name AS line
              FROM baseline b JOIN tenant t ON t.id = b.tenant ORDER BY t.id, b.since",
        found: baselines,
    },
];

/// A statement for the tables of a version.
pub(super) fn statement(sql: &str, version: i32) -> String {
    let mut statement = sql.to_owned();
    for (placeholder, texts) in PLACEHOLDERS {
        let text = texts.iter().rfind(|(since, _)| *since <= version);
        statement = statement.replace(*placeholder, text.unwrap().1);
    }
    statement
}

/// Lines about each tenant, after its GUID.
fn of_tenants(checkpoint: &Checkpoint, lines: impl Fn(TenantId) -> Vec<String>) -> Vec<String> {
    let of_tenant = |id: TenantId| lines(id).into_iter().map(move |line| format!("{id} {line}"));
    ids(checkpoint).into_iter().flat_map(of_tenant).collect()
}

/// The time or the day of an optional value, or `-`.
fn or_none<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn entries(checkpoint: &Checkpoint) -> Vec<String> {
    of_tenants(checkpoint, |id| {
        let request = ReadRequest { tenant: id, ..read_request(1, "1970-01-01") };
        let entries = checkpoint.read(&request).unwrap();
        let day = |entry: &LogEntry| match entry {
            LogEntry::Snapshot(entry) => entry.snapshot.day,
            LogEntry::Observation(observed) => observed.observation.first_day,
        };
        entries.iter().map(|entry| format!("{} {}", entry.seq(), day(entry).number())).collect()
    })
}

fn cursors(checkpoint: &Checkpoint) -> Vec<String> {
    let cursors = checkpoint.cursors().unwrap().cursors;
    let line = |cursor: &SavedCursor| {
        let SavedCursor { sink, tenant, seq, record_index, .. } = cursor;
        format!("{sink} {tenant} {seq} {record_index}")
    };
    cursors.iter().map(line).collect()
}

fn backlogs(checkpoint: &Checkpoint) -> Vec<String> {
    let mut lines = Vec::new();
    for StoredSink { name, .. } in checkpoint.stored_sinks().unwrap() {
        for pending in checkpoint.pending(&name).unwrap() {
            let Pending { tenant, at, first_day, last_seq, entries, .. } = pending;
            let (at, first_day) = (format!("{} {}", at.seq, at.record_index), first_day.number());
            lines.push(format!("{name} {tenant} {at} {first_day} {last_seq} {entries}"));
        }
    }
    lines
}

fn sinks(checkpoint: &Checkpoint) -> Vec<String> {
    let status = checkpoint.status(StatusDetail::Items).unwrap();
    let line = |sink: &SinkStatus| {
        let SinkStatus { name, sent, rejected, truncated, .. } = sink;
        let acknowledged = or_none(sink.last_acknowledgement.map(UnixMillis::as_i64));
        let mark = hex(&checkpoint.mark(name).unwrap().unwrap_or_default());
        let error = or_none(sink.last_error.as_ref().map(|error| error.message.clone()));
        format!("{name} {sent} {rejected} {truncated} {acknowledged} {mark} {error}")
    };
    status.sinks.iter().map(line).collect()
}

fn dead_letters(checkpoint: &Checkpoint) -> Vec<String> {
    let letters = checkpoint.find_dead_letters(&DeadLetterFilter::default(), u32::MAX).unwrap();
    let line = |letter: &QueuedDeadLetter| {
        let QueuedDeadLetter { sink, tenant, at, event_id, reason, .. } = letter;
        let (rejected, retry) = (letter.rejected_at.as_i64(), i32::from(letter.retry));
        let at = format!("{} {}", at.seq, at.record_index);
        format!("{sink} {tenant} {at} {event_id} {rejected} {retry} {reason}")
    };
    letters.iter().map(line).collect()
}

fn replays(checkpoint: &Checkpoint) -> Vec<String> {
    let status = checkpoint.status(StatusDetail::Summary).unwrap();
    let line = |replay: &ReplayStatus| {
        let (first, last) = (replay.first_day.number(), replay.last_day.number());
        format!("{} {first} {last} {}", replay.sink, replay.remaining)
    };
    status.replays.iter().map(line).collect()
}

fn missing_days(checkpoint: &Checkpoint) -> Vec<String> {
    of_tenants(checkpoint, |id| {
        let missing = checkpoint.missing_days(id).unwrap().into_iter();
        let line = |missing: MissingDay| {
            let (day, last) = (missing.day.number(), missing.last_requested.as_i64());
            let is_absent = i32::from(missing.presence == DayPresence::Absent);
            format!("{day} {} {last} {is_absent}", missing.requests)
        };
        missing.map(line).collect()
    })
}

fn held_days(checkpoint: &Checkpoint) -> Vec<String> {
    of_tenants(checkpoint, |id| {
        let held = checkpoint.held_days(id).unwrap().into_iter();
        let line = |held: HeldDay| {
            let (since, observed) = (held.since.as_i64(), held.observed_at.as_i64());
            format!("{} {since} {observed}", held.day.number())
        };
        held.map(line).collect()
    })
}

fn polls(checkpoint: &Checkpoint) -> Vec<String> {
    of_tenants(checkpoint, |id| {
        let PollState { polled, polled_back_to, not_before, .. } =
            checkpoint.poll_state(id).unwrap();
        let [attempt, success, not_before] = [polled.last_attempt, polled.last_success, not_before]
            .map(|time| or_none(time.map(UnixMillis::as_i64)));
        let back_to = or_none(polled_back_to.map(Day::number));
        vec![format!("{attempt} {success} {} {not_before} {back_to}", polled.failures)]
    })
}

fn open_observations(checkpoint: &Checkpoint) -> Vec<String> {
    let status = checkpoint.status(StatusDetail::Summary).unwrap();
    let mut lines = Vec::new();
    for tenant in &status.tenants {
        for open in &tenant.observations {
            let (what, first_day) = (open.what.as_str(), open.first_day.number());
            lines.push(format!("{} {what} {first_day}", tenant.id.unwrap()));
        }
    }
    lines
}

fn domains(checkpoint: &Checkpoint) -> Vec<String> {
    let names = checkpoint.raw().texts("SELECT domain FROM domain ORDER BY domain", "domain");
    let resolved = |name: &String| checkpoint.tenant_of_domain(name).unwrap().unwrap();
    names.iter().map(|name| format!("{name} {}", resolved(name))).collect()
}

fn baselines(checkpoint: &Checkpoint) -> Vec<String> {
    of_tenants(checkpoint, |id| {
        let baselines = checkpoint.baselines(id).unwrap();
        baselines.iter().map(|stored| format!("{} {}", stored.since, stored.name)).collect()
    })
}
