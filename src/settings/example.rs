//! The example file: every table and, in it, every key with its description and a value, as TOML
//! with comments.
//!
//! The text is generated from the same lists of keys as the validation, so it can neither omit a
//! key nor contain one that is not accepted. The sections and their introductions are data next to
//! the keys. This module performs no I/O; `cli/reference.rs` writes the file. Start reading at
//! [`example`], and see decision 0044.

mod comment;
mod section;
mod value;

use std::collections::HashSet;

pub use self::section::{ExampleSection, ExampleState};
use self::{
    comment::{comment, description, effect_of_absence},
    section::{Extent, SectionKeys, TableKeys},
    value::value,
};
use super::{KeyDefinition, Many, Shape};

/// A table of the example file.
#[derive(Clone, Copy, Debug)]
pub struct ExampleTable {
    /// The keys that lead to the table from the top level; the last one is that of the table.
    pub path: &'static [KeyDefinition],
    /// The introduction; empty for a table whose only section has one.
    pub about: &'static str,
    /// The sections. Those of a table with variants belong to the variants instead.
    pub sections: &'static [ExampleSection],
}

/// The text of the file, while it is written.
#[derive(Default)]
struct ExamplePage {
    text: String,
    /// The names and descriptions of the keys that the text describes. Many sections have the same
    /// keys, which are described only once.
    described: HashSet<(&'static str, String)>,
}

/// The example of a configuration with these keys: an introduction, the single values at the top
/// level, and the tables in their order.
pub fn example(introduction: &str, keys: &[KeyDefinition], tables: &[ExampleTable]) -> String {
    let mut page = ExamplePage::default();
    page.text.push_str(&comment(introduction));
    page.text.push('\n');

    for key in keys {
        page.key(key, usize::from(!key.is_required()));
    }
    for table in tables {
        page.table(table);
    }
    page.text
}

impl ExamplePage {
    /// The sections of a table, those of each variant together. A variant with a section that is
    /// set precedes the others.
    fn table(&mut self, table: &ExampleTable) {
        let names: Vec<&str> = table.path.iter().map(|key| key.name).collect();
        let path = names.join(".");
        if !table.about.is_empty() {
            self.text.push('\n');
            self.text.push_str(&comment(table.about));
        }

        match table.path.last().map(|key| key.shape) {
            Some(Shape::Table(keys)) => {
                self.sections(table.sections, TableKeys::without_variants(&path, Many::One, keys));
            }
            Some(Shape::Tables(keys)) => {
                self.sections(table.sections, TableKeys::without_variants(&path, Many::List, keys));
            }
            Some(Shape::Tagged { tag, many, keys, variants }) => {
                let mut variants = variants();
                variants
                    .sort_by_key(|variant| !variant.examples.iter().any(ExampleSection::is_set));
                for variant in variants {
                    let Some(own) = variant.keys else { continue };
                    let tag = Some((tag, variant.name));
                    let keys = TableKeys { path: &path, many, tag, common: keys, own };
                    self.sections(variant.examples, keys);
                }
            }
            _ => {}
        }
    }

    fn sections(&mut self, sections: &[ExampleSection], table: TableKeys<'_>) {
        for (index, section) in sections.iter().enumerate() {
            let extent = if index == 0 { Extent::AllKeys } else { Extent::NecessaryKeys };
            self.section(section, table, extent);
        }
    }

    /// A section: its introduction, its heading, its keys and the tables within it.
    fn section(&mut self, section: &ExampleSection, table: TableKeys<'_>, extent: Extent) {
        let depth = usize::from(!section.is_set());
        self.text.push('\n');
        self.text.push_str(&comment(section.about));
        self.line(depth, &table.heading(section.name));

        let keys = SectionKeys::of(section, table, extent);
        for key in &keys.set {
            self.key(key, depth);
        }
        for key in &keys.not_set {
            self.key(key, depth + 1);
        }
        if !keys.listed.is_empty() {
            self.text.push_str(&comment(section.about_listed));
        }
        for key in &keys.listed {
            self.key(key, depth + 1);
        }

        // In TOML, the keys of the section end at the heading of a table within it.
        for key in &keys.set {
            self.inner_table(section, table.path, key, extent, depth);
        }
        for key in &keys.not_set {
            self.inner_table(section, table.path, key, extent, depth + 1);
        }
    }

    /// A key and its value, unless the value is a table under its own heading.
    fn key(&mut self, key: &KeyDefinition, depth: usize) {
        if let Some(value) = value(key) {
            self.describe(key);
            self.line(depth, &format!("{} = {value}", key.name));
        }
    }

    /// The table under its own heading that is the value of a key. All of its keys are set, or the
    /// whole table is commented out.
    fn inner_table(
        &mut self,
        section: &ExampleSection,
        path: &str,
        key: &KeyDefinition,
        extent: Extent,
        depth: usize,
    ) {
        if value(key).is_some() {
            return;
        }
        self.describe(key);
        self.line(depth, &format!("[{path}.{}]", key.name));
        for inner in section.inner_keys(key, extent) {
            self.key(&inner, depth);
        }
    }

    fn describe(&mut self, key: &KeyDefinition) {
        let description = description(key);
        if self.described.insert((key.name, description.clone())) {
            self.text.push_str(&comment(&format!("{description}{}", effect_of_absence(key))));
        }
    }

    /// A line that has an effect after `#` was removed from its beginning this many times.
    fn line(&mut self, depth: usize, text: &str) {
        self.text.push_str(&"# ".repeat(depth));
        self.text.push_str(text);
        self.text.push('\n');
    }
}

#[cfg(test)]
mod tests;
