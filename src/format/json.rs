//! The canonical JSON of a record; every other format is a mapping of it.
//!
//! Its JSON Schema, `src/model/record.schema.json`, is the contract with receivers. A value that
//! Microsoft did not send is omitted and never written as 0 or "". The decision in a control record
//! is an exception: all five of its fields are written, and an absent one is null.

use super::{
    Options, SHORT_TEXT, Texts,
    cache::{ByEntry, ByProfile},
    change,
    members::{boolean, close, float, list, plain_number, raw, text, write_additional, write_key},
    text::{cut, plain},
};
use crate::model::{Body, ControlRecord, Profile, Record, SCHEMA, StateUpdate, SummaryRecord};

/// A formatter for canonical JSON, one object per line.
#[derive(Debug)]
pub struct Json {
    options: Options,
    /// The rendered member `fields`, which is the same in every record.
    fields: Vec<u8>,
    entry: ByEntry,
    profiles: ByProfile<Rendered>,
}

/// The parts of a control's record that depend only on its profile. Each is a list of members that
/// ends in a comma.
#[derive(Debug)]
struct Rendered {
    title: Vec<u8>,
    service: Vec<u8>,
    tail: Vec<u8>,
    additional: Vec<u8>,
    /// The most recent description and its rendered member. Descriptions are part of the snapshot,
    /// but they rarely change from day to day.
    description: (String, Vec<u8>),
}

impl Json {
    /// A formatter with an empty cache.
    pub fn new(options: Options) -> Self {
        let mut fields = Vec::new();
        write_extra_fields(&options, &mut fields);
        Self { options, fields, entry: ByEntry::default(), profiles: ByProfile::default() }
    }

    /// Appends the record as one line, without a trailing newline.
    pub fn write(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"schema\":\"");
        out.extend_from_slice(SCHEMA.as_bytes());
        out.extend_from_slice(b"\",\"kind\":\"");
        out.extend_from_slice(record.kind().as_str().as_bytes());
        out.extend_from_slice(b"\",\"event_id\":\"");
        out.extend_from_slice(&record.event_id.hex());
        out.extend_from_slice(b"\",");
        if record.replayed {
            out.extend_from_slice(b"\"replayed\":true,");
        }
        out.extend_from_slice(&self.fields);
        out.extend_from_slice(self.entry.get(record, |out| write_head(record, out)));

        match &record.body {
            Body::Control(control) => self.control(control, out),
            Body::Summary(summary) => write_summary(summary, out),
            Body::Change(change) => {
                member("control", |out| change::write_control(change, out), out);
                out.push(b',');
                member("change", |out| change::write_change(change, out), out);
            }
            Body::Quality(quality) => {
                member("quality", |out| change::write_quality(quality, out), out);
            }
        }
        out.push(b'}');
    }

    fn control(&mut self, control: &ControlRecord<'_>, out: &mut Vec<u8>) {
        let texts = self.options.texts;
        let mut rendered = control.profile.map(|profile| {
            self.profiles.get(profile.key, || Rendered::new(&profile.profile, texts))
        });

        out.extend_from_slice(b"\"control\":{");
        text("id", Some(control.id), out);
        extend(out, rendered.as_ref().map(|r| &r.title));
        text("category", control.category, out);
        extend(out, rendered.as_ref().map(|r| &r.service));
        write_scores(control, out);
        if let Some(decision) = control.decision {
            write_decision(decision, out);
        }
        extend(out, rendered.as_ref().map(|r| &r.tail));
        match &mut rendered {
            Some(rendered) => rendered.write_description(control.description, texts, out),
            None => write_prose("description", control.description, texts, out),
        }
        close(b'}', out);

        out.extend_from_slice(b",\"additional\":");
        write_additional(control.additional.iter().map(|(k, v)| (k.as_ref(), v.as_ref())), out);
        out.extend_from_slice(b",\"additional_profile\":");
        match rendered {
            Some(rendered) => out.extend_from_slice(&rendered.additional),
            None => out.extend_from_slice(b"{}"),
        }
    }
}

impl Rendered {
    fn new(profile: &Profile, texts: Texts) -> Self {
        let (mut title, mut service, mut tail, mut additional) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());

        text("title", profile.title.as_deref().map(str::trim), &mut title);
        text("service", profile.service.as_deref(), &mut service);
        text("tier", profile.tier.as_deref(), &mut service);

        text("action_type", profile.action_type.as_deref(), &mut tail);
        boolean("deprecated", profile.deprecated, &mut tail);
        plain_number("rank", profile.rank, &mut tail);
        text("user_impact", profile.user_impact.as_deref(), &mut tail);
        text("implementation_cost", profile.implementation_cost.as_deref(), &mut tail);
        list("threats", profile.threats.iter().map(String::as_str), &mut tail);
        text("action_url", profile.action_url.as_deref(), &mut tail);
        write_prose("remediation", profile.remediation.as_deref(), texts, &mut tail);
        write_prose("remediation_impact", profile.remediation_impact.as_deref(), texts, &mut tail);

        write_additional(
            profile.additional.iter().map(|(k, v)| (k.as_str(), v.as_str())),
            &mut additional,
        );
        Self { title, service, tail, additional, description: Default::default() }
    }

    fn write_description(&mut self, description: Option<&str>, texts: Texts, out: &mut Vec<u8>) {
        let (last, written) = &mut self.description;
        match description {
            Some(description) if texts == Texts::Short => {
                if last != description {
                    description.clone_into(last);
                    written.clear();
                    write_prose("description", Some(description), texts, written);
                }
                out.extend_from_slice(written);
            }
            other => write_prose("description", other, texts, out),
        }
    }
}

/// Writes the member `fields` with the operator's `extra_fields`, if there are any.
pub(super) fn write_extra_fields(options: &Options, out: &mut Vec<u8>) {
    if !options.fields.is_empty() {
        super::members::open("fields", out);
        options.fields.iter().for_each(|(key, value)| text(key, Some(value), out));
        super::members::end(out);
    }
}

/// Writes the members from `time` to `snapshot`, which are the same for all records of an entry. An
/// observation has no `snapshot`.
fn write_head(record: &Record<'_>, out: &mut Vec<u8>) {
    let snapshot = record.snapshot;
    text("time", Some(&record.time_text()), out);
    text("observed_time", Some(record.observed_time), out);
    out.extend_from_slice(b"\"tenant\":{");
    text("id", Some(&record.tenant.id.to_string()), out);
    text("name", Some(&record.tenant.name), out);
    out.extend_from_slice(b"\"labels\":{");
    for (label, value) in &record.tenant.labels {
        text(label, Some(value), out);
    }
    close(b'}', out);
    out.extend_from_slice(b"},");

    if matches!(record.body, Body::Quality(_)) {
        return;
    }
    super::members::open("snapshot", out);
    text("id", Some(&snapshot.id), out);
    text("date", Some(&snapshot.day.to_string()), out);
    let (revision, seq) = (snapshot.revision, snapshot.seq);
    out.extend_from_slice(format!("\"revision\":{revision},\"seq\":{seq},").as_bytes());
    boolean("late", Some(snapshot.late), out);
    boolean("backfilled", Some(snapshot.backfilled), out);
    boolean("partial", Some(snapshot.partial), out);
    close(b'}', out);
    out.push(b',');
}

fn member(key: &str, write: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    super::members::open(key, out);
    write(out);
    close(b'}', out);
}

fn write_scores(control: &ControlRecord<'_>, out: &mut Vec<u8>) {
    float("score", control.score, out);
    float("max_score", control.max_score.map(|(max, _)| max), out);
    float("percentage", control.percentage, out);
    text("implementation_status", control.implementation_status, out);
    plain_number("count", control.count, out);
    plain_number("total", control.total, out);
    boolean("on", control.on, out);
    text("last_synced", control.last_synced, out);
    text("max_score_source", control.max_score.map(|(_, source)| source.as_str()), out);
}

fn write_decision(decision: &StateUpdate, out: &mut Vec<u8>) {
    let fields = [
        ("state", &decision.state),
        ("state_assigned_to", &decision.assigned_to),
        ("state_updated_by", &decision.updated_by),
        ("state_updated", &decision.updated),
        ("state_comment", &decision.comment),
    ];
    for (key, value) in fields {
        if let Some(value) = value {
            text(key, Some(value), out);
        } else {
            write_key(key, out);
            out.extend_from_slice(b"null,");
        }
    }
}

fn write_summary(summary: &SummaryRecord<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"score\":{");
    float("current", summary.current, out);
    float("max", summary.max, out);
    float("percentage", summary.percentage, out);
    float("sum_of_controls", Some(summary.sum_of_controls), out);

    out.extend_from_slice(b"\"categories\":{");
    for (category, points) in &summary.categories {
        float(category, Some(*points), out);
    }
    close(b'}', out);
    out.push(b',');

    plain_number("active_users", summary.active_users, out);
    plain_number("licensed_users", summary.licensed_users, out);
    list("enabled_services", summary.enabled_services.iter().map(AsRef::as_ref), out);

    out.extend_from_slice(b"\"averages\":[");
    for average in &summary.averages {
        out.push(b'{');
        text("basis", Some(&average.basis), out);
        float("score", average.score, out);
        for (key, value) in &average.additional {
            // Microsoft sends -1 for an absent value, as a number or as text.
            if !matches!(value.as_ref(), "-1" | "-1.0" | "\"-1\"" | "null") {
                raw(key, value, out);
            }
        }
        close(b'}', out);
        out.push(b',');
    }
    close(b']', out);
    out.push(b',');

    plain_number("controls_total", Some(summary.controls_total.into()), out);
    plain_number("records_sent", Some(summary.records_sent.into()), out);
    close(b'}', out);

    out.extend_from_slice(b",\"additional\":");
    write_additional(summary.additional.iter().map(|(k, v)| (k.as_ref(), v.as_ref())), out);
}

/// Writes a description or remediation text as the option `texts` requires.
fn write_prose(key: &str, prose: Option<&str>, texts: Texts, out: &mut Vec<u8>) {
    match (texts, prose) {
        (Texts::None, _) | (_, None) => {}
        (Texts::Short, Some(prose)) => text(key, Some(&cut(&plain(prose), SHORT_TEXT)), out),
        (Texts::Full, Some(prose)) => text(key, Some(prose), out),
    }
}

fn extend(out: &mut Vec<u8>, piece: Option<&Vec<u8>>) {
    if let Some(piece) = piece {
        out.extend_from_slice(piece);
    }
}
