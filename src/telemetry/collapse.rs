//! What is said again and again is written once, then counted.

use std::collections::HashMap;

use jiff::Timestamp;
use tracing::Level;

use super::{Line, Value};

/// The same within this time, in milliseconds, is only counted.
const WINDOW_MS: i64 = 60 * 60 * 1_000;
/// Different things that are remembered; more are written as they come.
const MOST: usize = 512;

type Key = (Level, String, Vec<(&'static str, Value)>);

/// Warnings and errors of the last hour.
#[derive(Debug, Default)]
pub(super) struct Collapse(HashMap<Key, Seen>);

#[derive(Debug)]
struct Seen {
    /// When it was written last.
    written: Timestamp,
    /// Said since.
    count: u64,
    last: Timestamp,
}

impl Collapse {
    /// The line, if it is to be written now.
    pub(super) fn take(&mut self, line: Line) -> Option<Line> {
        if line.level > Level::WARN {
            return Some(line);
        }
        let key = (line.level, line.message.clone(), line.fields.clone());
        match self.0.get_mut(&key) {
            Some(seen) if age(seen.written, line.time) < WINDOW_MS => {
                seen.count += 1;
                seen.last = line.time;
                None
            }
            Some(seen) => {
                let repeated = std::mem::take(&mut seen.count);
                seen.written = line.time;
                Some(Line { repeated, ..line })
            }
            None => {
                if self.0.len() < MOST {
                    let seen = Seen { written: line.time, count: 0, last: line.time };
                    self.0.insert(key, seen);
                }
                Some(line)
            }
        }
    }

    /// The repeats whose hour is over. What was not said again is forgotten.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<Line> {
        self.told(|seen| age(seen.written, now) >= WINDOW_MS)
    }

    /// All repeats that were not told.
    pub(super) fn end(&mut self) -> Vec<Line> {
        self.told(|_| true)
    }

    fn told(&mut self, is_due: impl Fn(&Seen) -> bool) -> Vec<Line> {
        let mut lines = Vec::new();
        self.0.retain(|(level, message, fields), seen| {
            if !is_due(seen) {
                return true;
            }
            if seen.count == 0 {
                return false;
            }
            let repeated = std::mem::take(&mut seen.count);
            seen.written = seen.last;
            lines.push(Line {
                time: seen.last,
                level: *level,
                message: message.clone(),
                fields: fields.clone(),
                repeated,
            });
            true
        });
        lines.sort_by_key(|line| line.time);
        lines
    }
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
        Line { time: at(minute), level, message: message.to_owned(), fields, repeated: 0 }
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
        assert!(collapse.take(line(0, Level::WARN, "failed", "a")).is_some());
        assert!(collapse.take(line(0, Level::WARN, "failed", "b")).is_some());
        assert!(collapse.take(line(0, Level::ERROR, "failed", "a")).is_some());
        assert!(collapse.take(line(0, Level::WARN, "failed", "a")).is_none());
        for _ in 0..3 {
            assert!(collapse.take(line(0, Level::INFO, "polled", "a")).is_some());
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
            assert!(collapse.take(line(0, Level::WARN, &number.to_string(), "a")).is_some());
        }
        assert_eq!(collapse.0.len(), MOST);
    }
}
