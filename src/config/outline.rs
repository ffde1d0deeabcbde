//! The outline of a configuration: a hash of each sink, tenant and other key, by which a reload
//! finds what has changed.
//!
//! The hashes are computed from the effective values, so comments, white space, the order of keys
//! and the file that contains a value have no effect. A file that a value names, such as a secret,
//! is not read. The daemon stores a hash of its outline, so that `status` in another process finds
//! out whether the files have changed since. Start reading at [`Outline`].

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use aws_lc_rs::digest::{SHA256, digest};

use super::keys::{SINKS, TENANTS};
use crate::{
    model::hex,
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
    /// The names of the environment variables that set keys, sorted.
    pub variables: Vec<String>,
}

/// Identifies a value, in every process: SHA-256 of its effective keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueHash([u8; 32]);

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

    /// A hash of the whole outline in hex, which another process can compare with its own. The
    /// names of the environment variables are not part of it.
    pub fn fingerprint(&self) -> String {
        let mut lines = String::new();
        for (part, hashes) in
            [("sink", &self.sinks), ("tenant", &self.tenants), ("setting", &self.settings)]
        {
            for (name, hash) in hashes {
                // Writing to a string cannot fail. A name is quoted, because it may contain spaces.
                let _ = writeln!(lines, "{part} {name:?} {hash}");
            }
        }
        ValueHash::of(&lines).to_string()
    }
}

impl ValueHash {
    fn of(text: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(bytes)
    }
}

impl fmt::Display for ValueHash {
    /// Prints 64 hex digits in lower case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
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
    ValueHash::of(&value.to_toml())
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

    /// Regression: the hashes could be compared only within one process.
    #[test]
    fn a_fingerprint_is_the_same_in_every_process() {
        assert_eq!(
            ValueHash::of("abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );

        let fingerprint = outline(TEXT).fingerprint();
        assert_eq!(fingerprint, outline(&format!("# a comment\n{TEXT}")).fingerprint());
        for (from, to) in [("\"local\"", "\"other\""), ("15 6", "15 7"), ("\"/x\"", "\"/y\"")] {
            assert_ne!(fingerprint, outline(&TEXT.replacen(from, to, 1)).fingerprint(), "{to}");
        }
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
