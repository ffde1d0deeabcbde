//! Converts TOML text to a [`Table`] with the origin of every value. No other module uses the
//! parser.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Faults, Span, Table,
    node::{Node, TableEntry, Value},
};

/// Parses the text of a source, by its index. If it is not valid TOML, reports the fault and
/// returns `None`.
pub fn parse(faults: &Faults, source: usize) -> Option<Table> {
    match DeTable::parse(faults.text(source)) {
        Ok(root) => Some(table(root.get_ref(), source)),
        Err(error) => {
            let range = error.span().unwrap_or(0..0);
            let span = Span { source, start: range.start, end: range.end };
            faults.at(span, error.message().replace('\n', ", "), None);
            None
        }
    }
}

fn table(table: &DeTable<'_>, source: usize) -> Table {
    let mut converted = Table::default();

    for (name, value) in table {
        converted.push(TableEntry {
            name: name.get_ref().to_string(),
            name_span: span(name, source),
            value: node(value, source),
        });
    }
    converted
}

fn node(spanned: &Spanned<DeValue<'_>>, source: usize) -> Node {
    let value = match spanned.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(value) => Value::Bool(*value),
        DeValue::Integer(integer) => {
            Value::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok())
        }
        DeValue::Float(_) => Value::Float,
        DeValue::Datetime(_) => Value::DateTime,
        DeValue::Array(list) => Value::List(list.iter().map(|item| node(item, source)).collect()),
        DeValue::Table(inner) => Value::Table(table(inner, source)),
    };

    Node::new(value, span(spanned, source))
}

fn span<T>(spanned: &Spanned<T>, source: usize) -> Span {
    let range = spanned.span();
    Span { source, start: range.start, end: range.end }
}
