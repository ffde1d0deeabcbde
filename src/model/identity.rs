//! Event IDs: a record has the same `event_id` in every sink, even if the checkpoint is lost and
//! rebuilt from Microsoft's API. The rule below and that of the subject hash, which is described
//! at [`EventIds`], are published and must never change.
//!
//! The ID is the first 40 hex digits of SHA-256 over these fields, each preceded by its length in
//! bytes as four bytes, big-endian: `ssf1`, tenant GUID (lower case, hyphenated), day
//! (`YYYY-MM-DD`), kind, what, control ID, subject hash (32 bytes), and the `event_id` of the
//! previous revision of this subject (40 hex digits, or empty for the first revision).
//!
//! The IDs of controls and summaries do not depend on counts and texts, because Microsoft removes
//! them from a day overnight, and a checkpoint that is rebuilt from the poorer copies must compute
//! the same IDs. A revision that differs only in a count nevertheless has a different ID, because
//! the ID of the previous revision is part of the input. See decision 0004.

use std::{borrow::Cow, fmt};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::{
    Day, DayFacts, Kind, Number, TenantId,
    hexadecimal::{digits, parse_hex},
};

/// The ID of a record: 20 bytes, printed as 40 lower-case hex digits, also in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId([u8; 20]);

/// What an ID identifies within a day of a tenant, apart from the facts.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub kind: Kind,
    /// `change.what` or `quality.what`; empty for control and summary.
    pub what: &'a str,
    /// Empty for a summary.
    pub control: &'a str,
}

/// A field of a subject hash.
#[derive(Clone, Copy, Debug)]
pub enum Field<'a> {
    /// A text, written unchanged in UTF-8.
    Text(&'a str),
    /// A number, written as its shortest decimal, or `-` if it is absent.
    Number(Option<Number>),
}

/// Computes the event IDs of one tenant and day. The fields that all of them share are encoded
/// once.
///
/// A subject hash is SHA-256 over fields of the same form as those of an ID. A number is written
/// as its shortest decimal (`7.83`, `10`), an absent one as `-`. The fields depend on the kind:
///
/// - control: score and percentage
/// - summary: current and maximum score
/// - change: base day, the compared facts before and after, and the name of the baseline; which
///   facts these are depends on what has changed (see `derive/change/`)
/// - decision: its time, the person and the state; the day of the ID is that of the decision
/// - observation: what, first day, and begin or end; the control ID is the observation's subject
#[derive(Debug)]
pub struct EventIds {
    /// The fields that all IDs begin with.
    head: Vec<u8>,
    input: HashInput,
}

impl EventIds {
    /// Prepares the IDs of this tenant and day.
    pub fn new(tenant: TenantId, day: Day) -> Self {
        let mut head = HashInput::default();
        head.field(b"ssf1");
        head.field(tenant.to_string().as_bytes());
        head.field(day.to_string().as_bytes());
        Self { head: head.bytes, input: HashInput::default() }
    }

    /// The ID of a subject. `facts` is its subject hash, and `previous` the ID of its previous
    /// revision.
    pub fn make(
        &mut self,
        subject: &Subject<'_>,
        facts: &[u8; 32],
        previous: Option<EventId>,
    ) -> EventId {
        let input = &mut self.input;
        input.bytes.clear();
        input.bytes.extend_from_slice(&self.head);
        input.field(subject.kind.as_str().as_bytes());
        input.field(subject.what.as_bytes());
        input.field(subject.control.as_bytes());
        input.field(facts);
        match previous {
            Some(id) => input.field(&id.hex()),
            None => input.field(b""),
        }

        let mut id = [0; 20];
        id.copy_from_slice(&input.hash()[..20]);
        EventId(id)
    }

    /// The subject hash of a control, from score and percentage, or of a summary, from current
    /// and maximum score.
    pub fn facts(&mut self, first: Option<Number>, second: Option<Number>) -> [u8; 32] {
        self.input.bytes.clear();
        self.input.number(first);
        self.input.number(second);
        self.input.hash()
    }

    /// A subject hash over other fields: those of a change or of an observation.
    pub fn hash(&mut self, fields: &[Field<'_>]) -> [u8; 32] {
        self.input.bytes.clear();
        for field in fields {
            match field {
                Field::Text(text) => self.input.field(text.as_bytes()),
                Field::Number(number) => self.input.number(*number),
            }
        }
        self.input.hash()
    }
}

impl EventId {
    /// The ID with these bytes, as the checkpoint stores them.
    pub fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// Parses 40 hex digits. `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        parse_hex(text).map(Self)
    }

    /// The 20 bytes of the ID.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// The ID as 40 lower-case hex digits in ASCII.
    pub fn hex(self) -> [u8; 40] {
        let mut out = [0; 40];
        for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(self.0) {
            *pair = digits(byte);
        }
        out
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Fails for every text that [`EventId::parse`] rejects.
impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not an event ID"))
    }
}

/// The hash of a day: the totals, then the name, score and percentage of every control in the
/// order of the names. Two checkpoints with the same hash contain the same facts of the day.
pub fn day_hash(facts: &DayFacts) -> [u8; 32] {
    let mut input = HashInput::default();
    input.number(facts.current_score);
    input.number(facts.max_score);
    for control in &facts.controls {
        input.field(control.name.as_bytes());
        input.number(control.score);
        input.number(control.percentage);
    }
    input.hash()
}

/// A buffer of length-prefixed fields.
#[derive(Debug)]
struct HashInput {
    bytes: Vec<u8>,
}

impl Default for HashInput {
    fn default() -> Self {
        Self { bytes: Vec::with_capacity(256) }
    }
}

impl HashInput {
    fn field(&mut self, field: &[u8]) {
        self.fill(|bytes| bytes.extend_from_slice(field));
    }

    fn number(&mut self, field: Option<Number>) {
        self.fill(|bytes| match field {
            Some(number) => number.write_plain(bytes),
            None => bytes.push(b'-'),
        });
    }

    /// Appends a field whose length is known only after it is written.
    fn fill(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        write(&mut self.bytes);
        let length = u32::try_from(self.bytes.len() - at - 4).unwrap_or(u32::MAX);
        self.bytes[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }

    fn hash(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, &self.bytes).as_ref());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: f64) -> Option<Number> {
        Number::new(value)
    }

    fn ids() -> EventIds {
        let tenant = TenantId::parse("3f5c1d2e-0000-4000-8000-00000000c0de").unwrap();
        EventIds::new(tenant, Day::parse("2026-11-22").unwrap())
    }

    fn subject(kind: Kind, control: &'static str) -> Subject<'static> {
        Subject { kind, what: "", control }
    }

    /// The published vectors must never change, because a SIEM recognizes a repeated record by its
    /// ID. `tests/vectors/event_id.py` computes them independently.
    #[test]
    fn computes_the_published_vectors() {
        let mut ids = ids();
        let control = subject(Kind::Control, "AdminMFAV2");
        let (full, part) = (ids.facts(number(10.0), number(100.0)), ids.facts(number(7.83), None));
        let first = ids.make(&control, &full, None);
        let fraction = ids.make(&control, &part, None);
        let second = ids.make(&control, &part, Some(first));
        let totals = ids.facts(number(815.22), number(1376.0));
        let summary = ids.make(&subject(Kind::Summary, ""), &totals, None);
        let computed = [first, fraction, second, summary].map(|id| id.to_string());
        let published: Vec<String> = include_str!("../../tests/vectors/event_id.txt")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect();
        // `derive` tests the vectors of changes and observations, because it chooses their fields.
        assert_eq!(computed.as_slice(), &published[..computed.len()]);
    }

    #[test]
    fn every_field_changes_the_id() {
        let mut ids = ids();
        let facts = ids.facts(number(1.0), number(50.0));
        let swapped = ids.facts(number(50.0), number(1.0));
        let a = subject(Kind::Control, "A");
        let id = ids.make(&a, &facts, None);
        let tenant = TenantId::parse("3f5c1d2e-0000-4000-8000-00000000c0de").unwrap();
        let mut other_day = EventIds::new(tenant, Day::parse("2026-11-21").unwrap());
        let others = [
            ids.make(&subject(Kind::Control, "B"), &facts, None),
            ids.make(&subject(Kind::Summary, "A"), &facts, None),
            ids.make(&Subject { what: "x", ..a }, &facts, None),
            ids.make(&a, &swapped, None),
            ids.make(&a, &facts, Some(id)),
            other_day.make(&a, &facts, None),
        ];
        for other in others {
            assert_ne!(id, other);
        }
    }
}
