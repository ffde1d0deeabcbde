//! The values of a configuration, each with its origin.
//!
//! The values of all files and of the environment are merged into one tree, so a value must know
//! where it was set. The tree does not interpret any key. Start reading at [`Table`].

/// A range of bytes of one source; see [`super::Source`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The index of the source.
    pub(super) source: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A value and its origin.
#[derive(Clone, Debug)]
pub struct Node {
    pub(super) value: Value,
    pub(super) span: Span,
    pub(super) set: SetBy,
}

/// Whether a table contains its value, or inherits it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetBy {
    /// The table itself.
    Table,
    /// A section of `[defaults]`.
    Defaults,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Bool(bool),
    /// `None` if the integer does not fit.
    Integer(Option<i64>),
    DateTime,
    Float,
    List(Vec<Node>),
    Table(Table),
}

/// Values by name, in the order of the file.
#[derive(Clone, Debug, Default)]
pub struct Table {
    entries: Vec<TableEntry>,
}

#[derive(Clone, Debug)]
pub(super) struct TableEntry {
    pub name: String,
    pub name_span: Span,
    pub value: Node,
}

impl Table {
    /// Adds the items of a list, or the values of a table, to the value of this name, which is
    /// created if it does not exist. Of two values with the same name in tables, the first is kept.
    ///
    /// # Errors
    ///
    /// Fails with the value itself if the two values are not of the same kind, or are neither lists
    /// nor tables. Nothing is changed then.
    pub fn join(&mut self, name: &str, more: Node) -> Result<(), Node> {
        let Some(existing) = self.get_mut(name) else {
            self.set(name, more);
            return Ok(());
        };

        match (&mut existing.value, more) {
            (Value::List(list), Node { value: Value::List(more), .. }) => list.extend(more),
            (Value::Table(table), Node { value: Value::Table(more), .. }) => {
                table.add_missing(&more);
            }
            (_, more) => return Err(more),
        }
        Ok(())
    }

    /// Removes a value.
    pub fn take(&mut self, name: &str) -> Option<Node> {
        let index = self.entries.iter().position(|entry| entry.name == name)?;
        Some(self.entries.remove(index).value)
    }

    /// The name and the span of the name of each value.
    pub fn names(&self) -> impl Iterator<Item = (&str, Span)> {
        self.entries.iter().map(|entry| (entry.name.as_str(), entry.name_span))
    }

    /// Adds each value of `defaults` that this table does not contain and that `accepts` selects by
    /// its name.
    pub fn inherit(&mut self, defaults: &Self, accepts: impl Fn(&str) -> bool) {
        for entry in &defaults.entries {
            if self.get(&entry.name).is_none() && accepts(&entry.name) {
                self.entries.push(TableEntry { value: entry.value.inherited(), ..entry.clone() });
            }
        }
    }

    /// Adds each value of the same table in another file, unless this table contains it.
    fn add_missing(&mut self, other: &Self) {
        for entry in &other.entries {
            if self.get(&entry.name).is_none() {
                self.entries.push(entry.clone());
            }
        }
    }

    /// The text of a value.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.text()
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<&Node> {
        self.entries.iter().find(|entry| entry.name == name).map(|entry| &entry.value)
    }

    /// The value of this name.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Node> {
        self.entries.iter_mut().find(|entry| entry.name == name).map(|entry| &mut entry.value)
    }

    /// The table of this name, which is created if there is no value. `None` for a value of another
    /// shape.
    pub(super) fn child(&mut self, name: &str, span: Span) -> Option<&mut Self> {
        if self.get(name).is_none() {
            self.set(name, Node::new(Value::Table(Self::default()), span));
        }
        self.get_mut(name)?.table_mut()
    }

    /// The tables in this one, by name.
    pub(super) fn tables_mut(&mut self) -> impl Iterator<Item = (&str, &mut Self)> {
        self.entries
            .iter_mut()
            .filter_map(|entry| Some((entry.name.as_str(), entry.value.table_mut()?)))
    }

    pub(super) fn entries(&self) -> &[TableEntry] {
        &self.entries
    }

    pub(super) fn set(&mut self, name: &str, value: Node) {
        match self.get_mut(name) {
            Some(existing) => *existing = value,
            None => self.push(TableEntry { name: name.to_owned(), name_span: value.span, value }),
        }
    }

    pub(super) fn push(&mut self, entry: TableEntry) {
        self.entries.push(entry);
    }
}

impl Node {
    pub(super) fn new(value: Value, span: Span) -> Self {
        Self { value, span, set: SetBy::Table }
    }

    /// The same value, marked as inherited from `[defaults]`, also within tables and lists.
    fn inherited(&self) -> Self {
        let value = match &self.value {
            Value::List(list) => Value::List(list.iter().map(Self::inherited).collect()),
            Value::Table(table) => {
                let mut inherited = Table::default();
                inherited.inherit(table, |_| true);
                Value::Table(inherited)
            }
            other => other.clone(),
        };
        Self { value, span: self.span, set: SetBy::Defaults }
    }

    /// The same value after a change of every text in it.
    pub(super) fn map_texts(&self, change: &impl Fn(&str) -> String) -> Self {
        let value = match &self.value {
            Value::Text(text) => Value::Text(change(text)),
            Value::List(list) => {
                Value::List(list.iter().map(|item| item.map_texts(change)).collect())
            }
            Value::Table(table) => {
                let entries = table.entries.iter().map(|entry| TableEntry {
                    value: entry.value.map_texts(change),
                    ..entry.clone()
                });
                Value::Table(Table { entries: entries.collect() })
            }
            other => other.clone(),
        };
        Self { value, ..*self }
    }

    /// The range of the source that contains the value.
    pub fn span(&self) -> Span {
        self.span
    }

    /// The value, if it is a string.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn bool(&self) -> Option<bool> {
        match self.value {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }

    pub(super) fn integer(&self) -> Option<i64> {
        match self.value {
            Value::Integer(value) => value,
            _ => None,
        }
    }

    /// Whether the value, or a value in it, is from this source or a later one.
    pub(super) fn is_from_source(&self, first: usize) -> bool {
        self.span.source >= first
            || match &self.value {
                Value::List(list) => list.iter().any(|item| item.is_from_source(first)),
                Value::Table(table) => {
                    table.entries.iter().any(|entry| entry.value.is_from_source(first))
                }
                _ => false,
            }
    }

    /// The value, if it is a table.
    pub fn table(&self) -> Option<&Table> {
        match &self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The value, if it is a table.
    pub fn table_mut(&mut self) -> Option<&mut Table> {
        match &mut self.value {
            Value::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The items, if the value is a list.
    pub fn list(&self) -> Option<&[Self]> {
        match &self.value {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    /// The items, if the value is a list.
    pub fn list_mut(&mut self) -> Option<&mut Vec<Self>> {
        match &mut self.value {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    /// The value as TOML on one line. The names of tables are sorted, so that values that differ
    /// only in the order of their names have the same text.
    pub fn to_toml(&self) -> String {
        self.as_toml().to_string()
    }

    fn as_toml(&self) -> toml::Value {
        match &self.value {
            Value::Text(text) => toml::Value::String(text.clone()),
            Value::Bool(value) => toml::Value::Boolean(*value),
            Value::Integer(value) => toml::Value::Integer(value.unwrap_or_default()),
            // No key accepts a date or a float, and `check` reports both, so these values are never
            // part of a valid configuration.
            Value::DateTime => toml::Value::String("date".to_owned()),
            Value::Float => toml::Value::Float(0.0),
            Value::List(list) => toml::Value::Array(list.iter().map(Self::as_toml).collect()),
            Value::Table(table) => toml::Value::Table(table.as_toml()),
        }
    }
}

impl Table {
    fn as_toml(&self) -> toml::Table {
        let entry = |entry: &TableEntry| (entry.name.clone(), entry.value.as_toml());
        self.entries.iter().map(entry).collect()
    }
}
