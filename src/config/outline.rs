//! The outline of a configuration: a hash of each sink, tenant and other key, by which a reload
//! finds what has changed.
//!
//! The hashes are computed from the effective values, so comments, white space, the order of keys
//! and the file that contains a value have no effect. A file that a value names, such as a secret,
//! is not read. Start reading at [`Outline`].

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use super::keys::{SINKS, TENANTS};
use crate::{
    settings::{Node, Table},
    sink::common_keys,
};

/// The hashes of the parts of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// By the name of the sink. `name` and `renamed_from` are not part of the hash.
    pub sinks: BTreeMap<String, ValueHash>,
    /// By the name of the tenant. `name` is not part of the hash.
    pub tenants: BTreeMap<String, ValueHash>,
    /// All other values, by their path, such as `schedule.cron`.
    pub settings: BTreeMap<String, ValueHash>,
}

/// Identifies a value. Two hashes can be compared only within one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueHash(u64);

impl Outline {
    /// The outline of all values, which must be valid.
    pub(super) fn of(merged: &Table) -> Self {
        let mut outline = Self::default();
        for (name, _) in merged.names() {
            let Some(value) = merged.get(name) else { continue };

            if name == SINKS.name() {
                let ignored = [common_keys::NAME.name(), common_keys::RENAMED_FROM.name()];
                outline.sinks = hashes(value, &ignored);
            } else if name == TENANTS.name() {
                outline.tenants = hashes(value, &[common_keys::NAME.name()]);
            } else if let Some(section) = value.table() {
                let inner = section.names().filter_map(|(key, _)| Some((key, section.get(key)?)));
                outline
                    .settings
                    .extend(inner.map(|(key, value)| (format!("{name}.{key}"), hash(value))));
            } else {
                outline.settings.insert(name.to_owned(), hash(value));
            }
        }
        outline
    }
}

/// The hash of each table of a list, by its name. The keys in `ignored` are not part of the hash.
fn hashes(list: &Node, ignored: &[&str]) -> BTreeMap<String, ValueHash> {
    let tables = list.list().unwrap_or_default().iter();
    let named = tables.filter_map(|node| {
        let name = node.table()?.text(common_keys::NAME.name())?.to_owned();
        let mut node = node.clone();
        for key in ignored {
            node.table_mut()?.take(key);
        }
        Some((name, hash(&node)))
    });
    named.collect()
}

/// The hash of a value. The keys of its tables are sorted.
fn hash(value: &Node) -> ValueHash {
    let mut hasher = DefaultHasher::new();
    value.to_toml().hash(&mut hasher);
    ValueHash(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Faults, parse};

    const TEXT: &str = "tenants_file = \"t.csv\"\n\
        [schedule]\ncron = \"15 6 * * *\"\n\
        [credentials.app]\nkind = \"environment\"\n\
        [[tenants]]\nname = \"contoso\"\nid = \"a.example\"\nlabels = { a = \"1\", b = \"2\" }\n\
        [[sinks]]\nname = \"local\"\ntype = \"file\"\npath = \"/x\"\n";

    fn outline(text: &str) -> Outline {
        Outline::of(&parse(&Faults::of_file("c.toml", text), 0).unwrap())
    }

    #[test]
    fn lists_sinks_tenants_and_other_keys() {
        let outline = outline(TEXT);
        assert_eq!(outline.sinks.keys().collect::<Vec<_>>(), ["local"]);
        assert_eq!(outline.tenants.keys().collect::<Vec<_>>(), ["contoso"]);
        let settings: Vec<_> = outline.settings.keys().collect();
        assert_eq!(settings, ["credentials.app", "schedule.cron", "tenants_file"]);
    }

    #[test]
    fn only_values_change_a_hash() {
        for (from, to, is_equal) in [
            ("name = \"local\"\n", "renamed_from = \"old\"\n# a comment\nname = \"local\"\n", true),
            ("{ a = \"1\", b = \"2\" }", "{b=\"2\", a=\"1\"}", true),
            ("type = \"file\"\npath = \"/x\"", "path = \"/x\"\ntype = \"file\"", true),
            ("path = \"/x\"", "path = \"/y\"", false),
            ("b = \"2\"", "b = \"3\"", false),
            ("environment", "managed_identity", false),
            ("15 6", "15 7", false),
            ("t.csv", "u.csv", false),
        ] {
            assert!(TEXT.contains(from), "{from}");
            let changed = outline(&TEXT.replacen(from, to, 1));
            assert_eq!(changed == outline(TEXT), is_equal, "{to}");
        }
    }
}
