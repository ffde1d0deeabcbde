//! The figures in the documentation are those of the code: constants, and the defaults of the keys of
//! the configuration.

use std::collections::BTreeMap;

use secure_score_forwarder::cli;

use super::{pages, read};
use crate::support::Workspace;

/// A figure in the documentation that a constant in the code determines.
struct Figure {
    page: &'static str,
    statement: &'static str,
    source: &'static str,
    declaration: &'static str,
}

const fn figure(
    page: &'static str,
    statement: &'static str,
    source: &'static str,
    declaration: &'static str,
) -> Figure {
    Figure { page, statement, source, declaration }
}

const ARCHITECTURE: &str = "docs/explanation/architecture.md";
const DATA_MODEL: &str = "docs/explanation/data-model.md";
const DELIVERY: &str = "docs/explanation/delivery.md";
const MONITORING: &str = "docs/how-to/monitoring.md";

/// Most of these constants are private, so their declarations are compared as text. Change the page
/// and this list together with the constant.
const FIGURES: &[Figure] = &[
    figure(ARCHITECTURE, "one worker thread", "src/cli/mod.rs", "WORKER_THREADS: usize = 1;"),
    figure(
        ARCHITECTURE,
        "at most eight threads for calls that block",
        "src/cli/mod.rs",
        "MAX_BLOCKING_THREADS: usize = 8;",
    ),
    figure(ARCHITECTURE, "there are eight,", "src/daemon/mod.rs", "POLL_PERMITS: usize = 8;"),
    figure(ARCHITECTURE, "takes four.", "src/daemon/mod.rs", "PERMITS_PER_BACKFILL: u32 = 4;"),
    figure(
        ARCHITECTURE,
        "reads back more than 14 days",
        "src/daemon/collector/mod.rs",
        "DAYS_PER_PERMIT: i32 = 14;",
    ),
    figure(ARCHITECTURE, "two at a time", "src/source/throttle.rs", "MAX_CONCURRENT: usize = 2;"),
    figure(ARCHITECTURE, "100 per minute", "src/source/throttle.rs", "PER_MINUTE: f64 = 100.0;"),
    figure(ARCHITECTURE, "a burst of 20", "src/source/throttle.rs", "BURST: u32 = 20;"),
    figure(ARCHITECTURE, "Once a minute", "src/daemon/lifecycle.rs", "Duration::from_mins(1);"),
    figure(ARCHITECTURE, "secureScores?$top=3", "src/ledger/mod.rs", "REREAD_DAYS: i32 = 3;"),
    figure(
        DELIVERY,
        "more than 20 records in a row",
        "src/daemon/deliverer/rejections.rs",
        "_IN_A_ROW: usize = 20;",
    ),
    figure(
        DELIVERY,
        "more than 50 of the last 1,000",
        "src/daemon/deliverer/rejections.rs",
        "_IN_WINDOW: usize = 50;",
    ),
    figure(
        "docs/how-to/manage-sinks.md",
        "more than 20 rejected records in a row, or 50 rejected records among the last 1,000",
        "src/daemon/deliverer/rejections.rs",
        "_IN_WINDOW: usize = 50;",
    ),
    figure(
        "docs/how-to/manage-sinks.md",
        "retried every five minutes",
        "src/daemon/deliverer/mod.rs",
        "PARKED_WAIT: Duration = Duration::from_mins(5);",
    ),
    figure(DELIVERY, "less than 16 MiB free", "src/daemon/mod.rs", ": u64 = 16 << 20;"),
    figure(MONITORING, "Below 16 MiB, polling pauses", "src/daemon/mod.rs", ": u64 = 16 << 20;"),
    figure(DELIVERY, "receives the last 90 days", "src/daemon/mod.rs", ".plus(-90)"),
    figure(DATA_MODEL, "twice within 14 days", "src/checkpoint/read.rs", ": i32 = 14;"),
    figure(DATA_MODEL, "5 points and more", "src/derive/rules.rs", ": f64 = 5.0;"),
    figure(DATA_MODEL, "expires within 30 days", "src/source/graph.rs", "from_hours(30 * 24);"),
    figure(
        DATA_MODEL,
        "the newest 90 days, and bodies that a sink",
        "src/checkpoint/retention.rs",
        ": i32 = 90;",
    ),
    figure(
        "docs/how-to/run-the-service.md",
        "retried after 5 minutes",
        "src/schedule.rs",
        "FIRST_RETRY: Duration = Duration::from_mins(5);",
    ),
];

#[test]
fn documented_figures_are_those_of_the_code() {
    assert_eq!((cli::WORKER_THREADS, cli::MAX_BLOCKING_THREADS), (1, 8));
    for Figure { page, statement, source, declaration } in FIGURES {
        let text = read(page).replace('\n', " ");
        assert!(text.contains(statement), "{page} does not state `{statement}`");
        let code = read(source);
        assert!(code.contains(declaration), "{source} does not declare `{declaration}`: {page}");
    }
}

/// Defaults that the pages state in another form than `key` (value), each with its key and its value.
const DEFAULTS: &[(&str, &str, &str, &str)] = &[
    ("docs/how-to/many-tenants.md", "The default of 10 minutes", "jitter", "10m"),
    ("docs/how-to/many-tenants.md", "reads up to 90 days", "initial_backfill_days", "90"),
    (DATA_MODEL, "(6 hours by default)", "partial_hold", "6h"),
];

#[test]
fn documented_defaults_are_those_of_the_keys() {
    let workspace = Workspace::against("http://127.0.0.1:1");
    let schema = workspace.run_ok(&["schema", "configuration"]).stdout;
    let mut descriptions = BTreeMap::new();
    describe(&serde_json::from_str(&schema).unwrap(), &mut descriptions);
    let has_default = |key: &str, value: &str| {
        descriptions.get(key).into_iter().flatten().any(|description: &String| {
            let default = description.split("default").nth(1).unwrap_or_default();
            let mut words = default.split(|c: char| !c.is_ascii_alphanumeric());
            words.any(|word| word == value)
        })
    };

    for (page, statement, key, value) in DEFAULTS {
        assert!(read(page).contains(statement), "{page} does not state `{statement}`");
        assert!(has_default(key, value), "{page}: the default of `{key}` is not {value}");
    }
    let mut count = 0;
    for (name, page) in pages() {
        for (key, value) in stated_defaults(&page) {
            assert!(has_default(&key, &value), "{name}: the default of `{key}` is not {value}");
            count += 1;
        }
    }
    assert!(count >= 10, "only {count} defaults were found");
}

/// The descriptions in a JSON Schema, by the name of the property.
fn describe(schema: &serde_json::Value, descriptions: &mut BTreeMap<String, Vec<String>>) {
    match schema {
        serde_json::Value::Object(members) => {
            let properties =
                members.get("properties").and_then(|properties| properties.as_object());
            for (name, property) in properties.into_iter().flatten() {
                if let Some(description) = property["description"].as_str() {
                    descriptions.entry(name.clone()).or_default().push(description.to_owned());
                }
            }
            members.values().for_each(|member| describe(member, descriptions));
        }
        serde_json::Value::Array(items) => {
            items.iter().for_each(|item| describe(item, descriptions));
        }
        _ => {}
    }
}

/// The statements of the form `key` (value) or `key` records (value) in a page, with the value as the
/// configuration writes it.
fn stated_defaults(page: &str) -> Vec<(String, String)> {
    let parts: Vec<&str> = page.split('`').collect();
    let mut defaults = Vec::new();
    for pair in parts.windows(2) {
        let key = pair[0].rsplit('.').next().unwrap();
        let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let Some((before, rest)) = pair[1].split_once('(') else { continue };
        let is_direct = matches!(before, " " | " records " | " confirmed records ");
        if !is_key || !is_direct || !rest.starts_with(|c: char| c.is_ascii_digit()) {
            continue;
        }

        let value = rest.split(')').next().unwrap().split(", ").next().unwrap();
        let value = value.replace(" by default", "").replace(',', "");
        let value = [(" days", "d"), (" hours", "h"), (" minutes", "m"), (" seconds", "s")]
            .iter()
            .fold(value, |value, (unit, short)| value.replace(unit, short));
        defaults.push((key.to_owned(), value.replace(' ', "")));
    }
    defaults
}
