//! Merges the values of all sources into one table.
//!
//! The lists and credentials of all files are joined; a value from an environment variable replaces
//! that of a file; and a key that a tenant or a sink does not set is inherited from `[defaults]`.
//! This module performs no I/O. Start reading at [`Layers::merge`].

use std::path::{Path, PathBuf};

use super::keys::{
    CREDENTIALS, DEFAULTS, INHERITED_SINK_KEYS, KEYS, SINK_DEFAULTS, SINKS, TENANT_DEFAULTS,
    TENANTS, TENANTS_FILE, tenant,
};
use crate::{
    settings::{
        Faults, KeyDefinition, Node, Source, Span, Table, apply_variables, check_names, parse,
        variable_of,
    },
    sink::{
        COMMON_KEYS, KINDS, SinkKind,
        common_keys::{CONTROLS, FULL_EVERY, HISTORICAL_CHANGES, RECORDS, START_FROM, TYPE},
    },
};

/// The keys that notification sinks (`chat` and `email`) do not inherit. As defaults, they are
/// chosen for receivers that store every record, and would send hundreds of messages to a chat or a
/// mailbox.
const NOT_FOR_NOTIFICATIONS: &[&str] = &[
    RECORDS.name(),
    CONTROLS.name(),
    FULL_EVERY.name(),
    HISTORICAL_CHANGES.name(),
    START_FROM.name(),
];

/// A file of the configuration other than the main one.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    pub path: PathBuf,
    /// The keys that it can have.
    pub keys: &'static [KeyDefinition],
    pub source: Source,
}

/// All sources of a configuration, and their faults.
pub(super) struct Layers {
    /// The paths of the files, the main one first.
    paths: Vec<PathBuf>,
    /// The joined values of all files; `None` if the main file is not valid TOML.
    joined: Option<Table>,
    /// The names and values of the environment variables.
    variables: Vec<(String, String)>,
    /// The faults, whose sources are the files and then the variables.
    pub faults: Faults,
}

/// A section of `[defaults]`.
struct DefaultSection {
    /// Its key.
    name: &'static str,
    /// The list whose items inherit its values.
    list: &'static str,
    /// A word for an item of the list.
    item: &'static str,
    /// The keys that it can set.
    keys: &'static [KeyDefinition],
    /// All keys of an item.
    item_keys: fn() -> Vec<&'static KeyDefinition>,
    /// The names of the keys that an item inherits.
    inherited_by: fn(&Table) -> Vec<&'static str>,
}

const DEFAULT_SECTIONS: [DefaultSection; 2] = [
    DefaultSection {
        name: TENANT_DEFAULTS.name(),
        list: TENANTS.name(),
        item: "tenant",
        keys: tenant::INHERITED_KEYS,
        item_keys: || tenant::KEYS.iter().collect(),
        inherited_by: |_| tenant::INHERITED_KEYS.iter().map(|key| key.name).collect(),
    },
    DefaultSection {
        name: SINK_DEFAULTS.name(),
        list: SINKS.name(),
        item: "sink",
        keys: INHERITED_SINK_KEYS,
        item_keys: || COMMON_KEYS.iter().chain(KINDS.iter().flat_map(|kind| kind.keys)).collect(),
        inherited_by: inherited_by_sink,
    },
];

impl Layers {
    /// The layers of a main file without other sources.
    pub(super) fn of_main(path: &Path, source: Source) -> Self {
        let faults = Faults::new(vec![source]);
        let joined = parse(&faults, 0);
        Self { paths: vec![path.to_owned()], joined, variables: Vec::new(), faults }
    }

    /// Adds a file, and joins its lists and credentials with those of the other files.
    pub(super) fn add_file(&mut self, file: SourceFile) {
        let SourceFile { path, keys, source } = file;
        self.faults.add_source(source);
        let table = parse(&self.faults, self.paths.len());
        self.paths.push(path);

        if let (Some(joined), Some(table)) = (&mut self.joined, table) {
            check_names(&table, keys, &self.faults);
            join(joined, table, &self.faults);
        }
    }

    /// Adds the environment variables. No file can be added after them.
    pub(super) fn with_variables(self, variables: Vec<(String, String)>) -> Self {
        let mut faults = self.faults;
        for (name, _) in &variables {
            faults.add_source(Source::variable(name));
        }
        Self { variables, faults, ..self }
    }

    /// The value of `tenants_file`, which only the main file and these variables can set; `None`
    /// if the main file is not valid TOML.
    pub(super) fn tenants_file<'a>(&'a self, variables: &'a [(String, String)]) -> Option<&'a str> {
        let joined = self.joined.as_ref()?;
        variable_of(TENANTS_FILE.name(), variables).or_else(|| joined.text(TENANTS_FILE.name()))
    }

    /// The paths of the files, the main one first.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.paths.clone()
    }

    /// The names of the environment variables that set keys, sorted.
    pub(super) fn variable_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.variables.iter().map(|(name, _)| name.clone()).collect();
        names.sort_unstable();
        names
    }

    /// Merges all values. Returns `None` if the main file is not valid TOML. The values are not
    /// checked.
    pub(super) fn merge(&self) -> Option<Table> {
        let mut merged = self.joined.clone()?;
        apply_variables(&mut merged, KEYS, &self.variables, self.paths.len(), &self.faults);
        self.reject_other_defaults(&mut merged);
        inherit(&mut merged);
        Some(merged)
    }

    /// Reports and removes each key of `[defaults]` that only a tenant or a sink itself can set.
    /// The check of all values, which follows, would report it as unknown.
    fn reject_other_defaults(&self, merged: &mut Table) {
        let defaults = merged.get_mut(DEFAULTS.name()).and_then(|node| node.table_mut());
        let Some(defaults) = defaults else { return };

        for DefaultSection { name: section, item, keys, item_keys, .. } in DEFAULT_SECTIONS {
            let table = defaults.get_mut(section).and_then(|node| node.table_mut());
            let Some(table) = table else { continue };
            let known = item_keys();
            let others: Vec<(String, Span)> = table
                .names()
                .filter(|(name, _)| {
                    !has_key(keys, name) && known.iter().any(|key| key.name == *name)
                })
                .map(|(name, span)| (name.to_owned(), span))
                .collect();

            for (name, span) in others {
                let path = format!("{}.{section}.{name}", DEFAULTS.name());
                let message = format!("`{path}`: `{name}` cannot have a common default");
                self.faults.at(span, message, Some(format!("set `{name}` in each {item}")));
                table.take(&name);
            }
        }
    }
}

/// Joins the lists and the credentials of an additional file with those of the other files.
fn join(joined: &mut Table, mut file: Table, faults: &Faults) {
    if let Some(credentials) = file.get(CREDENTIALS.name()) {
        report_duplicates(joined, credentials, faults);
    }

    for (name, kind) in [
        (TENANTS.name(), "a list, as in the other files"),
        (SINKS.name(), "a list, as in the other files"),
        (CREDENTIALS.name(), "a table, as in the other files"),
    ] {
        let Some(more) = file.take(name) else { continue };
        // The first value stays, so that neither is lost without a fault.
        if let Err(more) = joined.join(name, more) {
            let message = format!("`{name}` must be {kind}");
            let hint = more
                .table()
                .map(|_| format!("write [[{name}]] with double brackets"))
                .filter(|_| name != CREDENTIALS.name());
            faults.at(more.span(), message, hint);
        }
    }
}

/// Reports each credential of an additional file that another file defines.
fn report_duplicates(joined: &Table, credentials: &Node, faults: &Faults) {
    let name = CREDENTIALS.name();
    let known = joined.get(name).and_then(|node| node.table());
    let more = credentials.table();

    for (duplicate, span) in more.into_iter().flat_map(Table::names) {
        let Some(first) = known.and_then(|known| known.get(duplicate)) else { continue };
        let first = faults.origin(first.span());
        let message = format!("duplicate `{name}.{duplicate}`: `{first}` also defines it");
        faults.at(span, message, Some("remove one of the sections".to_owned()));
    }
}

/// Adds the values of `[defaults]` to the tenants and sinks that do not set them. An unknown key is
/// not inherited, because it would be reported again for each of them.
fn inherit(merged: &mut Table) {
    let Some(defaults) = merged.get(DEFAULTS.name()).and_then(|node| node.table()).cloned() else {
        return;
    };

    for DefaultSection { name, list, inherited_by, .. } in DEFAULT_SECTIONS {
        let Some(defaults) = defaults.get(name).and_then(|node| node.table()) else { continue };
        for item in tables(merged, list) {
            let inherited = inherited_by(item);
            item.inherit(defaults, |name| inherited.contains(&name));
        }
    }
}

/// The names of the keys that a sink inherits: those that its type has. A sink of an unknown type
/// inherits the keys of all sinks.
fn inherited_by_sink(sink: &Table) -> Vec<&'static str> {
    let kind = sink.text(TYPE.name());
    let kind = KINDS.iter().find(|known| Some(known.name) == kind);
    let own = kind.map(|kind| kind.keys).unwrap_or_default();
    let is_notification = kind.is_some_and(SinkKind::is_notification);

    let names = INHERITED_SINK_KEYS.iter().map(|key| key.name);
    let of_type = names.filter(|name| has_key(COMMON_KEYS, name) || has_key(own, name));
    of_type.filter(|name| !(is_notification && NOT_FOR_NOTIFICATIONS.contains(name))).collect()
}

fn has_key(keys: &[KeyDefinition], name: &str) -> bool {
    keys.iter().any(|key| key.name == name)
}

/// The tables of a list.
fn tables<'a>(merged: &'a mut Table, list: &str) -> impl Iterator<Item = &'a mut Table> {
    let items = merged.get_mut(list).and_then(|node| node.list_mut());
    items.into_iter().flatten().filter_map(|node| node.table_mut())
}
