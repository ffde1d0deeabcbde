//! Sets keys from environment variables, for containers.
//!
//! `SECURE_SCORE_FORWARDER__SCHEDULE__CRON` sets `schedule.cron`. A table of a list is addressed by
//! its name, or by its index if it has none: `…__SINKS__SIEM__ADDRESS` sets `address` of the sink
//! `siem`. The effect of the variables must not depend on their order. A variable that sets nothing
//! is a fault, so that a misspelled one is not ignored. Start reading at [`apply_variables`].

mod names;

use names::{SEPARATOR, VARIABLE_PREFIX, longest_match, malformed, tags, variable_name};

use super::{
    Faults, KeyDefinition, Many, SecretRef, Shape, Span, Table,
    node::{Node, Value},
};
use crate::text::{listed, nearest};

/// The hint for a variable that must name the kind of a reference.
const NAME_A_KIND: &str = "end the name with `__CREDENTIAL`, `__FILE` or `__ENV`";

/// The key by which the tables of a list are addressed.
const NAME: &str = "name";

/// The number of names that a hint lists.
const MAX_LISTED_NAMES: usize = 12;

/// One variable. Its value is set in one key.
struct Variable<'a> {
    value: &'a str,
    span: Span,
    /// The source of the first variable.
    first_source: usize,
}

/// A reason why a variable sets nothing, with its hint.
struct Unusable {
    message: String,
    hint: Option<String>,
}

/// Sets the keys that the variables name, and reports every variable that sets none. `keys` are
/// those of the table. The source of the first variable has the index `first_source`; the others
/// follow.
pub fn apply_variables(
    table: &mut Table,
    keys: &[KeyDefinition],
    variables: &[(String, String)],
    first_source: usize,
    faults: &Faults,
) {
    // A tag decides which other keys its table has, so tags are set first.
    let tags = tags(keys);
    let sets_tag = |name: &str| {
        name.rsplit_once(SEPARATOR)
            .is_some_and(|(_, last)| tags.iter().any(|tag| variable_name(tag) == last))
    };
    let numbered = || variables.iter().enumerate();
    let tags_first = numbered()
        .filter(|(_, (name, _))| sets_tag(name))
        .chain(numbered().filter(|(_, (name, _))| !sets_tag(name)));

    let keys: Vec<&KeyDefinition> = keys.iter().collect();
    for (index, (name, value)) in tags_first {
        let span = Span { source: first_source + index, start: 0, end: 0 };
        let variable = Variable { value, span, first_source };
        let result = match name.strip_prefix(VARIABLE_PREFIX) {
            // Bytes that are not UTF-8 have been replaced with this character.
            Some(_) if value.contains(char::REPLACEMENT_CHARACTER) => {
                Err(unusable("the value is not UTF-8".to_owned(), None))
            }
            Some(path) => variable.set(table, &keys, path, ""),
            None => Err(malformed(name)),
        };
        if let Err(Unusable { message, hint }) = result {
            faults.at(span, message, hint);
        }
    }
}

/// The value that one of the variables sets in a key of the root table; `None` if none sets it, or
/// if the value is not UTF-8.
pub fn variable_of<'a>(key: &str, variables: &'a [(String, String)]) -> Option<&'a str> {
    let name = format!("{VARIABLE_PREFIX}{}", variable_name(key));
    let value = variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    value.filter(|value| !value.contains(char::REPLACEMENT_CHARACTER))
}

impl Variable<'_> {
    /// Sets the value in a table with these keys. `path` is the part of the name that is left, and
    /// `parent` is the path of the table as messages show it.
    fn set(
        &self,
        table: &mut Table,
        keys: &[&KeyDefinition],
        path: &str,
        parent: &str,
    ) -> Result<(), Unusable> {
        let (name, rest) = match path.split_once(SEPARATOR) {
            Some((name, rest)) => (name, Some(rest)),
            None => (path, None),
        };
        let key = key_with_name(keys, name)?;
        let shown = match parent {
            "" => key.name.to_owned(),
            parent => format!("{parent}.{}", key.name),
        };
        let Some(rest) = rest else {
            let value = self.value(key.shape, &shown)?;
            return self.replace(table, key.name, value, &shown);
        };

        match key.shape {
            Shape::Table(inner) | Shape::OneOfOrTable { keys: inner, .. } => {
                let inner: Vec<&KeyDefinition> = inner.iter().collect();
                self.set(self.child(table, key.name, &shown)?, &inner, rest, &shown)
            }
            Shape::Tables(_) | Shape::Tagged { many: Many::List | Many::Named, .. } => {
                self.set_in_element(table, key, rest, &shown)
            }
            Shape::NameOrSection(shape) => {
                let inner = self.child(table, key.name, &shown)?;
                self.set_tagged(inner, &KeyDefinition { shape: *shape, ..*key }, rest, &shown)
            }

            Shape::Secret(_) | Shape::TextOrSecret(_) => {
                self.set_secret(table, key.name, rest, &shown)
            }
            Shape::Map if !rest.is_empty() => {
                let map = self.child(table, key.name, &shown)?;
                // A name that the files do not contain is written in lower case.
                let known = map.names().find(|(known, _)| variable_name(known) == rest);
                let entry = known.map_or_else(|| rest.to_lowercase(), |(name, _)| name.to_owned());
                let path = format!("{shown}.{entry}");
                self.replace(map, &entry, Value::Text(self.value.to_owned()), &path)
            }
            Shape::Secrets => self.set_in_secrets(table, key, rest, &shown),
            _ => Err(unusable(format!("`{shown}` has no key `{rest}`"), None)),
        }
    }

    /// Sets the value in the table with this name: one of a list, or one of the tables by name.
    fn set_in_element(
        &self,
        table: &mut Table,
        key: &KeyDefinition,
        path: &str,
        shown: &str,
    ) -> Result<(), Unusable> {
        let known = table.get_mut(key.name).map(elements).unwrap_or_default();
        let names: Vec<String> = known.iter().map(|(name, _)| variable_name(name)).collect();
        if names.iter().any(|name| name == path) {
            return Err(unusable(format!("`{shown}.{path}` is a table, not a value"), None));
        }
        let Some((name, rest)) = longest_match(&names, path) else {
            let element = path.split(SEPARATOR).next().unwrap_or_default();
            let message = format!("no table in `{shown}` has a name like `{element}`");
            let hint = match names.as_slice() {
                [] => "add the table to the configuration file".to_owned(),
                names => format!("use one of: {}", listed(names, MAX_LISTED_NAMES)),
            };
            return Err(unusable(message, Some(hint)));
        };

        let mut found = known.into_iter().filter(|(known, _)| variable_name(known) == name);
        let (Some((name, table)), None) = (found.next(), found.next()) else {
            let message = format!("several tables in `{shown}` have a name like `{name}`");
            return Err(unusable(message, Some("set the key in the file".to_owned())));
        };
        let shown = format!("{shown}.{name}");
        if rest == variable_name(NAME) && table.text(NAME).is_some() {
            let message = format!("`{shown}` is addressed by its name, which no variable can set");
            return Err(unusable(message, Some("set `name` in the file".to_owned())));
        }
        self.set_tagged(table, key, rest, &shown)
    }

    /// Sets the value in a table with the keys of its variant. A table without a known variant has
    /// only the common keys.
    fn set_tagged(
        &self,
        table: &mut Table,
        key: &KeyDefinition,
        rest: &str,
        shown: &str,
    ) -> Result<(), Unusable> {
        let keys: Vec<&KeyDefinition> = match key.shape {
            Shape::Tables(keys) => keys.iter().collect(),
            Shape::Tagged { tag, keys, .. } => {
                let variant = table.text(tag).and_then(|name| key.keys_of_variant(name));
                variant.unwrap_or_else(|| keys.iter().collect())
            }
            _ => Vec::new(),
        };
        self.set(table, &keys, rest, shown)
    }

    /// Sets one of the references to secrets by name, which must be in a file: a header, for
    /// example, has characters that a variable cannot contain.
    fn set_in_secrets(
        &self,
        table: &mut Table,
        key: &KeyDefinition,
        path: &str,
        shown: &str,
    ) -> Result<(), Unusable> {
        let inner = self.child(table, key.name, shown)?;
        let known: Vec<String> = inner.names().map(|(name, _)| name.to_owned()).collect();
        let names: Vec<String> = known.iter().map(|name| variable_name(name)).collect();

        let found = longest_match(&names, path).and_then(|(name, kind)| {
            Some((known.iter().find(|known| variable_name(known) == name)?, kind))
        });
        let Some((name, kind)) = found else {
            let message = format!("no entry of `{shown}` has a name like `{path}`");
            let hint = match names.as_slice() {
                [] => "add the entry to the configuration file".to_owned(),
                names => format!("use one of: {}", listed(names, MAX_LISTED_NAMES)),
            };
            return Err(unusable(message, Some(hint)));
        };
        self.set_secret(inner, name, kind, &format!("{shown}.{name}"))
    }

    /// Sets a reference to a secret, which replaces that of a file.
    fn set_secret(
        &self,
        table: &mut Table,
        name: &str,
        kind: &str,
        shown: &str,
    ) -> Result<(), Unusable> {
        let Some(kind) = SecretRef::kinds().find(|known| variable_name(known) == kind) else {
            let message = format!("`{shown}` is a reference to a secret");
            return Err(unusable(message, Some(NAME_A_KIND.to_owned())));
        };

        let mut reference = Table::default();
        reference.set(kind, Node::new(Value::Text(self.value.to_owned()), self.span));
        self.replace(table, name, Value::Table(reference), shown)
    }

    /// Sets a value, which replaces that of a file. Two variables for one value are a fault,
    /// because the order of variables has no meaning.
    fn replace(
        &self,
        table: &mut Table,
        name: &str,
        value: Value,
        shown: &str,
    ) -> Result<(), Unusable> {
        if table.get(name).is_some_and(|node| node.is_from_source(self.first_source)) {
            let message = format!("another variable also sets `{shown}`, or a key in it");
            return Err(unusable(message, Some("remove one of the variables".to_owned())));
        }
        table.set(name, Node::new(value, self.span));
        Ok(())
    }

    /// The value for a key of this shape. A value that is not valid is reported later, when all
    /// values are checked.
    fn value(&self, shape: Shape, shown: &str) -> Result<Value, Unusable> {
        let text = || Value::Text(self.value.to_owned());
        let unusable = |message: String, hint: &str| Err(unusable(message, Some(hint.to_owned())));

        match shape {
            Shape::Bool => Ok(self.value.parse().map_or_else(|_| text(), Value::Bool)),
            Shape::Integer { .. } => {
                Ok(self.value.parse().map_or_else(|_| text(), |i| Value::Integer(Some(i))))
            }

            // Child processes inherit the environment, so a key that can be a secret is never set
            // directly.
            Shape::Secret(_) => {
                unusable(format!("`{shown}` must refer to a secret, not contain it"), NAME_A_KIND)
            }
            Shape::TextOrSecret(_) => unusable(
                format!("`{shown}` can be a secret: a variable must refer to it, not contain it"),
                NAME_A_KIND,
            ),
            Shape::Map | Shape::Secrets => unusable(
                format!("`{shown}` is a table"),
                "end the name with `__` and the name of an entry",
            ),
            Shape::Table(_)
            | Shape::Tables(_)
            | Shape::Tagged { .. }
            | Shape::ManyOf(_)
            | Shape::Texts => unusable(
                format!("`{shown}` is a list or a table"),
                "set it in the configuration file",
            ),
            _ => Ok(text()),
        }
    }

    /// The table of this name, which is created if it does not exist.
    fn child<'t>(
        &self,
        table: &'t mut Table,
        name: &str,
        shown: &str,
    ) -> Result<&'t mut Table, Unusable> {
        let child = table.child(name, self.span);
        child.ok_or_else(|| unusable(format!("`{shown}` is not a table"), None))
    }
}

/// The key with this name in a variable.
fn key_with_name<'a>(
    keys: &[&'a KeyDefinition],
    name: &str,
) -> Result<&'a KeyDefinition, Unusable> {
    if let Some(key) = keys.iter().copied().find(|key| variable_name(key.name) == name) {
        return Ok(key);
    }

    let known: Vec<String> = keys.iter().map(|key| variable_name(key.name)).collect();
    let hint = nearest(name, known.iter().map(String::as_str));
    let hint = hint.map(|near| format!("use `{near}`"));
    Err(unusable(format!("no key is named `{name}`"), hint))
}

/// The tables of a list by their names, or by their indexes if none has a name; or the tables by
/// name.
fn elements(node: &mut Node) -> Vec<(String, &mut Table)> {
    if node.list().is_none() {
        let tables = node.table_mut().into_iter().flat_map(Table::tables_mut);
        return tables.map(|(name, table)| (name.to_owned(), table)).collect();
    }

    let list = node.list_mut().into_iter().flatten().filter_map(Node::table_mut);
    let tables: Vec<&mut Table> = list.collect();
    let has_names = tables.iter().any(|table| table.text(NAME).is_some());
    let named = tables.into_iter().enumerate().filter_map(|(index, table)| {
        let name = table.text(NAME).map(str::to_owned);
        Some((if has_names { name? } else { index.to_string() }, table))
    });
    named.collect()
}

fn unusable(message: String, hint: Option<String>) -> Unusable {
    Unusable { message, hint }
}
