//! Merges the values of all sources into one table.
//!
//! The lists and credentials of all files are joined; a value from an environment variable replaces
//! that of a file; and a key that a tenant or a sink does not set is inherited from `[defaults]`. This
//! module performs no I/O. Start reading at [`Layers::merge`].

use std::path::PathBuf;

use super::keys::{CREDENTIALS, DEFAULTS, KEYS, SINK_DEFAULTS, SINKS, TENANT_DEFAULTS, TENANTS};
use crate::{
    settings::{Faults, KeyDefinition, Source, Table, apply_variables, check_names, parse},
    sink::{COMMON_KEYS, KINDS, common_keys},
};

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

    /// Merges all values. Returns `None` if the main file is not valid TOML. The values are not checked.
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
        inherit(&mut merged);
        Some(merged)
    }

    /// Joins the lists and the credentials of an additional file with those of the other files.
    fn add(&self, merged: &mut Table, mut file: Table) {
        for list in [TENANTS.name(), SINKS.name()] {
            if let Some(more) = file.take(list) {
                merged.append(list, more);
            }
        }

        let name = CREDENTIALS.name();
        let Some(more) = file.take(name) else { return };
        match (merged.get_mut(name).and_then(|node| node.table_mut()), more.table()) {
            (Some(known), Some(table)) => {
                for (duplicate, span) in table.names().filter(|(n, _)| known.get(n).is_some()) {
                    let message =
                        format!("duplicate `{name}.{duplicate}`: another file defines it");
                    self.faults.at(span, message, None);
                }
                known.add_missing(table);
            }
            _ => merged.append(name, more),
        }
    }
}

/// Adds the values of `[defaults]` to the tenants and sinks that do not set them.
fn inherit(merged: &mut Table) {
    let Some(defaults) = merged.get(DEFAULTS.name()).and_then(|node| node.table()).cloned() else {
        return;
    };
    let section = |name: &str| defaults.get(name).and_then(|node| node.table());

    if let Some(defaults) = section(TENANT_DEFAULTS.name()) {
        for tenant in tables(merged, TENANTS.name()) {
            tenant.inherit(defaults, |_| true);
        }
    }
    if let Some(defaults) = section(SINK_DEFAULTS.name()) {
        for sink in tables(merged, SINKS.name()) {
            let kind = sink.text(common_keys::TYPE.name());
            let own = KINDS.iter().find(|known| Some(known.name) == kind).map(|known| known.keys);
            let keys: Vec<&str> =
                COMMON_KEYS.iter().chain(own.unwrap_or_default()).map(|key| key.name).collect();
            sink.inherit(defaults, |name| keys.contains(&name));
        }
    }
}

/// The tables of a list.
fn tables<'a>(merged: &'a mut Table, list: &str) -> impl Iterator<Item = &'a mut Table> {
    let items = merged.get_mut(list).and_then(|node| node.list_mut());
    items.into_iter().flatten().filter_map(|node| node.table_mut())
}
