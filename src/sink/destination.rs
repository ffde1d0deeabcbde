//! The name of the place at a receiver to which the records of a tenant are sent, such as a topic
//! or an index.
//!
//! The records of one customer must never reach the place of another one. A value is therefore
//! inserted into a name unchanged or not at all: with characters replaced or cut, different names
//! could become the same. The configuration is checked for every tenant, and a record whose name is
//! not valid becomes a dead letter. Start reading at [`Destination`]. See decision 0066.

use std::fmt;

use super::{EncodeError, template::Template};
use crate::{
    model::{Kind, Record, Tenant},
    settings::{KeyDefinition, Readable, Section},
};

/// What a receiver accepts as the name of a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct NameRule {
    /// Whether a name can contain the character.
    pub is_allowed: fn(char) -> bool,
    /// These characters, as a phrase.
    pub characters: &'static str,
    /// Characters that a name cannot begin with.
    pub not_first: &'static [char],
    /// The maximum length of a name in bytes.
    pub max_bytes: usize,
}

/// The place at the receiver to which a record is sent: the value of a key, which is a template.
#[derive(Clone, Debug)]
pub struct Destination {
    key: KeyDefinition,
    template: Template,
    rule: NameRule,
    /// A name that the sink uses for another purpose.
    reserved: Option<String>,
}

/// The names of the places to which the records of one tenant are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantDestinations {
    /// One name, or one for each kind of record.
    pub names: Vec<String>,
    /// The values of the tenant that are part of the names. Tenants with the same values are meant
    /// to share a place.
    pub values: Vec<String>,
}

/// Why the records of a tenant have no valid destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DestinationError {
    #[error("tenant `{tenant}` has no label `{label}`")]
    NoLabel { tenant: String, label: String },
    /// `what` is the part of the tenant that the value is from, such as ``the label `customer` ``.
    #[error(
        "{what} of tenant `{tenant}` contains `{character}`, but the name can consist only of {characters}"
    )]
    Character { what: String, tenant: String, character: String, characters: &'static str },
    #[error("the name for tenant `{tenant}` is longer than {max_bytes} bytes")]
    TooLong { tenant: String, max_bytes: usize },
    #[error("the name for tenant `{tenant}`, `{name}`, is reserved by the receiver or the sink")]
    Reserved { tenant: String, name: String },
}

impl Destination {
    /// Reads the value of a key. An unknown placeholder, or a text that the rule does not permit,
    /// is a fault of the section.
    pub(super) fn read<'a, K>(section: &Section<'a>, key: &K, rule: NameRule) -> Option<Self>
    where
        K: Readable,
        K::Output<'a>: Into<Option<&'a str>>,
    {
        let template = Template::read(section, key)?;
        let literal = template.literal();
        let is_valid = literal.len() <= rule.max_bytes && literal.chars().all(rule.is_allowed);
        if !is_valid {
            let name = key.definition().name;
            let NameRule { characters, max_bytes, .. } = rule;
            let limits = format!("at most {max_bytes} {characters}");
            section.fault(key, format!("`{name}` must consist of {limits}"));
        }
        Some(Self { key: key.definition(), template, rule, reserved: None })
    }

    /// The same destination, which must not have this name.
    #[cfg(any(feature = "kafka", test))]
    #[must_use]
    pub(super) fn other_than(self, reserved: &str) -> Self {
        Self { reserved: Some(reserved.to_owned()), ..self }
    }

    /// The name itself, if it is the same for all records.
    pub(super) fn fixed(&self) -> Option<&str> {
        self.template.fixed()
    }

    /// The labels that every tenant must have.
    pub(super) fn labels(&self) -> Vec<String> {
        self.template.labels().map(str::to_owned).collect()
    }

    /// The name for a record, which can never be sent if there is none.
    pub(super) fn of_record(&self, record: &Record<'_>) -> Result<String, EncodeError> {
        self.name(record.tenant, record.kind()).map_err(|error| EncodeError(error.to_string()))
    }

    /// The key whose value is the template.
    pub fn key(&self) -> KeyDefinition {
        self.key
    }

    /// The characters that the values of tenants can consist of, as a phrase.
    pub fn characters(&self) -> &'static str {
        self.rule.characters
    }

    /// Whether different tenants can have different places.
    pub fn depends_on_tenant(&self) -> bool {
        self.template.depends_on_tenant()
    }

    /// The names for all records of a tenant.
    ///
    /// # Errors
    ///
    /// Fails if a value of the tenant cannot be part of a name unchanged, or if a name is not
    /// valid.
    pub fn of_tenant(&self, tenant: &Tenant) -> Result<TenantDestinations, DestinationError> {
        let all = Kind::ALL;
        let kinds = if self.template.depends_on_kind() { &all[..] } else { &all[..1] };
        let names = kinds.iter().map(|kind| self.name(tenant, *kind)).collect::<Result<_, _>>()?;
        Ok(TenantDestinations { names, values: self.template.values(tenant) })
    }

    fn name(&self, tenant: &Tenant, kind: Kind) -> Result<String, DestinationError> {
        let NameRule { is_allowed, characters, not_first, max_bytes } = self.rule;
        let name = self.template.fill(tenant, kind, is_allowed, characters)?;

        let tenant = tenant.name.clone();
        if name.len() > max_bytes {
            return Err(DestinationError::TooLong { tenant, max_bytes });
        }
        let is_relative = name.chars().all(|c| c == '.');
        let is_reserved = self.reserved.as_ref() == Some(&name);
        if is_relative || is_reserved || name.starts_with(not_first) {
            return Err(DestinationError::Reserved { tenant, name });
        }
        Ok(name)
    }
}

impl fmt::Display for Destination {
    /// Prints the key and its value as they are written in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = \"{}\"", self.key.name, self.template)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::TenantId,
        settings::{Key, TEXT, Text, required, with_section},
    };

    const TOPIC: Key<Text> = required("topic", TEXT, "The topic.");
    const RULE: NameRule = NameRule {
        is_allowed: |c| c.is_ascii_lowercase() || c == '-' || c == '.',
        characters: "lowercase letters, `-` and `.`",
        not_first: &['-'],
        max_bytes: 40,
    };

    /// The destination of this template, and the faults of its section.
    fn read(template: &str) -> (Option<Destination>, Vec<String>) {
        with_section(&format!("topic = \"{template}\""), &[TOPIC.define()], |section| {
            Destination::read(section, &TOPIC, RULE)
        })
    }

    fn tenant(name: &str, labels: &[(&str, &str)]) -> Tenant {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Tenant { id: TenantId::TEST, name: name.to_owned(), labels: labels.collect() }
    }

    /// Regression: characters that a receiver does not accept were replaced with `_`, so that the
    /// tenants `a b` and `a/b` had the same index.
    #[test]
    fn values_are_inserted_unchanged_or_not_at_all() {
        let destination = read("score-{label.site}").0.unwrap();
        let names = |site: &str| {
            let tenant = tenant("contoso", &[("site", site)]);
            let found = destination.of_tenant(&tenant).map(|found| found.names.concat());
            found.unwrap_or_else(|error| error.to_string())
        };

        assert_eq!(names("c-x"), "score-c-x");
        for (site, part) in [
            ("a b", "the label `site` of tenant `contoso` contains ` `, but"),
            ("A", "contains `A`, but the name can consist only of lowercase letters"),
            ("a/b", "contains `/`"),
            ("\u{202e}a", "contains `\\u{202e}`"),
            ("abcdefghijklmnopqrstuvwxyzabcdefghijklmnop", "is longer than 40 bytes"),
        ] {
            assert!(names(site).contains(part), "{site}: {}", names(site));
        }
        let without_label = destination.of_tenant(&tenant("contoso", &[])).unwrap_err();
        assert_eq!(without_label.to_string(), "tenant `contoso` has no label `site`");
    }

    #[test]
    fn names_with_a_meaning_are_reserved() {
        let destination = read("{tenant.name}").0.unwrap().other_than("progress");
        for (name, is_valid) in
            [("contoso", true), ("a.b", true), ("..", false), ("-a", false), ("progress", false)]
        {
            let found = destination.of_tenant(&tenant(name, &[]));
            assert_eq!(found.is_ok(), is_valid, "{name}: {found:?}");
        }
    }

    #[test]
    fn kinds_have_separate_names() {
        let destination = read("{kind}.{tenant.name}").0.unwrap();
        assert!(destination.depends_on_tenant() && !read("{kind}").0.unwrap().depends_on_tenant());
        assert_eq!(destination.to_string(), "topic = \"{kind}.{tenant.name}\"");

        let found = destination.of_tenant(&tenant("x", &[])).unwrap();
        assert_eq!(found.names, ["control.x", "summary.x", "change.x", "quality.x"]);
        assert_eq!(found.values, ["x"]);
    }

    #[test]
    fn literals_follow_the_rule() {
        for (template, is_valid) in
            [("score.{kind}", true), ("Score", false), ("{kind} x", false), ("{x}", false)]
        {
            assert_eq!(read(template).1.is_empty(), is_valid, "{template}");
        }
        let fault = read("Score").1.concat();
        assert_eq!(fault, "`topic` must consist of at most 40 lowercase letters, `-` and `.`");
    }

    proptest! {
        /// Different values never become the same name, except by their concatenation, which the
        /// configuration is checked for.
        #[test]
        fn a_single_value_determines_the_name(
            first in "[abA_ .\\-]{0,3}",
            second in "[abA_ .\\-]{0,3}",
        ) {
            let destination = read("x-{tenant.name}").0.unwrap();
            let name = |name: &str| {
                let tenant =
                    Tenant { id: TenantId::TEST, name: name.to_owned(), labels: BTreeMap::new() };
                destination.of_tenant(&tenant).ok().map(|found| found.names)
            };
            if let (Some(one), Some(other)) = (name(&first), name(&second)) {
                prop_assert_eq!(one == other, first == second);
            }
        }
    }
}
