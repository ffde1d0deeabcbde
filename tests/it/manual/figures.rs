//! The figures in the documentation agree with the code: with its constants, and with the defaults
//! of the configuration keys; the sizes in the README agree with the measured ones.

use std::collections::BTreeMap;

use super::{pages, read};
use crate::support::Workspace;

/// A figure in a page: the page, the statement, and the source file and the declaration that it
/// agrees with. Most of these constants are private, so their declarations are compared as text.
pub(super) type Figure = (&'static str, &'static str, &'static str, &'static str);

const ARCHITECTURE: &str = "docs/explanation/architecture.md";
const AUTOMATE: &str = "docs/how-to/automate-with-json.md";
const CHECK: &str = "docs/how-to/check-the-configuration.md";
const DATA_MODEL: &str = "docs/explanation/data-model.md";
const DELIVERY: &str = "docs/explanation/delivery.md";
const MEMORY_OF_POLLS: &str = "docs/contributing/decisions/0009-bound-memory-of-polls.md";
const CHANGES: &str = "docs/how-to/changes-and-severity.md";
const MANAGE_SINKS: &str = "docs/how-to/manage-sinks.md";
const MONITORING: &str = "docs/how-to/monitoring.md";
const CLOCK_OFFSET: &str = "src/model/clock_offset.rs";
const NOTIFICATIONS: &str = "docs/how-to/notifications.md";
const RUN_THE_SERVICE: &str = "docs/how-to/run-the-service.md";

const CHANGES_OF_RELOAD: &str = "src/daemon/changes.rs";
const CLI: &str = "src/cli/mod.rs";
const ALERTS: &str = "deploy/monitoring/alerts.yml";
const CHAT: &str = "src/sink/chat/config.rs";
const COLLECTOR: &str = "src/daemon/collector/mod.rs";
const DAY: &str = "src/model/day.rs";
const STATE_DIRECTORY: &str = "src/state_directory.rs";

const EMAIL: &str = "src/sink/email/config.rs";
const LIFECYCLE: &str = "src/daemon/lifecycle.rs";
const ONCE_SERVICE: &str = "systemd/secure-score-forwarder-once.service";
const REJECTIONS: &str = "src/daemon/deliverer/rejection_limits.rs";
const REQUESTS: &str = "src/ledger/requests.rs";
const RETRY: &str = "src/daemon/deliverer/retry.rs";
const STATUS: &str = "src/checkpoint/status.rs";
const SINK_CONDITIONS: &str = "src/conditions/sinks.rs";
const TENANT_CONDITIONS: &str = "src/conditions/tenants.rs";
const THROTTLE: &str = "src/source/throttle.rs";

const MAX_REMOVED_PERCENT: &str = "const MAX_REMOVED_PERCENT: usize = 20;";
const MIN_LIMITED_TENANTS: &str = "const MIN_LIMITED_TENANTS: usize = 10;";
const WORKER_THREADS: &str = "const WORKER_THREADS: usize = 2;";
const BLOCKING_THREADS: &str = "const MAX_BLOCKING_THREADS: usize = 8;";
const POLL_PERMITS: &str = "const POLL_PERMITS: usize = 8;";
const BACKFILL_PERMITS: &str = "const PERMITS_PER_BACKFILL: usize = 4;";
const DAYS_PER_PERMIT: &str = "const DAYS_PER_PERMIT: i32 = 14;";
const REJECTED_IN_A_ROW: &str = "const MAX_REJECTED_IN_A_ROW: usize = 20;";
const REJECTED_IN_WINDOW: &str = "const MAX_REJECTED_IN_WINDOW: usize = 50;";
const WINDOW_RECORDS: &str = "const WINDOW_RECORDS: usize = 1_000;";
const PARKED_WAIT: &str = "const PARKED_WAIT: Duration = Duration::from_mins(5);";
const TICK: &str = "const TICK: Duration = Duration::from_mins(1);";
const RESERVED_BYTES: &str = "const RESERVED_BYTES: u64 = 16 << 20;";
const STALE_DAYS: &str = "const STALE_DAYS: i32 = 3;";
const MAX_DAYS_BEHIND: &str = "const MAX_DAYS_BEHIND: u32 = 3;";
const DAILY_REQUESTS: &str = "const DAILY_REQUESTS: u32 = 7;";
const DAYS_AT_SOURCE: &str = "const DAYS_AT_SOURCE: i32 = 90;";
const DEAD_LETTERS: &str = "const MAX_DEAD_LETTERS: u32 = 50;";

pub(super) const FIGURES: &[Figure] = &[
    (ARCHITECTURE, "two worker threads", CLI, WORKER_THREADS),
    (ARCHITECTURE, "at most eight threads for calls that block", CLI, BLOCKING_THREADS),
    (ARCHITECTURE, "there are eight,", COLLECTOR, POLL_PERMITS),
    (ARCHITECTURE, "takes four.", COLLECTOR, BACKFILL_PERMITS),
    (ARCHITECTURE, "reads back more than 14 days", COLLECTOR, DAYS_PER_PERMIT),
    (ARCHITECTURE, "two at a time", THROTTLE, "const MAX_CONCURRENT: usize = 2;"),
    (ARCHITECTURE, "100 per minute", THROTTLE, "const REQUESTS_PER_MINUTE: f64 = 100.0;"),
    (ARCHITECTURE, "a burst of 20", THROTTLE, "const BURST: u32 = 20;"),
    (ARCHITECTURE, "Once a minute", LIFECYCLE, TICK),
    (ARCHITECTURE, "secureScores?$top=3", "src/model/poll.rs", "const REREAD_DAYS: i32 = 3;"),
    (ARCHITECTURE, "tries again every five minutes", RETRY, PARKED_WAIT),
    (MEMORY_OF_POLLS, "one of eight permits", COLLECTOR, POLL_PERMITS),
    (MEMORY_OF_POLLS, "more than 14 days takes", COLLECTOR, DAYS_PER_PERMIT),
    (MEMORY_OF_POLLS, "14 days takes four", COLLECTOR, BACKFILL_PERMITS),
    (MEMORY_OF_POLLS, "Blocking threads are limited to eight", CLI, BLOCKING_THREADS),
    (DELIVERY, "at least once per minute", LIFECYCLE, TICK),
    (
        DELIVERY,
        "one second old",
        "src/daemon/deliverer/reading.rs",
        "const MAX_BATCH_AGE: Duration = Duration::from_secs(1);",
    ),
    (
        DELIVERY,
        "a backoff that starts at one second",
        RETRY,
        "const FIRST_BACKOFF: Duration = Duration::from_secs(1);",
    ),
    (
        DELIVERY,
        "doubles up to five minutes",
        RETRY,
        "const MAX_BACKOFF: Duration = Duration::from_mins(5);",
    ),
    (DELIVERY, "half of each wait is random", RETRY, "doubled / 2 + doubled.mul_f64(jitter / 2.0)"),
    (DELIVERY, "the sink is retried every five minutes", RETRY, PARKED_WAIT),
    (
        DELIVERY,
        "at most 30 seconds, because an attempt",
        RETRY,
        "const MAX_HOST_BACKOFF: Duration = Duration::from_secs(30);",
    ),
    (DELIVERY, "after four failures", RETRY, "const MAX_FAILURES: u32 = 4;"),
    (DELIVERY, "Up to 64 failures", RETRY, "const MAX_SPARED_FAILURES: u32 = 64;"),
    (DELIVERY, "more than 20 records in a row", REJECTIONS, REJECTED_IN_A_ROW),
    (DELIVERY, "more than 50 of the last", REJECTIONS, REJECTED_IN_WINDOW),
    (DELIVERY, "of the last 1,000", REJECTIONS, WINDOW_RECORDS),
    (DELIVERY, "less than 16 MiB free", STATE_DIRECTORY, RESERVED_BYTES),
    (DELIVERY, "receives the last 90 days", DAY, DAYS_AT_SOURCE),
    (
        DELIVERY,
        "up to three seconds for pending acknowledgements when it stops",
        LIFECYCLE,
        "const ACKNOWLEDGEMENT_WAIT_AT_STOP: Duration = Duration::from_secs(3);",
    ),
    (
        DELIVERY,
        "up to 30 seconds when it reloads",
        LIFECYCLE,
        "const ACKNOWLEDGEMENT_WAIT_AT_RELOAD: Duration = Duration::from_secs(30);",
    ),
    (
        DATA_MODEL,
        "twice within 14 days",
        "src/checkpoint/entry_reader.rs",
        "const LOOKBACK_DAYS: i32 = 14;",
    ),
    (
        DATA_MODEL,
        "5 points or more",
        "src/derive/rules.rs",
        "const HIGH_SEVERITY_POINTS: f64 = 5.0;",
    ),
    (
        DATA_MODEL,
        "expires within 30 days",
        "src/source/graph.rs",
        "const NOTICE: jiff::SignedDuration = jiff::SignedDuration::from_hours(30 * 24);",
    ),
    (DATA_MODEL, "the newest 90 days, and bodies that a sink", DAY, DAYS_AT_SOURCE),
    (MANAGE_SINKS, "more than 20 rejected records in a row", REJECTIONS, REJECTED_IN_A_ROW),
    (MANAGE_SINKS, "more than 50 among the last", REJECTIONS, REJECTED_IN_WINDOW),
    (MANAGE_SINKS, "among the last 1,000", REJECTIONS, WINDOW_RECORDS),
    (MANAGE_SINKS, "retried every five minutes", RETRY, PARKED_WAIT),
    (MONITORING, "by more than five minutes", CLOCK_OFFSET, "const MAX_ACCURATE: u64 = 5 * 60;"),
    (
        MONITORING,
        "no acknowledgement for 15 minutes",
        SINK_CONDITIONS,
        "const MAX_RETRY: Duration = Duration::from_mins(15);",
    ),
    (
        MONITORING,
        "after 15 minutes without an acknowledgement",
        SINK_CONDITIONS,
        "const MAX_RETRY: Duration = Duration::from_mins(15);",
    ),
    (
        MONITORING,
        "expires within 30 days",
        "src/source/graph.rs",
        "const NOTICE: jiff::SignedDuration = jiff::SignedDuration::from_hours(30 * 24);",
    ),
    (MONITORING, "the newest 50 dead letters", STATUS, DEAD_LETTERS),
    (MONITORING, "more than four days old", ALERTS, "newest_day_age_seconds > 4 * 86400"),
    (MONITORING, "behind for six hours", ALERTS, "for: 6h"),
    (AUTOMATE, "The newest 50 dead letters", STATUS, DEAD_LETTERS),
    (
        CHECK,
        "more often than every ten minutes",
        "src/config/read/warnings.rs",
        "const MIN_POLL_INTERVAL: Duration = Duration::from_mins(10);",
    ),
    (
        CHECK,
        "Eight tenants are contacted at the same time",
        "src/cli/online.rs",
        "const MAX_CONCURRENT_PROBES: usize = 8;",
    ),
    (NOTIFICATIONS, "up to 20 parts", CHAT, "const MAX_PARTS: usize = 20;"),
    (
        NOTIFICATIONS,
        "less than 28 KB",
        "src/sink/chat/teams.rs",
        "const MAX_BYTES: usize = 27_000;",
    ),
    (NOTIFICATIONS, "one message per second", CHAT, "Self::Slack => Duration::from_secs(1),"),
    (NOTIFICATIONS, "on port 465", EMAIL, "Self::Implicit => 465,"),
    (NOTIFICATIONS, "on port 587", EMAIL, "Self::StartTls => 587,"),
    (NOTIFICATIONS, "up to 100 parts", EMAIL, "const MAX_PARTS: usize = 100;"),
    (
        NOTIFICATIONS,
        "the first five tenants",
        "src/sink/notification/merge.rs",
        "const MAX_TENANTS: usize = 5;",
    ),
    (
        NOTIFICATIONS,
        "the ten most severe problems",
        "src/sink/notification/digest.rs",
        "const MAX_PROBLEMS: usize = 10;",
    ),
    (
        NOTIFICATIONS,
        "the five largest changes",
        "src/sink/notification/digest.rs",
        "const MAX_CHANGES: usize = 5;",
    ),
    (
        NOTIFICATIONS,
        "The report of the last 30 days",
        "src/daemon/deliverer/digest.rs",
        "const REPORT_DAYS: i32 = 30;",
    ),
    (MONITORING, "Below 16 MiB, polling pauses", STATE_DIRECTORY, RESERVED_BYTES),
    (MONITORING, "more than three days behind", TENANT_CONDITIONS, MAX_DAYS_BEHIND),
    (MONITORING, "more than three days old", TENANT_CONDITIONS, MAX_DAYS_BEHIND),
    (
        MONITORING,
        "within two seconds",
        "src/cli/daemon_client.rs",
        "const LIVE_FACTS_LIMIT: Duration = Duration::from_secs(2);",
    ),
    (
        MONITORING,
        "after six hours, it is a warning",
        TENANT_CONDITIONS,
        "const LATE_DAY: Duration = Duration::from_hours(6);",
    ),
    (
        MONITORING,
        "within seven days, it needs an operator",
        "src/conditions/credentials.rs",
        "const NEAR_EXPIRY_DAYS: i32 = 7;",
    ),
    (
        "docs/how-to/check-the-configuration.md",
        "leaves more than 90 days between two polls",
        DAY,
        DAYS_AT_SOURCE,
    ),
    (ALERTS, "Below 16 MiB, polling is paused", STATE_DIRECTORY, RESERVED_BYTES),
    (
        "docs/how-to/backup-and-recovery.md",
        "Below 16 MiB of free space",
        STATE_DIRECTORY,
        RESERVED_BYTES,
    ),
    (
        "docs/contributing/decisions/0019-reserve-disk-for-cursors.md",
        "less than 16 MiB is free",
        STATE_DIRECTORY,
        RESERVED_BYTES,
    ),
    (DATA_MODEL, "more than three days old", "src/ledger/observations.rs", STALE_DAYS),
    (CHANGES, "more than three days old", "src/ledger/observations.rs", STALE_DAYS),
    ("docs/how-to/many-tenants.md", "more than three days old", TENANT_CONDITIONS, MAX_DAYS_BEHIND),
    (
        "docs/how-to/troubleshooting.md",
        "more than three days old",
        TENANT_CONDITIONS,
        MAX_DAYS_BEHIND,
    ),
    ("src/admin/metrics.rs", "more than three days old", TENANT_CONDITIONS, MAX_DAYS_BEHIND),
    (DATA_MODEL, "by the next seven polls", REQUESTS, DAILY_REQUESTS),
    (
        "docs/contributing/decisions/0007-request-missing-days.md",
        "by seven polls",
        REQUESTS,
        DAILY_REQUESTS,
    ),
    (
        ARCHITECTURE,
        "The schema has version 9",
        "src/checkpoint/sqlite/migration.rs",
        "const VERSION: i32 = 9;",
    ),
    (
        "src/config/keys/tenant.rs",
        "at most 16, with",
        "src/config/read/tenants.rs",
        "const MAX_RECORD_FIELDS: usize = 16;",
    ),
    (
        "src/config/keys/tenant.rs",
        "at most 128 characters",
        "src/config/read/tenants.rs",
        "const MAX_FIELD_LENGTH: usize = 128;",
    ),
    (RUN_THE_SERVICE, "every 30 minutes", ONCE_SERVICE, "RestartSec=30min"),
    (RUN_THE_SERVICE, "at most eight runs", ONCE_SERVICE, "StartLimitBurst=8"),
    (RUN_THE_SERVICE, "remove more than 20%", CHANGES_OF_RELOAD, MAX_REMOVED_PERCENT),
    (RUN_THE_SERVICE, "of at least ten tenants", CHANGES_OF_RELOAD, MIN_LIMITED_TENANTS),
    ("docs/how-to/many-tenants.md", "remove more than 20%", CHANGES_OF_RELOAD, MAX_REMOVED_PERCENT),
    ("src/cli/args.rs", "more than 20% of the tenants", CHANGES_OF_RELOAD, MAX_REMOVED_PERCENT),
    ("src/cli/args.rs", "there are at least ten", CHANGES_OF_RELOAD, MIN_LIMITED_TENANTS),
    ("README.md", "1.95 or newer", "Cargo.toml", "rust-version = \"1.95\""),
    ("rust-toolchain.toml", "1.95.", "Cargo.toml", "rust-version = \"1.95\""),
    ("deploy/Containerfile", "rust:1.95-", "Cargo.toml", "rust-version = \"1.95\""),
    (
        RUN_THE_SERVICE,
        "retried after 5 minutes",
        "src/schedule.rs",
        "const FIRST_RETRY: Duration = Duration::from_mins(5);",
    ),
];

#[test]
fn documented_figures_agree_with_the_code() {
    for (page, statement, source, declaration) in FIGURES {
        assert_stated(page, statement);
        assert!(read(source).contains(declaration), "{page}: {source} has no `{declaration}`");
    }
}

/// The files that name a version of the program, and the text before it.
const VERSIONS: &[(&str, &str)] = &[
    ("README.md", "secure-score-forwarder_"),
    ("README.md", "secure-score-forwarder-"),
    ("docs/tutorials/first-tenant.md", "secure-score-forwarder_"),
    ("docs/tutorials/first-tenant.md", "secure-score-forwarder-"),
    ("docs/how-to/upgrade.md", "secure-score-forwarder_"),
    ("deploy/helm/secure-score-forwarder/Chart.yaml", "\nversion: "),
    ("deploy/helm/secure-score-forwarder/Chart.yaml", "\nappVersion: "),
    ("deploy/siem/splunk/secure_score_forwarder/default/app.conf", "version = "),
    ("deploy/debian/changelog", "secure-score-forwarder ("),
    ("CHANGELOG.md", "## ["),
];

#[test]
fn stated_versions_are_the_current_one() {
    for (file, before) in VERSIONS {
        let text = read(file);
        let mut versions = text.split(before).skip(1).filter(|rest| {
            let number = rest.split(['-', ' ', '\n', ']']).next().unwrap_or_default();
            number.split('.').count() == 3 && number.starts_with(|c: char| c.is_ascii_digit())
        });
        let first = versions.next().unwrap_or_else(|| panic!("{file} names no version"));
        assert!(first.starts_with(env!("CARGO_PKG_VERSION")), "{file}: {before}{first:.12}");
    }
}

/// The start of each row of the README's table of sizes, and the start of the line of the
/// performance page that its figure is from.
const SIZES: &[(&str, &str)] = &[
    ("| SIEM ingest, JSON with short texts", "A day of the simulated tenant is about"),
    ("| disk, checkpoint", "| checkpoint of one tenant after a year"),
    ("| memory, idle", "| idle daemon after a backfill of 90 days"),
    ("| memory, peak with 1,000 tenants", "| 1,000 tenants with one new day each"),
];

#[test]
fn readme_repeats_the_measured_sizes() {
    let (readme, performance) = (read("README.md"), read("docs/explanation/performance.md"));
    let line_in = |page: &str, start: &str| {
        let found = page.lines().find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("no line starts with `{start}`")).to_owned()
    };

    for (row, origin) in SIZES {
        let (row, origin) = (line_in(&readme, row), line_in(&performance, origin));
        let (stated, unit) = sizes(&row)[0];
        let measured = sizes(&origin).into_iter().find(|(_, other)| *other == unit);
        let measured: f64 = measured.unwrap().0.parse().unwrap();

        // The README may state fewer decimals.
        let decimals = stated.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        assert_eq!(stated, format!("{measured:.decimals$}"), "{row}\n{origin}");
    }

    let section = readme.split("## Sizing").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with('|') && !sizes(line).is_empty());
    assert_eq!(rows.count(), SIZES.len(), "the README has a size that is not compared");
}

/// The numbers in a line that a unit of size follows, each with its unit.
fn sizes(line: &str) -> Vec<(&str, &str)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let pairs = words.windows(2).map(|pair| (pair[0], pair[1]));
    let is_size = |(number, unit): &(&str, &str)| {
        matches!(*unit, "kB" | "MB" | "MiB") && number.parse::<f64>().is_ok()
    };
    pairs.filter(is_size).collect()
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
    ("docs/how-to/manage-sinks.md", "are kept for 30 days", "removed_sinks", "30d"),
    ("docs/explanation/delivery.md", "are kept for 30 days", "removed_sinks", "30d"),
];

#[test]
fn documented_defaults_agree_with_the_schema() {
    let workspace = Workspace::against("http://127.0.0.1:1");
    let schema = workspace.run_ok(&["schema", "configuration"]).stdout;
    let mut descriptions = BTreeMap::new();
    describe(&serde_json::from_str(&schema).unwrap(), &mut descriptions);
    let has_default = |key: &str, value: &str| {
        descriptions.get(key).into_iter().flatten().any(|default: &String| {
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

/// Collects the defaults in a JSON Schema, and the effects of absent keys, by the name of the key.
fn describe(schema: &serde_json::Value, descriptions: &mut BTreeMap<String, Vec<String>>) {
    match schema {
        serde_json::Value::Object(members) => {
            let properties =
                members.get("properties").and_then(|properties| properties.as_object());
            for (name, property) in properties.into_iter().flatten() {
                let defaults = descriptions.entry(name.clone()).or_default();
                match &property["default"] {
                    serde_json::Value::Null => {}
                    serde_json::Value::String(default) => defaults.push(default.clone()),
                    default => defaults.push(default.to_string()),
                }
                if let Some(description) = property["description"].as_str() {
                    let effects = description.split("If it is not set: ").skip(1);
                    defaults.extend(effects.map(str::to_owned));
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
        let value = [
            (" days", "d"),
            (" hours", "h"),
            (" minutes", "m"),
            (" minute", "m"),
            (" seconds", "s"),
        ]
        .iter()
        .fold(value, |value, (unit, short)| value.replace(unit, short));
        defaults.push((key.to_owned(), value.replace(' ', "")));
    }
    defaults
}
