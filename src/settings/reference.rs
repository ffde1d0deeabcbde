//! The reference page of a table of keys, in Markdown.
//!
//! The page is generated from the same table as the validation of a configuration and its JSON
//! Schema, so it cannot describe a key that does not exist. This module performs no I/O;
//! `cli/reference.rs` writes the file.

use std::fmt::Write as _;

use super::{
    KeyDefinition, Many, Presence, Shape, Variant,
    check::between,
    units::{show_duration, show_size},
};

/// A table of the configuration, which is a section of the page.
#[derive(Clone, Copy)]
struct PageSection<'a> {
    /// The heading, such as `` `[[sinks]]` ``.
    title: &'a str,
    /// The path of the table without brackets.
    path: &'a str,
    /// The text after the title, which names the variant that has the table; empty for other
    /// tables.
    condition: &'a str,
    doc: &'a str,
    keys: &'a [KeyDefinition],
    /// `None` for a table without variants.
    tag: Option<PageTag<'a>>,
}

/// The key whose value selects the variant of a table.
#[derive(Clone, Copy)]
struct PageTag<'a> {
    name: &'a str,
    variants: &'a [Variant],
}

/// One section per table of the configuration, with a row per key.
pub fn reference(keys: &[KeyDefinition]) -> String {
    let mut page = "\n## Top level\n\n".to_owned();
    table(&mut page, keys, None);
    for key in keys {
        below(&mut page, key.name, "", key);
    }
    page
}

/// The sections of the tables that a key contains. `condition` is the text after the path in their
/// headings, which names the variant that has the key; it is empty for other keys.
fn below(page: &mut String, path: &str, condition: &str, key: &KeyDefinition) {
    let shape = match key.shape {
        Shape::NameOrSection(shape) => *shape,
        shape => shape,
    };

    let empty = PageSection { title: "", path, condition, doc: key.doc, keys: &[], tag: None };
    match shape {
        Shape::Table(keys) | Shape::OneOfOrTable { keys, .. } => {
            section(page, PageSection { title: &format!("`[{path}]`"), keys, ..empty });
        }
        Shape::Tables(keys) => {
            section(page, PageSection { title: &format!("`[[{path}]]`"), keys, ..empty });
        }
        Shape::Tagged { tag, many, keys, variants } => {
            let title = match many {
                Many::One => format!("`[{path}]`"),
                Many::List => format!("`[[{path}]]`"),
                Many::Named => format!("`[{path}.NAME]`"),
            };
            let path = if many == Many::Named { format!("{path}.NAME") } else { path.to_owned() };
            let tag = PageTag { name: tag, variants: &variants() };
            let tagged = PageSection { title: &title, path: &path, keys, tag: Some(tag), ..empty };
            section(page, tagged);
            add_variants(page, &title, &path, tag);
        }
        _ => {}
    }
}

/// A section, and those of the tables within it.
fn section(page: &mut String, section: PageSection<'_>) {
    let PageSection { title, path, condition, doc, keys, tag } = section;
    let level = if condition.is_empty() { "##" } else { "###" };
    let doc = one_sentence_per_line(doc);
    let _ = writeln!(page, "\n{level} {title}{condition}\n\n{doc}\n");
    table(page, keys, tag);

    for key in keys {
        below(page, &format!("{path}.{}", key.name), condition, key);
    }
}

/// The additional keys of each variant.
fn add_variants(page: &mut String, title: &str, path: &str, tag: PageTag<'_>) {
    for variant in tag.variants {
        let Some(keys) = variant.keys else { continue };
        let condition = format!(" with `{} = \"{}\"`", tag.name, variant.name);
        if keys.is_empty() {
            let _ = writeln!(page, "\n### {title}{condition}\n\nNo additional keys.");
            continue;
        }

        let _ = writeln!(page, "\n### {title}{condition}\n");
        table(page, keys, None);
        for key in keys {
            below(page, &format!("{path}.{}", key.name), &condition, key);
        }
    }
}

/// A row per key. The values of a tag are the names of its variants.
fn table(page: &mut String, keys: &[KeyDefinition], tag: Option<PageTag<'_>>) {
    page.push_str("| key | value | if not set | description |\n|---|---|---|---|\n");
    for key in keys.iter().filter(|key| !matches!(key.shape, Shape::Reserved)) {
        let value = match tag.filter(|tag| tag.name == key.name) {
            Some(PageTag { variants, .. }) => {
                one_of(&variants.iter().map(|variant| variant.name).collect::<Vec<_>>())
            }
            None => value(key.shape),
        };
        let doc = escaped(key.doc);
        let _ =
            writeln!(page, "| `{}` | {value} | {} | {doc} |", key.name, if_not_set(key.presence));
    }
}

/// The effect of a section without the key.
fn if_not_set(presence: Presence) -> String {
    match presence {
        Presence::Required => "required".to_owned(),
        Presence::Optional(without) => escaped(without),
        Presence::Default(default) => format!("`{default}`"),
    }
}

/// A description of the values that a key can have.
fn value(shape: Shape) -> String {
    match shape {
        Shape::Text => "string".to_owned(),
        Shape::File => "absolute path".to_owned(),
        Shape::Bool => "`true` or `false`".to_owned(),
        Shape::Integer { min, max } => format!("integer, {min} to {max}"),
        Shape::Duration { min, max } => within(
            "duration, such as `10m`",
            show_duration(min).as_deref(),
            show_duration(max).as_deref(),
        ),
        Shape::Size { min, max } => {
            within("size, such as `32MiB`", show_size(min).as_deref(), show_size(max).as_deref())
        }
        Shape::Day => "date, such as `2026-09-01`".to_owned(),
        Shape::OneOf(choices) => one_of(choices),
        Shape::OneOfOrTable { choices, .. } => format!("{}; or a table", one_of(choices)),
        Shape::ManyOf(choices) => format!("list of {}", one_of(choices)),
        Shape::Texts => "list of strings".to_owned(),
        Shape::Map => "table of strings".to_owned(),
        Shape::Secret(_) => "reference to a secret".to_owned(),
        Shape::Secrets => "table of references to secrets".to_owned(),
        Shape::TextOrSecret(_) => "string, or a reference to a secret".to_owned(),
        Shape::Table(_) | Shape::Tagged { many: Many::One, .. } => "table".to_owned(),
        Shape::Tables(_) | Shape::Tagged { many: Many::List, .. } => "list of tables".to_owned(),
        Shape::Tagged { many: Many::Named, .. } => "tables by name".to_owned(),
        Shape::NameOrSection(shape) => format!("a name, or a {}", value(*shape)),
        Shape::Reserved => "not in this version".to_owned(),
    }
}

/// A description with the range of a value, if it has one.
fn within(description: &str, min: Option<&str>, max: Option<&str>) -> String {
    let range = between(min, max);
    if range.is_empty() { description.to_owned() } else { format!("{description}; {range}") }
}

fn one_of(choices: &[&str]) -> String {
    choices.iter().map(|choice| format!("`\"{choice}\"`")).collect::<Vec<_>>().join(", ")
}

/// Escapes each `|`, which would end the cell.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|")
}

fn one_sentence_per_line(text: &str) -> String {
    text.replace(". ", ".\n")
}
