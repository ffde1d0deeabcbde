//! What a reload changes: the sinks, tenants and settings in which two configurations differ, and
//! the limit for the removal of tenants.
//!
//! The functions are pure. Names are compared with the hashes of `config::Outline`, so a section
//! counts as changed only if one of its values has changed. Start reading at [`Changes::between`].
//! See decision 0051.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::PossibleRename;
use crate::{
    config::{Configuration, ValueHash},
    model::SinkName,
    text::{count, listed},
};

/// The result of a reload, as the control socket carries it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    #[serde(flatten)]
    pub changes: Changes,
    /// New sinks for which `renamed_from` may be missing.
    pub possible_renames: Vec<PossibleRename>,
}

/// The differences between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    pub sinks: NamedChanges,
    pub tenants: NamedChanges,
    /// The keys that were set, changed or removed, such as `schedule.cron`.
    pub settings: Vec<String>,
}

/// The differences between two lists of named sections, in the order of the configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedChanges {
    pub added: Vec<String>,
    pub removed: Vec<String>,
    pub renamed: Vec<Renamed>,
    /// Sections in which a value other than the name has changed, under their new names.
    pub changed: Vec<String>,
}

/// A section that has another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renamed {
    pub from: String,
    pub to: String,
}

/// How many tenants a reload may remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenantRemovals {
    /// At most [`MAX_REMOVED_PERCENT`] of at least [`MIN_LIMITED_TENANTS`].
    Limited,
    /// Any number.
    Unlimited,
}

/// The share of the tenants that a reload may remove, in percent: a larger one is more likely a
/// truncated list than a decision.
pub(super) const MAX_REMOVED_PERCENT: usize = 20;
/// With fewer tenants than this, a reload may remove any number of them.
pub(super) const MIN_LIMITED_TENANTS: usize = 10;
/// The number of names that a line lists.
const MAX_LISTED_NAMES: usize = 10;

/// A named section of a configuration.
struct NamedSection<'a> {
    name: &'a str,
    /// The section of the other configuration that has another name, but is the same sink or
    /// tenant.
    earlier_name: Option<&'a str>,
    hash: Option<ValueHash>,
}

impl TenantRemovals {
    /// The variant for the flag `--allow-removals`.
    pub fn from_flag(allow_removals: bool) -> Self {
        if allow_removals { Self::Unlimited } else { Self::Limited }
    }

    /// Whether a reload may remove this number of tenants.
    pub fn permit(self, removed: usize, tenants: usize) -> bool {
        let is_small = tenants < MIN_LIMITED_TENANTS;
        self == Self::Unlimited
            || is_small
            || removed.saturating_mul(100) <= tenants.saturating_mul(MAX_REMOVED_PERCENT)
    }
}

impl Changes {
    /// What changes from one configuration to another. A tenant whose name has changed is the same
    /// tenant if its `id` is equal, and a sink is the same sink if `renamed_from` names it.
    pub fn between(old: &Configuration, new: &Configuration) -> Self {
        let (old_outline, new_outline) = (&old.outline, &new.outline);
        let names_by_id: BTreeMap<String, &str> =
            old.tenants.iter().map(|plan| (plan.id.to_string(), plan.name.as_str())).collect();

        let old_sinks: Vec<NamedSection<'_>> = old
            .sinks
            .iter()
            .map(|sink| NamedSection::new(sink.name.as_str(), None, &old_outline.sinks))
            .collect();
        let new_sinks: Vec<NamedSection<'_>> = new
            .sinks
            .iter()
            .map(|sink| {
                let earlier = sink.renamed_from.as_ref().map(SinkName::as_str);
                NamedSection::new(sink.name.as_str(), earlier, &new_outline.sinks)
            })
            .collect();
        let old_tenants: Vec<NamedSection<'_>> = old
            .tenants
            .iter()
            .map(|tenant| NamedSection::new(&tenant.name, None, &old_outline.tenants))
            .collect();
        let new_tenants: Vec<NamedSection<'_>> = new
            .tenants
            .iter()
            .map(|tenant| {
                let earlier = names_by_id.get(&tenant.id.to_string()).copied();
                NamedSection::new(&tenant.name, earlier, &new_outline.tenants)
            })
            .collect();

        Self {
            sinks: NamedChanges::between(&old_sinks, &new_sinks),
            tenants: NamedChanges::between(&old_tenants, &new_tenants),
            settings: changed_keys(&old_outline.settings, &new_outline.settings),
        }
    }

    /// Whether the configurations are equal.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// One line for each kind of change, such as ``2 sinks added: `a`, `b` ``; at most 10 names in
    /// each line.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = self.sinks.lines("sink");
        lines.extend(self.tenants.lines("tenant"));
        lines.extend(line("setting", "changed", &quoted(&self.settings)));
        lines
    }
}

impl NamedChanges {
    fn between(old: &[NamedSection<'_>], new: &[NamedSection<'_>]) -> Self {
        let old_by_name: BTreeMap<&str, &NamedSection<'_>> =
            old.iter().map(|section| (section.name, section)).collect();
        let new_names: BTreeSet<&str> = new.iter().map(|section| section.name).collect();
        let mut changes = Self::default();
        let mut continued = BTreeSet::new();

        for section in new {
            // A section that still exists under its name is not the former one of another section.
            let earlier_name = section.earlier_name.filter(|name| !new_names.contains(name));
            let same_name = old_by_name.get(section.name);
            let earlier = earlier_name.and_then(|name| old_by_name.get(name));
            let Some(old) = same_name.or(earlier) else {
                changes.added.push(section.name.to_owned());
                continue;
            };

            continued.insert(old.name);
            if old.name != section.name {
                let (from, to) = (old.name.to_owned(), section.name.to_owned());
                changes.renamed.push(Renamed { from, to });
            }
            if old.hash != section.hash {
                changes.changed.push(section.name.to_owned());
            }
        }

        let removed = old.iter().filter(|section| !continued.contains(section.name));
        changes.removed = removed.map(|section| section.name.to_owned()).collect();
        changes
    }

    fn lines(&self, noun: &str) -> Vec<String> {
        let renamed: Vec<String> =
            self.renamed.iter().map(|r| format!("`{}` to `{}`", r.from, r.to)).collect();
        let lines = [
            line(noun, "added", &quoted(&self.added)),
            line(noun, "removed", &quoted(&self.removed)),
            line(noun, "renamed", &renamed),
            line(noun, "changed", &quoted(&self.changed)),
        ];
        lines.into_iter().flatten().collect()
    }
}

impl<'a> NamedSection<'a> {
    fn new(
        name: &'a str,
        earlier_name: Option<&'a str>,
        hashes: &BTreeMap<String, ValueHash>,
    ) -> Self {
        Self { name, earlier_name, hash: hashes.get(name).copied() }
    }
}

/// At most 10 of these names in backticks, and the number of the others.
pub(super) fn listed_names(names: &[String]) -> String {
    listed(&quoted(names), MAX_LISTED_NAMES)
}

/// The keys whose values differ, or that only one of the outlines has.
fn changed_keys(
    old: &BTreeMap<String, ValueHash>,
    new: &BTreeMap<String, ValueHash>,
) -> Vec<String> {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter().filter(|key| old.get(*key) != new.get(*key)).cloned().collect()
}

/// `2 sinks added: `, followed by the items; `None` if there are no items.
fn line(noun: &str, verb: &str, items: &[String]) -> Option<String> {
    let names = listed(items, MAX_LISTED_NAMES);
    (!items.is_empty()).then(|| format!("{} {verb}: {names}", count(items.len(), noun)))
}

fn quoted(names: &[String]) -> Vec<String> {
    names.iter().map(|name| format!("`{name}`")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[state]\ndirectory = \"/var/lib/x\"\n\
        [schedule]\ncron = \"15 6 * * *\"\n\
        [credentials.app]\nkind = \"managed_identity\"\n\
        [[tenants]]\nname = \"contoso\"\nid = \"contoso.example\"\ncredential = \"app\"\n\
        [[tenants]]\nname = \"fabrikam\"\nid = \"fabrikam.example\"\ncredential = \"app\"\n\
        [[sinks]]\nname = \"local\"\ntype = \"file\"\npath = \"/x\"\n\
        [[sinks]]\nname = \"pipe\"\ntype = \"stdout\"\n";

    fn configuration(text: &str) -> Configuration {
        Configuration::parse("c.toml", text).unwrap()
    }

    /// Each replacement in [`TEXT`], and the changes that it causes.
    const CASES: &[(&str, &str, &[&str])] = &[
        ("15 6", "15 6", &[]),
        ("15 6", "15 7", &["1 setting changed: `schedule.cron`"]),
        ("cron = \"15 6 * * *\"\n", "", &["1 setting changed: `schedule.cron`"]),
        (
            "managed_identity\"",
            "managed_identity\"\nobject_id = \"x\"",
            &["1 setting changed: `credentials.app`"],
        ),
        ("\"/x\"", "\"/y\"", &["1 sink changed: `local`"]),
        ("name = \"pipe\"", "name = \"out\"", &["1 sink added: `out`", "1 sink removed: `pipe`"]),
        (
            "name = \"pipe\"",
            "name = \"out\"\nrenamed_from = \"pipe\"",
            &["1 sink renamed: `pipe` to `out`"],
        ),
        ("\"fabrikam.example\"", "\"other.example\"", &["1 tenant changed: `fabrikam`"]),
        (
            "name = \"fabrikam\"",
            "name = \"woodgrove\"",
            &["1 tenant renamed: `fabrikam` to `woodgrove`"],
        ),
        (
            "name = \"fabrikam\"\nid = \"fabrikam",
            "name = \"a\"\nid = \"a",
            &["1 tenant added: `a`", "1 tenant removed: `fabrikam`"],
        ),
    ];

    #[test]
    fn lists_every_kind_of_change() {
        for (from, to, expected) in CASES {
            assert!(TEXT.contains(from), "{from}");
            let new = configuration(&TEXT.replacen(from, to, 1));
            let changes = Changes::between(&configuration(TEXT), &new);
            assert_eq!(changes.lines(), *expected, "{to}");
            assert_eq!(changes.is_empty(), expected.is_empty(), "{to}");
        }
    }

    #[test]
    fn swapped_names_are_two_changes() {
        let swapped = TEXT
            .replace("name = \"contoso\"", "name = \"x\"")
            .replace("name = \"fabrikam\"", "name = \"contoso\"")
            .replace("name = \"x\"", "name = \"fabrikam\"");
        let changes = Changes::between(&configuration(TEXT), &configuration(&swapped));
        assert_eq!(changes.lines(), ["2 tenants changed: `fabrikam`, `contoso`"]);
    }

    #[test]
    fn a_line_lists_ten_names() {
        let names: Vec<String> = (1..=12).map(|number| format!("t{number}")).collect();
        assert_eq!(
            line("tenant", "removed", &quoted(&names)).unwrap(),
            "12 tenants removed: `t1`, `t2`, `t3`, `t4`, `t5`, `t6`, `t7`, `t8`, `t9`, `t10` and 2 more"
        );
        assert!(listed_names(&names[..10]).ends_with("`t9`, `t10`"));
        assert_eq!(line("tenant", "removed", &[]), None);
    }

    #[test]
    fn removals_are_limited_to_a_fifth() {
        for (removed, tenants, expected) in [
            (0, 0, true),
            (9, 9, true),
            (2, 10, true),
            (3, 10, false),
            (200, 1_000, true),
            (201, 1_000, false),
            (1_000, 1_000, false),
        ] {
            let is_permitted = TenantRemovals::Limited.permit(removed, tenants);
            assert_eq!(is_permitted, expected, "{removed} of {tenants}");
            assert!(TenantRemovals::Unlimited.permit(removed, tenants));
        }
    }
}
