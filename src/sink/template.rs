//! Names with placeholders that depend on the record, such as the topic
//! `secure-score-{label.customer}`. A template is checked when the configuration is read; a record
//! of a tenant without a required label becomes a dead letter. Start reading at [`Template`].

use crate::{model::Record, settings::Section};

/// A name with the placeholders `{tenant.name}`, `{tenant.id}`, `{kind}` and `{label.NAME}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    TenantName,
    TenantId,
    Kind,
    Label(String),
}

impl Template {
    /// Reads the value of a key. An unknown placeholder is a fault of the section.
    pub(super) fn read(section: &Section<'_>, key: &str) -> Option<Self> {
        let text = section.text(key)?;
        match Self::parse(text) {
            Ok(template) => Some(template),
            Err(reason) => {
                section.fault(key, format!("`{key}`: {reason}"));
                None
            }
        }
    }

    /// A name without placeholders.
    pub(super) fn constant(name: &str) -> Self {
        Self(vec![Piece::Text(name.to_owned())])
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut rest) = (Vec::new(), text);

        while let Some((before, after)) = rest.split_once('{') {
            let (placeholder, after) =
                after.split_once('}').ok_or("a `{` has no matching `}`".to_owned())?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }

            pieces.push(match placeholder {
                "tenant.name" => Piece::TenantName,
                "tenant.id" => Piece::TenantId,
                "kind" => Piece::Kind,
                _ => match placeholder.strip_prefix("label.").filter(|label| !label.is_empty()) {
                    Some(label) => Piece::Label(label.to_owned()),
                    None => {
                        return Err(format!(
                            "unknown placeholder `{{{placeholder}}}`: expected `{{tenant.name}}`, `{{tenant.id}}`, `{{kind}}` or `{{label.NAME}}`"
                        ));
                    }
                },
            });
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

    /// The name for a record. In the inserted values, each character that `allowed` rejects is
    /// replaced with `_`. A label that the tenant does not have is an error.
    pub(super) fn fill(
        &self,
        record: &Record<'_>,
        allowed: fn(char) -> bool,
    ) -> Result<String, String> {
        let mut name = String::new();

        for piece in &self.0 {
            let value = match piece {
                Piece::Text(text) => {
                    name.push_str(text);
                    continue;
                }
                Piece::TenantName => record.tenant.name.clone(),
                Piece::TenantId => record.tenant.id.to_string(),
                Piece::Kind => record.kind().as_str().to_owned(),
                Piece::Label(label) => {
                    record.tenant.labels.get(label).cloned().ok_or_else(|| {
                        format!("tenant `{}` has no label `{label}`", record.tenant.name)
                    })?
                }
            };
            name.extend(value.chars().map(|c| if allowed(c) { c } else { '_' }));
        }

        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_placeholders_and_rejects_unknown_ones() {
        let parse = |text: &str| Template::parse(text);
        assert_eq!(parse("plain").unwrap().fixed(), Some("plain"));
        let template = parse("a-{label.customer}-{tenant.name}{kind}").unwrap();
        assert_eq!(template.fixed(), None);
        assert_eq!(template.labels().collect::<Vec<_>>(), ["customer"]);
        assert_eq!(template.literal(), "a--");
        for (text, reason) in
            [("{", "no matching `}`"), ("{tenant}", "unknown"), ("{label.}", "unknown")]
        {
            assert!(parse(text).unwrap_err().contains(reason), "{text}");
        }
    }
}
