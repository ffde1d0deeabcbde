//! IBM's Log Event Extended Format (LEEF), versions 1.0 and 2.0.
//!
//! Source: IBM QRadar documentation, "Log Event Extended Format (LEEF)" with its table of
//! predefined event attributes. LEEF has no escapes: the delimiter and line breaks in a value, and
//! `|` in the header, become spaces; `=` is allowed in a value. No key may occur twice. `devTime`
//! is in milliseconds since 1970-01-01, which requires no `devTimeFormat`. Attributes are ordered
//! by importance, because [`shorten`](super::shorten()) removes the last ones first.

use super::{
    Options, SHORT_TEXT, Texts,
    change::object,
    class::{class, sentence},
    severity::cef_severity,
    text::{cut, plain},
};
use crate::{
    foreign_text::{is_hidden, replacement},
    model::{
        Body, ChangeRecord, ControlOutcome, ControlRecord, Number, QualityRecord, Record,
        SummaryRecord,
    },
};

/// A formatter for LEEF, one line per record.
#[derive(Debug)]
pub struct Leef {
    options: Options,
    header: LeefHeader,
}

/// The version of the header. The attributes are the same in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeefHeader {
    /// `LEEF:1.0`, with five header fields.
    V1,
    /// `LEEF:2.0`, with a sixth header field, which names the delimiter.
    V2,
}

/// The position of an attribute among the attributes of its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributePosition {
    /// Directly after the header, which ends with `|`.
    First,
    /// After another attribute, and therefore after the delimiter.
    Later,
}

/// The delimiter of attributes: fixed in version 1.0, and named as `x09` in a header of
/// version 2.0.
const DELIMITER: char = '\t';
/// The maximum number of characters of a value. By default, `QRadar` accepts payloads of up to
/// 4,096 bytes, so no single value may take up all of them.
const MAX_VALUE: usize = 512;

impl Leef {
    /// A formatter, which has no cache.
    pub fn new(options: Options, header: LeefHeader) -> Self {
        Self { options, header }
    }

    /// Appends the record as one line, without a trailing newline.
    pub fn write(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        let (class, _) = class(record);
        let product = ["Microsoft", "Secure Score", "1.0", class];
        match self.header {
            LeefHeader::V1 => write_leef_header("1.0", product, None, out),
            LeefHeader::V2 => write_leef_header("2.0", product, Some("x09"), out),
        }

        let mut attributes = Attributes { out, next: AttributePosition::First };
        self.attributes(record, &mut attributes);
    }

    fn attributes(&self, record: &Record<'_>, out: &mut Attributes<'_>) {
        out.text("devTime", &record.observed_at.as_i64().to_string());
        out.text("sev", &cef_severity(record).max(1).to_string());
        out.text("recordId", &record.event_id.to_string());
        out.text("kind", record.kind().as_str());
        out.text("resource", &record.tenant.id.to_string());
        out.text("domain", &record.tenant.name);
        out.text("identHostName", &self.options.host);
        out.text("snapshotTime", &record.time.as_i64().to_string());

        let snapshot = record.snapshot;
        if !snapshot.id.is_empty() {
            out.text("snapshotId", &snapshot.id);
            out.text("revision", &snapshot.revision.to_string());
        }
        out.flag("late", snapshot.late);
        out.flag("backfilled", snapshot.backfilled);
        out.flag("partial", snapshot.partial);
        out.flag("replayed", record.replayed);

        match &record.body {
            Body::Control(control) => self.control(control, out),
            Body::Summary(summary) => write_summary(summary, out),
            Body::Change(change) => write_change(change, out),
            Body::Quality(quality) => write_quality(quality, out),
        }

        out.text("msg", &sentence(record));
        for (label, value) in &record.tenant.labels {
            out.text(&key("label", label), value);
        }
        for (name, value) in &self.options.fields {
            out.text(&key("field", name), value);
        }
    }

    fn control(&self, control: &ControlRecord<'_>, out: &mut Attributes<'_>) {
        out.maybe("cat", control.category);
        out.text("policy", control.id);
        out.text("controlTitle", control.title());
        out.number("score", control.score);
        out.number("maxScore", control.max_score.map(|(max, _)| max));
        out.number("scorePercent", control.percentage);
        out.maybe("outcome", control.outcome().map(ControlOutcome::as_str));
        out.maybe("reason", control.implementation_status.map(plain).as_deref());
        out.number("implementedCount", control.count);
        out.number("totalCount", control.total);

        if let Some(decision) = control.decision {
            out.maybe("controlState", decision.state.as_deref());
            out.maybe("usrName", decision.updated_by.as_deref());
            out.maybe("stateUpdated", decision.updated.as_deref());
            out.maybe("stateComment", decision.comment.as_deref());
        }

        let Some(slot) = control.profile else { return };
        let profile = &slot.profile;
        out.maybe("service", profile.service.as_deref());
        out.maybe("tier", profile.tier.as_deref());
        out.maybe("userImpact", profile.user_impact.as_deref());
        out.maybe("implementationCost", profile.implementation_cost.as_deref());
        out.maybe("threats", Some(profile.threats.join(",").as_str()).filter(|t| !t.is_empty()));
        out.maybe("url", profile.action_url.as_deref());
        out.number("rank", profile.rank);
        out.flag("deprecated", control.deprecated());
        if self.options.texts != Texts::None {
            let remediation = profile.remediation.as_deref().map(plain);
            out.maybe("remediation", remediation.as_deref().map(|t| cut(t, SHORT_TEXT)).as_deref());
        }
    }
}

fn write_change(record: &ChangeRecord<'_>, out: &mut Attributes<'_>) {
    let change = &record.change;
    out.text("what", change.what.as_str());
    out.text("cause", change.cause.as_str());

    out.maybe("cat", record.category);
    out.text("policy", change.control);
    out.text("controlTitle", record.title());
    out.number("score", change.after.score);
    out.number("maxScore", change.after.max_score);
    out.number("scorePercent", change.after.percentage);
    out.number("scoreBefore", change.before.score);
    out.number("scoreDelta", change.delta);

    if let Some(decision) = change.after.decision {
        out.maybe("controlState", decision.state.as_deref());
        out.maybe("usrName", decision.updated_by.as_deref());
        out.maybe("stateUpdated", decision.updated.as_deref());
        out.maybe("stateComment", decision.comment.as_deref());
    }
    out.flag("historical", change.historical);
    out.flag("flapping", change.flapping);
    out.maybe("baseline", change.baseline.map(|from| from.name));

    // A truncated JSON object cannot be parsed, so the object is omitted if it does not fit.
    let json = object(|out| super::change::write_change(record, out));
    if json.len() <= MAX_VALUE {
        out.text("change", &String::from_utf8_lossy(&json));
    } else {
        out.text("truncated", "true");
    }
}

fn write_quality(record: &QualityRecord<'_>, out: &mut Attributes<'_>) {
    out.text("what", record.what.as_str());
    out.text("phase", record.phase.as_str());
    out.maybe("subject", Some(&record.subject.text()));
    out.text("firstDay", &record.first_day.to_string());
    out.maybe("reason", Some(record.details));
    out.maybe("hint", record.hint);
}

fn write_summary(summary: &SummaryRecord<'_>, out: &mut Attributes<'_>) {
    out.number("score", summary.current);
    out.number("maxScore", summary.max);
    out.number("scorePercent", summary.percentage);
    out.number("sumOfControls", Some(summary.sum_of_controls));
    out.text("controlsTotal", &summary.controls_total.to_string());
    out.text("recordsSent", &summary.records_sent.to_string());
    out.number("licensedUsers", summary.licensed_users);

    for (category, points) in &summary.categories {
        out.text(&key("score", category), &points.to_string());
    }
    for average in &summary.averages {
        out.number(&key("average", &average.basis), average.score);
    }
}

/// Builds a key, such as `labelCustomer`, from a prefix and a name that the operator or Microsoft
/// chose. Characters that a key must not contain are omitted.
fn key(prefix: &str, name: &str) -> String {
    let mut key = prefix.to_owned();
    let mut upper = true;
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            key.push(if upper { c.to_ascii_uppercase() } else { c });
        }
        upper = !c.is_ascii_alphanumeric();
    }
    key
}

/// Writes attributes with the delimiter between them.
struct Attributes<'a> {
    out: &'a mut Vec<u8>,
    /// The position of the attribute that is written next.
    next: AttributePosition,
}

impl Attributes<'_> {
    fn text(&mut self, key: &str, value: &str) {
        write_leef_attribute(key, &cut(value.trim(), MAX_VALUE), DELIMITER, self.next, self.out);
        self.next = AttributePosition::Later;
    }

    /// Writes a flag, if it is set.
    fn flag(&mut self, key: &str, is_set: bool) {
        if is_set {
            self.text(key, "true");
        }
    }

    /// Writes a text, if there is one and it is not blank.
    fn maybe(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value.filter(|value| !value.trim().is_empty()) {
            self.text(key, value);
        }
    }

    fn number(&mut self, key: &str, value: Option<Number>) {
        if let Some(value) = value {
            self.text(key, &value.to_string());
        }
    }
}

/// Appends the header: `LEEF:version|vendor|product|version|event|`, and `delimiter|` if one is
/// given. `fields` are vendor, product, product version and event ID.
pub fn write_leef_header(
    version: &str,
    fields: [&str; 4],
    delimiter: Option<&str>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"LEEF:");
    out.extend_from_slice(version.as_bytes());
    out.push(b'|');
    for field in fields.into_iter().chain(delimiter) {
        write_clean(field, '|', out);
        out.push(b'|');
    }
}

/// Appends an attribute, preceded by the delimiter unless it is the first one.
pub fn write_leef_attribute(
    key: &str,
    value: &str,
    delimiter: char,
    position: AttributePosition,
    out: &mut Vec<u8>,
) {
    if position == AttributePosition::Later {
        out.extend_from_slice(delimiter.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out.extend_from_slice(key.as_bytes());
    out.push(b'=');
    write_clean(value, delimiter, out);
}

/// Appends a text with `forbidden` and hidden characters replaced.
fn write_clean(text: &str, forbidden: char, out: &mut Vec<u8>) {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let clean = match c {
            '\r' if chars.peek() == Some(&'\n') => continue,
            c if c == forbidden => ' ',
            c if is_hidden(c) => replacement(c),
            c => c,
        };
        out.extend_from_slice(clean.encode_utf8(&mut [0; 4]).as_bytes());
    }
}
