//! The tenants and the sink that options select. A name or a pattern that selects nothing is an
//! error, so that a typing error never produces an empty or a smaller result. Start reading at
//! [`selected_tenants`].

use std::collections::BTreeSet;

use super::{CommandFailure, ExitCode, MAX_LISTED_NAMES, unknown_sink, unknown_tenant};
use crate::{
    config::{Configuration, SinkPlan, TenantFilter, TenantPlan},
    error::Explanation,
    model::SinkName,
    text::{count, listed},
};

/// The tenants that match any of the patterns, in the order of the configuration; all tenants if
/// there are no patterns. The exact name of a tenant selects only that tenant. Any other pattern
/// has the form of the key `tenants` of a sink.
///
/// # Errors
///
/// Fails with one explanation for each pattern that matches no tenant.
pub(super) fn selected_tenants<'a>(
    configuration: &'a Configuration,
    patterns: &[String],
) -> Result<Vec<&'a TenantPlan>, CommandFailure> {
    if patterns.is_empty() {
        return Ok(configuration.tenants.iter().collect());
    }

    let mut selected = BTreeSet::new();
    let mut explanations = Vec::new();
    for pattern in patterns {
        let found = matching(&configuration.tenants, pattern);
        if found.is_empty() {
            explanations.extend(unmatched(configuration, pattern).explanations);
        }
        selected.extend(found);
    }

    if !explanations.is_empty() {
        return Err(CommandFailure { code: ExitCode::Usage, explanations });
    }
    let tenants = configuration.tenants.iter().enumerate();
    Ok(tenants.filter(|(index, _)| selected.contains(index)).map(|(_, plan)| plan).collect())
}

/// The names of the tenants that match any of the patterns; empty if there are no patterns.
///
/// # Errors
///
/// Fails in the same cases as [`selected_tenants`].
pub(super) fn selected_names(
    configuration: &Configuration,
    patterns: &[String],
) -> Result<Vec<String>, CommandFailure> {
    if patterns.is_empty() {
        return Ok(Vec::new());
    }
    let selected = selected_tenants(configuration, patterns)?;
    Ok(selected.into_iter().map(|plan| plan.name.clone()).collect())
}

/// The sink with this name. Fails if it is not configured.
pub(super) fn selected_sink<'a>(
    configuration: &'a Configuration,
    name: &SinkName,
) -> Result<&'a SinkPlan, CommandFailure> {
    configuration.sink_named(name).ok_or_else(|| unknown_sink(configuration, name))
}

/// The only tenant that a pattern matches, for a command that needs exactly one.
///
/// # Errors
///
/// Fails if the pattern matches no tenant, and if it matches several.
pub(super) fn selected_tenant<'a>(
    configuration: &'a Configuration,
    pattern: &str,
) -> Result<&'a TenantPlan, CommandFailure> {
    let selected = selected_tenants(configuration, &[pattern.to_owned()])?;
    if let [plan] = selected.as_slice() {
        return Ok(*plan);
    }

    let names: Vec<&str> = selected.iter().map(|plan| plan.name.as_str()).collect();
    let tenants = count(names.len(), "tenant");
    let explanation =
        Explanation::new(format!("`{pattern}` matches {tenants}, but the command needs one"));
    let hint = format!("use one of: {}", listed(&names, MAX_LISTED_NAMES));
    Err(CommandFailure::new(ExitCode::Usage, explanation.with_hint(hint)))
}

/// The indexes of the tenants that a pattern selects.
fn matching(tenants: &[TenantPlan], pattern: &str) -> Vec<usize> {
    // A name may contain the characters of a pattern, or differ from another one only in its case.
    if let Some(index) = tenants.iter().position(|plan| plan.name == pattern) {
        return vec![index];
    }
    let filter = TenantFilter::parse([pattern]);
    let tenants = tenants.iter().enumerate();
    tenants.filter(|(_, plan)| filter.matches(plan)).map(|(index, _)| index).collect()
}

fn unmatched(configuration: &Configuration, pattern: &str) -> CommandFailure {
    if !pattern.contains(['*', '?', '=']) {
        return unknown_tenant(configuration, pattern);
    }
    let explanation = Explanation::new(format!("no tenant matches `{pattern}`"));
    let hint = "use a name or an ID with the wildcards `*` and `?`, or `LABEL=VALUE`";
    CommandFailure::new(ExitCode::Usage, explanation.with_hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIGURATION: &str = r#"
[state]
directory = "/tmp/x"
[credentials.app]
kind = "managed_identity"
[[sinks]]
name = "out"
type = "stdout"
"#;

    fn configuration(tenants: &[(&str, &str)]) -> Configuration {
        let sections = tenants.iter().enumerate().map(|(number, (name, customer))| {
            format!(
                "[[tenants]]\nname = \"{name}\"\nid = \"{number:08x}-0000-4000-8000-00000000c0de\"\ncredential = \"app\"\nlabels = {{ customer = \"{customer}\" }}\n"
            )
        });
        let text = format!("{CONFIGURATION}{}", sections.collect::<String>());
        Configuration::parse("test", &text).unwrap()
    }

    /// The names that the patterns select, which are separated by spaces.
    fn names(configuration: &Configuration, patterns: &str) -> Result<String, String> {
        let patterns: Vec<String> = patterns.split_whitespace().map(str::to_owned).collect();
        let selected = selected_tenants(configuration, &patterns);
        let plans = selected.map_err(|failure| failure.to_string())?;
        let names: Vec<&str> = plans.iter().map(|plan| plan.name.as_str()).collect();
        Ok(names.join(" "))
    }

    #[test]
    fn patterns_select_names_ids_and_labels() {
        let tenants = [("c-1", "north"), ("c-10", "south"), ("c-2", "north"), ("C-1", "west")];
        let configuration = configuration(&tenants);

        for (patterns, expected) in [
            ("", "c-1 c-10 c-2 C-1"),
            ("c-1", "c-1"),
            ("C-1", "C-1"),
            ("c-1*", "c-1 c-10 C-1"),
            ("customer=NORTH", "c-1 c-2"),
            ("c-2 c-10 c-2", "c-10 c-2"),
            ("00000002-*", "c-2"),
            ("customer=s* c-2", "c-10 c-2"),
        ] {
            assert_eq!(names(&configuration, patterns).unwrap(), expected, "{patterns}");
        }
    }

    #[test]
    fn every_unmatched_pattern_is_named() {
        let configuration = configuration(&[("contoso", "north")]);
        let error = names(&configuration, "contoso fabrikam customer=x*").unwrap_err();
        assert!(error.contains("no tenant `fabrikam`"), "{error}");
        assert!(error.contains("no tenant matches `customer=x*`"), "{error}");
    }

    /// Regression: some commands accepted only names, and others only patterns of names.
    #[test]
    fn one_tenant_is_selected_by_any_pattern() {
        let tenants = [("c-1", "north"), ("c-2", "south"), ("c-3", "south")];
        let configuration = configuration(&tenants);
        let selected = |pattern: &str| {
            let found = selected_tenant(&configuration, pattern);
            found.map(|plan| plan.name.clone()).map_err(|failure| failure.to_string())
        };

        for pattern in ["c-1", "*1", "customer=north", "00000000-0000-4000-8000-00000000c0de"] {
            assert_eq!(selected(pattern).unwrap(), "c-1", "{pattern}");
        }
        let several = selected("customer=south").unwrap_err();
        assert!(several.contains("matches 2 tenants, but the command needs one"), "{several}");
        assert!(several.ends_with("use one of: c-2, c-3"), "{several}");
        assert!(selected("c-4").unwrap_err().contains("no tenant `c-4`"));
    }

    /// The exact name has precedence over the pattern.
    #[test]
    fn a_name_can_look_like_a_pattern() {
        let configuration = configuration(&[("a*", "north"), ("ab", "north"), ("x=y", "north")]);
        assert_eq!(names(&configuration, "a*").unwrap(), "a*");
        assert_eq!(names(&configuration, "x=y").unwrap(), "x=y");
    }
}
