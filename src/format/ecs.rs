//! Elastic Common Schema (ECS): a control is a `rule`, and its score is in
//! `microsoft.secure_score`.
//!
//! Source: ECS reference, version 8.11. ECS has no field set for security posture, so `event.kind`
//! of a control and a summary is `state`, and fields without an equivalent in ECS are in the custom
//! object `microsoft.secure_score`.

use super::{
    Options, SHORT_TEXT, Texts,
    class::{action, sentence},
    json::write_extra_fields,
    members::{
        boolean, close, end, float, integer, list, open, plain_number, text, write_additional,
    },
    severity::cef_severity,
    text::{cut, plain},
};
use crate::model::{
    Body, ChangeRecord, ControlOutcome, ControlRecord, QualityRecord, Record, SummaryRecord,
};

/// A formatter for ECS, one JSON object per record.
#[derive(Debug)]
pub struct Ecs {
    options: Options,
}

/// The value of `ecs.version`.
const VERSION: &str = "8.11.0";

impl Ecs {
    /// A formatter, which has no cache.
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// Appends the record as one line, without a trailing newline.
    pub fn write(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        out.push(b'{');
        text("@timestamp", Some(&record.time_text()), out);
        text("message", Some(&sentence(record)), out);
        open("ecs", out);
        text("version", Some(VERSION), out);
        end(out);
        write_event(record, out);
        write_tenant(record, out);

        open("observer", out);
        text("hostname", Some(&self.options.host), out);
        text("product", Some("secure-score-forwarder"), out);
        end(out);
        let extra_fields = self.options.fields.iter().map(|(key, value)| (key, value));
        open("labels", out);
        for (label, value) in record.tenant.labels.iter().chain(extra_fields) {
            text(label, Some(value), out);
        }
        end(out);

        match &record.body {
            Body::Control(control) => self.rule(control, out),
            Body::Change(change) => write_changed_rule(change, out),
            Body::Summary(_) | Body::Quality(_) => {}
        }

        open("microsoft", out);
        open("secure_score", out);
        write_snapshot(record, out);
        match &record.body {
            Body::Control(control) => write_control(control, out),
            Body::Summary(summary) => write_summary(summary, out),
            Body::Change(change) => write_change(change, out),
            Body::Quality(quality) => write_quality(quality, out),
        }
        write_extra_fields(&self.options, out);
        close(b'}', out);
        close(b'}', out);
        out.push(b'}');
    }

    /// Writes the control as `rule`, and the service that it belongs to as `service`.
    fn rule(&self, control: &ControlRecord<'_>, out: &mut Vec<u8>) {
        let profile = control.profile.map(|slot| &slot.profile);

        open("rule", out);
        text("id", Some(control.id), out);
        text("name", Some(control.title()), out);
        text("category", control.category, out);
        text("ruleset", Some("Microsoft Secure Score"), out);
        if self.options.texts != Texts::None {
            let max = if self.options.texts == Texts::Full { usize::MAX } else { SHORT_TEXT };
            let description = control.description.map(plain);
            text("description", description.as_deref().map(|t| cut(t, max)).as_deref(), out);
        }
        text("reference", profile.and_then(|p| p.action_url.as_deref()), out);
        end(out);

        if let Some(service) = profile.and_then(|p| p.service.as_deref()) {
            open("service", out);
            text("name", Some(service), out);
            end(out);
        }
    }
}

/// Writes the tenant as `organization` and as `cloud.account`.
fn write_tenant(record: &Record<'_>, out: &mut Vec<u8>) {
    let tenant = record.tenant.id.to_string();

    open("organization", out);
    text("id", Some(&tenant), out);
    text("name", Some(&record.tenant.name), out);
    end(out);

    open("cloud", out);
    text("provider", Some("azure"), out);
    open("account", out);
    text("id", Some(&tenant), out);
    text("name", Some(&record.tenant.name), out);
    end(out);
    end(out);
}

fn write_event(record: &Record<'_>, out: &mut Vec<u8>) {
    open("event", out);
    text("id", Some(&record.event_id.to_string()), out);

    // The values must be allowed values of `event.kind`, `event.category` and `event.type`.
    let (kind, category, event_type) = match &record.body {
        Body::Change(_) => ("event", "configuration", "change"),
        Body::Quality(_) => ("event", "host", "info"),
        Body::Control(_) | Body::Summary(_) => ("state", "configuration", "info"),
    };
    text("kind", Some(kind), out);
    list("category", [category].into_iter(), out);
    list("type", [event_type].into_iter(), out);

    text("action", Some(action(record)), out);
    text("module", Some("microsoft_secure_score"), out);
    text("dataset", Some(&format!("microsoft_secure_score.{}", record.kind().as_str())), out);
    text("created", Some(record.observed_time), out);
    integer("severity", cef_severity(record).into(), out);

    if let Body::Control(control) = &record.body {
        text("code", Some(control.id), out);
        let outcome = match control.outcome() {
            Some(ControlOutcome::Pass | ControlOutcome::Accepted) => "success",
            Some(ControlOutcome::Partial | ControlOutcome::Fail) => "failure",
            Some(ControlOutcome::NotApplicable) | None => "unknown",
        };
        text("outcome", Some(outcome), out);
        let reason = control.implementation_status.map(plain);
        text("reason", reason.as_deref(), out);
        let url = control.profile.and_then(|slot| slot.profile.action_url.as_deref());
        text("url", url, out);
    }
    end(out);
}

/// Writes the kind of the record and the snapshot from which it is derived. An observation has no
/// snapshot.
fn write_snapshot(record: &Record<'_>, out: &mut Vec<u8>) {
    text("kind", Some(record.kind().as_str()), out);

    if !matches!(record.body, Body::Quality(_)) {
        let snapshot = record.snapshot;
        open("snapshot", out);
        text("id", Some(&snapshot.id), out);
        text("date", Some(&snapshot.day.to_string()), out);
        integer("revision", snapshot.revision.into(), out);
        integer("seq", i64::try_from(snapshot.seq.get()).unwrap_or(i64::MAX), out);
        boolean("late", Some(snapshot.late), out);
        boolean("backfilled", Some(snapshot.backfilled), out);
        boolean("partial", Some(snapshot.partial), out);
        end(out);
    }

    if record.replayed {
        boolean("replayed", Some(true), out);
    }
}

/// Writes the control that has changed as `rule`, and the author of a decision as `user`.
fn write_changed_rule(change: &ChangeRecord<'_>, out: &mut Vec<u8>) {
    open("rule", out);
    text("id", Some(change.change.control), out);
    text("name", Some(change.title()), out);
    text("category", change.category, out);
    text("ruleset", Some("Microsoft Secure Score"), out);
    end(out);

    let decision = change.change.after.decision;
    if let Some(user) = decision.and_then(|d| d.updated_by.as_deref()) {
        open("user", out);
        text("name", Some(user), out);
        end(out);
    }
}

/// Writes the object `change`, which OCSF also uses.
pub(super) fn write_change(change: &ChangeRecord<'_>, out: &mut Vec<u8>) {
    open("change", out);
    super::change::write_change(change, out);
    end(out);
}

/// Writes the object `quality`, including the hint. OCSF also uses it.
pub(super) fn write_quality(quality: &QualityRecord<'_>, out: &mut Vec<u8>) {
    open("quality", out);
    super::change::write_quality(quality, out);
    end(out);
}

/// Writes the members of a control that have no equivalent in ECS or OCSF.
pub(super) fn write_control(control: &ControlRecord<'_>, out: &mut Vec<u8>) {
    float("score", control.score, out);
    float("max_score", control.max_score.map(|(max, _)| max), out);
    text("max_score_source", control.max_score.map(|(_, source)| source.as_str()), out);
    float("percentage", control.percentage, out);
    text("result", control.outcome().map(ControlOutcome::as_str), out);
    plain_number("count", control.count, out);
    plain_number("total", control.total, out);
    boolean("on", control.on, out);
    text("last_synced", control.last_synced, out);

    if let Some(decision) = control.decision {
        text("state", decision.state.as_deref(), out);
        text("state_assigned_to", decision.assigned_to.as_deref(), out);
        text("state_updated_by", decision.updated_by.as_deref(), out);
        text("state_updated", decision.updated.as_deref(), out);
        text("state_comment", decision.comment.as_deref(), out);
    }
    if let Some(slot) = control.profile {
        let profile = &slot.profile;
        text("tier", profile.tier.as_deref(), out);
        text("action_type", profile.action_type.as_deref(), out);
        boolean("deprecated", profile.deprecated, out);
        plain_number("rank", profile.rank, out);
        text("user_impact", profile.user_impact.as_deref(), out);
        text("implementation_cost", profile.implementation_cost.as_deref(), out);
        list("threats", profile.threats.iter().map(String::as_str), out);
    }
    write_unknown_fields(control.additional, out);
}

/// Writes the members of a summary, none of which has an equivalent in ECS or OCSF.
pub(super) fn write_summary(summary: &SummaryRecord<'_>, out: &mut Vec<u8>) {
    float("score", summary.current, out);
    float("max_score", summary.max, out);
    float("percentage", summary.percentage, out);
    float("sum_of_controls", Some(summary.sum_of_controls), out);

    open("categories", out);
    for (category, points) in &summary.categories {
        float(category, Some(*points), out);
    }
    end(out);

    plain_number("active_users", summary.active_users, out);
    plain_number("licensed_users", summary.licensed_users, out);
    list("enabled_services", summary.enabled_services.iter().map(AsRef::as_ref), out);

    open("averages", out);
    for average in &summary.averages {
        float(&average.basis, average.score, out);
    }
    end(out);

    integer("controls_total", summary.controls_total.into(), out);
    integer("records_sent", summary.records_sent.into(), out);
    write_unknown_fields(summary.additional, out);
}

/// Writes unknown fields as one string with JSON text. Their types may change from day to day, and
/// an index rejects a document in which the type of a field differs from its mapping.
fn write_unknown_fields(fields: &crate::model::Additional<'_>, out: &mut Vec<u8>) {
    if !fields.is_empty() {
        let mut json = Vec::new();
        write_additional(fields.iter().map(|(k, v)| (k.as_ref(), v.as_ref())), &mut json);
        text("additional", Some(&String::from_utf8_lossy(&json)), out);
    }
}
