//! A reference implementation of JSON and CEF, written for readability: it reuses no buffers and
//! caches nothing.

use secure_score_forwarder::{
    format::{Options, SHORT_TEXT, Texts, cef_severity, cut, plain, quality_sentence},
    model::{Additional, Body, ControlRecord, Number, QualityRecord, Record, SummaryRecord},
};

/// The members of a JSON object, in order.
#[derive(Default)]
struct Members(Vec<String>);

impl Members {
    fn raw(&mut self, key: &str, value: impl Into<String>) -> &mut Self {
        self.0.push(format!("{}:{}", string(key), value.into()));
        self
    }

    fn text(&mut self, key: &str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            self.raw(key, string(value));
        }
        self
    }

    fn float(&mut self, key: &str, value: Option<Number>) -> &mut Self {
        if let Some(value) = value {
            self.raw(key, float(value));
        }
        self
    }

    fn number(&mut self, key: &str, value: Option<Number>) -> &mut Self {
        if let Some(value) = value {
            self.raw(key, value.to_string());
        }
        self
    }

    fn boolean(&mut self, key: &str, value: Option<bool>) -> &mut Self {
        if let Some(value) = value {
            self.raw(key, value.to_string());
        }
        self
    }

    fn list<'a>(&mut self, key: &str, values: impl Iterator<Item = &'a str>) -> &mut Self {
        let values: Vec<String> = values.map(string).collect();
        self.raw(key, format!("[{}]", values.join(",")))
    }

    fn object(&self) -> String {
        format!("{{{}}}", self.0.join(","))
    }
}

fn string(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap();
    escape(&quoted)
}

/// The characters that could end a line, or hide or reorder text, as ranges of code points.
const HIDDEN: [(u32, u32); 19] = [
    (0x00, 0x1f),
    (0x7f, 0x9f),
    (0xad, 0xad),
    (0x34f, 0x34f),
    (0x61c, 0x61c),
    (0x115f, 0x1160),
    (0x17b4, 0x17b5),
    (0x180b, 0x180f),
    (0x200b, 0x200b),
    (0x200e, 0x200f),
    (0x2028, 0x202e),
    (0x2060, 0x206f),
    (0x3164, 0x3164),
    (0xfeff, 0xfeff),
    (0xffa0, 0xffa0),
    (0xfff0, 0xfffb),
    (0x1bca0, 0x1bca3),
    (0x1d173, 0x1d17a),
    (0xe0000, 0xe0fff),
];

fn is_hidden(c: char) -> bool {
    HIDDEN.iter().any(|(first, last)| (*first..=*last).contains(&u32::from(c)))
}

/// Writes the hidden characters and the joiners of a JSON text as `\uXXXX`.
fn escape(text: &str) -> String {
    let escaped = |c: char| {
        if !is_hidden(c) && !matches!(c, '\u{200c}' | '\u{200d}') {
            return c.to_string();
        }
        let mut units = [0; 2];
        c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
    };
    text.chars().map(escaped).collect()
}

fn float(number: Number) -> String {
    let text = number.to_string();
    if text.contains('.') { text } else { format!("{text}.0") }
}

fn prose(text: Option<&str>, texts: Texts) -> Option<String> {
    match texts {
        Texts::None => None,
        Texts::Short => text.map(|t| cut(&plain(t), SHORT_TEXT).into_owned()),
        Texts::Full => text.map(str::to_owned),
    }
}

fn additional(fields: &Additional<'_>) -> String {
    let mut members = Members::default();
    for (key, value) in fields {
        members.raw(key, escape(value));
    }
    members.object()
}

/// The canonical JSON of a control, a summary or an observation.
pub fn json(record: &Record<'_>, texts: Texts) -> String {
    let mut tenant = Members::default();
    let mut labels = Members::default();
    for (label, value) in &record.tenant.labels {
        labels.text(label, Some(value));
    }
    tenant
        .text("id", Some(&record.tenant.id.to_string()))
        .text("name", Some(&record.tenant.name))
        .raw("labels", labels.object());

    let time = match record.body {
        Body::Quality(_) => record.observed_time.to_owned(),
        _ => format!("{}T00:00:00Z", record.snapshot.day),
    };
    let mut out = Members::default();
    out.text("schema", Some("secure-score-forwarder/1")).text("kind", Some(record.kind().as_str()));
    out.text("event_id", Some(&record.event_id.to_string())).text("time", Some(&time));
    out.text("observed_time", Some(record.observed_time)).raw("tenant", tenant.object());

    match &record.body {
        Body::Change(_) => unreachable!("the reference does not support changes"),
        Body::Quality(quality) => {
            out.raw("quality", quality_json(quality));
        }
        Body::Control(control) => {
            out.raw("snapshot", snapshot_json(record));
            out.raw("control", control_json(control, texts))
                .raw("additional", additional(control.additional));
            let mut unknown = Members::default();
            for (key, value) in
                control.profile.map(|p| p.profile.additional.as_slice()).unwrap_or_default()
            {
                unknown.raw(key, escape(value));
            }
            out.raw("additional_profile", unknown.object());
        }
        Body::Summary(summary) => {
            out.raw("snapshot", snapshot_json(record));
            out.raw("score", summary_json(summary))
                .raw("additional", additional(summary.additional));
        }
    }
    out.object()
}

fn snapshot_json(record: &Record<'_>) -> String {
    let snapshot = record.snapshot;
    let mut out = Members::default();
    out.text("id", Some(&snapshot.id))
        .text("date", Some(&snapshot.day.to_string()))
        .raw("revision", snapshot.revision.to_string())
        .raw("seq", snapshot.seq.to_string());
    out.boolean("late", Some(snapshot.late))
        .boolean("backfilled", Some(snapshot.backfilled))
        .boolean("partial", Some(snapshot.partial));
    out.object()
}

fn quality_json(q: &QualityRecord<'_>) -> String {
    let mut out = Members::default();
    out.text("what", Some(q.what.as_str()))
        .text("phase", Some(q.phase.as_str()))
        .text("subject", Some(&q.subject.text()))
        .text("first_day", Some(&q.first_day.to_string()))
        .raw("severity", q.severity.cef().to_string())
        .text("details", Some(q.details))
        .text("hint", q.hint);
    out.object()
}

fn control_json(c: &ControlRecord<'_>, texts: Texts) -> String {
    let profile = c.profile.map(|p| &p.profile);
    let mut out = Members::default();
    out.text("id", Some(c.id))
        .text("title", profile.and_then(|p| p.title.as_deref()).map(str::trim))
        .text("category", c.category);

    out.text("service", profile.and_then(|p| p.service.as_deref()))
        .text("tier", profile.and_then(|p| p.tier.as_deref()));
    out.float("score", c.score)
        .float("max_score", c.max_score.map(|m| m.0))
        .float("percentage", c.percentage);
    out.text("implementation_status", c.implementation_status)
        .number("count", c.count)
        .number("total", c.total)
        .boolean("on", c.on);
    out.text("last_synced", c.last_synced)
        .text("max_score_source", c.max_score.map(|m| m.1.as_str()));

    if let Some(d) = c.decision {
        let nullable = [
            ("state", &d.state),
            ("state_assigned_to", &d.assigned_to),
            ("state_updated_by", &d.updated_by),
            ("state_updated", &d.updated),
            ("state_comment", &d.comment),
        ];
        for (key, value) in nullable {
            out.raw(key, value.as_deref().map_or("null".to_owned(), string));
        }
    }

    if let Some(p) = profile {
        out.text("action_type", p.action_type.as_deref())
            .boolean("deprecated", p.deprecated)
            .number("rank", p.rank);
        out.text("user_impact", p.user_impact.as_deref())
            .text("implementation_cost", p.implementation_cost.as_deref());
        out.list("threats", p.threats.iter().map(String::as_str))
            .text("action_url", p.action_url.as_deref());
        out.text("remediation", prose(p.remediation.as_deref(), texts).as_deref());
        out.text("remediation_impact", prose(p.remediation_impact.as_deref(), texts).as_deref());
    }

    out.text("description", prose(c.description, texts).as_deref());
    out.object()
}

fn summary_json(s: &SummaryRecord<'_>) -> String {
    let mut categories = Members::default();
    for (name, points) in &s.categories {
        categories.float(name, Some(*points));
    }

    let averages = s.averages.iter().map(|a| {
        let mut out = Members::default();
        out.text("basis", Some(&a.basis)).float("score", a.score);
        for (key, value) in a
            .additional
            .iter()
            .filter(|(_, value)| !["-1", "-1.0", "\"-1\"", "null"].contains(&value.as_ref()))
        {
            out.raw(key, escape(value));
        }
        out.object()
    });
    let mut out = Members::default();
    out.float("current", s.current)
        .float("max", s.max)
        .float("percentage", s.percentage)
        .float("sum_of_controls", Some(s.sum_of_controls));
    out.raw("categories", categories.object())
        .number("active_users", s.active_users)
        .number("licensed_users", s.licensed_users);
    out.list("enabled_services", s.enabled_services.iter().map(AsRef::as_ref));
    out.raw("averages", format!("[{}]", averages.collect::<Vec<_>>().join(",")));
    out.raw("controls_total", s.controls_total.to_string())
        .raw("records_sent", s.records_sent.to_string());
    out.object()
}

/// The pairs of a CEF extension, in order.
#[derive(Default)]
struct Pairs(Vec<String>);

impl Pairs {
    fn pair(&mut self, key: &str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value.map(str::trim).filter(|v| !v.is_empty()) {
            self.0.push(format!("{key}={}", cef_escape(&cut(value, limit(key)))));
        }
        self
    }

    fn labeled(&mut self, key: &str, label: &str, value: Option<&str>) -> &mut Self {
        if value.is_some_and(|v| !v.trim().is_empty()) {
            self.0.push(format!("{key}Label={label}"));
            self.pair(key, value);
        }
        self
    }

    fn number(&mut self, key: &str, label: &str, value: Option<Number>) -> &mut Self {
        self.labeled(key, label, value.map(|v| v.to_string()).as_deref())
    }

    fn integer(&mut self, key: &str, label: &str, value: Option<Number>) -> &mut Self {
        self.number(key, label, value.filter(|v| v.get().fract() == 0.0))
    }
}

/// The maximum number of characters of a value.
fn limit(key: &str) -> usize {
    match key {
        "cs6" | "msg" => usize::MAX,
        "deviceExternalId" => 255,
        "dvchost" => 100,
        key if key.starts_with("cs") => 4_000,
        _ => 1_023,
    }
}

fn cef_escape(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out += "\\\\",
            '=' => out += "\\=",
            '\n' => out += "\\n",
            '\t' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => out.push(' '),
            c if is_hidden(c) => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

/// The CEF line of a control, a summary or an observation.
pub fn cef(record: &Record<'_>, options: &Options) -> String {
    let snapshot = record.snapshot;
    let (class, name, action, time) = match &record.body {
        Body::Control(_) => {
            ("ControlSnapshot", "Secure Score control snapshot", "snapshot", snapshot.day.start())
        }
        Body::Summary(_) => {
            ("TenantScore", "Secure Score of a tenant", "snapshot", snapshot.day.start())
        }
        Body::Quality(quality) => {
            ("DataQuality", "Secure Score data quality", quality.what.as_str(), record.observed_at)
        }
        Body::Change(_) => unreachable!("the reference does not support changes"),
    };

    let mut out = Pairs::default();
    out.pair("rt", Some(&record.observed_at.as_i64().to_string()));
    out.labeled("deviceCustomDate1", "snapshotTime", Some(&time.as_i64().to_string()));
    out.pair("deviceExternalId", Some(&record.tenant.id.to_string()))
        .pair("dvchost", Some(&options.host));
    out.labeled("flexString1", "snapshotId", Some(&snapshot.id));
    out.pair("externalId", Some(&record.event_id.to_string())).pair("act", Some(action));

    let mut labels = Members::default();
    for (label, value) in &record.tenant.labels {
        labels.text(label, Some(value));
    }
    let mut rest = Members::default();
    rest.text("tenant", Some(&record.tenant.name)).raw("labels", labels.object());
    if !matches!(record.body, Body::Quality(_)) {
        rest.raw("revision", snapshot.revision.to_string())
            .raw("seq", snapshot.seq.to_string())
            .boolean("late", Some(snapshot.late))
            .boolean("backfilled", Some(snapshot.backfilled))
            .boolean("partial", Some(snapshot.partial));
    }

    match &record.body {
        Body::Control(control) => control_cef(control, options.texts, &mut out, &mut rest),
        Body::Summary(summary) => summary_cef(summary, &mut out, &mut rest),
        Body::Quality(quality) => quality_cef(quality, &mut out, &mut rest),
        Body::Change(_) => unreachable!("the reference does not support changes"),
    }
    out.labeled("cs6", "rest", Some(&rest.object()));
    format!(
        "CEF:0|Microsoft|Secure Score|1.0|{class}|{name}|{}|{}",
        cef_severity(record),
        out.0.join(" ")
    )
}

fn control_cef(c: &ControlRecord<'_>, texts: Texts, out: &mut Pairs, rest: &mut Members) {
    let profile = c.profile.map(|p| &p.profile);
    out.pair("cat", c.category).pair("outcome", c.outcome().map(|o| o.as_str()));
    out.pair("reason", c.implementation_status.map(plain).as_deref());

    let score = c.score.map(|score| match c.max_score {
        Some((max, _)) => format!(": {score} of {max} {}", points_unit(Some(max))),
        None => format!(": {score} {}", points_unit(Some(score))),
    });
    out.pair("msg", Some(&format!("{}{}", cut(c.title(), 512), score.unwrap_or_default())));

    out.labeled("cs1", "controlName", Some(c.id));
    if let Some(p) = profile {
        out.labeled("cs2", "controlTitle", p.title.as_deref()).labeled(
            "cs4",
            "threats",
            Some(&p.threats.join(",")),
        );
        if texts != Texts::None {
            let max = if texts == Texts::Short { SHORT_TEXT } else { 4_000 };
            out.labeled(
                "cs5",
                "remediation",
                p.remediation.as_deref().map(|r| cut(&plain(r), max).into_owned()).as_deref(),
            );
        }
        out.pair("request", p.action_url.as_deref())
            .pair("destinationServiceName", p.service.as_deref())
            .integer("cn1", "rank", p.rank);
        rest.text("tier", p.tier.as_deref())
            .text("user_impact", p.user_impact.as_deref())
            .text("implementation_cost", p.implementation_cost.as_deref());
        rest.text("action_type", p.action_type.as_deref()).boolean("deprecated", p.deprecated);
    }
    if let Some(d) = c.decision {
        out.labeled("cs3", "controlState", d.state.as_deref())
            .pair("suser", d.updated_by.as_deref());
    }

    out.number("cfp1", "score", c.score)
        .number("cfp2", "maxScore", c.max_score.map(|m| m.0))
        .number("cfp3", "scorePercent", c.percentage);
    out.integer("cn2", "implementedCount", c.count).integer("cn3", "totalCount", c.total);
    let synced = c
        .last_synced
        .and_then(|t| t.parse::<jiff::Timestamp>().ok())
        .map(|t| t.as_millisecond().to_string());
    out.labeled("deviceCustomDate2", "lastSynced", synced.as_deref());

    rest.text("max_score_source", c.max_score.map(|m| m.1.as_str())).boolean("on", c.on);
    if let Some(d) = c.decision {
        rest.text("state_assigned_to", d.assigned_to.as_deref())
            .text("state_updated", d.updated.as_deref())
            .text("state_comment", d.comment.as_deref());
    }
    if texts != Texts::None {
        rest.text(
            "description",
            c.description.map(|d| cut(&plain(d), SHORT_TEXT).into_owned()).as_deref(),
        );
    }
    if !c.additional.is_empty() {
        rest.raw("additional", additional(c.additional));
    }
}

fn points_unit(number: Option<Number>) -> &'static str {
    if number == Number::new(1.0) { "point" } else { "points" }
}

fn summary_cef(s: &SummaryRecord<'_>, out: &mut Pairs, rest: &mut Members) {
    let points = |n: Option<Number>| n.map_or("unknown".to_owned(), |n| n.to_string());
    let (current, max) = (points(s.current), points(s.max));
    out.pair("msg", Some(&format!("Secure Score {current} of {max} {}", points_unit(s.max))));
    out.number("cfp1", "score", s.current).number("cfp2", "maxScore", s.max).number(
        "cfp3",
        "scorePercent",
        s.percentage,
    );
    out.number("cfp4", "sumOfControls", Some(s.sum_of_controls)).integer(
        "cn1",
        "controlsTotal",
        Some(s.controls_total.into()),
    );
    out.integer("cn2", "recordsSent", Some(s.records_sent.into())).integer(
        "cn3",
        "licensedUsers",
        s.licensed_users,
    );
    out.labeled("cs1", "enabledServices", Some(&s.enabled_services.join(",")));

    let mut categories = Members::default();
    for (name, points) in &s.categories {
        categories.raw(name, points.to_string());
    }
    let mut averages = Members::default();
    for average in &s.averages {
        averages.raw(&average.basis, average.score.unwrap().to_string());
    }
    rest.raw("categories", categories.object()).raw("averages", averages.object());
    if !s.additional.is_empty() {
        rest.raw("additional", additional(s.additional));
    }
}

fn quality_cef(q: &QualityRecord<'_>, out: &mut Pairs, rest: &mut Members) {
    out.pair("msg", Some(&cut(&quality_sentence(q), 1_023)));
    out.pair("outcome", Some(q.phase.as_str())).pair("reason", Some(q.details));
    rest.raw("quality", quality_json(q));
}
