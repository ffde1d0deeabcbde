//! The names of environment variables, and how they correspond to the names in a configuration.
//! This module neither reads the environment nor changes a value. Start reading at
//! [`variable_name`].

use super::{Unusable, unusable};
use crate::settings::{KeyDefinition, Shape};

/// The prefix of all variables that set a key.
pub(super) const VARIABLE_PREFIX: &str = "SECURE_SCORE_FORWARDER__";

/// Between the names of a path.
pub(super) const SEPARATOR: &str = "__";

/// A name as it is written in a variable: in upper case, with `_` for other characters.
pub(super) fn variable_name(name: &str) -> String {
    let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    name.chars().map(upper).collect()
}

/// The longest of the names with which a path begins, and the path after it. A name can contain the
/// separator: `CONTOSO__INC` represents `Contoso, Inc`.
pub(super) fn longest_match<'a>(names: &'a [String], path: &'a str) -> Option<(&'a str, &'a str)> {
    let matches = names.iter().filter_map(|name| {
        let rest = path.strip_prefix(name.as_str())?.strip_prefix(SEPARATOR)?;
        (!rest.is_empty()).then_some((name.as_str(), rest))
    });
    matches.max_by_key(|(name, _)| name.len())
}

/// The keys whose values decide which other keys their tables have.
pub(super) fn tags(keys: &[KeyDefinition]) -> Vec<&'static str> {
    keys.iter().flat_map(|key| tags_in(key.shape)).collect()
}

fn tags_in(shape: Shape) -> Vec<&'static str> {
    match shape {
        Shape::Tagged { tag, keys, .. } => [vec![tag], tags(keys)].concat(),
        Shape::Table(keys) | Shape::Tables(keys) => tags(keys),
        Shape::NameOrSection(shape) => tags_in(*shape),
        _ => Vec::new(),
    }
}

/// Why a variable without the prefix of variables that set keys is rejected: its name is in lower
/// case, or is misspelled.
pub(super) fn malformed(name: &str) -> Unusable {
    let upper = name.to_ascii_uppercase();
    if upper != name {
        let message = "the name is not in capital letters, so the variable has no effect";
        return unusable(message.to_owned(), Some(format!("use `{upper}`")));
    }
    let hint = format!(
        "begin the name with `{VARIABLE_PREFIX}`, and write two underscores between the names of a path"
    );
    unusable("no setting of the program has this name".to_owned(), Some(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_contain_the_separator_are_found() {
        let names = ["A", "A__B", "-X-", "Contoso, Inc"].map(variable_name);
        for (path, expected) in [
            ("A__URL", Some(("A", "URL"))),
            ("A__B__URL", Some(("A__B", "URL"))),
            // Without a key after the longer name, it is the shorter one.
            ("A__B", Some(("A", "B"))),
            ("_X___URL", Some(("_X_", "URL"))),
            ("CONTOSO__INC__LABELS__A", Some(("CONTOSO__INC", "LABELS__A"))),
            ("CONTOSO__URL", None),
            ("A", None),
            ("", None),
        ] {
            assert_eq!(longest_match(&names, path), expected, "{path}");
        }
    }
}
