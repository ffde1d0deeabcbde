//! Views of a status that is built from facts.

use super::{super::format_time, *};
use crate::{
    checkpoint::Status,
    conditions::{
        ConditionFacts, ConditionKind, ConfigurationFacts, conditions,
        tests::fleet::{self, TENANTS},
    },
    config::TenantName,
    daemon::LiveFactsState,
    model::{Day, EventId, UnixMillis},
};

/// A narrow terminal without colors.
const NARROW: Terminal = Terminal { width: Some(80), is_colored: false };

/// The ID of the tenant with this index.
fn id(index: usize) -> TenantId {
    TenantId::parse(&format!("{index:08}-0000-4000-8000-00000000c0de")).unwrap()
}

/// The status that has these facts.
fn current(facts: ConditionFacts) -> CurrentStatus {
    let tenants = facts.tenants.iter().enumerate().map(|(index, tenant)| ConfiguredTenant {
        name: tenant.name.clone(),
        configured_id: TenantName::Guid(id(index)),
        credential: tenant.credential.clone(),
        id: Some(id(index)),
        status: TenantStatus::default(),
        next_poll: None,
    });
    let sinks = facts.sinks.iter().map(|sink| SinkStatus {
        name: sink.name.clone(),
        dead_letters: sink.dead_letters,
        ..SinkStatus::default()
    });

    let stored = Status { sinks: sinks.collect(), ..Status::default() };
    let conditions = conditions(&facts);
    CurrentStatus {
        tenants: tenants.collect(),
        other_tenants: Vec::new(),
        stored,
        facts,
        conditions,
        live_facts: LiveFactsState::default(),
    }
}

/// The selected tenants and sinks; the numbers of tenants, sinks and dead letters; the health; and
/// the subjects of the conditions.
type SelectionCase =
    (&'static [&'static str], &'static [&'static str], [u64; 3], Health, &'static [&'static str]);

fn arguments() -> args::StatusArgs {
    args::StatusArgs {
        tenant: Vec::new(),
        sink: Vec::new(),
        failing: false,
        sort: args::StatusSort::Severity,
        limit: 20,
        json: false,
    }
}

fn group(sink: &str, tenant: usize, reason: &str, letters: u64) -> DeadLetterGroup {
    DeadLetterGroup {
        sink: sink.into(),
        tenant: id(tenant),
        reason: reason.to_owned(),
        letters,
        queued: 0,
        days: None,
        newest_id: EventId::from_bytes([7; 20]),
        newest_at: UnixMillis::new(0),
    }
}

/// The number of lines that a terminal of this width needs.
fn lines(text: &str, width: usize) -> usize {
    text.lines().map(|line| line.chars().count().div_ceil(width).max(1)).sum()
}

#[test]
fn the_first_screen_shows_every_condition() {
    let current = current(fleet::facts());
    let arguments = arguments();
    let view = StatusView::new(&current, None, &arguments);
    let text = text::document(&view, NARROW);

    let (above, _) = text.split_once("\n\ntenant ").unwrap();
    assert!(lines(above, 80) <= 50, "{} lines:\n{above}", lines(above, 80));
    for condition in current.conditions.iter().filter(|condition| condition.needs_attention()) {
        assert!(above.contains(&condition.explanation().message), "{condition:?}\n{above}");
    }
    assert!(lines(&text, 80) < 100, "{text}");
    assert!(text.contains(&format!("\n{} more tenants\n", TENANTS - 20)), "{text}");
}

/// Regression: the page showed a sink with dead letters as up to date, and `status` did not.
#[test]
fn a_sink_state_follows_from_its_conditions() {
    let current = current(fleet::facts());
    let arguments = args::StatusArgs { sink: vec!["d".to_owned()], ..arguments() };
    let view = StatusView::new(&current, None, &arguments);
    let text = text::document(&view, Terminal { width: None, is_colored: false });
    assert!(text.contains("\nd     rejected records "), "{text}");
    assert_eq!(json::document(&view)["sinks"][0]["state"], "rejected_records");
}

/// Regression: sinks were listed in the order of the configuration.
#[test]
fn failing_sinks_are_first() {
    let mut facts = fleet::facts();
    facts.sinks.reverse();
    let current = current(facts);
    let arguments = arguments();
    let view = StatusView::new(&current, None, &arguments);
    let names: Vec<&str> = view.sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(names, ["d", "b", "a", "c", "healthy"]);
}

/// Regression: with both selections, no condition was shown; the headline and the health ignored
/// them, and the tables of the other kind were shown.
#[test]
fn selections_apply_to_every_part() {
    let mut facts = fleet::facts();
    facts.stalled.clear();
    facts.free_bytes = None;
    facts.rejected_configuration = None;
    let mut current = current(facts);
    current.stored.dead_letter_groups = vec![group("d", 1, "no", 5), group("d", 2, "no", 7)];

    let cases: [SelectionCase; 4] = [
        (&["t0002"], &[], [1, 0, 7], Health::Degraded, &["credential"]),
        (&["t0010"], &[], [1, 0, 0], Health::Failing, &["tenant", "credential"]),
        (&[], &["d"], [0, 1, 12], Health::Failing, &["sink"]),
        (&["t0001"], &["d"], [1, 1, 5], Health::Failing, &["sink", "credential"]),
    ];
    for (tenants, sinks, numbers, health, subjects) in cases {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let arguments =
            args::StatusArgs { tenant: owned(tenants), sink: owned(sinks), ..arguments() };
        let view = StatusView::new(&current, None, &arguments);

        let letters: u64 = view.dead_letter_groups().map(|group| group.letters).sum();
        let found = [view.tenants.len() as u64, view.sinks.len() as u64, letters];
        assert_eq!(found, numbers, "{tenants:?} {sinks:?}");
        assert_eq!(view.health(), health, "{tenants:?} {sinks:?}");
        let found: Vec<&str> = view.conditions.iter().map(|c| c.subject.kind()).collect();
        assert_eq!(found, subjects, "{tenants:?} {sinks:?}");
        assert!(!view.headline().contains("1,000"), "{}", view.headline());
    }
}

/// Regression: each dead letter had a line of 171 characters, with the same message.
#[test]
fn dead_letters_have_one_line_per_message() {
    let mut current = current(fleet::facts());
    let long = "the field `x` has another type in the index ".repeat(5);
    current.stored.dead_letter_groups = (0..TENANTS).map(|t| group("d", t, &long, 2)).collect();
    current.stored.dead_letter_groups.push(group("d", 0, "too large", 3));

    let arguments = args::StatusArgs { sink: vec!["d".to_owned()], ..arguments() };
    let view = StatusView::new(&current, None, &arguments);
    let text = text::document(&view, NARROW);
    let (_, table) = text.rsplit_once("\n\nsink ").unwrap();
    let (rows, rest) = table.split_once("2,003 dead letters\n").unwrap();
    assert_eq!(rows.lines().count(), 3, "{rows}");
    assert!(rows.lines().all(|line| line.chars().count() <= 80), "{rows}");
    assert!(rows.contains("2,000") && rows.contains("1,000"), "{rows}");
    assert!(rest.contains("hint: run `dead-letters list`"), "{rest}");
}

/// Regression: with `--limit 0`, a table had only a heading, and with `--failing`, the hint
/// suggested `--failing`.
#[test]
fn an_empty_table_has_no_heading() {
    let current = current(fleet::facts());
    for (failing, hint) in [(false, "use `--limit` or `--failing`"), (true, "use `--limit`\n")] {
        let arguments = args::StatusArgs { limit: 0, failing, ..arguments() };
        let view = StatusView::new(&current, None, &arguments);
        let text = text::document(&view, NARROW);
        assert!(!text.contains("newest day  "), "{text}");
        assert!(text.contains(hint), "{text}");
    }
}

/// Regression: with an invalid configuration, `status` reported `Healthy`, and tenants that were
/// `not configured`.
#[test]
fn an_invalid_configuration_is_a_condition() {
    let faults: [Explanation; 2] =
        ["c.toml:3:1: unknown key `x`".into(), "c.toml:4:1: unknown key `y`".into()];
    let mut current = current(ConditionFacts {
        configuration: ConfigurationFacts::Invalid(first_fault(&faults)),
        ..ConditionFacts::default()
    });
    current.other_tenants.push(TenantStatus { id: Some(id(7)), ..TenantStatus::default() });

    let arguments = arguments();
    let view = StatusView::new(&current, None, &arguments);
    let text = text::document(&view, Terminal { width: None, is_colored: false });
    let expected =
        "Failing: the configuration is invalid: c.toml:3:1: unknown key `x` (1 more fault)\n";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("00000007-0000-4000-8000-00000000c0de  unknown"), "{text}");
    let document = json::document(&view);
    assert_eq!(document["health"], "failing");
    assert_eq!(document["tenants"][0]["state"], "unknown");
}

/// Regression: `status` did not show queued commands, nor that a poll was about to begin.
#[test]
fn queued_commands_and_due_polls_are_shown() {
    const NOW: UnixMillis = UnixMillis::new(1_795_341_600_000);

    let mut facts = fleet::facts();
    facts.tenants.truncate(2);
    facts.now = NOW;
    let mut current = current(facts);
    let arguments = arguments();
    let wide = Terminal { width: None, is_colored: false };
    let later = UnixMillis::new(NOW.as_i64() + 60_000);
    for (tenant, next_poll) in current.tenants.iter_mut().zip([NOW, later]) {
        tenant.next_poll = Some(next_poll);
    }

    let view = StatusView::new(&current, None, &arguments);
    let text = text::document(&view, wide);
    assert!(!text.contains("queued commands") && text.contains("  now\n"), "{text}");
    assert!(text.contains(&format!("  {}\n", format_time(later))), "{text}");
    assert_eq!(json::document(&view)["tenants"][0]["next_poll"], format_time(NOW));

    current.tenants[1].status.queued_commands = 1_200;
    let view = StatusView::new(&current, None, &arguments);
    let text = text::document(&view, wide);
    assert!(text.contains("  queued commands\n") && text.contains("  1,200\n"), "{text}");
    let document = json::document(&view);
    let tenants = document["tenants"].as_array().unwrap();
    let queued: Vec<u64> = tenants.iter().filter_map(|t| t["queued_commands"].as_u64()).collect();
    assert_eq!(queued.iter().sum::<u64>(), 1_200);
}

/// Regression: for a user who may not ask the daemon, `status` was always degraded.
#[test]
fn facts_without_permission_are_a_note() {
    let mut current = current(ConditionFacts::default());
    let holder = Holder { pid: 7, socket: None, version: None, since: None };
    let arguments = arguments();
    for (live_facts, member, is_noted) in [
        (LiveFactsState::NoDaemon, None, false),
        (LiveFactsState::Included, Some("included"), false),
        (LiveFactsState::NotPermitted, Some("not_permitted"), true),
        (LiveFactsState::NoResponse, Some("no_response"), false),
    ] {
        current.live_facts = live_facts;
        let view = StatusView::new(&current, Some(&holder), &arguments);
        assert_eq!(view.health(), Health::Healthy);
        assert_eq!(json::document(&view)["daemon"]["own_facts"].as_str(), member);

        let text = text::document(&view, NARROW);
        let hint = "hint: run `status` as root or as the user of the service\n";
        assert_eq!((text.contains("\nnote: "), text.ends_with(hint)), (is_noted, is_noted));
    }
}

#[test]
fn options_sort_and_select_tenants() {
    let mut facts = fleet::facts();
    facts.tenants.truncate(4);
    let mut current = current(facts);
    let names = ["delta", "alpha", "charlie", "bravo"];
    let days = [Some(3), None, Some(1), Some(2)];
    for ((tenant, name), day) in current.tenants.iter_mut().zip(names).zip(days) {
        name.clone_into(&mut tenant.name);
        tenant.status.polled.newest_day = day.and_then(Day::from_number);
    }
    let condition = |severity, name: &str| Condition {
        severity,
        kind: ConditionKind::PollFailing,
        subject: ConditionSubject::Tenant(name.to_owned()),
        sentence: "x".to_owned(),
        hint: None,
        since: None,
    };
    current.conditions = vec![
        condition(ConditionSeverity::Warning, "charlie"),
        condition(ConditionSeverity::Error, "bravo"),
        condition(ConditionSeverity::Info, "alpha"),
    ];

    let shown = |arguments: args::StatusArgs| -> Vec<String> {
        let view = StatusView::new(&current, None, &arguments);
        view.tenants.iter().map(|tenant| tenant.name.clone()).collect()
    };
    for (sort, expected) in [
        (args::StatusSort::Severity, ["bravo", "charlie", "alpha", "delta"]),
        (args::StatusSort::Name, ["alpha", "bravo", "charlie", "delta"]),
        // A tenant without a stored day is the oldest.
        (args::StatusSort::Age, ["alpha", "charlie", "bravo", "delta"]),
    ] {
        assert_eq!(shown(args::StatusArgs { sort, ..arguments() }), expected);
    }

    let failing = args::StatusArgs { failing: true, ..arguments() };
    assert_eq!(shown(failing), ["bravo", "charlie"]);
    for limit in [0, 1, 3, 9] {
        assert_eq!(shown(args::StatusArgs { limit, ..arguments() }).len(), limit.min(4));
    }
}
