//! The outline of a configuration: a digest of each sink, tenant and other key, by which a reload
//! finds what has changed.
//!
//! The digests are computed from the values in the files, so comments, white space and the order of
//! keys have no effect. A file that a value names, such as a secret, is not read.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use toml::{Table, Value};

/// The digests of the parts of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// By the name of the sink. `name` and `renamed_from` are not part of the digest.
    pub sinks: BTreeMap<String, ValueDigest>,
    /// By the name of the tenant. `name` is not part of the digest.
    pub tenants: BTreeMap<String, ValueDigest>,
    /// All other values, by their path, such as `schedule.cron`.
    pub settings: BTreeMap<String, ValueDigest>,
}

/// Identifies a value. Two digests can be compared only within one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueDigest(u64);

impl Outline {
    /// The outline of the texts of all files. A text that is not valid TOML is ignored, because the
    /// configuration is then rejected for that reason.
    pub(super) fn of<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut outline = Self::default();
        for table in texts.filter_map(|text| text.parse::<Table>().ok()) {
            outline.add(table);
        }
        outline
    }

    fn add(&mut self, file: Table) {
        for (key, value) in file {
            match (key.as_str(), value) {
                ("sinks", Value::Array(sinks)) => {
                    add_named(&mut self.sinks, sinks, &["name", "renamed_from"]);
                }
                ("tenants", Value::Array(tenants)) => {
                    add_named(&mut self.tenants, tenants, &["name"]);
                }
                (_, Value::Table(section)) => {
                    for (inner, value) in section {
                        self.settings.insert(format!("{key}.{inner}"), digest(&value));
                    }
                }
                (_, value) => {
                    self.settings.insert(key.clone(), digest(&value));
                }
            }
        }
    }
}

/// Adds the digest of each table under its name. The keys in `ignored` are not part of the digest.
fn add_named(digests: &mut BTreeMap<String, ValueDigest>, tables: Vec<Value>, ignored: &[&str]) {
    for table in tables {
        let Value::Table(mut table) = table else { continue };
        let Some(name) = table.get("name").and_then(Value::as_str).map(str::to_owned) else {
            continue;
        };

        for key in ignored {
            table.remove(*key);
        }
        digests.insert(name, digest(&Value::Table(table)));
    }
}

/// The digest of a value. The keys of its tables are sorted.
fn digest(value: &Value) -> ValueDigest {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    ValueDigest(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "tenants_file = \"t.csv\"\n\
        [schedule]\ncron = \"15 6 * * *\"\n\
        [credentials.app]\nkind = \"environment\"\n\
        [[tenants]]\nname = \"contoso\"\nid = \"a.example\"\nlabels = { a = \"1\", b = \"2\" }\n\
        [[sinks]]\nname = \"local\"\ntype = \"file\"\npath = \"/x\"\n";

    fn outline(text: &str) -> Outline {
        Outline::of(std::iter::once(text))
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
    fn only_values_change_a_digest() {
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

    #[test]
    fn the_files_of_tenants_are_included() {
        let more = "[[tenants]]\nname = \"fabrikam\"\nid = \"b.example\"\n";
        let outline = Outline::of([TEXT, more, "not = valid = toml"].into_iter());
        assert_eq!(outline.tenants.keys().collect::<Vec<_>>(), ["contoso", "fabrikam"]);
    }
}
