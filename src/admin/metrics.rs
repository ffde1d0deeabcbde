//! The metrics: which families there are, and the value of each series.
//!
//! The tables below have one row per metric family; `exposition` writes them. With more tenants
//! than `admin.tenant_series`, only totals of all tenants are exported, and no series per tenant. A
//! name or a label must never change, because alerts and dashboards depend on it. Start reading at
//! [`render`].

use std::collections::BTreeMap;

use prometheus::{
    TextEncoder, core::Collector, process_collector::ProcessCollector, proto::MetricType,
};

use super::{
    exposition::{Description, Exposition, Labels, MetricKind, PREFIX},
    overview::{SinkLine, StatusOverview, TenantLine},
    views::{TenantView, Views},
};
use crate::{
    conditions::{SinkHealth, TenantHealth},
    model::{Day, PollErrorClass, UnixMillis},
};

/// The name without [`PREFIX`], the type, the help text, and the value; without a value, there is
/// no series.
type Family<T> = (&'static str, MetricKind, &'static str, fn(&T) -> Option<f64>);

/// A family as the reference page shows it.
#[derive(Debug)]
pub struct MetricDescription {
    /// The full name, which begins with `secure_score_forwarder_`.
    pub name: String,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// The help text: one or more sentences, each with a period.
    pub help: String,
}

fn tenant_families<'a>() -> Vec<Family<TenantSeries<'a>>> {
    vec![
        (
            "tenant_newest_day_timestamp_seconds",
            GAUGE,
            "Start of the newest stored day in UTC, in seconds since 1970-01-01.",
            |t| t.line.status.polled.newest_day.map(midnight),
        ),
        (
            "tenant_newest_day_age_seconds",
            GAUGE,
            "Seconds since the start of the newest stored day in UTC.",
            |t| t.line.status.polled.newest_day.map(|day| t.now - midnight(day)),
        ),
        (
            "tenant_last_success_timestamp_seconds",
            GAUGE,
            "Time of the last successful poll, in seconds since 1970-01-01.",
            |t| t.line.status.polled.last_success.map(seconds),
        ),
        (
            "tenant_next_poll_timestamp_seconds",
            GAUGE,
            "Time of the next poll by the schedule, in seconds since 1970-01-01.",
            |t| t.line.next_poll.map(seconds),
        ),
        (
            "tenant_credential_expiry_timestamp_seconds",
            GAUGE,
            "End of the tenant's certificate or client secret, in seconds since 1970-01-01; absent if it is unknown.",
            |t| t.line.credential_expires.map(seconds),
        ),
        ("tenant_failing", GAUGE, "1 if the last poll failed, else 0.", |t| {
            let status = &t.line.status;
            let is_incomplete = status.error_class == Some(PollErrorClass::Incomplete);
            Some(flag(status.last_error.is_some() && !is_incomplete))
        }),
        (
            "tenant_missing_snapshots",
            GAUGE,
            "Missing days: days that Microsoft was expected to list and did not; they are requested again.",
            |t| Some(number(t.line.status.missing)),
        ),
        (
            "tenant_polls_total",
            COUNTER,
            "Polls of this tenant since the start of the daemon.",
            |t| Some(number(t.line.polls.polls)),
        ),
        ("tenant_score_points", GAUGE, "Score of the newest day, in points.", |t| {
            Some(t.view?.row.current?.get())
        }),
        ("tenant_max_score_points", GAUGE, "Maximum score on the newest day, in points.", |t| {
            Some(t.view?.row.max?.get())
        }),
    ]
}

const SINK_FAMILIES: &[Family<SinkLine>] = &[
    (
        "sink_records_total",
        COUNTER,
        "Records that the receiver has acknowledged; survives restarts.",
        |s| Some(number(s.status.sent)),
    ),
    (
        "sink_bytes_total",
        COUNTER,
        "Bytes of submitted batches before compression since the start of the daemon.",
        |s| Some(number(s.bytes)),
    ),
    ("sink_batches_total", COUNTER, "Batches submitted since the start of the daemon.", |s| {
        Some(number(s.batches))
    }),
    (
        "sink_retries_total",
        COUNTER,
        "Failed attempts to deliver, each of which is retried, since the start of the daemon.",
        |s| Some(number(s.retries)),
    ),
    (
        "sink_rejected_total",
        COUNTER,
        "Records that the receiver has permanently rejected; survives restarts.",
        |s| Some(number(s.status.rejected)),
    ),
    (
        "sink_truncated_total",
        COUNTER,
        "Records that were truncated to the size limit of the receiver; survives restarts.",
        |s| Some(number(s.status.truncated)),
    ),
    ("sink_dead_letters", GAUGE, "Stored dead letters.", |s| Some(number(s.status.dead_letters))),
    (
        "sink_backlog_entries",
        GAUGE,
        "Log entries (days and observations) that are not completely acknowledged.",
        |s| Some(number(s.status.backlog)),
    ),
    (
        "sink_oldest_unsent_timestamp_seconds",
        GAUGE,
        "Start of the oldest day of the backlog in UTC, in seconds since 1970-01-01; absent without a backlog.",
        |s| s.status.oldest_day.map(midnight),
    ),
    (
        "sink_last_acknowledgement_timestamp_seconds",
        GAUGE,
        "Time of the last acknowledgement, in seconds since 1970-01-01.",
        |s| s.status.last_acknowledgement.map(seconds),
    ),
    ("sink_parked", GAUGE, "1 if the sink is parked and needs an operator, else 0.", |s| {
        Some(flag(s.health == SinkHealth::Parked))
    }),
    (
        "sink_parked_targets",
        GAUGE,
        "Parked targets of the sink, such as indices that the receiver refuses, and withheld tenants.",
        |s| Some(number(s.parked_targets.len() as u64)),
    ),
    ("sink_failing", GAUGE, "1 if the last attempt to deliver failed, else 0.", |s| {
        Some(flag(s.health.is_failing()))
    }),
];

const GLOBAL_FAMILIES: &[Family<StatusOverview>] = &[
    (
        "start_timestamp_seconds",
        GAUGE,
        "Start time of the daemon, in seconds since 1970-01-01.",
        |o| Some(seconds(o.started.into())),
    ),
    ("checkpoint_size_bytes", GAUGE, "Size of the checkpoint in bytes.", |o| Some(number(o.size))),
    ("checkpoint_free_bytes", GAUGE, "Free bytes on the disk of the checkpoint.", |o| {
        Some(number(o.free))
    }),
    ("stalled_loops", GAUGE, "Loops of the daemon that make no progress.", |o| {
        Some(number(o.facts.stalled.len() as u64))
    }),
    ("replays", GAUGE, "Unfinished replays.", |o| Some(number(o.replays.len() as u64))),
    ("polls_total", COUNTER, "Polls of all tenants since the start of the daemon.", |o| {
        Some(number(o.tenants.iter().map(|tenant| tenant.polls.polls).sum()))
    }),
];

/// Families that are not in a table, because their series have other labels.
const BUILD_INFO: Description<'_> =
    ("build_info", GAUGE, "Always 1; the label `version` is the version of the program.");
const TENANTS: Description<'_> = (
    "tenants",
    GAUGE,
    "Tenants by state, as `status` shows it: healthy, working (info), degraded (warning), failing (error), or behind (the newest day is more than three days old; without a stored day, polls have failed for more than three days or Microsoft has not published a score).",
);
const CONDITIONS: Description<'_> = (
    "conditions",
    GAUGE,
    "Open conditions by kind and severity: info is work in progress, warning clears by itself, error needs an operator.",
);
const POLL_FAILURES: Description<'_> = (
    "poll_failures_total",
    COUNTER,
    "Failed polls of all tenants since the start of the daemon, by cause.",
);
const TENANT_POLL_FAILURES: Description<'_> = (
    "tenant_poll_failures_total",
    COUNTER,
    "Failed polls of this tenant since the start of the daemon, by cause.",
);
const PANICS: Description<'_> = (
    "panics_total",
    COUNTER,
    "Tasks that a fault in this program has ended since the start of the daemon, by task; the other tasks continue.",
);

const PARKED_TARGETS: Description<'_> = (
    "sink_target_parked",
    GAUGE,
    "Always 1; the label `target` is the name of a parked target of the sink, such as an index that the receiver refuses, or `tenant NAME` for a withheld tenant.",
);

const GAUGE: MetricKind = MetricKind::Gauge;
const COUNTER: MetricKind = MetricKind::Counter;

struct TenantSeries<'a> {
    line: &'a TenantLine,
    view: Option<&'a TenantView>,
    /// Seconds since 1970-01-01.
    now: f64,
}

/// Every family of this build, in the order of the reference page.
pub fn metric_families() -> Vec<MetricDescription> {
    let single = [
        BUILD_INFO,
        TENANTS,
        CONDITIONS,
        POLL_FAILURES,
        TENANT_POLL_FAILURES,
        PANICS,
        PARKED_TARGETS,
    ];
    let global = GLOBAL_FAMILIES.iter().map(|(name, kind, help, _)| (*name, *kind, *help));
    let tenants = tenant_families().into_iter().map(|(name, kind, help, _)| (name, kind, help));
    let sinks = SINK_FAMILIES.iter().map(|(name, kind, help, _)| (*name, *kind, *help));

    single
        .into_iter()
        .chain(global)
        .chain(tenants)
        .chain(sinks)
        .map(|(name, kind, help)| MetricDescription {
            name: format!("{PREFIX}{name}"),
            kind: kind.as_str(),
            help: help.to_owned(),
        })
        .chain(process_descriptions())
        .collect()
}

/// The standard metrics of a process, which have no prefix.
fn process_descriptions() -> Vec<MetricDescription> {
    let families = ProcessCollector::for_self().collect();
    let described = families.iter().map(|family| {
        let is_counter = family.get_field_type() == MetricType::COUNTER;
        let kind = if is_counter { COUNTER } else { GAUGE };
        MetricDescription {
            name: family.name().to_owned(),
            kind: kind.as_str(),
            help: family.help().to_owned(),
        }
    });
    described.collect()
}

/// Renders all metrics.
pub(super) fn render(overview: &StatusOverview, views: &Views) -> String {
    let mut exposition = Exposition::default();

    let build = Labels::new(&[("version", env!("CARGO_PKG_VERSION"))]);
    exposition.family(BUILD_INFO, [(&build, 1.0)]);
    add(&mut exposition, GLOBAL_FAMILIES, &[(Labels::default(), overview)]);
    add_tenants_by_state(&mut exposition, overview);
    add_conditions(&mut exposition, overview);
    add_failures(&mut exposition, overview);
    add_panics(&mut exposition, overview);

    if overview.tenants.len() <= overview.tenant_series {
        add_tenants(&mut exposition, overview, views);
    }
    let sinks: Vec<_> = overview
        .sinks
        .iter()
        .map(|line| {
            (Labels::new(&[("sink", line.status.name.as_str()), ("type", line.kind)]), line)
        })
        .collect();
    add(&mut exposition, SINK_FAMILIES, &sinks);
    if overview.tenants.len() <= overview.tenant_series {
        add_parked_targets(&mut exposition, overview);
    }

    // The encoder fails only for a family without a name or without metrics.
    let mut text = exposition.into_text();
    let mut process = ProcessCollector::for_self().collect();
    process.retain(|family| !family.get_metric().is_empty());
    let _ = TextEncoder::new().encode_utf8(&process, &mut text);
    text
}

/// Adds the families of a table, with one series per labeled item.
fn add<T>(exposition: &mut Exposition, table: &[Family<T>], items: &[(Labels, &T)]) {
    for (name, kind, help, value) in table {
        let series = items.iter().filter_map(|(labels, item)| Some((labels, value(item)?)));
        exposition.family((name, *kind, help), series);
    }
}

fn add_tenants(exposition: &mut Exposition, overview: &StatusOverview, views: &Views) {
    let now = seconds(overview.now.into());
    let series: Vec<_> = overview
        .tenants
        .iter()
        .map(|line| TenantSeries { line, view: views.get(&line.name), now })
        .collect();
    let labeled: Vec<_> =
        series.iter().map(|one| (Labels::new(&[("tenant", &one.line.name)]), one)).collect();
    add(exposition, &tenant_families(), &labeled);

    let failures = overview.tenants.iter().flat_map(|tenant| {
        tenant.polls.failures.iter().map(move |(class, times)| {
            let labels = Labels::new(&[("tenant", &tenant.name), ("cause", class.as_str())]);
            (labels, number(*times))
        })
    });
    add_owned(exposition, TENANT_POLL_FAILURES, failures);
}

/// Adds one series per health, also for those that no tenant has.
fn add_tenants_by_state(exposition: &mut Exposition, overview: &StatusOverview) {
    let series = TenantHealth::ALL.map(|health| {
        let tenants = overview.tenants.iter().filter(|line| line.health == health).count();
        (Labels::new(&[("state", health.as_str())]), number(tenants as u64))
    });
    add_owned(exposition, TENANTS, series);
}

/// Adds one series per kind and severity that occurs.
fn add_conditions(exposition: &mut Exposition, overview: &StatusOverview) {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for condition in &overview.conditions {
        let key = (condition.kind.as_str(), condition.severity.as_str());
        *counts.entry(key).or_default() += 1;
    }

    let series = counts.into_iter().map(|((kind, severity), conditions)| {
        (Labels::new(&[("kind", kind), ("severity", severity)]), number(conditions))
    });
    add_owned(exposition, CONDITIONS, series);
}

fn add_failures(exposition: &mut Exposition, overview: &StatusOverview) {
    let mut classes: BTreeMap<PollErrorClass, u64> = BTreeMap::new();
    for (class, times) in overview.tenants.iter().flat_map(|tenant| &tenant.polls.failures) {
        *classes.entry(*class).or_default() += times;
    }

    let series = classes
        .into_iter()
        .map(|(class, times)| (Labels::new(&[("cause", class.as_str())]), number(times)));
    add_owned(exposition, POLL_FAILURES, series);
}

/// Adds one series per task, also for those without a panic.
fn add_panics(exposition: &mut Exposition, overview: &StatusOverview) {
    let series = overview
        .panics
        .map(|(task, panics)| (Labels::new(&[("task", task.as_str())]), number(panics)));
    add_owned(exposition, PANICS, series);
}

/// Adds one series per parked target. Their number is that of tenants, or a multiple of it.
fn add_parked_targets(exposition: &mut Exposition, overview: &StatusOverview) {
    let series = overview.sinks.iter().flat_map(|line| {
        line.parked_targets.iter().map(move |target| {
            let (sink, target) = (line.status.name.as_str(), target.as_str());
            (Labels::new(&[("sink", sink), ("type", line.kind), ("target", target)]), 1.0)
        })
    });
    add_owned(exposition, PARKED_TARGETS, series);
}

/// Adds a family whose labels belong to no other one.
fn add_owned(
    exposition: &mut Exposition,
    description: Description<'_>,
    series: impl IntoIterator<Item = (Labels, f64)>,
) {
    let series: Vec<(Labels, f64)> = series.into_iter().collect();
    exposition.family(description, series.iter().map(|(labels, value)| (labels, *value)));
}

fn flag(value: bool) -> f64 {
    f64::from(u8::from(value))
}

#[expect(clippy::cast_precision_loss, reason = "all values of Prometheus are doubles")]
fn number(count: u64) -> f64 {
    count as f64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the milliseconds of this century are exact in a double"
)]
fn seconds(time: UnixMillis) -> f64 {
    time.as_i64() as f64 / 1_000.0
}

/// The start of a day in UTC, in seconds since 1970-01-01.
fn midnight(day: Day) -> f64 {
    f64::from(day.number()) * 86_400.0
}
