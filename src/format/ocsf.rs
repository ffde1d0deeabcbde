//! Open Cybersecurity Schema Framework (OCSF): Compliance Finding, class 2003, in schema version
//! 1.3.0, which most receivers support.
//!
//! Source: <https://schema.ocsf.io/1.3.0/classes/compliance_finding>. `time` is the time of
//! the poll, and `metadata.original_time` is the `time` of the record. `status_id` is the state of
//! the finding in triage; `compliance.status_id` is whether the control passes. Fields without an
//! equivalent, such as the points, are in `unmapped`, because OCSF's `score` has a different
//! meaning. The hint of an observation is in `remediation.desc`.

use super::{
    Options, SHORT_TEXT, Texts,
    class::sentence,
    ecs::{write_change, write_control, write_quality, write_summary},
    json::write_extra_fields,
    members::{boolean, close, end, integer, list, open, text},
    severity::cef_severity,
    text::{cut, plain},
};
use crate::model::{
    Body, ChangeRecord, ControlOutcome, ControlRecord, DecisionState, Phase, Record, Severity,
};

/// A formatter for OCSF, one JSON object per record.
#[derive(Debug)]
pub struct Ocsf {
    options: Options,
}

/// The value of `metadata.version`.
const VERSION: &str = "1.3.0";
/// The value of `class_uid` for a Compliance Finding.
const CLASS: i64 = 2_003;
/// The value of `activity_id` for "Update", because a finding is sent again every day.
const ACTIVITY: i64 = 2;
/// The value of `cloud.account.type_id` for "M365 Tenant".
const M365_TENANT: i64 = 17;

impl Ocsf {
    /// A formatter, which has no cache.
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// Appends the record as one line, without a trailing newline.
    pub fn write(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        out.push(b'{');
        integer("activity_id", ACTIVITY, out);
        text("activity_name", Some("Update"), out);
        integer("category_uid", 2, out);
        text("category_name", Some("Findings"), out);
        integer("class_uid", CLASS, out);
        text("class_name", Some("Compliance Finding"), out);
        integer("type_uid", CLASS * 100 + ACTIVITY, out);
        text("type_name", Some("Compliance Finding: Update"), out);
        integer("time", record.observed_at.as_i64(), out);

        let (severity, name) = severity(cef_severity(record));
        integer("severity_id", severity, out);
        text("severity", Some(name), out);

        let (status, name) = match &record.body {
            Body::Control(control) => triage(control),
            Body::Summary(_) => (1, "New"),
            Body::Change(change) => triage_change(change),
            Body::Quality(quality) => match quality.phase {
                Phase::Begin => (1, "New"),
                Phase::End => (4, "Resolved"),
            },
        };
        integer("status_id", status, out);
        text("status", Some(name), out);
        text("message", Some(&sentence(record)), out);

        write_metadata(record, out);
        write_compliance(record, out);
        self.finding(record, out);
        write_tenant(record, out);
        self.unmapped(record, out);
        out.push(b'}');
    }

    fn unmapped(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        let snapshot = record.snapshot;
        open("unmapped", out);
        text("kind", Some(record.kind().as_str()), out);
        text("snapshot_date", Some(&snapshot.day.to_string()), out);
        integer("revision", snapshot.revision.into(), out);
        boolean("late", Some(snapshot.late), out);
        boolean("backfilled", Some(snapshot.backfilled), out);
        boolean("partial", Some(snapshot.partial), out);
        if record.replayed {
            boolean("replayed", Some(true), out);
        }

        match &record.body {
            Body::Control(control) => write_control(control, out),
            Body::Summary(summary) => write_summary(summary, out),
            Body::Change(change) => write_change(change, out),
            Body::Quality(quality) => write_quality(quality, out),
        }
        write_extra_fields(&self.options, out);
        close(b'}', out);
    }

    /// Writes `finding_info`, and `remediation` if there is one. The `uid` of a finding is the same
    /// on every day, so that a receiver updates the finding instead of creating another one.
    fn finding(&self, record: &Record<'_>, out: &mut Vec<u8>) {
        let (uid, title) = match &record.body {
            Body::Control(control) => return self.control(record, control, out),
            Body::Summary(_) => {
                ("summary".to_owned(), "Microsoft Secure Score of the tenant".to_owned())
            }
            Body::Change(change) => {
                let what = change.change.what.as_str();
                (format!("{}/{what}", change.change.control), change.title().to_owned())
            }
            Body::Quality(quality) => {
                let what = quality.what.as_str();
                (format!("{what}/{}", quality.subject), sentence(record))
            }
        };

        open("finding_info", out);
        text("uid", Some(&format!("{}/{uid}", record.tenant.id)), out);
        text("title", Some(&title), out);
        integer("created_time", record.time.as_i64(), out);
        end(out);

        if let Body::Quality(quality) = &record.body
            && let Some(hint) = quality.hint
        {
            open("remediation", out);
            text("desc", Some(hint), out);
            end(out);
        }
    }

    fn control(&self, record: &Record<'_>, control: &ControlRecord<'_>, out: &mut Vec<u8>) {
        let profile = control.profile.map(|slot| &slot.profile);
        let texts = self.options.texts;
        let max = if texts == Texts::Full { usize::MAX } else { SHORT_TEXT };
        let url = profile.and_then(|p| p.action_url.as_deref());

        open("finding_info", out);
        text("uid", Some(&format!("{}/{}", record.tenant.id, control.id)), out);
        text("title", Some(control.title()), out);
        if texts != Texts::None {
            let description = control.description.map(plain);
            text("desc", description.as_deref().map(|t| cut(t, max)).as_deref(), out);
        }
        list("types", control.category.into_iter(), out);
        integer("created_time", record.snapshot.day.start().as_i64(), out);
        text("src_url", url.filter(|url| url.starts_with("http")), out);
        end(out);

        let remediation = profile.and_then(|p| p.remediation.as_deref()).map(plain);
        if texts != Texts::None
            && let Some(remediation) = remediation.filter(|text| !text.is_empty())
        {
            open("remediation", out);
            text("desc", Some(&cut(&remediation, max)), out);
            list("references", url.into_iter(), out);
            end(out);
        }
    }
}

/// Writes the tenant as the affected resource and as `cloud.account`.
fn write_tenant(record: &Record<'_>, out: &mut Vec<u8>) {
    let tenant = record.tenant.id.to_string();

    out.extend_from_slice(b"\"resources\":[{");
    text("uid", Some(&tenant), out);
    text("name", Some(&record.tenant.name), out);
    text("type", Some("Microsoft 365 tenant"), out);
    let labels = record.tenant.labels.iter().map(|(key, value)| format!("{key}={value}"));
    let labels: Vec<String> = labels.collect();
    if !labels.is_empty() {
        list("labels", labels.iter().map(String::as_str), out);
    }
    close(b'}', out);
    out.extend_from_slice(b"],");

    open("cloud", out);
    text("provider", Some("Microsoft"), out);
    open("account", out);
    text("uid", Some(&tenant), out);
    text("name", Some(&record.tenant.name), out);
    text("type", Some("M365 Tenant"), out);
    integer("type_id", M365_TENANT, out);
    end(out);
    end(out);
}

fn write_metadata(record: &Record<'_>, out: &mut Vec<u8>) {
    open("metadata", out);
    text("version", Some(VERSION), out);
    text("uid", Some(&record.event_id.to_string()), out);
    text("event_code", Some(record.control_id()).filter(|id| !id.is_empty()), out);
    text("original_time", Some(&record.time_text()), out);
    text("tenant_uid", Some(&record.tenant.id.to_string()), out);
    list("profiles", ["cloud"].into_iter(), out);

    open("product", out);
    text("name", Some("Microsoft Secure Score"), out);
    text("vendor_name", Some("Microsoft"), out);
    end(out);
    end(out);
}

fn write_compliance(record: &Record<'_>, out: &mut Vec<u8>) {
    open("compliance", out);
    list("standards", ["Microsoft Secure Score"].into_iter(), out);

    if let Body::Control(control) = &record.body {
        text("control", Some(control.id), out);
        let outcome = control.outcome();
        let (id, name) = match outcome {
            Some(ControlOutcome::Pass) => (1, "Pass"),
            Some(ControlOutcome::NotApplicable | ControlOutcome::Accepted) => (2, "Warning"),
            Some(ControlOutcome::Partial | ControlOutcome::Fail) => (3, "Fail"),
            None => (0, "Unknown"),
        };

        integer("status_id", id, out);
        text("status", Some(name), out);
        text("status_code", outcome.map(ControlOutcome::as_str), out);
        let status = control.implementation_status.map(plain);
        text("status_detail", status.as_deref(), out);
    } else {
        let control = Some(record.control_id()).filter(|id| !id.is_empty());
        text("control", Some(control.unwrap_or("Microsoft Secure Score")), out);

        let ((id, name), what) = match &record.body {
            Body::Change(change) => (compliance_status(change), Some(change.change.what.as_str())),
            Body::Quality(quality) => ((0, "Unknown"), Some(quality.what.as_str())),
            Body::Control(_) | Body::Summary(_) => ((0, "Unknown"), None),
        };
        integer("status_id", id, out);
        text("status", Some(name), out);
        text("status_detail", what, out);
    }
    end(out);
}

/// `status_id` of a control: the state of its finding in triage.
fn triage(control: &ControlRecord<'_>) -> (i64, &'static str) {
    match (control.known_state(), control.outcome()) {
        (Some(DecisionState::Ignored), _) => (3, "Suppressed"),
        (_, Some(ControlOutcome::Pass)) | (Some(DecisionState::ThirdParty), _) => (4, "Resolved"),
        (Some(DecisionState::Reviewed), _) => (2, "In Progress"),
        _ => (1, "New"),
    }
}

/// `status_id` of a change: a historical or informational one needs no triage.
fn triage_change(change: &ChangeRecord<'_>) -> (i64, &'static str) {
    let is_suppressed = change.change.historical || change.severity == Severity::Informational;
    if is_suppressed { (3, "Suppressed") } else { (1, "New") }
}

/// `compliance.status_id` of a change: whether the control has its maximum score after the change.
fn compliance_status(change: &ChangeRecord<'_>) -> (i64, &'static str) {
    let after = &change.change.after;
    match (after.score, after.max_score) {
        (Some(score), Some(max)) if score >= max => (1, "Pass"),
        (Some(_), Some(_)) => (3, "Fail"),
        _ => (0, "Unknown"),
    }
}

/// `severity_id` for a CEF severity.
fn severity(cef: u8) -> (i64, &'static str) {
    match cef {
        0..=2 => (1, "Informational"),
        3 => (2, "Low"),
        4..=6 => (3, "Medium"),
        7..=8 => (4, "High"),
        _ => (5, "Critical"),
    }
}
