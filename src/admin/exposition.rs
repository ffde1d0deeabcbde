//! Writes metrics in Prometheus' text format 0.0.4:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.
//!
//! Values of labels are foreign text, so hidden characters in them are escapes, as in the log.
//! A thousand tenants have more than ten thousand series. The labels of a tenant are therefore
//! escaped once for all of its series, and every series is written to the text directly instead of
//! being built as a message first. This module must not know what the metrics mean. Start reading
//! at [`Exposition::family`].

use std::fmt::Write as _;

use crate::foreign_text::ForeignText;

/// The type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetricKind {
    /// A number that only grows, until the process starts again.
    Counter,
    /// A number that can grow and shrink.
    Gauge,
}

/// The name of a family without [`PREFIX`], its type, and its help text.
pub(super) type Description<'a> = (&'a str, MetricKind, &'a str);

/// The labels of a series as they are written, such as `{sink="siem",type="syslog"}`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Labels(String);

/// The text of all metrics.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
}

/// The beginning of the name of every family, except for the standard metrics of a process.
pub(super) const PREFIX: &str = "secure_score_forwarder_";

impl MetricKind {
    /// The name in the text format.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

impl Labels {
    /// Labels from names, which must be valid, and any values.
    pub(super) fn new(labels: &[(&str, &str)]) -> Self {
        let mut text = String::new();
        for (index, (name, value)) in labels.iter().enumerate() {
            text.push(if index == 0 { '{' } else { ',' });
            text.push_str(name);
            text.push_str("=\"");
            push_escaped(&mut text, value);
            text.push('"');
        }

        if !labels.is_empty() {
            text.push('}');
        }
        Self(text)
    }
}

impl Exposition {
    /// Writes a family with its series. Writes nothing if there are no series.
    pub(super) fn family<'l>(
        &mut self,
        (name, kind, help): Description<'_>,
        series: impl IntoIterator<Item = (&'l Labels, f64)>,
    ) {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return;
        }

        // Writing to a string cannot fail. No help text has a character that must be escaped.
        let kind = kind.as_str();
        let _ = writeln!(self.text, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}");
        for (Labels(labels), value) in series {
            let _ = writeln!(self.text, "{PREFIX}{name}{labels} {value}");
        }
    }

    /// The text, to which another encoder can append.
    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// Appends the value of a label: hidden characters become escapes such as `\u{1b}`, also line
/// breaks, and backslashes and quotation marks are escaped as the text format requires. Values that
/// differ only in hidden characters stay different, because a repeated series is invalid.
fn push_escaped(text: &mut String, value: &str) {
    for character in ForeignText::new(value).escaped().chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{
        TextEncoder,
        proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType},
    };
    use proptest::prelude::*;

    use super::*;

    const FAMILY: Description<'_> = ("tenants", MetricKind::Gauge, "Tenants by state.");

    #[test]
    fn a_family_has_a_header_and_its_series() {
        let mut exposition = Exposition::default();
        let labels = [Labels::new(&[("a", "x"), ("b", "y")]), Labels::new(&[])];
        exposition.family(FAMILY, labels.iter().zip([1.0, 2.5]));
        assert_eq!(
            exposition.into_text(),
            "# HELP secure_score_forwarder_tenants Tenants by state.\n\
             # TYPE secure_score_forwarder_tenants gauge\n\
             secure_score_forwarder_tenants{a=\"x\",b=\"y\"} 1\n\
             secure_score_forwarder_tenants 2.5\n"
        );
    }

    #[test]
    fn a_family_without_series_is_omitted() {
        let mut exposition = Exposition::default();
        exposition.family(FAMILY, []);
        assert_eq!(exposition.into_text(), "");
    }

    /// The same series, written by the encoder of the crate.
    fn encoded(name: &str, value: f64) -> String {
        let mut pair = LabelPair::default();
        pair.set_name("tenant".to_owned());
        pair.set_value(name.to_owned());
        let mut metric = Metric::from_label(vec![pair]);
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);

        let (family_name, _, help) = FAMILY;
        let mut family = MetricFamily::default();
        family.set_name(format!("{PREFIX}{family_name}"));
        family.set_help(help.to_owned());
        family.set_field_type(MetricType::GAUGE);
        family.set_metric(vec![metric]);
        TextEncoder::new().encode_to_string(&[family]).unwrap()
    }

    /// Regression: names with characters that control a terminal, or that hide or reorder text,
    /// were labels.
    #[test]
    fn labels_contain_no_hidden_characters() {
        for (value, expected) in [
            ("Contoso Ltd.", "Contoso Ltd."),
            ("a\u{1b}[2J", "a\\\\u{1b}[2J"),
            ("a\u{202e}b\u{2066}", "a\\\\u{202e}b\\\\u{2066}"),
            ("a\u{200b}\u{e0041}", "a\\\\u{200b}\\\\u{e0041}"),
            ("a\r\nb\t\u{85}", "a\\\\r\\\\nb\\\\t\\\\u{85}"),
            ("\"\\", "\\\"\\\\"),
        ] {
            let Labels(text) = Labels::new(&[("target", value)]);
            assert_eq!(text, format!("{{target=\"{expected}\"}}"), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn the_text_is_that_of_the_crate(name in any::<String>(), value in -1.0e12..1.0e12_f64) {
            let mut exposition = Exposition::default();
            let labels = Labels::new(&[("tenant", &name)]);
            exposition.family(FAMILY, [(&labels, value)]);
            let visible = ForeignText::new(&name).escaped();
            prop_assert_eq!(exposition.into_text(), encoded(&visible, value));
        }
    }
}
