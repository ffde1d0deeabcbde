//! Finds values that are valid but probably not intended: selections that match nothing, keys
//! without an effect, and unusual schedules. Only `check` reports the warnings; the only faults
//! here are schedules that never occur or lose history.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    clock,
    config::{
        ControlAttribute, ControlPattern, TenantFilter, TenantPlan,
        keys::{self, rules, schedule::CRON},
    },
    derive::Glob,
    model::{DAYS_AT_SOURCE, Kind},
    schedule::Schedule,
    settings::{Key, Named, Section, Texts},
    sink::{
        KINDS,
        common_keys::{
            CATEGORIES, CONTROL_IDS, CONTROLS, Controls, RECORDS, SERVICES, TENANTS, TYPE,
        },
    },
};

/// The shortest time between two daily polls that is not reported. Microsoft publishes one snapshot
/// per day.
const MIN_POLL_INTERVAL: Duration = Duration::from_mins(10);

const HALF_A_DAY: u64 = 12 * 3_600;

/// The maximum number of labels that a hint lists.
const MAX_LISTED_LABELS: usize = 12;

/// Reports selections of sinks and rules that match no tenant or have no effect.
pub(super) fn check_selections(root: &Section<'_>, tenants: &[TenantPlan]) {
    for section in root.get(&keys::SINKS).unwrap_or_default() {
        check_tenants(&section, &TENANTS, tenants);
        check_filters(&section);
        check_messages(&section);
    }
    for section in root.get(&keys::EXPECTED_DECISIONS).unwrap_or_default() {
        check_tenants(&section, &rules::TENANTS, tenants);
    }
}

/// Reports a cron expression that never occurs, or that occurs too often or too rarely.
pub(super) fn check_cron(section: &Section<'_>, schedule: &Schedule) {
    let cron = section.get(&CRON);
    let hint = Some("poll once a day, such as `15 6 * * *`".to_owned());

    match schedule.shortest_interval(clock::now()) {
        None => {
            section.fault_with(&CRON, format!("`schedule.cron`: `{cron}` never occurs"), hint);
        }
        Some(interval) if interval < MIN_POLL_INTERVAL => {
            let minutes = interval.as_secs() / 60;
            let message = format!(
                "`schedule.cron`: `{cron}` polls as often as every {minutes} min, but Microsoft publishes one snapshot per day"
            );
            section.warn_with(&CRON, message, hint);
        }
        Some(_) => check_gaps(section, schedule, cron, hint),
    }
}

/// Reports a warning if there are days without a poll, and a fault if Microsoft deletes the
/// snapshots of such days before the next poll.
fn check_gaps(section: &Section<'_>, schedule: &Schedule, cron: &str, hint: Option<String>) {
    // Without a restriction of the days, there is a poll on every day.
    if cron.split_whitespace().skip(2).all(|field| field == "*") {
        return;
    }
    let Some(gap) = schedule.longest_gap(clock::now()) else { return };

    let days = ((gap.as_secs() + HALF_A_DAY) / (2 * HALF_A_DAY)).max(2);
    let message = format!("`schedule.cron`: `{cron}` leaves up to {days} days between two polls");
    if days > u64::from(DAYS_AT_SOURCE.unsigned_abs()) {
        let message = format!(
            "{message}, but Microsoft deletes snapshots after {DAYS_AT_SOURCE} days, so days would be lost"
        );
        section.fault_with(&CRON, message, hint);
    } else {
        let message = format!("{message}, so changes are reported late");
        section.warn_with(&CRON, message, hint);
    }
}

/// The patterns that select controls, in all sinks and rules.
pub(super) fn control_patterns(root: &Section<'_>) -> Vec<ControlPattern> {
    use ControlAttribute::{Category, Id, Service};
    let mut patterns = Vec::new();

    for section in root.get(&keys::SINKS).unwrap_or_default() {
        for (key, attribute) in [(&CONTROL_IDS, Id), (&SERVICES, Service), (&CATEGORIES, Category)]
        {
            add_patterns(&mut patterns, &section, key, attribute);
        }
    }
    for section in root.get(&keys::SEVERITY).unwrap_or_default() {
        add_patterns(&mut patterns, &section, &rules::CONTROLS, Id);
        add_patterns(&mut patterns, &section, &rules::CATEGORIES, Category);
    }
    for section in root.get(&keys::EXPECTED_DECISIONS).unwrap_or_default() {
        if let Some(text) = section.get(&rules::CONTROL) {
            patterns.push(pattern(&section, &rules::CONTROL, Id, text));
        }
    }
    patterns
}

/// Adds the patterns in a list.
fn add_patterns(
    patterns: &mut Vec<ControlPattern>,
    section: &Section<'_>,
    key: &Key<Texts>,
    attribute: ControlAttribute,
) {
    let texts = section.get(key).unwrap_or_default();
    patterns.extend(texts.into_iter().map(|text| pattern(section, key, attribute, text)));
}

fn pattern(
    section: &Section<'_>,
    key: &impl Named,
    attribute: ControlAttribute,
    text: &str,
) -> ControlPattern {
    ControlPattern {
        key: key.definition().name,
        attribute,
        text: text.to_owned(),
        glob: Glob::new(text),
        origin: section.origin(key),
    }
}

/// Reports each pattern of `tenants` that matches no tenant.
fn check_tenants(section: &Section<'_>, key: &Key<Texts>, tenants: &[TenantPlan]) {
    // Without tenants, the configuration has a fault that explains more.
    if tenants.is_empty() {
        return;
    }

    for text in section.get(key).unwrap_or_default() {
        let filter = TenantFilter::parse([text]);
        if tenants.iter().any(|tenant| filter.matches(tenant)) {
            continue;
        }

        let labels: BTreeSet<&str> =
            tenants.iter().flat_map(|tenant| tenant.labels.keys().map(String::as_str)).collect();
        let known: Vec<&str> = labels.into_iter().take(MAX_LISTED_LABELS).collect();
        let hint = match text.split_once('=') {
            Some((label, _)) if !known.contains(&label.trim()) && !known.is_empty() => {
                format!("use a label of a tenant, such as {}", known.join(", "))
            }
            Some(_) => "use a label and a value that a tenant has".to_owned(),
            None => "use the name or the ID of a configured tenant, or `label=pattern`".to_owned(),
        };
        section.warn_with(key, format!("`{text}` in `tenants` matches no tenant"), Some(hint));
    }
}

/// Reports keys that select controls in a sink that receives no records of controls.
fn check_filters(section: &Section<'_>) {
    let Some(records) = section.get(&RECORDS) else { return };
    let has_scores = records.contains(&Kind::Control);
    let has_controls = has_scores || records.contains(&Kind::Change);

    let keys = [&CONTROL_IDS, &SERVICES, &CATEGORIES];
    for key in keys.into_iter().filter(|key| section.sets(*key) && !has_controls) {
        let name = key.name();
        let message = format!(
            "`{name}` has no effect, because `records` contains neither `control` nor `change`"
        );
        section.warn_with(key, message, Some(format!("remove `{name}`, or extend `records`")));
    }

    let is_reduced = section.sets(&CONTROLS) && section.get(&CONTROLS) == Controls::Changed;
    if is_reduced && !has_scores {
        let message =
            "`controls = \"changed\"` has no effect, because `records` does not contain `control`";
        let hint = "remove `controls`, or extend `records`";
        section.warn_with(&CONTROLS, message.to_owned(), Some(hint.to_owned()));
    }
}

/// Reports records of scores in a notification sink, which would send all of them as messages.
fn check_messages(section: &Section<'_>) {
    let Some(records) = section.get(&RECORDS) else { return };
    let scores: Vec<String> = records
        .iter()
        .filter(|kind| matches!(kind, Kind::Control | Kind::Summary))
        .map(|kind| format!("`{}`", kind.as_str()))
        .collect();

    let kind = KINDS.iter().find(|kind| Some(kind.name) == section.get(&TYPE));
    if let Some(kind) = kind.filter(|kind| kind.is_notification() && !scores.is_empty()) {
        let scores = scores.join(" and ");
        let amount = if records.contains(&Kind::Control) {
            "each poll produces hundreds of these records"
        } else {
            "each new day of a tenant produces such a record"
        };
        let message = format!(
            "`records` contains {scores}, and {amount}: a `{}` sink would post all of them as messages",
            kind.name
        );
        let hint = format!("remove {scores} from `records`, and add another sink for them");
        section.warn_with(&RECORDS, message, Some(hint));
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Configuration;

    const CONFIGURATION: &str = r#"
[state]
directory = "/var/lib/x"
[[tenants]]
name = "contoso"
id = "3f5c1d2e-0000-4000-8000-00000000c0de"
labels = { customer = "c-17" }
[tenants.credential]
kind = "managed_identity"
[[sinks]]
name = "out"
type = "stdout"
"#;

    fn warnings(text: &str) -> Vec<String> {
        let configuration =
            Configuration::parse("c.toml", &format!("{text}\n")).map_err(|error| error.to_string());
        let warnings = configuration.unwrap().inspection.warnings;
        warnings.iter().map(ToString::to_string).collect()
    }

    /// Regression: a sink whose selection matches nothing passed `check` without a message.
    #[test]
    fn selections_without_a_match_are_reported() {
        for (keys, expected) in [
            ("tenants = [\"contoso\"]", None),
            ("tenants = [\"customer=c-*\"]", None),
            ("tenants = [\"con*\", \"fab*\"]", Some("`fab*` in `tenants` matches no tenant")),
            ("tenants = [\"costumer=c-17\"]", Some("`costumer=c-17` in `tenants` matches no")),
            (
                "records = [\"quality\"]\ncontrol_ids = [\"A*\"]",
                Some("`control_ids` has no effect"),
            ),
            (
                "records = [\"summary\"]\ncontrols = \"changed\"",
                Some("`controls = \"changed\"` has"),
            ),
            ("records = [\"change\"]\ncontrol_ids = [\"A*\"]", None),
        ] {
            let found = warnings(&format!("{CONFIGURATION}{keys}"));

            match expected {
                Some(expected) => {
                    assert_eq!(found.len(), 1, "{keys}: {found:?}");
                    assert!(found[0].contains(expected), "{found:?}");
                    assert!(found[0].starts_with("c.toml:1"), "{found:?}");
                }
                None => assert!(found.is_empty(), "{keys}: {found:?}"),
            }
        }
    }

    /// Regression: days that every poll requests were accepted as fewer days, and ignored.
    #[test]
    fn short_initial_backfills_are_reported() {
        for days in [1, 2, 3, 4, 90] {
            let keys = format!("initial_backfill_days = {days}\nlabels =");
            let text = CONFIGURATION.replace("labels =", &keys);
            let found = warnings(&text);
            assert_eq!(found.len(), usize::from(days < 3), "{days}: {found:?}");
            let message = format!("`initial_backfill_days = {days}` has the effect of 3");
            assert!(found.iter().all(|found| found.contains(&message)), "{found:?}");

            let read = Configuration::parse("c.toml", &text).unwrap();
            assert_eq!(read.tenants[0].initial_backfill_days, days.max(3));
        }

        // A default is reported once, although several tenants inherit it.
        let defaults = "[defaults.tenants]\ninitial_backfill_days = 2\n";
        let another = "[[tenants]]\nname = \"b\"\nid = \"b.example\"\n[tenants.credential]\nkind = \"managed_identity\"";
        let found = warnings(&format!("{defaults}{CONFIGURATION}{another}"));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("c.toml:2:"), "{found:?}");
    }

    #[test]
    fn unusual_schedules_are_reported() {
        let with = |cron: &str| format!("[schedule]\ncron = \"{cron}\"\n{CONFIGURATION}");
        for (cron, expected) in [
            ("15 6 * * *", None),
            ("0 */4 * * *", None),
            ("*/10 * * * *", None),
            ("* * * * *", Some("polls as often as every 1 min")),
            ("0,5 6 * * *", Some("polls as often as every 5 min")),
            ("0 6 * * 1-5", Some("leaves up to 3 days between two polls")),
            ("0 0 1 * *", Some("leaves up to 31 days between two polls")),
        ] {
            let found = warnings(&with(cron));
            assert_eq!(found.len(), usize::from(expected.is_some()), "{cron}: {found:?}");
            assert!(expected.is_none_or(|expected| found[0].contains(expected)), "{found:?}");
        }

        let error = Configuration::parse("c.toml", &with("0 0 30 2 *")).unwrap_err().to_string();
        assert_eq!(error, "c.toml:2:8: `schedule.cron`: `0 0 30 2 *` never occurs");
    }

    /// Regression: schedules that lose history passed `check --strict`.
    #[test]
    fn schedules_that_lose_history_are_faults() {
        let error = |schedule: &str| {
            let text = format!("[schedule]\n{schedule}\n{CONFIGURATION}");
            Configuration::parse("c.toml", &text).unwrap_err().to_string()
        };
        for cron in ["0 0 29 2 *", "0 0 1 1 *", "0 0 1 1,6 *"] {
            let error = error(&format!("cron = \"{cron}\""));
            assert!(error.contains("but Microsoft deletes snapshots after 90 days"), "{error}");
        }
        for key in ["jitter", "recheck_interval"] {
            let error = error(&format!("{key} = \"400d\""));
            assert!(error.contains(&format!("`schedule.{key}` must be ")), "{error}");
        }
    }
}
