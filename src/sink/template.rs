//! Names with placeholders that depend on the record, such as the topic
//! `secure-score-{label.customer}`. A template is checked when the configuration is read; a record
//! of a tenant without a required label becomes a dead letter. Start reading at [`Template`].

use crate::{
    error::Explanation,
    model::Record,
    settings::{Readable, Section},
};

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
}

impl Template {
    /// Reads the value of a key. An unknown placeholder is a fault of the section.
    pub(super) fn read<'a, K>(section: &Section<'a>, key: &K) -> Option<Self>
    where
        K: Readable,
        K::Output<'a>: Into<Option<&'a str>>,
    {
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
            assert!(parse(text).unwrap_err().message.contains(reason), "{text}");
        }
    }
}
