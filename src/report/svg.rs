//! Charts of values by day, as inline SVG. The style sheet of the page defines the colors, so a
//! chart must never set one. Start reading at [`chart`].

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};

use crate::{model::Day, text::percent};

/// A line of a chart. `class` is the CSS class that sets its color.
pub(super) struct Line<'a> {
    /// The label in the legend.
    pub name: &'a str,
    pub class: &'a str,
    /// One percentage per day, oldest first; a day can be absent.
    pub points: Vec<(Day, f64)>,
}

/// The size of a chart, in units of its view box.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 240.0;
/// The margins of a chart. The values are labeled on the left, the dates at the bottom.
const LEFT: f64 = 44.0;
const BOTTOM: f64 = 26.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 10.0;
/// Points that are more than this many days apart are not connected.
const MAX_GAP_DAYS: i32 = 3;

/// Maps days and values to coordinates.
struct Scale {
    /// The numbers of the first and the last day.
    days: (i32, i32),
    /// The lowest and the highest value.
    values: (f64, f64),
    size: (f64, f64),
    origin: (f64, f64),
}

impl Scale {
    fn at(&self, day: Day, value: f64) -> (f64, f64) {
        let (first, last) = self.days;
        let x = f64::from(day.number() - first) / f64::from((last - first).max(1));
        let (low, high) = self.values;
        let y = 1.0 - (value - low) / (high - low).max(f64::EPSILON);
        (self.origin.0 + x * self.size.0, self.origin.1 + y * self.size.1)
    }

    /// The path through the points, interrupted at gaps. A point without neighbors becomes a dot.
    fn path(&self, points: &[(Day, f64)]) -> String {
        let mut path = String::new();
        let mut last: Option<Day> = None;
        for (day, value) in points {
            let (x, y) = self.at(*day, *value);
            let is_connected =
                last.is_some_and(|last| day.number() - last.number() <= MAX_GAP_DAYS);
            let _ = write!(path, "{}{x:.1} {y:.1}", if is_connected { "L" } else { "M" });
            if !is_connected {
                // A line of length zero is drawn as a dot, because lines have round caps.
                let _ = write!(path, "h0");
            }
            last = Some(*day);
        }
        path
    }
}

/// A chart of percentages. `title` and `text` describe it for a screen reader.
pub(super) fn chart(lines: &[Line<'_>], title: &str, text: &str) -> Markup {
    let all = || lines.iter().flat_map(|line| &line.points);
    let Some(first) = all().map(|(day, _)| day.number()).min() else { return html! {} };
    let last = all().map(|(day, _)| day.number()).max().unwrap_or(first);
    let low = all().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let high = all().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);

    let step = step(high - low);
    let values = ((low / step).floor() * step, (high / step).ceil() * step);
    let values = if values.0 < values.1 { values } else { (values.0 - step, values.1 + step) };
    let scale = Scale {
        days: (first, last),
        values,
        size: (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM),
        origin: (LEFT, TOP),
    };

    html! {
        svg .chart viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(title) {
            title { (title) }
            desc { (text) }
            (grid(&scale, step))
            (dates(&scale))
            @for line in lines {
                path .line .(line.class) d=(scale.path(&line.points)) {}
            }
        }
        ul .legend {
            @for line in lines {
                @if let Some((_, value)) = line.points.last() {
                    li { span .key .(line.class) {} (line.name) " " b { (percent(*value)) } }
                }
            }
        }
    }
}

fn grid(scale: &Scale, step: f64) -> Markup {
    let (low, high) = scale.values;
    let day = Day::from_number(scale.days.0);
    let count = ((high - low) / step).round().max(0.0);

    html! {
        @for number in 0..=8 {
            @let value = low + f64::from(number) * step;
            @if f64::from(number) <= count {
                @if let Some(day) = day {
                    @let (_, y) = scale.at(day, value);
                    line .grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(format!("{y:.1}")) y2=(format!("{y:.1}")) {}
                    text .axis x=(LEFT - 6.0) y=(format!("{:.1}", y + 4.0)) text-anchor="end" { (trimmed(value)) "%" }
                }
            }
        }
    }
}

fn dates(scale: &Scale) -> Markup {
    let (first, last) = scale.days;
    let ticks = if last - first >= 4 { 4 } else { (last - first).max(1) };
    let days =
        (0..=ticks).filter_map(|tick| Day::from_number(first + (last - first) * tick / ticks));

    html! {
        @for (index, day) in days.enumerate() {
            @let (x, _) = scale.at(day, scale.values.0);
            @let anchor = match index { 0 => "start", i if i == usize::try_from(ticks).unwrap_or(0) => "end", _ => "middle" };
            text .axis x=(format!("{x:.1}")) y=(HEIGHT - 8.0) text-anchor=(anchor) { (day) }
        }
    }
}

/// A small chart without axes, for a table.
pub fn sparkline(points: &[(Day, f64)]) -> Markup {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return html! {} };
    let low = points.iter().map(|(_, value)| *value).fold(f64::INFINITY, f64::min);
    let high = points.iter().map(|(_, value)| *value).fold(f64::NEG_INFINITY, f64::max);
    let values = if low < high { (low, high) } else { (low - 1.0, high + 1.0) };
    let scale = Scale {
        days: (first.0.number(), last.0.number()),
        values,
        size: (96.0, 18.0),
        origin: (2.0, 3.0),
    };

    html! {
        svg .spark viewBox="0 0 100 24" aria-hidden="true" {
            path .line .own d=(scale.path(points)) {}
        }
    }
}

/// A horizontal bar for a share from 0 to 1.
pub(super) fn bar(share: f64) -> Markup {
    let width = (share.clamp(0.0, 1.0) * 1_000.0).round() / 10.0;
    html! {
        svg .bar viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
            rect .rail width="100" height="8" {}
            rect .fill width=(width) height="8" {}
        }
    }
}

/// The distance between grid lines: 1, 2 or 5 times a power of ten, so that there are only a few.
fn step(span: f64) -> f64 {
    let raw = (span / 5.0).max(0.1);
    let power = 10_f64.powf(raw.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    steps.into_iter().find(|step| *step >= raw).unwrap_or(raw)
}

/// A value with one decimal place, or none if that place is 0.
fn trimmed(value: f64) -> PreEscaped<String> {
    let text = format!("{value:.1}");
    PreEscaped(text.strip_suffix(".0").unwrap_or(&text).to_owned())
}
