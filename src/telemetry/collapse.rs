//! What is said again and again is written once, then counted.

use std::collections::HashMap;

use jiff::Timestamp;
use tracing::Level;

use super::{Line, Value};

/// The same within this time, in milliseconds, is only counted.
const WINDOW_MS: i64 = 60 * 60 * 1_000;
/// Different things that are remembered; for one more, the oldest is told and forgotten.
const MOST: usize = 512;

type Fields = Vec<(&'static str, Value)>;

/// Warnings and errors of the last hour.
#[derive(Debug, Default)]
pub(super) struct Collapse(HashMap<Key, Seen>);

/// What makes two lines the same: all but numbers, addresses and ids in the words of others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    level: Level,
    message: String,
    fields: Fields,
}

#[derive(Debug)]
struct Seen {
    /// When it was written last.
    written: Timestamp,
    /// Said since.
    count: u64,
    last: Timestamp,
    /// As it was said last.
    fields: Fields,
}

impl Collapse {
    /// What is to be written now: the line, if it is news, after the repeats that end with it.
    pub(super) fn take(&mut self, line: Line) -> Vec<Line> {
        if line.answers {
            return vec![line];
        }
        if line.level > Level::WARN {
            // What works again may fail again, and that is news. Below, attempts are told of.
            let is_news = line.level == Level::INFO;
            let mut lines = if is_news { self.well_again(&line) } else { Vec::new() };
            lines.push(line);
            return lines;
        }
        let key = Key::of(&line);
        if let Some(seen) = self.0.get_mut(&key) {
            if age(seen.written, line.time) < WINDOW_MS {
                seen.count += 1;
                seen.last = line.time;
                seen.fields = line.fields;
                return Vec::new();
            }
            let repeated = std::mem::take(&mut seen.count);
            seen.written = line.time;
            return vec![Line { repeated, ..line }];
        }
        let mut lines = if self.0.len() < MOST { Vec::new() } else { self.oldest() };
        let fields = line.fields.clone();
        self.0.insert(key, Seen { written: line.time, count: 0, last: line.time, fields });
        lines.push(line);
        lines
    }

    /// Forgets what was said of a sink or a tenant that gets on.
    fn well_again(&mut self, line: &Line) -> Vec<Line> {
        let whose = line.fields.iter().find(|(name, _)| matches!(*name, "sink" | "tenant"));
        match whose {
            Some(whose) => self.told(|key, _| key.fields.contains(whose), false),
            None => Vec::new(),
        }
    }

    fn oldest(&mut self) -> Vec<Line> {
        let oldest = self.0.iter().min_by_key(|(_, seen)| seen.written).map(|(key, _)| key.clone());
        self.told(|key, _| Some(key) == oldest.as_ref(), false)
    }

    /// The repeats whose hour is over. What was not said again is forgotten.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<Line> {
        self.told(|_, seen| age(seen.written, now) >= WINDOW_MS, true)
    }

    /// All repeats that were not told.
    pub(super) fn end(&mut self) -> Vec<Line> {
        self.told(|_, _| true, true)
    }

    fn told(&mut self, is_due: impl Fn(&Key, &Seen) -> bool, keep: bool) -> Vec<Line> {
        let mut lines = Vec::new();
        self.0.retain(|key, seen| {
            if !is_due(key, seen) {
                return true;
            }
            if seen.count == 0 {
                return false;
            }
            let repeated = std::mem::take(&mut seen.count);
            seen.written = seen.last;
            lines.push(Line {
                time: seen.last,
                level: key.level,
                message: key.message.clone(),
                fields: seen.fields.clone(),
                answers: false,
                repeated,
            });
            keep
        });
        lines.sort_by_key(|line| line.time);
        lines
    }
}

impl Key {
    fn of(line: &Line) -> Self {
        let fields = line.fields.iter().map(|(name, value)| {
            let value = match value {
                Value::Text(text) | Value::Shown(text) if matches!(*name, "error" | "details") => {
                    Value::Text(without_numbers(text))
                }
                value => value.clone(),
            };
            (*name, value)
        });
        Self { level: line.level, message: line.message.clone(), fields: fields.collect() }
    }
}

/// A word with a digit in it is a time, a port, an id: `#`.
fn without_numbers(text: &str) -> String {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        plain.push_str(if word.contains(|c: char| c.is_ascii_digit()) { "#" } else { word });
        let end = tail.find(is_word).unwrap_or(tail.len());
        plain.push_str(&tail[..end]);
        rest = &tail[end..];
    }
    plain
}

/// A clock that was set back makes nothing younger than it is.
fn age(then: Timestamp, now: Timestamp) -> i64 {
    (now.as_millisecond() - then.as_millisecond()).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).unwrap()
    }

    fn line(minute: i64, level: Level, message: &str, sink: &str) -> Line {
        let fields = vec![("sink", Value::Text(sink.to_owned()))];
        Line {
            time: at(minute),
            level,
            message: message.to_owned(),
            fields,
            answers: false,
            repeated: 0,
        }
    }

    #[test]
    fn what_repeats_within_an_hour_is_counted() {
        let mut collapse = Collapse::default();
        let mut written = Vec::new();
        for minute in 0..=130 {
            let lines = collapse.take(line(minute, Level::WARN, "failed", "a")).into_iter();
            let lines = lines.chain(collapse.due(at(minute)));
            written.extend(lines.map(|line| (minute, line.repeated)));
        }
        assert_eq!(written, [(0, 0), (60, 59), (120, 59)]);
        let last: Vec<u64> = collapse.end().iter().map(|line| line.repeated).collect();
        assert_eq!(last, [10], "nothing is left untold");
        assert!(collapse.end().is_empty());
    }

    #[test]
    fn what_differs_is_written_and_so_is_the_days_work() {
        let mut collapse = Collapse::default();
        assert!(!collapse.take(line(0, Level::WARN, "failed", "a")).is_empty());
        assert!(!collapse.take(line(0, Level::WARN, "failed", "b")).is_empty());
        assert!(!collapse.take(line(0, Level::ERROR, "failed", "a")).is_empty());
        assert!(collapse.take(line(0, Level::WARN, "failed", "a")).is_empty());
        for _ in 0..3 {
            assert_eq!(collapse.take(line(0, Level::INFO, "polled", "c")).len(), 1);
        }
        // Repeats are told once nothing more is said, too.
        let due: Vec<u64> = collapse.due(at(61)).iter().map(|line| line.repeated).collect();
        assert_eq!(due, [1]);
        collapse.due(at(200));
        assert!(collapse.0.is_empty(), "and then forgotten");
    }

    #[test]
    fn a_flood_of_different_things_does_not_grow_without_bound() {
        let mut collapse = Collapse::default();
        for number in 0..5_000 {
            assert_eq!(collapse.take(line(0, Level::WARN, &number.to_string(), "a")).len(), 1);
        }
        assert_eq!(collapse.0.len(), MOST);
    }

    #[test]
    fn what_fails_again_after_it_was_well_is_written_again() {
        let mut collapse = Collapse::default();
        let mut said = |minute, level, message| {
            let lines = collapse.take(line(minute, level, message, "a"));
            lines.iter().map(|line| (line.message.clone(), line.repeated)).collect::<Vec<_>>()
        };
        let one = |message: &str, repeated| vec![(message.to_owned(), repeated)];
        assert_eq!(said(0, Level::ERROR, "parked"), one("parked", 0));
        assert_eq!(said(5, Level::ERROR, "parked"), []);
        let told = [one("parked", 1), one("delivered", 0)].concat();
        assert_eq!(said(9, Level::INFO, "delivered"), told);
        assert_eq!(said(20, Level::ERROR, "parked"), one("parked", 0));
    }

    #[test]
    fn an_attempt_that_is_told_of_in_detail_is_no_success() {
        let mut collapse = Collapse::default();
        assert_eq!(collapse.take(line(0, Level::WARN, "failed", "a")).len(), 1);
        for minute in 1..5 {
            assert_eq!(collapse.take(line(minute, Level::DEBUG, "connecting", "a")).len(), 1);
            assert!(collapse.take(line(minute, Level::WARN, "failed", "a")).is_empty());
        }
    }

    #[test]
    fn ids_and_times_in_an_error_make_no_news_and_names_do() {
        let mut collapse = Collapse::default();
        let mut is_written = |tenant: &str, error: &str| {
            let mut line = line(0, Level::WARN, "poll failed", "x");
            line.fields = vec![
                ("tenant", Value::Text(tenant.to_owned())),
                ("error", Value::Shown(error.to_owned())),
            ];
            !collapse.take(line).is_empty()
        };
        assert!(is_written("c-17", "timed out after 3071ms (request-id 5c1d-ab)"));
        assert!(!is_written("c-17", "timed out after 3068ms (request-id 77aa-0)"));
        assert!(is_written("c-18", "timed out after 3068ms (request-id 77aa-0)"));
        assert!(is_written("c-17", "refused after 3068ms (request-id 77aa-0)"));
    }

    #[test]
    fn what_answers_a_person_is_written_each_time() {
        let mut collapse = Collapse::default();
        for _ in 0..3 {
            let refused = Line { answers: true, ..line(0, Level::ERROR, "refused", "a") };
            assert_eq!(collapse.take(refused).len(), 1);
        }
    }
}
