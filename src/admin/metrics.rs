//! Metrics in Prometheus' text format 0.0.4:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//!
//! The tables below have one row per metric family. With more tenants than `admin.tenant_series`,
//! only totals of all tenants are exported, and no series per tenant. Start reading at [`render`].

use std::collections::BTreeMap;

use prometheus::{
    Encoder, TextEncoder,
    core::Collector,
    process_collector::ProcessCollector,
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

use super::{
    overview::{Overview, SinkLine, TenantLine},
    views::{View, Views},
};
use crate::{
    conditions::ConditionKind,
    daemon::SinkState,
    model::{Day, UnixMillis},
};

/// The name without [`PREFIX`], the type, the help text, and the value; without a value, there is
/// no series.
type Family<T> = (&'static str, MetricType, &'static str, fn(&T) -> Option<f64>);

/// The name without [`PREFIX`], the type, and the help text of a family.
type Description<'a> = (&'a str, MetricType, &'a str);

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

const PREFIX: &str = "secure_score_forwarder_";

fn tenant_families<'a>() -> Vec<Family<TenantSeries<'a>>> {
    vec![
        (
            "tenant_newest_day_timestamp_seconds",
            GAUGE,
            "Start of the newest stored day in UTC, in seconds since 1970-01-01.",
            |t| t.line.status.newest_day.map(midnight),
        ),
        (
            "tenant_newest_day_age_seconds",
            GAUGE,
            "Seconds since the start of the newest stored day in UTC.",
            |t| t.line.status.newest_day.map(|day| t.now - midnight(day)),
        ),
        (
            "tenant_last_success_timestamp_seconds",
            GAUGE,
            "Time of the last successful poll, in seconds since 1970-01-01.",
            |t| t.line.status.last_success.map(seconds),
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
            Some(flag(t.line.status.last_error.is_some()))
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
        Some(flag(s.state == SinkState::Parked))
    }),
    ("sink_failing", GAUGE, "1 if the last attempt to deliver failed, else 0.", |s| {
        Some(flag(matches!(s.state, SinkState::Parked | SinkState::Retrying)))
    }),
];

const GLOBAL_FAMILIES: &[Family<Overview>] = &[
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
    "Tenants by state: current, waiting for a successful poll, or behind (the newest day is more than three days old).",
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

const GAUGE: MetricType = MetricType::GAUGE;
const COUNTER: MetricType = MetricType::COUNTER;

struct TenantSeries<'a> {
    line: &'a TenantLine,
    view: Option<&'a View>,
    /// Seconds since 1970-01-01.
    now: f64,
}

/// Every family of this build, in the order of the reference page.
pub fn metric_families() -> Vec<MetricDescription> {
    let single = [BUILD_INFO, TENANTS, CONDITIONS, POLL_FAILURES, TENANT_POLL_FAILURES];
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
            kind: if kind == COUNTER { "counter" } else { "gauge" },
            help: help.to_owned(),
        })
        .chain(process_descriptions())
        .collect()
}

/// The standard metrics of a process, which have no prefix.
fn process_descriptions() -> Vec<MetricDescription> {
    let families = ProcessCollector::for_self().collect();
    let described = families.iter().map(|family| MetricDescription {
        name: family.name().to_owned(),
        kind: if family.get_field_type() == COUNTER { "counter" } else { "gauge" },
        help: family.help().to_owned(),
    });
    described.collect()
}

/// Renders all metrics.
pub(super) fn render(overview: &Overview, views: &Views) -> String {
    let now = seconds(overview.now.into());
    let mut families = Vec::new();

    let build = metric(GAUGE, 1.0, &[("version", env!("CARGO_PKG_VERSION"))]);
    families.push(family(BUILD_INFO, vec![build]));
    add(&mut families, GLOBAL_FAMILIES, &[(&[], overview)]);
    families.push(tenants_by_state(overview));
    families.push(conditions_by_kind(overview));
    families.push(failures(overview));

    if overview.tenants.len() <= overview.tenant_series {
        let series: Vec<_> = overview
            .tenants
            .iter()
            .map(|line| TenantSeries { line, view: views.get(&line.name), now })
            .collect();
        let labels: Vec<_> = series.iter().map(|s| [("tenant", s.line.name.as_str())]).collect();
        let labeled: Vec<_> =
            labels.iter().zip(&series).map(|(label, one)| (&label[..], one)).collect();
        add(&mut families, &tenant_families(), &labeled);
        families.push(failures_by_tenant(overview));
    }

    let labels: Vec<_> = overview
        .sinks
        .iter()
        .map(|line| [("sink", line.status.name.as_str()), ("type", line.kind)])
        .collect();
    let labeled: Vec<_> =
        labels.iter().zip(&overview.sinks).map(|(label, one)| (&label[..], one)).collect();
    add(&mut families, SINK_FAMILIES, &labeled);

    families.extend(ProcessCollector::for_self().collect());

    // The encoder fails only for a family without a name or without metrics.
    families.retain(|family| !family.get_metric().is_empty());
    let mut text = Vec::new();
    let _ = TextEncoder::new().encode(&families, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

type Labels<'a> = &'a [(&'a str, &'a str)];

/// Adds the families of a table, with one series per labeled item.
fn add<T>(families: &mut Vec<MetricFamily>, table: &[Family<T>], items: &[(Labels<'_>, &T)]) {
    for (name, kind, help, value) in table {
        let metrics = items
            .iter()
            .filter_map(|(labels, item)| Some(metric(*kind, value(item)?, labels)))
            .collect();
        families.push(family((name, *kind, help), metrics));
    }
}

fn tenants_by_state(overview: &Overview) -> MetricFamily {
    let state = |line: &TenantLine| {
        let has_no_day = line.status.newest_day.is_none() && line.status.last_attempt.is_some();
        if has_no_day || line.has(ConditionKind::TenantBehind) {
            "behind"
        } else if line.severity().is_some() {
            "waiting"
        } else {
            "current"
        }
    };
    let metrics = ["current", "waiting", "behind"].map(|name| {
        let tenants = overview.tenants.iter().filter(|line| state(line) == name);
        metric(GAUGE, number(tenants.count() as u64), &[("state", name)])
    });
    family(TENANTS, metrics.into())
}

/// One series per kind and severity that occurs.
fn conditions_by_kind(overview: &Overview) -> MetricFamily {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for condition in &overview.conditions {
        let key = (condition.kind.as_str(), condition.severity.as_str());
        *counts.entry(key).or_default() += 1;
    }
    let metrics = counts.iter().map(|((kind, severity), number_of)| {
        metric(GAUGE, number(*number_of), &[("kind", kind), ("severity", severity)])
    });
    family(CONDITIONS, metrics.collect())
}

fn failures(overview: &Overview) -> MetricFamily {
    let mut causes: BTreeMap<&str, u64> = BTreeMap::new();
    for (cause, times) in overview.tenants.iter().flat_map(|tenant| &tenant.polls.failures) {
        *causes.entry(cause).or_default() += times;
    }
    let metrics =
        causes.iter().map(|(cause, times)| metric(COUNTER, number(*times), &[("cause", cause)]));
    family(POLL_FAILURES, metrics.collect())
}

fn failures_by_tenant(overview: &Overview) -> MetricFamily {
    let metrics = |tenant: &TenantLine| -> Vec<Metric> {
        let failures = tenant.polls.failures.iter();
        failures
            .map(|(cause, times)| {
                metric(COUNTER, number(*times), &[("tenant", &tenant.name), ("cause", cause)])
            })
            .collect()
    };
    family(TENANT_POLL_FAILURES, overview.tenants.iter().flat_map(metrics).collect())
}

fn family((name, kind, help): Description<'_>, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(format!("{PREFIX}{name}"));
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn metric(kind: MetricType, value: f64, labels: &[(&str, &str)]) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    let mut metric = Metric::from_label(pairs.collect());

    if kind == COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
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
