//! Reads the environment variables that set keys, and those that were probably meant to.
//!
//! Every variable whose name begins like the names of this program sets a key or is a fault: a
//! misspelled one must not be ignored. Start reading at [`variables`].

/// The beginning of the names of all variables of this program.
const PREFIX: &str = "SECURE_SCORE_FORWARDER_";

/// The other variables of this program, without the prefix: the path of the configuration, the
/// commit of a build, and the files that root has opened for this process.
const OTHERS: &[&str] = &["CONFIG", "COMMIT", "HANDED_DOWN"];

/// The names and values of the variables that set keys or are misspelled, sorted by name.
pub(super) fn variables() -> Vec<(String, String)> {
    let all = std::env::vars_os().filter_map(|(name, value)| {
        // Bytes that are not UTF-8 are replaced: no key has such a name, and such a value is a
        // fault.
        let name = name.to_string_lossy().into_owned();
        is_relevant(&name).then(|| (name, value.to_string_lossy().into_owned()))
    });

    let mut variables: Vec<(String, String)> = all.collect();
    variables.sort();
    variables
}

/// Whether a variable sets a key or is misspelled.
fn is_relevant(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    upper
        .strip_prefix(PREFIX)
        .is_some_and(|rest| !(is_of_kubernetes(rest) || OTHERS.contains(&rest) && name == upper))
}

/// Whether the rest of a name is one of those that Kubernetes adds to every container for a service
/// whose name begins with that of the program, such as `SERVICE_HOST` and `PORT_9633_TCP_ADDR`.
fn is_of_kubernetes(rest: &str) -> bool {
    // The name of a service cannot begin with a hyphen, which would be another underscore.
    let rest = format!("_{rest}");
    let ends = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"];
    let has_port =
        rest.split("_PORT_").skip(1).any(|after| after.starts_with(|c: char| c.is_ascii_digit()));
    let is_service = rest.contains("_SERVICE_PORT_") || ends.iter().any(|end| rest.ends_with(end));
    !rest.starts_with("__") && (has_port || is_service)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: a variable with one underscore too few, or in lower case, was ignored.
    #[test]
    fn misspelled_variables_are_relevant() {
        for (name, expected) in [
            ("SECURE_SCORE_FORWARDER__SCHEDULE__CRON", true),
            ("SECURE_SCORE_FORWARDER_SCHEDULE__CRON", true),
            ("secure_score_forwarder__schedule__cron", true),
            ("SECURE_SCORE_FORWARDER_CONFG", true),
            ("secure_score_forwarder_config", true),
            ("SECURE_SCORE_FORWARDER__SCHEDULE__CR\u{fffd}N", true),
            ("SECURE_SCORE_FORWARDER_CONFIG", false),
            ("SECURE_SCORE_FORWARDER_COMMIT", false),
            (crate::files::VARIABLE, false),
            ("SECURE_SCORE_DEMO_SECRET", false),
            ("PATH", false),
        ] {
            assert_eq!(is_relevant(name), expected, "{name}");
        }
    }

    #[test]
    fn variables_of_kubernetes_services_are_ignored() {
        for (rest, expected) in [
            ("SERVICE_HOST", true),
            ("SERVICE_PORT", true),
            ("SERVICE_PORT_METRICS", true),
            ("PORT", true),
            ("PORT_9633_TCP", true),
            ("PORT_9633_TCP_ADDR", true),
            ("METRICS_SERVICE_HOST", true),
            ("METRICS_PORT_9633_TCP_PROTO", true),
            ("_SINKS__SIEM__PORT", false),
            ("SINKS__SIEM__ADDRESS", false),
        ] {
            assert_eq!(is_of_kubernetes(rest), expected, "{rest}");
        }
    }
}
