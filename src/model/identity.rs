//! `event_id`: the same record has the same id for ever, in every sink, also when the checkpoint
//! was lost and read back from Microsoft.
//!
//! The id is the first 40 hex digits of SHA-256 over these fields, each preceded by its length in
//! bytes as four bytes, big-endian: `ssf1`, tenant GUID (lower case, hyphenated), day
//! (`YYYY-MM-DD`), kind, what, control id, subject digest (32 bytes), and the `event_id` of this
//! subject's previous revision (40 hex digits, or nothing for the first).
//!
//! The subject digest of a change is over base day, the compared facts before, those after, and
//! the baseline's name; which facts those are depends on what has changed (`derive/change/`). Of a
//! decision it is over its time, who took it and the state, and the day is its own. Of an
//! observation, over what, first day, and begin or end; its control id is its subject.
//!
//! The subject digest of a control is SHA-256 over two such fields, score and percentage; of a
//! summary, current and maximum score. A number stands as its shortest decimal (`7.83`, `10`), an
//! absent one as `-`. Counts and texts stay out: they vanish from a day overnight, and a
//! checkpoint that was rebuilt from the poorer copies must arrive at the same ids. A revision that
//! differs in a count alone has its own id all the same, through the previous one.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};

use super::{Day, DayFacts, Kind, Number, TenantId};

/// Twenty bytes, printed as 40 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventId([u8; 20]);

/// What an id identifies within a tenant's day, apart from its facts.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub kind: Kind,
    /// `change.what` or `quality.what`; empty for control and summary.
    pub what: &'a str,
    /// Empty for a summary.
    pub control: &'a str,
}

/// A field of a subject digest.
#[derive(Clone, Copy, Debug)]
pub enum Field<'a> {
    Text(&'a str),
    Number(Option<Number>),
}

/// Makes the ids of one tenant's day: what they share is written once.
#[derive(Debug)]
pub struct EventIds {
    head: Vec<u8>,
    message: Message,
}

impl EventIds {
    pub fn new(tenant: TenantId, day: Day) -> Self {
        let mut head = Message::default();
        head.field(b"ssf1");
        head.field(tenant.to_string().as_bytes());
        head.field(day.to_string().as_bytes());
        Self { head: head.bytes, message: Message::default() }
    }

    /// The id of a subject with these facts; `previous` is the id of its previous revision.
    pub fn make(
        &mut self,
        subject: &Subject<'_>,
        facts: &[u8; 32],
        previous: Option<EventId>,
    ) -> EventId {
        let message = &mut self.message;
        message.bytes.clear();
        message.bytes.extend_from_slice(&self.head);
        message.field(subject.kind.as_str().as_bytes());
        message.field(subject.what.as_bytes());
        message.field(subject.control.as_bytes());
        message.field(facts);
        match previous {
            Some(id) => message.field(&id.hex()),
            None => message.field(b""),
        }
        let mut id = [0; 20];
        id.copy_from_slice(&message.digest()[..20]);
        EventId(id)
    }

    /// The subject digest of a control's record, from score and percentage; of a day's summary,
    /// from current and maximum score.
    pub fn facts(&mut self, first: Option<Number>, second: Option<Number>) -> [u8; 32] {
        self.message.bytes.clear();
        self.message.number(first);
        self.message.number(second);
        self.message.digest()
    }
}

impl EventIds {
    /// A subject digest over any fields: those of a change and of an observation.
    pub fn digest(&mut self, fields: &[Field<'_>]) -> [u8; 32] {
        self.message.bytes.clear();
        for field in fields {
            match field {
                Field::Text(text) => self.message.field(text.as_bytes()),
                Field::Number(number) => self.message.number(*number),
            }
        }
        self.message.digest()
    }
}

impl EventId {
    pub fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// From 40 hex digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 20];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    pub fn hex(self) -> [u8; 40] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut out = [0; 40];
        for (pair, byte) in out.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
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

/// The digest of a whole day: its totals, then every control's name, score and percentage, in the
/// order of the names. Tells two hosts, or two checkpoints, that they saw the same day.
pub fn day_digest(facts: &DayFacts) -> [u8; 32] {
    let mut message = Message::default();
    message.number(facts.current_score);
    message.number(facts.max_score);
    for control in &facts.controls {
        message.field(control.name.as_bytes());
        message.number(control.score);
        message.number(control.percentage);
    }
    message.digest()
}

/// Length-prefixed fields, gathered in one buffer.
#[derive(Debug)]
struct Message {
    bytes: Vec<u8>,
}

impl Default for Message {
    fn default() -> Self {
        Self { bytes: Vec::with_capacity(256) }
    }
}

impl Message {
    fn field(&mut self, field: &[u8]) {
        self.fill(|bytes| bytes.extend_from_slice(field));
    }

    fn number(&mut self, field: Option<Number>) {
        self.fill(|bytes| match field {
            Some(number) => number.write_plain(bytes),
            None => bytes.push(b'-'),
        });
    }

    fn fill(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        write(&mut self.bytes);
        let length = u32::try_from(self.bytes.len() - at - 4).unwrap_or(u32::MAX);
        self.bytes[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }

    fn digest(&self) -> [u8; 32] {
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

    /// The published vectors. They may never change: a SIEM that saw a record under one id must
    /// know it again. Recomputed independently by `tests/vectors/event_id.py`.
    #[test]
    fn published_vectors() {
        let mut ids = ids();
        let control = subject(Kind::Control, "AdminMFAV2");
        let (full, part) = (ids.facts(number(10.0), number(100.0)), ids.facts(number(7.83), None));
        let first = ids.make(&control, &full, None);
        let fraction = ids.make(&control, &part, None);
        let second = ids.make(&control, &part, Some(first));
        let totals = ids.facts(number(815.22), number(1376.0));
        let summary = ids.make(&subject(Kind::Summary, ""), &totals, None);
        let got = [first, fraction, second, summary].map(|id| id.to_string());
        let published: Vec<String> = include_str!("../../tests/vectors/event_id.txt")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect();
        // Those of changes and observations are held to by `derive`, which chooses their fields.
        assert_eq!(got.as_slice(), &published[..got.len()]);
    }

    #[test]
    fn every_field_counts() {
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
