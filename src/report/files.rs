//! The names of the files when each tenant gets a separate report. A name of a tenant is
//! arbitrary text, so it must never be used as a part of a path unchanged. Start reading at
//! [`file_names`].

use std::collections::{HashMap, HashSet};

use super::Format;
use crate::model::Tenant;

/// The maximum number of bytes of a tenant's name in the name of a file.
const MAX_NAME_BYTES: usize = 100;

/// A file name for each tenant, in the same order. A name has no separators of directories, does
/// not begin with a dot, and is different from all others, also in file systems that ignore case.
///
/// The file of a tenant has the tenant's name. If the name has other characters than letters and
/// digits of ASCII, `-`, `_` and `.`, or is too long, or if another tenant has the same name in
/// another case, the ID of the tenant is appended.
pub fn file_names<'a>(
    tenants: impl IntoIterator<Item = &'a Tenant>,
    format: Format,
) -> Vec<String> {
    let stems: Vec<(&Tenant, String)> =
        tenants.into_iter().map(|tenant| (tenant, stem(&tenant.name))).collect();
    let mut uses: HashMap<String, usize> = HashMap::new();
    for (_, stem) in &stems {
        *uses.entry(stem.to_ascii_lowercase()).or_default() += 1;
    }

    let mut taken: HashSet<String> = HashSet::new();
    let mut names = Vec::with_capacity(stems.len());
    for (tenant, stem) in stems {
        let is_own = stem == tenant.name && uses.get(&stem.to_ascii_lowercase()) == Some(&1);
        let preferred = if is_own { stem } else { format!("{stem}-{}", tenant.id) };

        // Another tenant may be named like this one with its ID.
        let (mut name, mut number) = (preferred.clone(), 1);
        while !taken.insert(name.to_ascii_lowercase()) {
            number += 1;
            name = format!("{preferred}-{number}");
        }
        names.push(format!("{name}.{}", extension(format)));
    }
    names
}

fn extension(format: Format) -> &'static str {
    match format {
        Format::Html => "html",
        Format::Csv => "csv",
        Format::Markdown => "md",
        Format::Json => "json",
    }
}

/// The name of a tenant with `_` in place of each character that a file system or a shell could
/// interpret.
fn stem(name: &str) -> String {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let mut stem: String =
        name.chars().take(MAX_NAME_BYTES).map(|c| if is_safe(c) { c } else { '_' }).collect();

    // A name that begins with a dot is hidden or a directory; one that begins with `-` is read as
    // an option by other programs.
    if stem.is_empty() || stem.starts_with(['.', '-']) {
        stem.insert(0, '_');
    }
    stem
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::Path};

    use proptest::prelude::*;

    use super::*;
    use crate::model::TenantId;

    fn tenant(number: usize, name: &str) -> Tenant {
        let id = TenantId::parse(&format!("{number:08x}-0000-4000-8000-00000000c0de")).unwrap();
        Tenant { id, name: name.to_owned(), labels: BTreeMap::new() }
    }

    fn names(tenants: &[&str]) -> Vec<String> {
        let tenants: Vec<Tenant> = (1..).zip(tenants).map(|(n, name)| tenant(n, name)).collect();
        file_names(&tenants, Format::Html)
    }

    #[test]
    fn a_plain_name_is_the_file_name() {
        assert_eq!(names(&["contoso", "c-17.example"]), ["contoso.html", "c-17.example.html"]);

        let one = [tenant(1, "contoso")];
        for (format, name) in [
            (Format::Csv, "contoso.csv"),
            (Format::Markdown, "contoso.md"),
            (Format::Json, "contoso.json"),
        ] {
            assert_eq!(file_names(&one, format), [name]);
        }
    }

    #[test]
    fn a_hostile_name_is_replaced() {
        for (name, stem) in [
            ("../../etc/passwd", "_.._.._etc_passwd"),
            ("..", "_.."),
            ("-rf", "_-rf"),
            ("", "_"),
            ("a b\n", "a_b_"),
            ("Müller", "M_ller"),
        ] {
            let expected = format!("{stem}-00000001-0000-4000-8000-00000000c0de.html");
            assert_eq!(names(&[name]), [expected], "{name:?}");
        }
    }

    #[test]
    fn names_that_differ_in_case_get_the_id() {
        let [first, second, third] = names(&["Contoso", "contoso", "fabrikam"]).try_into().unwrap();
        assert_eq!(first, "Contoso-00000001-0000-4000-8000-00000000c0de.html");
        assert_eq!(second, "contoso-00000002-0000-4000-8000-00000000c0de.html");
        assert_eq!(third, "fabrikam.html");
    }

    /// A name that equals the file name of another tenant does not overwrite its file.
    #[test]
    fn a_name_with_an_id_is_distinct() {
        let found = names(&["a_b-00000002-0000-4000-8000-00000000c0de", "a/b"]);
        assert_eq!(found[0], "a_b-00000002-0000-4000-8000-00000000c0de.html");
        assert_eq!(found[1], "a_b-00000002-0000-4000-8000-00000000c0de-2.html");
    }

    proptest! {
        #[test]
        fn file_names_are_safe_and_distinct(
            tenants in prop::collection::vec("[aA/.\\-ü\u{0}]{0,4}|.{0,130}", 0..20),
        ) {
            let tenants: Vec<&str> = tenants.iter().map(String::as_str).collect();
            let names = names(&tenants);
            prop_assert_eq!(names.len(), tenants.len());

            let distinct: HashSet<String> = names.iter().map(|n| n.to_lowercase()).collect();
            prop_assert_eq!(distinct.len(), names.len());
            for name in &names {
                prop_assert_eq!(Path::new(name).components().count(), 1, "{}", name);
                prop_assert!(!name.starts_with(['.', '-']) && name.len() <= 160 && name.is_ascii());
            }
        }
    }
}
