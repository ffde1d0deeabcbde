//! The body of a request as JSON with placeholders, for endpoints whose message format this program
//! does not know.
//!
//! Placeholders are replaced only inside the strings of the template, so the values are always
//! escaped and the body is always valid JSON. A template is checked when the configuration is read.
//! Start reading at [`JsonTemplate::parse`].

use serde_json::{Map, Value};

use crate::{
    error::Explanation,
    foreign_text::ForeignText,
    model::{Body, Record},
    sink::notification::{EventIdLines, Message, Mode, Notice},
};

/// A JSON document whose strings can contain placeholders.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum JsonTemplate {
    Text(Vec<Piece>),
    List(Vec<JsonTemplate>),
    Object(Vec<(String, JsonTemplate)>),
    /// A number, a Boolean value or null.
    Other(Value),
}

/// A part of a string.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    Literal(String),
    Placeholder(Placeholder),
}

/// What is inserted into a string.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Placeholder {
    /// The title of the message.
    Title,
    /// The message without its title.
    Text,
    /// The severity of the record, or the highest one in a digest.
    Severity,
    /// A field of the record, by its name in the table `FIELDS`.
    Field(&'static str),
    /// A label of the tenant.
    Label(String),
}

/// The placeholders for fields of a record. A field that the record does not have is empty.
const FIELDS: &[&str] = &[
    "event_id",
    "kind",
    "what",
    "time",
    "tenant.id",
    "tenant.name",
    "control.id",
    "control.title",
    "control.category",
    "cause",
    "points",
    "sentence",
    "hint",
];

/// The maximum number of characters of a label or another foreign value.
const MAX_VALUE: usize = 300;

impl JsonTemplate {
    /// Parses a template. Fails if the text is not JSON, or if a placeholder is unknown or not
    /// available in this mode.
    pub(super) fn parse(text: &str, mode: Mode) -> Result<Self, Explanation> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| format!("the template is not JSON: {error}"))?;
        Self::of(value, mode)
    }

    fn of(value: Value, mode: Mode) -> Result<Self, Explanation> {
        Ok(match value {
            Value::String(text) => Self::Text(pieces(&text, mode)?),
            Value::Array(items) => {
                let items = items.into_iter().map(|item| Self::of(item, mode));
                Self::List(items.collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let members =
                    members.into_iter().map(|(key, value)| Ok((key, Self::of(value, mode)?)));
                Self::Object(members.collect::<Result<_, Explanation>>()?)
            }
            other => Self::Other(other),
        })
    }

    /// The labels that every tenant must have.
    pub(super) fn labels(&self) -> Vec<String> {
        match self {
            Self::Text(pieces) => pieces
                .iter()
                .filter_map(|piece| match piece {
                    Piece::Placeholder(Placeholder::Label(label)) => Some(label.clone()),
                    _ => None,
                })
                .collect(),
            Self::List(items) => items.iter().flat_map(Self::labels).collect(),
            Self::Object(members) => members.iter().flat_map(|(_, value)| value.labels()).collect(),
            Self::Other(_) => Vec::new(),
        }
    }

    /// The body for one record. Fails if the tenant does not have a label of the template.
    pub(super) fn of_record(
        &self,
        record: &Record<'_>,
        fields: &[(String, String)],
    ) -> Result<Vec<u8>, String> {
        let notice = Notice::of(record);
        let severity = notice.severity().as_str();
        let message = Mode::Messages.message(std::slice::from_ref(&notice), fields);

        let value = |placeholder: &Placeholder| -> Result<String, String> {
            Ok(match placeholder {
                Placeholder::Title => message.title.clone(),
                Placeholder::Text => text(&message),
                Placeholder::Severity => severity.to_owned(),
                Placeholder::Field(name) => field(name, record, &notice),
                Placeholder::Label(label) => {
                    let value = record.tenant.labels.get(label).ok_or_else(|| {
                        format!("tenant `{}` has no label `{label}`", record.tenant.name)
                    })?;
                    ForeignText::new(value).chat(MAX_VALUE)
                }
            })
        };
        Ok(self.filled(&value)?.to_string().into_bytes())
    }

    /// The body for a digest.
    pub(super) fn of_digest(&self, message: &Message) -> Result<Vec<u8>, String> {
        let severity = message.parts.first().map_or("informational", |part| part.severity.as_str());
        let value = |placeholder: &Placeholder| -> Result<String, String> {
            Ok(match placeholder {
                Placeholder::Title => message.title.clone(),
                Placeholder::Text => text(message),
                Placeholder::Severity => severity.to_owned(),
                // `parse` has rejected these for a digest.
                Placeholder::Field(_) | Placeholder::Label(_) => String::new(),
            })
        };
        Ok(self.filled(&value)?.to_string().into_bytes())
    }

    fn filled(
        &self,
        value: &dyn Fn(&Placeholder) -> Result<String, String>,
    ) -> Result<Value, String> {
        Ok(match self {
            Self::Text(pieces) => {
                let mut text = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Literal(literal) => text.push_str(literal),
                        Piece::Placeholder(placeholder) => text.push_str(&value(placeholder)?),
                    }
                }
                Value::String(text)
            }
            Self::List(items) => {
                let items = items.iter().map(|item| item.filled(value));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Self::Object(members) => {
                let mut object = Map::new();
                for (key, member) in members {
                    object.insert(key.clone(), member.filled(value)?);
                }
                Value::Object(object)
            }
            Self::Other(other) => other.clone(),
        })
    }
}

/// The value of a placeholder of `FIELDS`.
fn field(name: &str, record: &Record<'_>, notice: &Notice) -> String {
    let change = match &record.body {
        Body::Change(change) => Some(change),
        _ => None,
    };
    let (title, category) = match &record.body {
        Body::Control(control) => (control.title(), control.category),
        Body::Change(change) => (change.title(), change.category),
        Body::Summary(_) | Body::Quality(_) => ("", None),
    };

    match name {
        "event_id" => notice.event_id.clone(),
        "kind" => record.kind().as_str().to_owned(),
        "what" => notice.what.clone(),
        "time" => record.time_text(),
        "tenant.id" => record.tenant.id.to_string(),
        "tenant.name" => notice.tenant.clone(),
        "control.id" => ForeignText::new(record.control_id()).chat(MAX_VALUE),
        "control.title" => ForeignText::new(title).chat(MAX_VALUE),
        "control.category" => ForeignText::new(category.unwrap_or_default()).chat(MAX_VALUE),
        "cause" => change.map_or("", |record| record.change.cause.as_str()).to_owned(),
        "points" => notice.points.map(|points| points.to_string()).unwrap_or_default(),
        "hint" => notice.hint.clone().unwrap_or_default(),
        _ => notice.sentence.clone(),
    }
}

fn text(message: &Message) -> String {
    message.text(EventIdLines::Omitted).trim_end().to_owned()
}

/// The pieces of a string. `{{` and `}}` are literal braces.
fn pieces(text: &str, mode: Mode) -> Result<Vec<Piece>, Explanation> {
    let (mut pieces, mut literal, mut rest) = (Vec::new(), String::new(), text);

    while let Some(at) = rest.find(['{', '}']) {
        literal.push_str(&rest[..at]);
        rest = &rest[at..];
        if rest.starts_with("{{") || rest.starts_with("}}") {
            literal.push_str(&rest[..1]);
            rest = &rest[2..];
            continue;
        }

        let inner = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let Some((name, after)) = inner else {
            return Err(Explanation::new("unmatched brace")
                .with_hint("write `{{` or `}}` for a literal brace"));
        };
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(Piece::Placeholder(placeholder(name, mode)?));
        rest = after;
    }

    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

fn placeholder(name: &str, mode: Mode) -> Result<Placeholder, Explanation> {
    match name {
        "title" => return Ok(Placeholder::Title),
        "text" => return Ok(Placeholder::Text),
        "severity" => return Ok(Placeholder::Severity),
        _ => {}
    }

    let field = FIELDS.iter().copied().find(|field| *field == name);
    let label = name.strip_prefix("label.").filter(|label| !label.is_empty());
    let of_record = match (field, label) {
        (Some(field), _) => Placeholder::Field(field),
        (None, Some(label)) => Placeholder::Label(label.to_owned()),
        (None, None) => {
            let known: Vec<String> = FIELDS.iter().map(|field| format!("`{{{field}}}`")).collect();
            let hint = format!(
                "use `{{title}}`, `{{text}}`, `{{severity}}`, `{{label.NAME}}` or one of {}",
                known.join(", ")
            );
            let message = format!("unknown placeholder `{{{name}}}`");
            return Err(Explanation::new(message).with_hint(hint));
        }
    };

    match mode {
        Mode::Messages => Ok(of_record),
        Mode::Digest => {
            let message = format!("the placeholder `{{{name}}}` is not available for a digest");
            let hint = "use only `{title}`, `{text}` and `{severity}`";
            Err(Explanation::new(message).with_hint(hint))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        derive::{ObservationEntry, Rules, quality},
        model::{
            Day, Observation, ObservationKind, ObservationSubject, Phase, Seq, SnapshotRef, Tenant,
            TenantId, UnixMillis,
        },
        sink::notification::tests::{change, problem},
    };

    /// The body for a `poll_failed` record of a tenant with the label `customer`.
    fn fill(template: &str) -> Result<Value, String> {
        let tenant = Tenant {
            id: TenantId::TEST,
            name: "a \"quoted\" name".to_owned(),
            labels: [("customer".to_owned(), "c-17".to_owned())].into(),
        };
        let observation = Observation {
            what: ObservationKind::PollFailed,
            subject: ObservationSubject::RetriedPolls,
            first_day: Day::parse("2026-11-22").unwrap(),
            phase: Phase::Begin,
            details: "the secret\nhas expired".to_owned(),
            hint: None,
        };
        let entry = ObservationEntry {
            tenant: &tenant,
            observation: &observation,
            snapshot: &SnapshotRef::of_observation(observation.first_day, Seq::FIRST),
            observed_time: "2026-11-22T06:15:00Z",
            observed_at: UnixMillis::new(1_795_328_100_000),
            repeats: 0,
            replayed: false,
            rules: Rules::none(),
        };

        let template = JsonTemplate::parse(template, Mode::Messages).map_err(|e| e.message)?;
        let body = template.of_record(&quality(&entry), &[])?;
        Ok(serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn placeholders_in_strings_are_replaced_and_escaped() {
        let filled = fill(
            r#"{"summary": "{title}", "list": ["{kind} {what}", "{label.customer}", 1, null],
                "severity": "{severity}", "at": "{time}", "points": "{points}", "{key}": "{{literal}}",
                "text": "{sentence}"}"#,
        );
        let expected = json!({
            "summary": "Secure Score: 1 problem in a \"quoted\" name",
            "list": ["quality poll_failed", "c-17", 1, null],
            "severity": "medium",
            "at": "2026-11-22T06:15:00Z",
            "points": "",
            "{key}": "{literal}",
            "text": "the poll of the tenant failed: the secret has expired",
        });
        assert_eq!(filled.unwrap(), expected);
    }

    #[test]
    fn invalid_templates_are_rejected_with_the_reason() {
        for (template, reason) in [
            ("{", "the template is not JSON"),
            (r#"{"a": "{nonsense}"}"#, "unknown placeholder `{nonsense}`"),
            (r#"{"a": "{label.}"}"#, "unknown placeholder `{label.}`"),
            (r#"{"a": "open {"}"#, "unmatched brace"),
            (r#"{"a": "close }"}"#, "unmatched brace"),
            (r#"{"a": "{label.site}"}"#, "has no label `site`"),
        ] {
            let error = fill(template).unwrap_err();
            assert!(error.contains(reason), "{template}: {error}");
        }
    }

    /// Regression: the message contained the instruction.
    #[test]
    fn faults_of_templates_have_separate_hints() {
        for (template, mode, message, hint) in [
            (
                r#"{"a": "{"}"#,
                Mode::Messages,
                "unmatched brace",
                "write `{{` or `}}` for a literal brace",
            ),
            (
                r#"{"a": "{x}"}"#,
                Mode::Messages,
                "unknown placeholder `{x}`",
                "use `{title}`, `{text}`, `{severity}`, `{label.NAME}` or one of `{event_id}`",
            ),
            (
                r#"{"a": "{kind}"}"#,
                Mode::Digest,
                "the placeholder `{kind}` is not available for a digest",
                "use only `{title}`, `{text}` and `{severity}`",
            ),
        ] {
            let error = JsonTemplate::parse(template, mode).unwrap_err();

            assert_eq!(error.message, message);
            assert!(error.hint.unwrap_or_default().starts_with(hint), "{template}");
        }
    }

    #[test]
    fn a_digest_has_no_fields_of_a_record() {
        let digest = Mode::Digest.message(&[change("a", "added", 1.0, 8), problem("a", "x")], &[]);
        let template =
            JsonTemplate::parse(r#"{"text": "{title} ({severity})\n{text}"}"#, Mode::Digest)
                .unwrap();
        let body: Value = serde_json::from_slice(&template.of_digest(&digest).unwrap()).unwrap();
        let text = body["text"].as_str().unwrap();
        assert!(
            text.starts_with("Secure Score digest: 1 change, 1 problem in a (high)\nSummary\n")
        );

        let error = JsonTemplate::parse(r#"{"text": "{event_id}"}"#, Mode::Digest).unwrap_err();
        assert!(error.message.contains("`{event_id}` is not available for a digest"), "{error:?}");
    }

    #[test]
    fn labels_are_collected_from_the_whole_document() {
        let text = r#"{"a": ["{label.x}", {"b": "{label.y} {title}"}], "c": 1}"#;
        let template = JsonTemplate::parse(text, Mode::Messages).unwrap();
        assert_eq!(template.labels(), ["x", "y"]);
    }
}
