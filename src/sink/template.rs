//! Names with placeholders that depend on the record, such as the topic
//! `secure-score-{label.customer}`. A template is checked when the configuration is read; filling
//! it never changes a value. In any other text, a placeholder would be a part of the name, so that
//! the records of all tenants would be sent to one place. Start reading at [`Template`], and see
//! `destination` for the names.

use std::fmt;

use super::destination::DestinationError;
use crate::{
    error::Explanation,
    model::{Kind, Tenant},
    settings::{Readable, Section},
};

/// A name with the placeholders `{tenant.name}`, `{tenant.id}`, `{kind}` and `{label.NAME}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

/// The keys whose values can contain placeholders, in every type of sink that has them: templates,
/// and the body of a message, whose placeholders `chat` reads.
pub const TEMPLATE_KEYS: &[&str] = &["index", "template", "topic"];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    TenantName,
    TenantId,
    Kind,
    Label(String),
}

/// The first placeholder of a template in a text, with its braces; `None` if it contains none.
/// Other text in braces is not a placeholder.
pub fn placeholder_in(text: &str) -> Option<&str> {
    text.match_indices('{').find_map(|(start, _)| {
        let rest = &text[start..];
        let end = rest.find('}')?;
        Piece::parse(&rest[1..end]).ok().map(|_| &rest[..=end])
    })
}

impl Piece {
    /// The placeholder of this name.
    fn parse(name: &str) -> Result<Self, Explanation> {
        match name {
            "tenant.name" => return Ok(Self::TenantName),
            "tenant.id" => return Ok(Self::TenantId),
            "kind" => return Ok(Self::Kind),
            _ => {}
        }

        let label = name.strip_prefix("label.").filter(|label| !label.is_empty());
        label.map(|label| Self::Label(label.to_owned())).ok_or_else(|| {
            let hint = "use `{tenant.name}`, `{tenant.id}`, `{kind}` or `{label.NAME}`";
            Explanation::new(format!("unknown placeholder `{{{name}}}`")).with_hint(hint)
        })
    }

    /// The value of the tenant; `None` if the piece is not one, or if the tenant has no such label.
    fn of_tenant(&self, tenant: &Tenant) -> Option<String> {
        match self {
            Self::Text(_) | Self::Kind => None,
            Self::TenantName => Some(tenant.name.clone()),
            Self::TenantId => Some(tenant.id.to_string()),
            Self::Label(label) => tenant.labels.get(label).cloned(),
        }
    }

    /// The error for a tenant without the value.
    fn missing(&self, tenant: &Tenant) -> DestinationError {
        let label = if let Self::Label(label) = self { label.clone() } else { String::new() };
        DestinationError::NoLabel { tenant: tenant.name.clone(), label }
    }

    /// The part of a tenant that the value is from, as a phrase.
    fn description(&self) -> String {
        match self {
            Self::Label(label) => format!("the label `{label}`"),
            Self::TenantId => "the ID".to_owned(),
            Self::Text(_) | Self::Kind | Self::TenantName => "the name".to_owned(),
        }
    }
}

impl Template {
    /// Reads the value of a key. An unknown placeholder is a fault of the section.
    pub(super) fn read<'a, K>(section: &Section<'a>, key: &K) -> Option<Self>
    where
        K: Readable,
        K::Output<'a>: Into<Option<&'a str>>,
    {
        debug_assert!(TEMPLATE_KEYS.contains(&key.definition().name));
        let text: Option<&str> = section.get(key).into();
        let text = text?;
        match Self::parse(text) {
            Ok(template) => Some(template),
            Err(Explanation { message, hint }) => {
                section.fault_with(key, format!("`{}`: {message}", key.definition().name), hint);
                None
            }
        }
    }

    fn parse(text: &str) -> Result<Self, Explanation> {
        let (mut pieces, mut rest) = (Vec::new(), text);

        while let Some((before, after)) = rest.split_once('{') {
            let (placeholder, after) = after.split_once('}').ok_or("a `{` has no matching `}`")?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }

            pieces.push(Piece::parse(placeholder)?);
            rest = after;
        }

        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self(pieces))
    }

    /// The name itself, if it has no placeholders.
    pub(super) fn fixed(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The labels that every tenant must have.
    pub(super) fn labels(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Label(label) => Some(label.as_str()),
            _ => None,
        })
    }

    /// The text outside the placeholders.
    pub(super) fn literal(&self) -> String {
        let text = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone(),
            _ => String::new(),
        };

        self.0.iter().map(text).collect()
    }

    /// Whether different tenants can have different names.
    pub(super) fn depends_on_tenant(&self) -> bool {
        !self.0.iter().all(|piece| matches!(piece, Piece::Text(_) | Piece::Kind))
    }

    /// Whether different kinds of record have different names.
    pub(super) fn depends_on_kind(&self) -> bool {
        self.0.contains(&Piece::Kind)
    }

    /// The values of the tenant that a name contains, in order. A label that the tenant does not
    /// have is omitted.
    pub(super) fn values(&self, tenant: &Tenant) -> Vec<String> {
        self.0.iter().filter_map(|piece| piece.of_tenant(tenant)).collect()
    }

    /// The name for records of this kind. Each value is inserted unchanged: a character that
    /// `is_allowed` rejects, and a label that the tenant does not have, are errors. `characters`
    /// describes the permitted characters.
    pub(super) fn fill(
        &self,
        tenant: &Tenant,
        kind: Kind,
        is_allowed: fn(char) -> bool,
        characters: &'static str,
    ) -> Result<String, DestinationError> {
        let mut name = String::new();

        for piece in &self.0 {
            match piece {
                Piece::Text(text) => name.push_str(text),
                Piece::Kind => name.push_str(kind.as_str()),
                Piece::TenantName | Piece::TenantId | Piece::Label(_) => {
                    let value = piece.of_tenant(tenant).ok_or_else(|| piece.missing(tenant))?;
                    if let Some(character) = value.chars().find(|c| !is_allowed(*c)) {
                        return Err(DestinationError::Character {
                            what: piece.description(),
                            tenant: tenant.name.clone(),
                            character: character.escape_debug().to_string(),
                            characters,
                        });
                    }
                    name.push_str(&value);
                }
            }
        }

        Ok(name)
    }
}

impl fmt::Display for Template {
    /// Prints the template as it is written in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::TenantName => f.write_str("{tenant.name}"),
            Piece::TenantId => f.write_str("{tenant.id}"),
            Piece::Kind => f.write_str("{kind}"),
            Piece::Label(label) => write!(f, "{{label.{label}}}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_found_in_any_text() {
        for (text, expected) in [
            ("/var/log/{tenant.name}.jsonl", Some("{tenant.name}")),
            ("{{kind}}", Some("{kind}")),
            ("a{b}{tenant.id}", Some("{tenant.id}")),
            ("{ {label.x y}", Some("{label.x y}")),
            ("{tenant}-{label.}-{ kind }-{KIND}-{}", None),
            ("}{kind", None),
            ("plain", None),
        ] {
            assert_eq!(placeholder_in(text), expected, "{text}");
        }
    }

    #[test]
    fn parses_placeholders_and_rejects_unknown_ones() {
        let parse = |text: &str| Template::parse(text);
        assert_eq!(parse("plain").unwrap().fixed(), Some("plain"));
        let template = parse("a-{label.customer}-{tenant.name}{kind}").unwrap();
        assert_eq!(template.fixed(), None);
        assert_eq!(template.labels().collect::<Vec<_>>(), ["customer"]);
        assert_eq!(template.literal(), "a--");
        assert_eq!(template.to_string(), "a-{label.customer}-{tenant.name}{kind}");
        for (text, reason) in
            [("{", "no matching `}`"), ("{tenant}", "unknown"), ("{label.}", "unknown")]
        {
            assert!(parse(text).unwrap_err().message.contains(reason), "{text}");
        }
    }
}
