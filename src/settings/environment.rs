//! Sets keys from environment variables, for containers.
//!
//! `SECURE_SCORE_FORWARDER__SCHEDULE__CRON` sets `schedule.cron`. A list of tables is addressed by the
//! name of the table: `…__SINKS__SIEM__ADDRESS` sets `address` of the sink `siem`. Only values that are
//! neither lists nor tables can be set. A variable that sets nothing is a fault, so that a misspelled
//! one is not ignored. Start reading at [`apply_variables`].

use super::{
    Faults, KeyDefinition, Many, Shape, Span, Table,
    check::nearest,
    node::{Node, Value},
};

/// The prefix of all variables that set a key.
pub const VARIABLE_PREFIX: &str = "SECURE_SCORE_FORWARDER__";

/// Between the names of a path.
const SEPARATOR: &str = "__";

/// The names with which a reference to a secret is set.
const SECRET_KINDS: [&str; 3] = ["credential", "file", "env"];

/// The hint for a variable that must name the kind of a reference.
const NAME_A_KIND: &str = "end the name with `__CREDENTIAL`, `__FILE` or `__ENV`";

/// One variable. Its value is set in one key.
struct Variable<'a> {
    value: &'a str,
    span: Span,
}

/// A reason why a variable sets nothing, with its hint.
struct Unusable {
    message: String,
    hint: Option<String>,
}

/// Sets the keys that the variables name, and reports every variable that sets none. `keys` are those
/// of the table. The source of the first variable has the index `first_source`; the others follow.
pub fn apply_variables(
    table: &mut Table,
    keys: &[KeyDefinition],
    variables: &[(String, String)],
    first_source: usize,
    faults: &Faults,
) {
    for (index, (name, value)) in variables.iter().enumerate() {
        let span = Span { source: first_source + index, start: 0, end: 0 };
        let path: Vec<&str> =
            name.strip_prefix(VARIABLE_PREFIX).unwrap_or_default().split(SEPARATOR).collect();

        let variable = Variable { value, span };
        let keys: Vec<&KeyDefinition> = keys.iter().collect();
        if let Err(Unusable { message, hint }) = variable.set(table, &keys, &path, "") {
            faults.at(span, message, hint);
        }
    }
}

impl Variable<'_> {
    /// Sets the value in a table with these keys. `path` are the names that are left, and `parent`
    /// is the path of the table as messages show it.
    fn set(
        &self,
        table: &mut Table,
        keys: &[&KeyDefinition],
        path: &[&str],
        parent: &str,
    ) -> Result<(), Unusable> {
        let [name, rest @ ..] = path else {
            return Err(unusable(format!("`{parent}` is a table, not a value"), None));
        };
        let Some(key) = keys.iter().find(|key| variable_name(key.name) == *name) else {
            let known: Vec<String> = keys.iter().map(|key| variable_name(key.name)).collect();
            let hint = nearest(name, known.iter().map(String::as_str));
            let hint = hint.map(|near| format!("use `{near}`"));
            return Err(unusable(format!("no key is named `{name}`"), hint));
        };

        let shown = match parent {
            "" => key.name.to_owned(),
            parent => format!("{parent}.{}", key.name),
        };
        match (key.shape, rest) {
            (Shape::Table(inner) | Shape::OneOfOrTable { keys: inner, .. }, [_, ..]) => {
                let inner: Vec<&KeyDefinition> = inner.iter().collect();
                self.set(self.child(table, key.name, &shown)?, &inner, rest, &shown)
            }
            (Shape::Tables(_) | Shape::Tagged { many: Many::List, .. }, [element, rest @ ..]) => {
                self.set_in_list(table, key, element, rest, &shown)
            }
            (Shape::Tagged { many: Many::Named, .. }, [element, rest @ ..]) => {
                self.set_in_named(table, key, element, rest, &shown)
            }

            (Shape::Secret | Shape::TextOrSecret, [kind]) => {
                self.set_secret(table, key.name, kind, &shown)
            }
            (Shape::NameOr(shape), [_, ..]) => {
                let inner = self.child(table, key.name, &shown)?;
                self.set_tagged(inner, &KeyDefinition { shape: *shape, ..**key }, rest, &shown)
            }
            (shape, []) => {
                let value = self.value(shape, &shown)?;
                table.set(key.name, Node::new(value, self.span));
                Ok(())
            }
            _ => Err(unusable(format!("`{shown}` has no key `{}`", rest.join(SEPARATOR)), None)),
        }
    }

    /// Sets the value in the table of a list that has this name.
    fn set_in_list(
        &self,
        table: &mut Table,
        key: &KeyDefinition,
        element: &str,
        rest: &[&str],
        shown: &str,
    ) -> Result<(), Unusable> {
        let list = table.get_mut(key.name).and_then(Node::list_mut).map_or(&mut [][..], |l| l);
        let named = |node: &&mut Node| {
            let name = node.table().and_then(|table| table.text("name"));
            name.is_some_and(|name| variable_name(name) == element)
        };
        let mut found = list.iter_mut().filter(named);
        let (first, second) = (found.next(), found.next());

        match (first.and_then(Node::table_mut), second) {
            (Some(table), None) => self.set_tagged(table, key, rest, &format!("{shown}.{element}")),
            (Some(_), Some(_)) => {
                let message = format!("several tables in `{shown}` have a name like `{element}`");
                Err(unusable(message, Some("set the key in the file".to_owned())))
            }
            (None, _) => {
                let message = format!("no table in `{shown}` has a name like `{element}`");
                Err(unusable(message, None))
            }
        }
    }

    /// Sets the value in the table of this name.
    fn set_in_named(
        &self,
        table: &mut Table,
        key: &KeyDefinition,
        element: &str,
        rest: &[&str],
        shown: &str,
    ) -> Result<(), Unusable> {
        let tables = table.get_mut(key.name).and_then(Node::table_mut);
        let name = tables.as_ref().and_then(|tables| {
            let mut names = tables.names().map(|(name, _)| name);
            names.find(|name| variable_name(name) == element).map(str::to_owned)
        });
        let inner = name.as_deref().and_then(|name| tables?.get_mut(name)?.table_mut());

        match inner {
            Some(inner) => self.set_tagged(inner, key, rest, &format!("{shown}.{element}")),
            None => {
                Err(unusable(format!("no table in `{shown}` has a name like `{element}`"), None))
            }
        }
    }

    /// Sets the value in a table with the keys of its variant. A table without a known variant has
    /// only the common keys.
    fn set_tagged(
        &self,
        table: &mut Table,
        key: &KeyDefinition,
        rest: &[&str],
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

    /// Sets a reference to a secret, which replaces another reference.
    fn set_secret(
        &self,
        table: &mut Table,
        name: &str,
        kind: &str,
        shown: &str,
    ) -> Result<(), Unusable> {
        let Some(kind) = SECRET_KINDS.into_iter().find(|known| variable_name(known) == kind) else {
            let message = format!("`{shown}` is a reference to a secret");
            return Err(unusable(message, Some(NAME_A_KIND.to_owned())));
        };

        let mut reference = Table::default();
        reference.set(kind, Node::new(Value::Text(self.value.to_owned()), self.span));
        table.set(name, Node::new(Value::Table(reference), self.span));
        Ok(())
    }

    /// The value for a key of this shape. A value that is not valid is reported later, when all values
    /// are checked.
    fn value(&self, shape: Shape, shown: &str) -> Result<Value, Unusable> {
        let text = || Value::Text(self.value.to_owned());
        let unusable = |message: String, hint: &str| Err(unusable(message, Some(hint.to_owned())));

        match shape {
            Shape::Bool => Ok(self.value.parse().map_or_else(|_| text(), Value::Bool)),
            Shape::Integer { .. } => {
                Ok(self.value.parse().map_or_else(|_| text(), |i| Value::Integer(Some(i))))
            }

            Shape::Secret => {
                unusable(format!("`{shown}` must refer to a secret, not contain it"), NAME_A_KIND)
            }
            Shape::Table(_)
            | Shape::Tables(_)
            | Shape::Tagged { .. }
            | Shape::ManyOf(_)
            | Shape::Texts
            | Shape::Map
            | Shape::Secrets => unusable(
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

/// A name as it is written in a variable: in upper case, with `_` for other characters.
fn variable_name(name: &str) -> String {
    let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    name.chars().map(upper).collect()
}

fn unusable(message: String, hint: Option<String>) -> Unusable {
    Unusable { message, hint }
}
