//! The figures in the documentation agree with the code: with its constants, and with the defaults
//! of the configuration keys.

use std::collections::BTreeMap;

use secure_score_forwarder::cli;

use super::{pages, read};
use crate::support::Workspace;

#[test]
fn documented_figures_agree_with_the_code() {
    assert_eq!((cli::WORKER_THREADS, cli::MAX_BLOCKING_THREADS), (1, 8));

    let page = "docs/explanation/architecture.md";
    assert_figure(page, "one worker thread", "src/cli/mod.rs", "WORKER_THREADS: usize = 1;");
    assert_figure(
        page,
        "at most eight threads for calls that block",
        "src/cli/mod.rs",
        "MAX_BLOCKING_THREADS: usize = 8;",
    );
    assert_figure(page, "there are eight,", "src/daemon/mod.rs", "POLL_PERMITS: usize = 8;");
    assert_figure(page, "takes four.", "src/daemon/mod.rs", "PERMITS_PER_BACKFILL: u32 = 4;");
    assert_figure(
        page,
        "reads back more than 14 days",
        "src/daemon/collector/mod.rs",
        "DAYS_PER_PERMIT: i32 = 14;",
    );
    assert_figure(page, "two at a time", "src/source/throttle.rs", "MAX_CONCURRENT: usize = 2;");
    assert_figure(page, "100 per minute", "src/source/throttle.rs", "PER_MINUTE: f64 = 100.0;");
    assert_figure(page, "a burst of 20", "src/source/throttle.rs", "BURST: u32 = 20;");
    assert_figure(page, "Once a minute", "src/daemon/lifecycle.rs", "Duration::from_mins(1);");
    assert_figure(page, "secureScores?$top=3", "src/ledger/mod.rs", "REREAD_DAYS: i32 = 3;");

    let page = "docs/explanation/delivery.md";
    assert_figure(
        page,
        "more than 20 records in a row",
        "src/daemon/deliverer/rejections.rs",
        "_IN_A_ROW: usize = 20;",
    );
    assert_figure(
        page,
        "more than 50 of the last 1,000",
        "src/daemon/deliverer/rejections.rs",
        "_IN_WINDOW: usize = 50;",
    );
    assert_figure(page, "less than 16 MiB free", "src/daemon/mod.rs", ": u64 = 16 << 20;");
    assert_figure(page, "receives the last 90 days", "src/daemon/mod.rs", ".plus(-90)");

    let page = "docs/explanation/data-model.md";
    assert_figure(page, "twice within 14 days", "src/checkpoint/read.rs", ": i32 = 14;");
    assert_figure(page, "5 points or more", "src/derive/rules.rs", ": f64 = 5.0;");
    assert_figure(page, "expires within 30 days", "src/source/graph.rs", "from_hours(30 * 24);");
    assert_figure(
        page,
        "the newest 90 days, and bodies that a sink",
        "src/checkpoint/retention.rs",
        ": i32 = 90;",
    );

    let page = "docs/how-to/manage-sinks.md";
    assert_figure(
        page,
        "more than 20 rejected records in a row, or more than 50 among the last 1,000",
        "src/daemon/deliverer/rejections.rs",
        "_IN_WINDOW: usize = 50;",
    );
    assert_figure(
        page,
        "retried every five minutes",
        "src/daemon/deliverer/mod.rs",
        "PARKED_WAIT: Duration = Duration::from_mins(5);",
    );

    let page = "docs/how-to/monitoring.md";
    assert_figure(page, "Below 16 MiB, polling pauses", "src/daemon/mod.rs", ": u64 = 16 << 20;");

    let page = "docs/how-to/run-the-service.md";
    assert_figure(
        page,
        "retried after 5 minutes",
        "src/schedule.rs",
        "FIRST_RETRY: Duration = Duration::from_mins(5);",
    );
}

/// Asserts that a page states a figure, and that a source file declares it. Most of these constants
/// are private, so their declarations are compared as text.
fn assert_figure(page: &str, statement: &str, source: &str, declaration: &str) {
    assert_stated(page, statement);
    assert!(read(source).contains(declaration), "{page}: {source} has no `{declaration}`");
}

/// Asserts that a page contains a statement, which may span several lines.
fn assert_stated(page: &str, statement: &str) {
    let text = read(page).replace('\n', " ");
    assert!(text.contains(statement), "{page} does not state `{statement}`");
}

/// Defaults that a page states in a form other than `key` (value): page, statement, key and value.
const DEFAULTS: &[(&str, &str, &str, &str)] = &[
    ("docs/how-to/many-tenants.md", "The default of 10 minutes", "jitter", "10m"),
    ("docs/how-to/many-tenants.md", "reads up to 90 days", "initial_backfill_days", "90"),
    ("docs/explanation/data-model.md", "(6 hours by default)", "partial_hold", "6h"),
];

#[test]
fn documented_defaults_agree_with_the_schema() {
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
        assert_stated(page, statement);
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

/// Collects the descriptions in a JSON Schema, by the name of the property.
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

/// The keys and values of the statements `key` (value) and `key` records (value) in a page. The
/// values have the form that the configuration uses.
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
