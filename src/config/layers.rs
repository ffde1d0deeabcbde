//! Merges the values of all sources into one table.
//!
//! The lists and credentials of all files are joined; a value from an environment variable replaces
//! that of a file; and a key that a tenant or a sink does not set is inherited from `[defaults]`.
//! This module performs no I/O. Start reading at [`Layers::merge`].

use std::path::PathBuf;

use super::keys::{
    CREDENTIALS, DEFAULTS, INHERITED_SINK_KEYS, KEYS, SINK_DEFAULTS, SINKS, TENANT_DEFAULTS,
    TENANTS, tenant,
};
use crate::{
    settings::{
        Faults, KeyDefinition, Node, Source, Span, Table, apply_variables, check_names, parse,
    },
    sink::{
        COMMON_KEYS, KINDS, SinkKind,
        common_keys::{self, CONTROLS, FULL_EVERY, HISTORICAL_CHANGES, RECORDS, START_FROM},
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

/// A file of the configuration.
#[derive(Clone, Debug)]
pub(super) struct SourceFile {
    pub path: PathBuf,
    pub kind: FileKind,
    pub source: Source,
}

/// Which keys a file can have.
#[derive(Clone, Copy, Debug)]
pub(super) enum FileKind {
    /// All keys.
    Main,
    /// Only these.
    Additional(&'static [KeyDefinition]),
}

/// All sources of a configuration, and their faults.
pub(super) struct Layers {
    /// The files, the main one first.
    files: Vec<(PathBuf, FileKind)>,
    /// The names and values of the environment variables.
    variables: Vec<(String, String)>,
    /// The faults, whose sources are the files and then the variables.
    pub faults: Faults,
}

impl Layers {
    /// The layers of these files and variables.
    pub(super) fn new(files: Vec<SourceFile>, variables: Vec<(String, String)>) -> Self {
        let (mut names, mut sources) = (Vec::new(), Vec::new());
        for SourceFile { path, kind, source } in files {
            names.push((path, kind));
            sources.push(source);
        }
        sources.extend(variables.iter().map(|(name, _)| Source::variable(name)));

        Self { files: names, variables, faults: Faults::new(sources) }
    }

    /// The paths of the files, the main one first.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|(path, _)| path.clone()).collect()
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
        let mut merged = None;
        for (index, (_, kind)) in self.files.iter().enumerate() {
            let parsed = parse(&self.faults, index);
            match (kind, &mut merged, parsed) {
                (FileKind::Main, merged, parsed) => *merged = parsed,
                (FileKind::Additional(keys), Some(merged), Some(table)) => {
                    check_names(&table, keys, &self.faults);
                    self.add(merged, table);
                }
                (FileKind::Additional(_), ..) => {}
            }
        }

        let mut merged = merged?;
        apply_variables(&mut merged, KEYS, &self.variables, self.files.len(), &self.faults);
        self.reject_other_defaults(&mut merged);
        inherit(&mut merged);
        Some(merged)
    }

    /// Reports and removes each key of `[defaults]` that only a tenant or a sink itself can set.
    /// The check of all values, which follows, would report it as unknown.
    fn reject_other_defaults(&self, merged: &mut Table) {
        let defaults = merged.get_mut(DEFAULTS.name()).and_then(|node| node.table_mut());
        let Some(defaults) = defaults else { return };

        for (section, list, item, inherited) in DEFAULT_SECTIONS {
            let table = defaults.get_mut(section).and_then(|node| node.table_mut());
            let Some(table) = table else { continue };
            let known = keys_of(list);
            let others: Vec<(String, Span)> = table
                .names()
                .filter(|(name, _)| {
                    !has_key(inherited, name) && known.iter().any(|key| key.name == *name)
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

    /// Joins the lists and the credentials of an additional file with those of the other files.
    fn add(&self, merged: &mut Table, mut file: Table) {
        if let Some(credentials) = file.get(CREDENTIALS.name()) {
            self.report_duplicates(merged, credentials);
        }

        for (name, kind) in [
            (TENANTS.name(), "a list, as in the other files"),
            (SINKS.name(), "a list, as in the other files"),
            (CREDENTIALS.name(), "a table, as in the other files"),
        ] {
            let Some(more) = file.take(name) else { continue };
            // The first value stays, so that neither is lost without a fault.
            if let Err(more) = merged.join(name, more) {
                let message = format!("`{name}` must be {kind}");
                let hint = more
                    .table()
                    .map(|_| format!("write [[{name}]] with double brackets"))
                    .filter(|_| name != CREDENTIALS.name());
                self.faults.at(more.span(), message, hint);
            }
        }
    }

    /// Reports each credential of an additional file that another file defines.
    fn report_duplicates(&self, merged: &Table, credentials: &Node) {
        let name = CREDENTIALS.name();
        let known = merged.get(name).and_then(|node| node.table());
        let more = credentials.table();

        for (duplicate, span) in more.into_iter().flat_map(Table::names) {
            let Some(first) = known.and_then(|known| known.get(duplicate)) else { continue };
            let first = self.faults.origin(first.span());
            let message = format!("duplicate `{name}.{duplicate}`: `{first}` also defines it");
            self.faults.at(span, message, Some("remove one of the sections".to_owned()));
        }
    }
}

/// The sections of `[defaults]`: the key, the list that inherits its values, a word for an item of
/// the list, and the keys that it can set.
const DEFAULT_SECTIONS: [(&str, &str, &str, &[KeyDefinition]); 2] = [
    (TENANT_DEFAULTS.name(), TENANTS.name(), "tenant", tenant::INHERITED_KEYS),
    (SINK_DEFAULTS.name(), SINKS.name(), "sink", INHERITED_SINK_KEYS),
];

/// The key definitions of a tenant, or of a sink of any type.
fn keys_of(list: &str) -> Vec<&'static KeyDefinition> {
    if list == TENANTS.name() {
        return tenant::KEYS.iter().collect();
    }
    COMMON_KEYS.iter().chain(KINDS.iter().flat_map(|kind| kind.keys)).collect()
}

/// Adds the values of `[defaults]` to the tenants and sinks that do not set them. An unknown key is
/// not inherited, because it would be reported again for each of them.
fn inherit(merged: &mut Table) {
    let Some(defaults) = merged.get(DEFAULTS.name()).and_then(|node| node.table()).cloned() else {
        return;
    };
    let section = |name: &str| defaults.get(name).and_then(|node| node.table());

    if let Some(defaults) = section(TENANT_DEFAULTS.name()) {
        for tenant in tables(merged, TENANTS.name()) {
            tenant.inherit(defaults, |name| has_key(tenant::INHERITED_KEYS, name));
        }
    }
    if let Some(defaults) = section(SINK_DEFAULTS.name()) {
        for sink in tables(merged, SINKS.name()) {
            let kind = sink.text(common_keys::TYPE.name());
            let kind = KINDS.iter().find(|known| Some(known.name) == kind);
            sink.inherit(defaults, |name| is_inherited(kind, name));
        }
    }
}

/// Whether a sink of this type has the default of a key. `kind` is `None` for an unknown type.
fn is_inherited(kind: Option<&SinkKind>, name: &str) -> bool {
    let own = kind.map(|kind| kind.keys).unwrap_or_default();
    let is_notification = kind.is_some_and(SinkKind::is_notification);

    has_key(INHERITED_SINK_KEYS, name)
        && (has_key(COMMON_KEYS, name) || has_key(own, name))
        && !(is_notification && NOT_FOR_NOTIFICATIONS.contains(&name))
}

fn has_key(keys: &[KeyDefinition], name: &str) -> bool {
    keys.iter().any(|key| key.name == name)
}

/// The tables of a list.
fn tables<'a>(merged: &'a mut Table, list: &str) -> impl Iterator<Item = &'a mut Table> {
    let items = merged.get_mut(list).and_then(|node| node.list_mut());
    items.into_iter().flatten().filter_map(|node| node.table_mut())
}
