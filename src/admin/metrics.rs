//! Metrics in Prometheus' text format 0.0.4, which every scraper takes:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//!
//! One line a family in the tables below. With more tenants than `admin.tenant_series` there are no
//! series of single tenants, only the sums.

use std::collections::BTreeMap;

use prometheus::{
    Encoder, TextEncoder,
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

use super::{
    health::Level,
    overview::{Overview, SinkLine, TenantLine},
    views::{View, Views},
};
use crate::{daemon::SinkState, model::Day};

/// Name without prefix, what it counts, and its help.
type Family<T> = (&'static str, MetricType, &'static str, fn(&T) -> Option<f64>);

const PREFIX: &str = "secure_score_forwarder_";

fn of_tenant<'a>() -> Vec<Family<TenantSeries<'a>>> {
    vec![
        (
            "tenant_newest_day_timestamp_seconds",
            GAUGE,
            "The newest day that is kept, as its midnight in UTC.",
            |t| t.line.status.newest_day.map(midnight),
        ),
        (
            "tenant_newest_day_age_seconds",
            GAUGE,
            "Time since the newest day that is kept began, in UTC.",
            |t| t.line.status.newest_day.map(|day| t.now - midnight(day)),
        ),
        ("tenant_last_success_timestamp_seconds", GAUGE, "When a poll last succeeded.", |t| {
            t.line.status.last_success_ms.map(seconds)
        }),
        ("tenant_failing", GAUGE, "1 if the last poll failed.", |t| {
            Some(flag(t.line.status.last_error.is_some()))
        }),
        (
            "tenant_owed_snapshots",
            GAUGE,
            "Days that Microsoft should have and did not give yet.",
            |t| Some(number(t.line.status.missing)),
        ),
        ("tenant_polls_total", COUNTER, "Polls since the daemon began.", |t| {
            Some(number(t.line.polls.polls))
        }),
        ("tenant_score_points", GAUGE, "Points of the newest day.", |t| {
            Some(t.view?.row.current?.get())
        }),
        ("tenant_max_score_points", GAUGE, "Points to be had on the newest day.", |t| {
            Some(t.view?.row.max?.get())
        }),
    ]
}

const OF_SINK: &[Family<SinkLine>] = &[
    (
        "sink_records_total",
        COUNTER,
        "Records that the receiver has proven to have; kept over restarts.",
        |s| Some(number(s.status.sent)),
    ),
    (
        "sink_bytes_total",
        COUNTER,
        "Bytes handed over before compression since the daemon began.",
        |s| Some(number(s.bytes)),
    ),
    ("sink_batches_total", COUNTER, "Batches handed over since the daemon began.", |s| {
        Some(number(s.batches))
    }),
    (
        "sink_retries_total",
        COUNTER,
        "Attempts that failed and are made again, since the daemon began.",
        |s| Some(number(s.retries)),
    ),
    (
        "sink_rejected_total",
        COUNTER,
        "Records that the receiver refused for good; kept over restarts.",
        |s| Some(number(s.status.rejected)),
    ),
    ("sink_truncated_total", COUNTER, "Records that were cut to fit; kept over restarts.", |s| {
        Some(number(s.status.truncated))
    }),
    ("sink_dead_letters", GAUGE, "Records on the dead-letter list.", |s| {
        Some(number(s.status.dead_letters))
    }),
    (
        "sink_backlog_entries",
        GAUGE,
        "Days and observations that are not proven to have arrived.",
        |s| Some(number(s.status.backlog)),
    ),
    (
        "sink_oldest_unsent_timestamp_seconds",
        GAUGE,
        "The oldest day of the backlog; absent without one.",
        |s| s.status.oldest_day.map(midnight),
    ),
    (
        "sink_last_acknowledgement_timestamp_seconds",
        GAUGE,
        "When the receiver last proved that something arrived.",
        |s| s.status.last_acknowledgement_ms.map(seconds),
    ),
    ("sink_parked", GAUGE, "1 if the sink wants a person.", |s| {
        Some(flag(s.state == SinkState::Parked))
    }),
    ("sink_failing", GAUGE, "1 if the last attempt failed.", |s| {
        Some(flag(matches!(s.state, SinkState::Parked | SinkState::Retrying)))
    }),
];

const OF_ALL: &[Family<Overview>] = &[
    ("start_timestamp_seconds", GAUGE, "When the daemon began.", |o| {
        Some(seconds(o.started.as_millisecond()))
    }),
    ("checkpoint_size_bytes", GAUGE, "Bytes of the checkpoint.", |o| Some(number(o.size))),
    ("checkpoint_free_bytes", GAUGE, "Bytes that are free on its disk.", |o| Some(number(o.free))),
    ("stalled_loops", GAUGE, "Loops that should have got on and did not.", |o| {
        Some(number(o.stalled.len() as u64))
    }),
    ("replays", GAUGE, "Replays under way.", |o| Some(number(o.replays.len() as u64))),
    ("polls_total", COUNTER, "Polls of all tenants since the daemon began.", |o| {
        Some(number(o.tenants.iter().map(|tenant| tenant.polls.polls).sum()))
    }),
];

const GAUGE: MetricType = MetricType::GAUGE;
const COUNTER: MetricType = MetricType::COUNTER;

struct TenantSeries<'a> {
    line: &'a TenantLine,
    view: Option<&'a View>,
    /// Seconds since 1970-01-01.
    now: f64,
}

pub(super) fn write(overview: &Overview, views: &Views) -> String {
    let now = seconds(overview.now.as_millisecond());
    let mut families = Vec::new();
    let build = metric(GAUGE, 1.0, &[("version", env!("CARGO_PKG_VERSION"))]);
    families.push(family("build_info", GAUGE, "1, with the version.", vec![build]));
    add(&mut families, OF_ALL, &[(&[], overview)]);
    families.push(tenants_by_state(overview));
    families.push(failures(overview));
    let own = overview.tenants.len() <= overview.tenant_series;
    if own {
        let series: Vec<_> = overview
            .tenants
            .iter()
            .map(|line| TenantSeries { line, view: views.get(&line.name), now })
            .collect();
        let labels: Vec<_> = series.iter().map(|s| [("tenant", s.line.name.as_str())]).collect();
        let labelled: Vec<_> =
            labels.iter().zip(&series).map(|(label, one)| (&label[..], one)).collect();
        add(&mut families, &of_tenant(), &labelled);
        families.push(failures_by_tenant(overview));
    }
    let labels: Vec<_> = overview
        .sinks
        .iter()
        .map(|line| [("sink", line.status.name.as_str()), ("type", line.kind)])
        .collect();
    let labelled: Vec<_> =
        labels.iter().zip(&overview.sinks).map(|(label, one)| (&label[..], one)).collect();
    add(&mut families, OF_SINK, &labelled);
    families.retain(|family| !family.get_metric().is_empty());
    let mut text = Vec::new();
    // Fails for a family without a name or metrics, and there is none.
    let _ = TextEncoder::new().encode(&families, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

type Labels<'a> = &'a [(&'a str, &'a str)];

fn add<T>(families: &mut Vec<MetricFamily>, table: &[Family<T>], of: &[(Labels<'_>, &T)]) {
    for (name, kind, help, value) in table {
        let metrics = of
            .iter()
            .filter_map(|(labels, one)| Some(metric(*kind, value(one)?, labels)))
            .collect();
        families.push(family(name, *kind, help, metrics));
    }
}

/// How the tenants are, whatever their number.
fn tenants_by_state(overview: &Overview) -> MetricFamily {
    let states = [("current", Level::Well), ("waiting", Level::Waiting), ("behind", Level::Unwell)];
    let metrics = states.map(|(name, level)| {
        let of = overview.tenants.iter().filter(|t| t.level(overview.today()) == level);
        metric(GAUGE, number(of.count() as u64), &[("state", name)])
    });
    let help = "Tenants that are current, that wait for a poll, and whose newest day is more than three days old.";
    family("tenants", GAUGE, help, metrics.into())
}

fn failures(overview: &Overview) -> MetricFamily {
    let mut causes: BTreeMap<&str, u64> = BTreeMap::new();
    for (cause, times) in overview.tenants.iter().flat_map(|tenant| &tenant.polls.failures) {
        *causes.entry(cause).or_default() += times;
    }
    let metrics =
        causes.iter().map(|(cause, times)| metric(COUNTER, number(*times), &[("cause", cause)]));
    let help = "Polls that failed since the daemon began, by cause.";
    family("poll_failures_total", COUNTER, help, metrics.collect())
}

fn failures_by_tenant(overview: &Overview) -> MetricFamily {
    let of = |tenant: &TenantLine| -> Vec<Metric> {
        let failures = tenant.polls.failures.iter();
        failures
            .map(|(cause, times)| {
                metric(COUNTER, number(*times), &[("tenant", &tenant.name), ("cause", cause)])
            })
            .collect()
    };
    let help = "Polls of this tenant that failed since the daemon began, by cause.";
    let metrics = overview.tenants.iter().flat_map(of).collect();
    family("tenant_poll_failures_total", COUNTER, help, metrics)
}

fn family(name: &str, kind: MetricType, help: &str, metrics: Vec<Metric>) -> MetricFamily {
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

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has doubles and nothing else")]
fn number(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of this century fit")]
fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

fn midnight(day: Day) -> f64 {
    f64::from(day.number()) * 86_400.0
}
