//! ArcSight Common Event Format (CEF) with header version 0, which every reader supports.
//!
//! Source: ArcSight Common Event Format (CEF) Implementation Standard, document version 27. The
//! header has seven pipes; in a header field, `\` and `|` are escaped and a line break becomes a
//! space. In a value, `\`, `=` and line breaks are escaped. A label is written only together with
//! its value. Length limits are those of the extension dictionary, in characters before escaping; a
//! longer value is cut and ends in `…`.

use super::{
    Options, SHORT_TEXT, Texts,
    cache::{ByEntry, ByProfile},
    class::{TITLE, action, class, sentence},
    json::write_extra_fields,
    members::{boolean, close, end, open, text as json_text, write_additional},
    severity::cef_severity,
    text::{cut, plain, plain_run, points_unit, trim},
};
use crate::{
    foreign_text::{is_hidden, replacement},
    model::{
        Body, ChangeRecord, ControlOutcome, ControlRecord, Number, Profile, QualityRecord, Record,
        StateUpdate, SummaryRecord, UnixMillis,
    },
};

/// The six header fields between `CEF:Version` and the extension.
#[derive(Clone, Copy, Debug)]
pub struct CefHeader<'a> {
    /// Device Vendor.
    pub vendor: &'a str,
    /// Device Product.
    pub product: &'a str,
    /// Device Version: the version of the product, not that of CEF.
    pub version: &'a str,
    /// Device Event Class ID.
    pub class: &'a str,
    /// Name: a human-readable description of the event.
    pub name: &'a str,
    /// Severity, 0 to 10, as text.
    pub severity: &'a str,
}

/// A formatter for CEF, one line per record. Fields without a key in the extension dictionary are
/// members of a JSON object in `cs6`.
#[derive(Debug)]
pub struct Cef {
    options: Options,
    entry: ByEntry,
    /// The beginning of `cs6`, which is the same for all records of an entry.
    rest: ByEntry,
    profiles: ByProfile<Rendered>,
    /// The most recent `lastSynced` and its time; `None` if it is not a valid time. Most controls
    /// of a day have the same one.
    synced: (String, Option<UnixMillis>),
    /// A buffer for `cs6`, reused for every record.
    scratch: Vec<u8>,
}

/// The parts of a control's line that depend only on its profile.
#[derive(Debug)]
struct Rendered {
    /// ` msg=` and the title; empty if the profile has no title.
    title: Vec<u8>,
    /// Complete `key=value` pairs, each preceded by a space.
    pairs: Vec<u8>,
    /// Members of the JSON object in `cs6`, each followed by a comma.
    rest: Vec<u8>,
}

/// The dictionary's limit for most string keys, in characters.
const LONG: usize = 1_023;
/// The dictionary's limit for `cs1` to `cs6`, in characters.
const CUSTOM_STRING: usize = 4_000;

impl Cef {
    /// A formatter with an empty cache.
    pub fn new(options: Options) -> Self {
        let (entry, rest) = (ByEntry::default(), ByEntry::default());
        Self {
            options,
            entry,
            rest,
            profiles: ByProfile::default(),
            synced: (String::new(), None),
            scratch: Vec::new(),
        }
    }

    /// Appends the record as one line, without a trailing newline.
    pub fn write(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        let (class, name) = class(record);
        out.extend_from_slice(b"CEF:0|Microsoft|Secure Score|1.0|");
        out.extend_from_slice(class.as_bytes());
        out.push(b'|');
        out.extend_from_slice(name.as_bytes());
        out.push(b'|');
        crate::model::write_integer(cef_severity(record).into(), out);
        out.push(b'|');

        let host = &self.options.host;
        out.extend_from_slice(self.entry.get(record, |out| write_entry_pairs(record, host, out)));
        out.extend_from_slice(b" externalId=");
        out.extend_from_slice(&record.event_id.hex());
        out.extend_from_slice(b" act=");
        out.extend_from_slice(action(record).as_bytes());

        // `cs6` is written last, so its members are collected while the pairs are written.
        self.scratch.clear();
        self.scratch.extend_from_slice(self.rest.get(record, |out| write_entry_rest(record, out)));
        if record.replayed {
            boolean("replayed", Some(true), &mut self.scratch);
        }
        write_extra_fields(&self.options, &mut self.scratch);

        match &record.body {
            Body::Control(control) => self.control(control, out),
            Body::Summary(summary) => {
                write_summary(summary, &sentence(record), &mut self.scratch, out);
            }
            Body::Change(change) => {
                write_change(change, &sentence(record), &mut self.scratch, out);
            }
            Body::Quality(quality) => {
                write_quality(quality, &sentence(record), &mut self.scratch, out);
            }
        }
        write_rest(&mut self.scratch, out);
    }

    fn control(&mut self, control: &ControlRecord<'_>, out: &mut Vec<u8>) {
        pair(" cat=", control.category, LONG, out);
        pair(" outcome=", control.outcome().map(ControlOutcome::as_str), LONG, out);
        pair(" reason=", control.implementation_status.map(plain).as_deref(), LONG, out);

        let texts = self.options.texts;
        let rendered = control.profile.map(|profile| {
            &*self.profiles.get(profile.key, || Rendered::new(&profile.profile, texts))
        });
        match rendered {
            Some(Rendered { title, .. }) if !title.is_empty() => out.extend_from_slice(title),
            _ => write_title(control.id, out),
        }
        write_points(control, out);

        pair(" cs1Label=controlName cs1=", Some(control.id), CUSTOM_STRING, out);
        if let Some(rendered) = rendered {
            out.extend_from_slice(&rendered.pairs);
        }
        if let Some(decision) = control.decision {
            pair(" cs3Label=controlState cs3=", decision.state.as_deref(), CUSTOM_STRING, out);
            pair(" suser=", decision.updated_by.as_deref(), LONG, out);
        }

        number(" cfp1Label=score cfp1=", control.score, out);
        number(" cfp2Label=maxScore cfp2=", control.max_score.map(|(max, _)| max), out);
        number(" cfp3Label=scorePercent cfp3=", control.percentage, out);
        integer(" cn2Label=implementedCount cn2=", control.count, out);
        integer(" cn3Label=totalCount cn3=", control.total, out);
        if let Some(text) = control.last_synced {
            if self.synced.0 != text {
                self.synced = (text.to_owned(), parse_time(text));
            }
            write_date(" deviceCustomDate2Label=lastSynced deviceCustomDate2=", self.synced.1, out);
        }

        let rest = &mut self.scratch;
        if let Some(rendered) = rendered {
            rest.extend_from_slice(&rendered.rest);
        }
        json_text("max_score_source", control.max_score.map(|(_, source)| source.as_str()), rest);
        boolean("on", control.on, rest);
        if let Some(decision) = control.decision {
            write_decision_rest(decision, rest);
        }
        if texts != Texts::None {
            let description = control.description.map(|d| cut(&plain(d), SHORT_TEXT).into_owned());
            json_text("description", description.as_deref(), rest);
        }
        write_additional_rest(
            control.additional.iter().map(|(k, v)| (k.as_ref(), v.as_ref())),
            rest,
        );
    }
}

impl Rendered {
    fn new(profile: &Profile, texts: Texts) -> Self {
        let (mut title, mut pairs, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(text) = profile.title.as_deref().filter(|title| !title.trim().is_empty()) {
            write_title(text, &mut title);
        }

        pair(" cs2Label=controlTitle cs2=", profile.title.as_deref(), CUSTOM_STRING, &mut pairs);
        pair(" cs4Label=threats cs4=", Some(&profile.threats.join(",")), CUSTOM_STRING, &mut pairs);
        if texts != Texts::None {
            let max = if texts == Texts::Short { SHORT_TEXT } else { CUSTOM_STRING };
            let remediation =
                profile.remediation.as_deref().map(|r| cut(&plain(r), max).into_owned());
            pair(" cs5Label=remediation cs5=", remediation.as_deref(), CUSTOM_STRING, &mut pairs);
        }
        pair(" request=", profile.action_url.as_deref(), LONG, &mut pairs);
        pair(" destinationServiceName=", profile.service.as_deref(), LONG, &mut pairs);
        integer(" cn1Label=rank cn1=", profile.rank, &mut pairs);

        json_text("tier", profile.tier.as_deref(), &mut rest);
        json_text("user_impact", profile.user_impact.as_deref(), &mut rest);
        json_text("implementation_cost", profile.implementation_cost.as_deref(), &mut rest);
        json_text("action_type", profile.action_type.as_deref(), &mut rest);
        boolean("deprecated", profile.deprecated, &mut rest);

        Self { title, pairs, rest }
    }
}

/// Appends the header: `CEF:<version>|…|` with all seven pipes.
pub fn write_header(version: u8, header: &CefHeader<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"CEF:");
    crate::model::write_integer(version.into(), out);
    out.push(b'|');
    let CefHeader { vendor, product, version, class, name, severity } = *header;
    for field in [vendor, product, version, class, name, severity] {
        write_header_field(field, out);
        out.push(b'|');
    }
}

/// Appends the extension: `key=value key=value`. The values are escaped; the keys must be keys of
/// the dictionary.
pub fn write_extension(pairs: &[(&str, &str)], out: &mut Vec<u8>) {
    for (index, (key, text)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(key.as_bytes());
        out.push(b'=');
        write_value(text, usize::MAX, out);
    }
}

fn write_header_field(field: &str, out: &mut Vec<u8>) {
    let mut chars = field.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            '\\' | '|' => out.extend_from_slice(&[b'\\', c as u8]),
            c => push(if is_hidden(c) { replacement(c) } else { c }, out),
        }
    }
}

/// Appends a value, trimmed, cut to at most `max` characters and escaped.
fn write_value(text: &str, max: usize, out: &mut Vec<u8>) {
    let text = cut(trim(text), max);
    let mut rest = &*text;
    loop {
        let (run, special) = rest.split_at(plain_run(rest.as_bytes(), b'='));
        out.extend_from_slice(run.as_bytes());
        let Some(c) = special.chars().next() else { return };
        rest = &special[c.len_utf8()..];
        match c {
            '\r' if rest.starts_with('\n') => {}
            '\n' | '\r' => out.extend_from_slice(b"\\n"),
            '\\' | '=' => out.extend_from_slice(&[b'\\', c as u8]),
            c => push(if is_hidden(c) { replacement(c) } else { c }, out),
        }
    }
}

fn push(c: char, out: &mut Vec<u8>) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

/// Writes the pairs that all records of an entry share, beginning with `rt`.
fn write_entry_pairs(record: &Record<'_>, host: &str, out: &mut Vec<u8>) {
    let (observed, day) = (record.observed_at.as_i64(), record.time.as_i64());
    out.extend_from_slice(
        format!("rt={observed} deviceCustomDate1Label=snapshotTime deviceCustomDate1={day}")
            .as_bytes(),
    );
    pair(" deviceExternalId=", Some(&record.tenant.id.to_string()), 255, out);
    pair(" dvchost=", Some(host), 100, out);
    pair(" flexString1Label=snapshotId flexString1=", Some(&record.snapshot.id), LONG, out);
}

/// Writes the beginning of `cs6`: a JSON object that is not closed yet.
fn write_entry_rest(record: &Record<'_>, out: &mut Vec<u8>) {
    let snapshot = record.snapshot;
    out.push(b'{');
    json_text("tenant", Some(&record.tenant.name), out);
    out.extend_from_slice(b"\"labels\":{");
    for (label, value) in &record.tenant.labels {
        json_text(label, Some(value), out);
    }
    close(b'}', out);
    out.push(b',');

    if matches!(record.body, Body::Quality(_)) {
        return;
    }
    let (revision, seq) = (snapshot.revision, snapshot.seq);
    out.extend_from_slice(format!("\"revision\":{revision},\"seq\":{seq},").as_bytes());
    boolean("late", Some(snapshot.late), out);
    boolean("backfilled", Some(snapshot.backfilled), out);
    boolean("partial", Some(snapshot.partial), out);
}

/// Writes `msg` with the title of a control. [`write_points`] completes the sentence.
fn write_title(title: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b" msg=");
    write_value(title, TITLE, out);
}

/// Appends the points to the title in `msg`: `: 5 of 10 points`.
fn write_points(control: &ControlRecord<'_>, out: &mut Vec<u8>) {
    if let Some(score) = control.score {
        out.extend_from_slice(b": ");
        score.write_plain(out);
        let max = control.max_score.map(|(max, _)| max);
        if let Some(max) = max {
            out.extend_from_slice(b" of ");
            max.write_plain(out);
        }
        out.push(b' ');
        out.extend_from_slice(points_unit(max.or(Some(score))).as_bytes());
    }
}

fn write_decision_rest(decision: &StateUpdate, rest: &mut Vec<u8>) {
    json_text("state_assigned_to", decision.assigned_to.as_deref(), rest);
    json_text("state_updated", decision.updated.as_deref(), rest);
    json_text("state_comment", decision.comment.as_deref(), rest);
}

fn write_summary(
    summary: &SummaryRecord<'_>,
    sentence: &str,
    rest: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    pair(" msg=", Some(sentence), LONG, out);

    number(" cfp1Label=score cfp1=", summary.current, out);
    number(" cfp2Label=maxScore cfp2=", summary.max, out);
    number(" cfp3Label=scorePercent cfp3=", summary.percentage, out);
    number(" cfp4Label=sumOfControls cfp4=", Some(summary.sum_of_controls), out);
    integer(" cn1Label=controlsTotal cn1=", Some(summary.controls_total.into()), out);
    integer(" cn2Label=recordsSent cn2=", Some(summary.records_sent.into()), out);
    integer(" cn3Label=licensedUsers cn3=", summary.licensed_users, out);
    let services: Vec<&str> = summary.enabled_services.iter().map(AsRef::as_ref).collect();
    pair(" cs1Label=enabledServices cs1=", Some(&services.join(",")), CUSTOM_STRING, out);

    let scores =
        summary.categories.iter().map(|(name, points)| (name.as_ref(), points.to_string()));
    write_scores_rest("categories", scores, rest);
    let averages =
        summary.averages.iter().filter_map(|a| Some((a.basis.as_ref(), a.score?.to_string())));
    write_scores_rest("averages", averages, rest);
    write_additional_rest(summary.additional.iter().map(|(k, v)| (k.as_ref(), v.as_ref())), rest);
}

fn write_change(record: &ChangeRecord<'_>, sentence: &str, rest: &mut Vec<u8>, out: &mut Vec<u8>) {
    let change = &record.change;
    pair(" cat=", record.category, LONG, out);
    pair(" msg=", Some(sentence), LONG, out);
    pair(" cs1Label=controlName cs1=", Some(change.control), CUSTOM_STRING, out);
    pair(" cs2Label=controlTitle cs2=", Some(record.title()), CUSTOM_STRING, out);

    let profile = record.profile;
    pair(" request=", profile.and_then(|p| p.action_url.as_deref()), LONG, out);
    pair(" destinationServiceName=", profile.and_then(|p| p.service.as_deref()), LONG, out);
    if let Some(decision) = change.after.decision {
        pair(" cs3Label=controlState cs3=", decision.state.as_deref(), CUSTOM_STRING, out);
        pair(" suser=", decision.updated_by.as_deref(), LONG, out);
    }

    number(" cfp1Label=score cfp1=", change.after.score, out);
    number(" cfp2Label=maxScore cfp2=", change.after.max_score, out);
    number(" cfp3Label=scorePercent cfp3=", change.after.percentage, out);
    number(" cfp4Label=scoreDelta cfp4=", change.delta, out);
    pair(" flexString2Label=cause flexString2=", Some(change.cause.as_str()), LONG, out);

    // A truncated JSON object cannot be parsed, so the object is omitted if it does not fit.
    let before = rest.len();
    open("change", rest);
    super::change::write_change(record, rest);
    end(rest);
    if rest.len() >= CUSTOM_STRING {
        rest.truncate(before);
        rest.extend_from_slice(b"\"truncated\":true,");
    }
}

fn write_quality(
    record: &QualityRecord<'_>,
    sentence: &str,
    rest: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    pair(" msg=", Some(sentence), LONG, out);
    pair(" outcome=", Some(record.phase.as_str()), LONG, out);
    pair(" reason=", Some(record.details), LONG, out);

    open("quality", rest);
    super::change::write_quality(record, rest);
    end(rest);
}

/// Writes an object of points by name as a member of `cs6`.
fn write_scores_rest<'a>(
    key: &str,
    scores: impl Iterator<Item = (&'a str, String)>,
    rest: &mut Vec<u8>,
) {
    rest.extend_from_slice(format!("\"{key}\":").as_bytes());
    let scores: Vec<(&str, String)> = scores.collect();
    write_additional(scores.iter().map(|(name, points)| (*name, points.as_str())), rest);
    rest.push(b',');
}

/// Writes the unknown fields as the member `additional` of `cs6`. If they do not fit, the member is
/// omitted and `truncated` is set.
fn write_additional_rest<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>, rest: &mut Vec<u8>) {
    let before = rest.len();
    rest.extend_from_slice(b"\"additional\":");
    write_additional(fields, rest);
    if rest.ends_with(b":{}") {
        rest.truncate(before);
    } else if rest.len() >= CUSTOM_STRING {
        rest.truncate(before);
        rest.extend_from_slice(b"\"truncated\":true");
    }
}

/// Closes the JSON object and writes it as `cs6`.
fn write_rest(rest: &mut Vec<u8>, out: &mut Vec<u8>) {
    close(b'}', rest);
    out.extend_from_slice(b" cs6Label=rest cs6=");

    // The JSON is escaped again for CEF. It contains no line breaks, because JSON escapes them.
    let mut left = &rest[..];
    while let Some(at) = left.iter().position(|b| matches!(b, b'\\' | b'=')) {
        out.extend_from_slice(&left[..at]);
        out.extend_from_slice(&[b'\\', left[at]]);
        left = &left[at + 1..];
    }
    out.extend_from_slice(left);
}

/// Writes a pair if its value is not blank. `start` is everything before the value: ` cat=`, or
/// ` cs1Label=controlName cs1=`.
fn pair(start: &str, value: Option<&str>, max: usize, out: &mut Vec<u8>) {
    if let Some(value) = value.filter(|v| !trim(v).is_empty()) {
        out.extend_from_slice(start.as_bytes());
        write_value(value, max, out);
    }
}

fn number(start: &str, value: Option<Number>, out: &mut Vec<u8>) {
    if let Some(value) = value {
        out.extend_from_slice(start.as_bytes());
        value.write_plain(out);
    }
}

/// Writes a whole number; any other number is omitted, because `cn` fields are integers.
fn integer(start: &str, value: Option<Number>, out: &mut Vec<u8>) {
    number(start, value.filter(|v| v.as_integer().is_some()), out);
}

/// Parses an RFC 3339 time, which is not one of CEF's date formats.
fn parse_time(text: &str) -> Option<UnixMillis> {
    text.parse::<jiff::Timestamp>().ok().map(UnixMillis::from)
}

/// Writes a pair whose value is a time in milliseconds since 1970-01-01. A time before that is
/// omitted.
fn write_date(start: &str, time: Option<UnixMillis>, out: &mut Vec<u8>) {
    if let Some(ms) = time.and_then(|time| u64::try_from(time.as_i64()).ok()) {
        out.extend_from_slice(start.as_bytes());
        crate::model::write_integer(ms, out);
    }
}
