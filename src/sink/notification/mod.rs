//! Notifications: records as messages, for the notification sinks (`chat` and `email`).
//!
//! A sink encodes each record as a [`Notice`], and builds a [`Message`] from the notices of a
//! batch: one part per record, or per group of equal records of several tenants, or a digest of all
//! of them. Links, mentions and markup in foreign text are already disabled, so a sink escapes only
//! what its protocol requires. This module knows no protocol and sends nothing. Start reading at
//! [`Mode::message`]. See decision 0052.

mod digest;
mod merge;
mod notice;

use std::{cmp::Reverse, fmt::Write as _};

pub(super) use self::notice::Notice;
use super::{
    Batch, EncodeError, Failure, Limits, chain,
    common_keys::{MAX_RATE, TEXT_LENGTH},
};
use crate::{
    model::{Kind, Record, Severity},
    settings::{Key, KeyDefinition, Section, TEXT, Text, optional},
};

/// The key `digest`. The configuration reads its value, because the time zone is that of the
/// schedule.
pub const DIGEST: Key<Text> = optional(
    "digest",
    TEXT,
    "single messages",
    "When one digest is sent instead of single messages: a cron expression with five fields in the time zone of the schedule, such as `0 8 * * 1`.",
)
.example("0 8 * * 1");

/// The keys of a sink that can send digests.
pub(super) const DIGEST_KEYS: &[KeyDefinition] = &[DIGEST.define()];

/// The kinds of record that a notification sink receives by default.
pub(super) const RECORDS: &[Kind] = &[Kind::Change, Kind::Quality];

/// A digest of more records is sent as several messages.
const MAX_DIGEST_RECORDS: usize = 10_000;
const MAX_DIGEST_BYTES: usize = 16 << 20;

/// Whether a sink sends each record, or digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Each record is a part of a message, or of a part with equal records of other tenants.
    Messages,
    /// A message summarizes all records since the previous one.
    Digest,
}

/// A message, independent of the service that shows it. All its text is inert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// One line, for a heading or a subject.
    pub title: String,
    pub parts: Vec<Part>,
}

/// A part of a message: a record, equal records of several tenants, or a section of a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The event ID of the first record; `None` for a section of a digest.
    pub event_id: Option<String>,
    /// The severity of the record, or the highest one in the section.
    pub severity: Severity,
    /// One line.
    pub heading: String,
    /// One line; empty if there is only the heading.
    pub text: String,
    /// Names and values, in the order in which they are shown.
    pub facts: Vec<(String, String)>,
}

impl Part {
    /// The name of the fact that contains a hint.
    pub(super) const HINT: &'static str = "Hint";
}

/// Whether a text has a line with the event ID of each record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EventIdLines {
    Omitted,
    #[cfg_attr(
        not(feature = "email"),
        allow(dead_code, reason = "only the text of an email contains them")
    )]
    Included,
}

impl Mode {
    /// The mode of a section, and the faults of keys that have no effect on messages. Values that
    /// the section inherits are meant for other sinks, so they are not faults.
    pub(super) fn read(section: &Section<'_>) -> Self {
        if section.sets(&TEXT_LENGTH) {
            let message = "`texts` is not available for messages, which contain no descriptions";
            section.fault(&TEXT_LENGTH, message);
        }

        if !section.has(&DIGEST) {
            return Self::Messages;
        }
        if section.sets(&MAX_RATE) {
            section.fault(&MAX_RATE, "`max_rate` cannot be combined with `digest`");
        }
        Self::Digest
    }

    /// The limits of a batch. `messages` applies to single messages; a digest summarizes everything
    /// that is unsent.
    pub(super) fn limits(self, messages: Limits) -> Limits {
        match self {
            Self::Messages => messages,
            Self::Digest => {
                Limits { records: MAX_DIGEST_RECORDS, bytes: MAX_DIGEST_BYTES, in_flight: 1 }
            }
        }
    }

    /// The message for the notices of a batch, the most severe parts first. `fields` are added to
    /// each part that is about records.
    pub(super) fn message(self, notices: &[Notice], fields: &[(String, String)]) -> Message {
        match self {
            Self::Messages => {
                let mut merged = merge::merged(notices);
                // The sort is stable: within a severity, the order of the records is kept.
                merged.sort_by_key(|merged| Reverse(merged.first.severity));
                let parts = merged.iter().map(|merged| merged.part(fields)).collect();
                Message { title: notice::title(notices), parts }
            }
            Self::Digest => digest::digest(notices),
        }
    }
}

impl Message {
    /// The message as plain text without its title, with an empty line between two parts. With
    /// [`EventIdLines::Included`], the part of a record ends with its event ID.
    pub(super) fn text(&self, event_ids: EventIdLines) -> String {
        let mut text = String::new();
        for part in &self.parts {
            if !text.is_empty() {
                text.push('\n');
            }
            let lines = [&part.heading, &part.text];
            for line in lines.into_iter().filter(|line| !line.is_empty()) {
                let _ = writeln!(text, "{line}");
            }
            for (name, value) in &part.facts {
                let _ = writeln!(text, "{name}: {value}");
            }
            let id = part.event_id.as_ref();
            if let Some(id) = id.filter(|_| event_ids == EventIdLines::Included) {
                let _ = writeln!(text, "Event ID: {id}");
            }
        }
        text
    }
}

/// Adds a record to a batch as a notice.
pub(super) fn encode(record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
    batch.push(record, |out| {
        let notice = Notice::of(record);
        out.extend_from_slice(&merge::key(&notice));
        let split = out.len();
        let written = serde_json::to_writer(out, &notice);
        written.map(|()| split).map_err(|error| EncodeError(error.to_string()))
    })
}

/// Whether a message with the records of a batch, which [`encode`] has added, has at least this
/// many parts.
pub(super) fn has_parts(batch: &Batch, parts: usize) -> bool {
    batch.len() >= parts && merge::parts(batch) >= parts
}

/// The notices of a batch whose records [`encode`] has added.
pub(super) fn notices(batch: &Batch) -> Result<Vec<Notice>, Failure> {
    let items = batch.items().iter();
    let notices: Result<Vec<Notice>, _> =
        items.map(|item| serde_json::from_slice(batch.payload(item))).collect();
    notices.map_err(|error| Failure::retry(format!("cannot decode a notice: {}", chain(&error))))
}

#[cfg(test)]
pub(super) mod tests {
    pub(in crate::sink) mod fleet;

    use super::{notice::NoticeKind, *};

    /// A notice about a change of the control `AdminMFAV2`.
    pub(in crate::sink) fn change(tenant: &str, what: &str, points: f64, severity: u8) -> Notice {
        Notice {
            event_id: "c0fe22cef211175205f5d2746d6bede65c9d0659".to_owned(),
            kind: NoticeKind::Change,
            what: what.to_owned(),
            severity,
            tenant: tenant.to_owned(),
            subject: "AdminMFAV2".to_owned(),
            time: "2026-11-22 06:15 UTC".to_owned(),
            sentence: format!("Require MFA: {what}"),
            points: Some(points),
            hint: None,
            replayed: false,
        }
    }

    /// A notice about the beginning of a gap.
    pub(in crate::sink) fn problem(tenant: &str, subject: &str) -> Notice {
        Notice {
            event_id: "11ee22cef211175205f5d2746d6bede65c9d0659".to_owned(),
            kind: NoticeKind::ProblemBegan,
            what: "gap".to_owned(),
            severity: 3,
            tenant: tenant.to_owned(),
            subject: subject.to_owned(),
            time: "2026-11-23 06:15 UTC".to_owned(),
            sentence: format!("day {subject} is missing"),
            points: None,
            hint: Some("run `backfill`".to_owned()),
            replayed: false,
        }
    }

    /// The notice about the end of the same gap.
    pub(in crate::sink) fn resolved(tenant: &str, subject: &str) -> Notice {
        Notice { kind: NoticeKind::ProblemEnded, severity: 1, ..problem(tenant, subject) }
    }

    #[test]
    fn one_part_per_record_with_its_facts() {
        let fields = [("env".to_owned(), "production".to_owned())];
        let notices = [change("contoso", "regressed", -10.0, 8), problem("contoso", "2026-11-21")];
        let message = Mode::Messages.message(&notices, &fields);
        assert_eq!(message.title, "Secure Score: 1 change, 1 problem in contoso");
        assert_eq!(
            message.text(EventIdLines::Included),
            "High · contoso · regressed
Require MFA: regressed
Points: −10
Control: AdminMFAV2
Time: 2026-11-22 06:15 UTC
env: production
Event ID: c0fe22cef211175205f5d2746d6bede65c9d0659

Low · contoso · gap
day 2026-11-21 is missing
Time: 2026-11-23 06:15 UTC
Hint: run `backfill`
env: production
Event ID: 11ee22cef211175205f5d2746d6bede65c9d0659
"
        );
        assert!(!message.text(EventIdLines::Omitted).contains("Event ID"));
    }

    #[test]
    fn titles_count_records_by_kind() {
        let regressed = |tenant| change(tenant, "regressed", -1.0, 5);
        for (notices, title) in [
            (vec![regressed("a")], "Secure Score: 1 change in a"),
            (vec![regressed("a"), regressed("b")], "Secure Score: 2 changes in 2 tenants"),
            (
                vec![problem("a", "x"), problem("a", "y"), resolved("a", "x")],
                "Secure Score: 2 problems, 1 resolved problem in a",
            ),
            (
                vec![Notice { kind: NoticeKind::Score, ..regressed("a") }],
                "Secure Score: 1 score in a",
            ),
        ] {
            assert_eq!(Mode::Messages.message(&notices, &[]).title, title);
        }
    }
}
