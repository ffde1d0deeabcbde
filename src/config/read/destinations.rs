//! Checks the places at receivers, such as topics and indices, to which the records of the tenants
//! are sent: every tenant has a valid one, and no two customers share one unless the configuration
//! gives both the same value.
//!
//! The time is proportional to the number of tenants. Start reading at [`check`]. See decision
//! 0066.

use std::collections::{HashMap, hash_map::Entry};

use crate::{
    config::{SinkPlan, TenantName, TenantPlan},
    model::{Tenant, TenantId},
    settings::Section,
    sink::{Destination, DestinationError, TenantDestinations},
};

/// The maximum number of faults of one kind that are reported for a sink.
const MAX_LISTED: usize = 5;

/// The tenants as they will appear in records, in the order of their plans.
pub(super) fn tenants(plans: &[TenantPlan]) -> Vec<Tenant> {
    let tenant = |(index, plan): (usize, &TenantPlan)| Tenant {
        id: match &plan.id {
            TenantName::Guid(id) => *id,
            TenantName::Domain(_) => unresolved(index),
        },
        name: plan.name.clone(),
        labels: plan.labels.clone(),
    };
    plans.iter().enumerate().map(tenant).collect()
}

/// An ID in the place of one that is not known yet. No tenant has it, and no two tenants have the
/// same one.
fn unresolved(index: usize) -> TenantId {
    TenantId::parse(&format!("ffffffff-ffff-ffff-ffff-{index:012x}")).unwrap_or(TenantId::TEST)
}

/// Adds a fault to the section of a sink for each tenant without a valid destination, and for each
/// two tenants with the same one. `tenants` are those of `plans`.
pub(super) fn check(
    section: &Section<'_>,
    sink: &SinkPlan,
    plans: &[TenantPlan],
    tenants: &[Tenant],
) {
    let Some(destination) = sink.plan.destination() else { return };
    if !destination.depends_on_tenant() {
        return;
    }

    let pairs = plans.iter().zip(tenants).filter(|(plan, _)| sink.tenants.matches(plan));
    let (mut invalid, mut shared) = (Vec::new(), Vec::new());
    let mut places = Places::default();
    for (_, tenant) in pairs {
        match destination.of_tenant(tenant) {
            Ok(found) => shared.extend(places.add(&tenant.name, found)),
            // Labels that are missing have their own fault.
            Err(DestinationError::NoLabel { .. }) => {}
            Err(error) => invalid.push(error.to_string()),
        }
    }

    let report = |problems: &[String], hint: &str| {
        for problem in listed(problems) {
            let message = format!("sink `{}`: `{destination}`: {problem}", sink.name);
            section.fault_with(&destination.key(), message, Some(hint.to_owned()));
        }
    };
    report(&invalid, &invalid_hint(destination));
    report(&shared, SHARED_HINT);
}

const SHARED_HINT: &str = "use `{tenant.id}`, or separate the placeholders with a character that no value contains; to share the place, give both tenants the same value of a label";

fn invalid_hint(destination: &Destination) -> String {
    format!(
        "use `{{tenant.id}}`, or add a label to each tenant whose value consists of {}, and use `{{label.NAME}}`",
        destination.characters()
    )
}

/// The first problems, and the number of the others.
fn listed(problems: &[String]) -> Vec<String> {
    let mut listed: Vec<String> = problems.iter().take(MAX_LISTED).cloned().collect();
    let omitted = problems.len().saturating_sub(MAX_LISTED);
    if omitted > 0 {
        listed.push(format!("and {omitted} more"));
    }
    listed
}

/// The places of the tenants that were added so far.
#[derive(Default)]
struct Places<'a> {
    /// By the name of the place: a tenant, and its values in the name.
    by_name: HashMap<String, (&'a str, Vec<String>)>,
}

impl<'a> Places<'a> {
    /// Adds a tenant. Returns a problem if one of its places is that of a tenant with other values.
    fn add(&mut self, tenant: &'a str, found: TenantDestinations) -> Option<String> {
        let TenantDestinations { names, values } = found;

        let mut problem = None;
        for name in names {
            match self.by_name.entry(name) {
                Entry::Vacant(entry) => {
                    entry.insert((tenant, values.clone()));
                }
                Entry::Occupied(entry) => {
                    let (other, others) = entry.get();
                    if *others != values && problem.is_none() {
                        let name = entry.key();
                        problem = Some(format!(
                            "the different values of the tenants `{other}` and `{tenant}` result in the same name, `{name}`"
                        ));
                    }
                }
            }
        }
        problem
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use crate::config::Configuration;

    const HEAD: &str = r#"
[state]
directory = "/x"
[credentials.app]
kind = "managed_identity"
"#;

    /// The faults of a configuration with these tenants (name, additional keys) and this sink.
    fn faults(tenants: &[(&str, &str)], sink: &str) -> Vec<String> {
        let mut text = HEAD.to_owned();
        for (index, (name, keys)) in tenants.iter().enumerate() {
            let _ = write!(text, "[[tenants]]\nname = \"{name}\"\ncredential = \"app\"\n{keys}\n");
            if !keys.starts_with("id = ") {
                let _ = writeln!(text, "id = \"{index:08x}-0000-4000-8000-00000000c0de\"");
            }
        }
        let _ = writeln!(text, "[[sinks]]\nname = \"out\"\n{sink}");
        let faults = Configuration::parse("c.toml", &text).map_err(|error| error.0);
        faults.err().unwrap_or_default().into_iter().map(|fault| fault.message).collect()
    }

    fn elastic(index: &str) -> String {
        format!("type = \"elasticsearch\"\nurl = \"https://h\"\nindex = \"{index}\"")
    }

    fn site(value: &str) -> String {
        format!("labels = {{ site = \"{value}\" }}")
    }

    /// Regression: `Contoso` and `contoso`, or `a b` and `a/b`, were sent to the same index.
    #[test]
    fn names_that_cannot_be_kept_are_refused() {
        for (name, character) in [("Contoso", "C"), ("a b", " "), ("a/b", "/"), ("müller", "ü")] {
            let found = faults(&[("contoso", ""), (name, "")], &elastic("score-{tenant.name}"));
            assert_eq!(found.len(), 1, "{name}: {found:?}");
            let start = "sink `out`: `index = \"score-{tenant.name}\"`: the name of tenant";
            let expected = format!("{start} `{name}` contains `{character}`, but");
            assert!(found[0].starts_with(&expected), "{}", found[0]);
        }

        let label = site("C 17");
        let found = faults(&[("contoso", &label)], &elastic("score-{label.site}"));
        let expected = "the label `site` of tenant `contoso` contains `C`, but";
        assert!(found[0].contains(expected), "{found:?}");

        let hec = "type = \"splunk_hec\"\nurl = \"https://h\"\ntoken = { env = \"T\" }\nindex = \"{tenant.name}\"";
        assert_eq!(faults(&[("a.b", ""), ("_audit", ""), ("a-b", "")], hec).len(), 2);
    }

    #[test]
    #[cfg(feature = "kafka")]
    fn topics_follow_the_rule_of_kafka() {
        let kafka = "type = \"kafka\"\nbrokers = [\"h:1\"]\ntopic = \"{tenant.name}\"";
        assert_eq!(faults(&[("Contoso.A_b", ""), ("contoso", "")], kafka), Vec::<String>::new());
        let progress = "secure-score-forwarder.tenant.name.out.progress";
        let long = "x".repeat(128);
        let found = faults(&[("a b", ""), ("..", ""), (progress, ""), (&long, "")], kafka);
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn different_values_never_share_a_name() {
        let labels = |a: &str, b: &str| format!("labels = {{ a = \"{a}\", b = \"{b}\" }}");
        let (first, second) = (labels("x-y", "z"), labels("x", "y-z"));
        let tenants = [("one", first.as_str()), ("two", second.as_str())];

        let found = faults(&tenants, &elastic("{label.a}-{label.b}"));
        let expected = "sink `out`: `index = \"{label.a}-{label.b}\"`: the different values of the tenants `one` and `two` result in the same name, `x-y-z`";
        assert_eq!(found, [expected]);
        assert!(faults(&tenants, &elastic("{label.a}.{label.b}")).is_empty());

        // The sink does not receive the records of the second tenant.
        let selected = format!("{}\ntenants = [\"one\"]", elastic("{label.a}-{label.b}"));
        assert!(faults(&tenants, &selected).is_empty());
    }

    #[test]
    fn equal_values_may_share_a_name() {
        let label = site("c-17");
        let tenants = [("one", label.as_str()), ("two", label.as_str())];
        assert!(faults(&tenants, &elastic("score-{label.site}-{kind}")).is_empty());
        assert!(faults(&[("A b", ""), ("a B", "")], &elastic("score-{kind}")).is_empty());
    }

    #[test]
    fn kinds_are_part_of_the_comparison() {
        let labels = |a: &str, b: &str| format!("labels = {{ a = \"{a}\", b = \"{b}\" }}");
        let (first, second) = (labels("x-change-y", "z"), labels("x", "y-change-z"));
        let tenants = [("one", first.as_str()), ("two", second.as_str())];
        let found = faults(&tenants, &elastic("{label.a}-{kind}-{label.b}"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("`x-change-y-change-z`"), "{found:?}");
    }

    #[test]
    fn domains_are_different_before_they_are_resolved() {
        let tenants = [("one", "id = \"one.example\""), ("two", "id = \"two.example\"")];
        assert!(faults(&tenants, &elastic("score-{tenant.id}")).is_empty());
    }

    /// A provider with thousands of tenants reads a short report, without a delay.
    #[test]
    fn many_tenants_are_reported_briefly() {
        let names: Vec<String> = (0..3_000).map(|index| format!("Tenant {index}")).collect();
        let tenants: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
        let found = faults(&tenants, &elastic("score-{tenant.name}"));
        assert_eq!(found.len(), 6, "{found:?}");
        assert!(found[5].ends_with(": and 2995 more"), "{found:?}");
    }
}
