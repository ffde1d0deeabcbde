//! Collapses repeated warnings and errors: the first one is written, its repeats are counted, and
//! the count is written at most once an hour.
//!
//! When a sink or a tenant makes progress, its lines are removed, so that the next failure is
//! written immediately. Start reading at [`Collapse::add`].

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use tracing::Level;

use super::{FieldValue, LogLine};

/// Repeats within this time are only counted.
const WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// The number of different lines that are remembered. Beyond it, the oldest one is removed.
const MAX_LINES: usize = 512;

type Fields = Vec<(&'static str, FieldValue)>;

/// The warnings and errors of the last hour.
#[derive(Debug, Default)]
pub(super) struct Collapse(HashMap<RepeatKey, Repeats>);

/// Lines with equal keys are repeats of each other. Numbers and IDs in the messages of other
/// systems are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct RepeatKey {
    level: Level,
    message: String,
    fields: Fields,
}

#[derive(Debug)]
struct Repeats {
    /// When the line was last written.
    written: Timestamp,
    /// The number of repeats since then.
    count: u64,
    /// The time and the fields of the last repeat.
    last: Timestamp,
    fields: Fields,
}

/// What happens to a line whose repeats are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    /// Further repeats are counted.
    Keep,
    Remove,
}

impl Collapse {
    /// Adds a line. Returns the lines to write now: the repeats of the lines that it causes to be
    /// removed, and then the line, unless it is a repeat.
    pub(super) fn add(&mut self, line: LogLine) -> Vec<LogLine> {
        if line.is_uncollapsed {
            return vec![line];
        }
        if line.level > Level::WARN {
            // `INFO` reports progress; `DEBUG` also reports attempts.
            let is_progress = line.level == Level::INFO;
            let mut lines = if is_progress { self.recovered(&line) } else { Vec::new() };
            lines.push(line);
            return lines;
        }

        let key = RepeatKey::of(&line);
        if let Some(repeats) = self.0.get_mut(&key) {
            if age(repeats.written, line.time) < WINDOW {
                repeats.count += 1;
                repeats.last = line.time;
                repeats.fields = line.fields;
                return Vec::new();
            }
            let repeated = std::mem::take(&mut repeats.count);
            repeats.written = line.time;
            return vec![LogLine { repeated, ..line }];
        }

        let mut lines = if self.0.len() < MAX_LINES { Vec::new() } else { self.remove_oldest() };
        let fields = line.fields.clone();
        self.0.insert(key, Repeats { written: line.time, count: 0, last: line.time, fields });
        lines.push(line);
        lines
    }

    /// Removes the lines of the sink or tenant whose progress this line reports. Returns their
    /// repeats.
    fn recovered(&mut self, line: &LogLine) -> Vec<LogLine> {
        let subject = line.fields.iter().find(|(name, _)| matches!(*name, "sink" | "tenant"));
        match subject {
            Some(subject) => self.flush(|key, _| key.fields.contains(subject), After::Remove),
            None => Vec::new(),
        }
    }

    fn remove_oldest(&mut self) -> Vec<LogLine> {
        let oldest = self.0.iter().min_by_key(|(_, repeats)| repeats.written);
        let oldest = oldest.map(|(key, _)| key.clone());
        self.flush(|key, _| Some(key) == oldest.as_ref(), After::Remove)
    }

    /// The repeats of lines that were written more than an hour ago. Removes lines without repeats.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<LogLine> {
        self.flush(|_, repeats| age(repeats.written, now) >= WINDOW, After::Keep)
    }

    /// All repeats that have not been written.
    pub(super) fn finish(&mut self) -> Vec<LogLine> {
        self.flush(|_, _| true, After::Keep)
    }

    /// The repeats of the selected lines, oldest first. Removes selected lines without repeats.
    fn flush(
        &mut self,
        is_selected: impl Fn(&RepeatKey, &Repeats) -> bool,
        after: After,
    ) -> Vec<LogLine> {
        let mut lines = Vec::new();
        self.0.retain(|key, repeats| {
            if !is_selected(key, repeats) {
                return true;
            }
            if repeats.count == 0 {
                return false;
            }
            let repeated = std::mem::take(&mut repeats.count);
            repeats.written = repeats.last;
            lines.push(LogLine {
                time: repeats.last,
                level: key.level,
                message: key.message.clone(),
                fields: repeats.fields.clone(),
                is_uncollapsed: false,
                repeated,
            });
            after == After::Keep
        });

        lines.sort_by_key(|line| line.time);
        lines
    }
}

impl RepeatKey {
    fn of(line: &LogLine) -> Self {
        let fields = line.fields.iter().map(|(name, value)| {
            let value = match value {
                FieldValue::Text(text) | FieldValue::Formatted(text)
                    if matches!(*name, "error" | "details") =>
                {
                    FieldValue::Text(without_numbers(text))
                }
                value => value.clone(),
            };
            (*name, value)
        });
        Self { level: line.level, message: line.message.clone(), fields: fields.collect() }
    }
}

/// Replaces every word that contains a digit, such as a time, a port or an ID, with `#`.
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

/// The time between two timestamps; zero if the clock was set back in between.
fn age(then: Timestamp, now: Timestamp) -> SignedDuration {
    now.duration_since(then).max(SignedDuration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).unwrap()
    }

    fn line(minute: i64, level: Level, message: &str, sink: &str) -> LogLine {
        let fields = vec![("sink", FieldValue::Text(sink.to_owned()))];
        LogLine {
            time: at(minute),
            level,
            message: message.to_owned(),
            fields,
            is_uncollapsed: false,
            repeated: 0,
        }
    }

    #[test]
    fn counts_repeats_within_an_hour() {
        let mut collapse = Collapse::default();
        let mut written = Vec::new();
        for minute in 0..=130 {
            let lines = collapse.add(line(minute, Level::WARN, "failed", "a")).into_iter();
            let lines = lines.chain(collapse.due(at(minute)));
            written.extend(lines.map(|line| (minute, line.repeated)));
        }
        assert_eq!(written, [(0, 0), (60, 59), (120, 59)]);

        let last: Vec<u64> = collapse.finish().iter().map(|line| line.repeated).collect();
        assert_eq!(last, [10], "`finish` returns the remaining repeats");
        assert!(collapse.finish().is_empty());
    }

    #[test]
    fn different_lines_and_info_are_written() {
        let mut collapse = Collapse::default();
        assert!(!collapse.add(line(0, Level::WARN, "failed", "a")).is_empty());
        assert!(!collapse.add(line(0, Level::WARN, "failed", "b")).is_empty());
        assert!(!collapse.add(line(0, Level::ERROR, "failed", "a")).is_empty());
        assert!(collapse.add(line(0, Level::WARN, "failed", "a")).is_empty());
        for _ in 0..3 {
            assert_eq!(collapse.add(line(0, Level::INFO, "polled", "c")).len(), 1);
        }

        // Repeats are written after an hour, even if nothing else has been logged.
        let due: Vec<u64> = collapse.due(at(61)).iter().map(|line| line.repeated).collect();
        assert_eq!(due, [1]);
        collapse.due(at(200));
        assert!(collapse.0.is_empty(), "lines without repeats are removed");
    }

    #[test]
    fn limits_the_number_of_remembered_lines() {
        let mut collapse = Collapse::default();
        for number in 0..5_000 {
            assert_eq!(collapse.add(line(0, Level::WARN, &number.to_string(), "a")).len(), 1);
        }
        assert_eq!(collapse.0.len(), MAX_LINES);
    }

    #[test]
    fn a_failure_after_a_recovery_is_written() {
        let mut collapse = Collapse::default();
        let mut add = |minute, level, message| {
            let lines = collapse.add(line(minute, level, message, "a"));
            lines.iter().map(|line| (line.message.clone(), line.repeated)).collect::<Vec<_>>()
        };
        let one = |message: &str, repeated| vec![(message.to_owned(), repeated)];
        assert_eq!(add(0, Level::ERROR, "parked"), one("parked", 0));
        assert_eq!(add(5, Level::ERROR, "parked"), []);
        let recovered = [one("parked", 1), one("delivered", 0)].concat();
        assert_eq!(add(9, Level::INFO, "delivered"), recovered);
        assert_eq!(add(20, Level::ERROR, "parked"), one("parked", 0));
    }

    #[test]
    fn debug_lines_do_not_report_recovery() {
        let mut collapse = Collapse::default();
        assert_eq!(collapse.add(line(0, Level::WARN, "failed", "a")).len(), 1);
        for minute in 1..5 {
            assert_eq!(collapse.add(line(minute, Level::DEBUG, "connecting", "a")).len(), 1);
            assert!(collapse.add(line(minute, Level::WARN, "failed", "a")).is_empty());
        }
    }

    #[test]
    fn numbers_in_an_error_are_ignored() {
        let mut collapse = Collapse::default();
        let mut is_written = |tenant: &str, error: &str| {
            let mut line = line(0, Level::WARN, "poll failed", "x");
            line.fields = vec![
                ("tenant", FieldValue::Text(tenant.to_owned())),
                ("error", FieldValue::Formatted(error.to_owned())),
            ];
            !collapse.add(line).is_empty()
        };
        assert!(is_written("c-17", "timed out after 3071ms (request-id 5c1d-ab)"));
        assert!(!is_written("c-17", "timed out after 3068ms (request-id 77aa-0)"));
        assert!(is_written("c-18", "timed out after 3068ms (request-id 77aa-0)"));
        assert!(is_written("c-17", "refused after 3068ms (request-id 77aa-0)"));
    }

    #[test]
    fn uncollapsed_lines_are_always_written() {
        let mut collapse = Collapse::default();
        for _ in 0..3 {
            let line = LogLine { is_uncollapsed: true, ..line(0, Level::ERROR, "rejected", "a") };
            assert_eq!(collapse.add(line).len(), 1);
        }
    }
}
