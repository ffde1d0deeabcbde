//! IBM's Log Event Extended Format, 1.0 and 2.0.
//!
//! Source: IBM QRadar's LEEF overview and its table of predefined attributes. There is no escape:
//! in a value the delimiter and line ends become blanks, in the header `|` does; `=` in a value is
//! fine. Every key stands once. `devTime` in epoch milliseconds needs no `devTimeFormat`.

use super::{
    Options, SHORT_TEXT, Texts,
    change::object,
    class::{class, sentence},
    severity::cef_severity,
    text::{cut, is_unsafe, plain, stand_in},
};
use crate::model::{
    Body, ChangeRecord, ControlRecord, Number, Outcome, QualityRecord, Record, SummaryRecord,
};

/// LEEF lines, one a record.
#[derive(Debug)]
pub struct Leef {
    options: Options,
    header: LeefHeader,
}

/// Which header a line has; its attributes are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeefHeader {
    V1,
    V2,
}

/// What separates attributes in both: version 2 names it in its header, as `x09`.
const DELIMITER: char = '\t';
/// `QRadar` takes payloads of 4,096 bytes where nothing else is said: a text has its share.
const TEXT: usize = 512;

impl Leef {
    pub fn new(options: Options, header: LeefHeader) -> Self {
        Self { options, header }
    }

    pub fn write(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        let (class, _) = class(record);
        let product = ["Microsoft", "Secure Score", "1.0", class];
        match self.header {
            LeefHeader::V1 => write_leef_header("1.0", product, None, out),
            LeefHeader::V2 => write_leef_header("2.0", product, Some("x09"), out),
        }
        let mut attributes = Attributes { out, first: true };
        self.attributes(record, &mut attributes);
    }

    fn attributes(&self, record: &Record<'_>, out: &mut Attributes<'_>) {
        let at = record.snapshot;
        out.text("devTime", &record.observed_ms.to_string());
        out.text("sev", &cef_severity(record).max(1).to_string());
        out.text("recordId", &record.event_id.to_string());
        out.text("kind", record.kind().as_str());
        out.text("resource", &record.tenant.id.to_string());
        out.text("domain", &record.tenant.name);
        out.text("identHostName", &self.options.host);
        out.text("snapshotTime", &record.time_ms.to_string());
        if !at.id.is_empty() {
            out.text("snapshotId", &at.id);
            out.text("revision", &at.revision.to_string());
        }
        for (flag, set) in [
            ("late", at.late),
            ("backfilled", at.backfilled),
            ("partial", at.partial),
            ("replayed", record.replayed),
        ] {
            if set {
                out.text(flag, "true");
            }
        }
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
        out.maybe("outcome", control.outcome().map(Outcome::as_str));
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
        if control.deprecated() {
            out.text("deprecated", "true");
        }
        if self.options.texts != Texts::None {
            out.maybe(
                "remediation",
                profile
                    .remediation
                    .as_deref()
                    .map(plain)
                    .as_deref()
                    .map(|t| cut(t, SHORT_TEXT))
                    .as_deref(),
            );
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
    for (flag, set) in [("historical", change.historical), ("flapping", change.flapping)] {
        if set {
            out.text(flag, "true");
        }
    }
    out.maybe("baseline", change.baseline.map(|from| from.name));
    let whole = object(|out| super::change::write_change(record, out));
    // Half of a JSON object is none.
    if whole.len() <= TEXT {
        out.text("change", &String::from_utf8_lossy(&whole));
    } else {
        out.text("truncated", "true");
    }
}

fn write_quality(record: &QualityRecord<'_>, out: &mut Attributes<'_>) {
    out.text("what", record.what.as_str());
    out.text("phase", record.phase.as_str());
    out.maybe("subject", Some(record.subject));
    out.text("firstDay", &record.first_day.to_string());
    out.maybe("reason", Some(record.details));
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

/// A key of our own from somebody's name: `labelCustomer`.
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

/// `key=value`, with the delimiter between.
struct Attributes<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl Attributes<'_> {
    fn text(&mut self, key: &str, value: &str) {
        write_leef_attribute(key, &cut(value.trim(), TEXT), DELIMITER, self.first, self.out);
        self.first = false;
    }

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

/// Appends `LEEF:version|vendor|product|version|event|`, and the delimiter's name if it is said.
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

/// Appends an attribute; before any but the first stands the delimiter.
pub fn write_leef_attribute(
    key: &str,
    value: &str,
    delimiter: char,
    first: bool,
    out: &mut Vec<u8>,
) {
    if !first {
        out.extend_from_slice(delimiter.encode_utf8(&mut [0; 4]).as_bytes());
    }
    out.extend_from_slice(key.as_bytes());
    out.push(b'=');
    write_clean(value, delimiter, out);
}

/// A text in which `forbidden`, line ends and what could hide text are replaced.
fn write_clean(text: &str, forbidden: char, out: &mut Vec<u8>) {
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let clean = match c {
            '\r' if chars.peek() == Some(&'\n') => continue,
            c if c == forbidden => ' ',
            c if is_unsafe(c) => stand_in(c),
            c => c,
        };
        out.extend_from_slice(clean.encode_utf8(&mut [0; 4]).as_bytes());
    }
}
