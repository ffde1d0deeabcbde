//! Logs: one event, one line. Text on a terminal, fields in the journal under systemd, JSON by option.
//!
//! Levels by duty: an error wants a person; a warning is tried again and passes by itself; info is the
//! day's work; debug is for us. An event is handed to a thread of its own, which renders and writes
//! it: who logs never waits for a terminal, a pipe or the journal. What does not fit is counted, and
//! the count is said.

mod collapse;
mod journal;
mod render;

use std::{
    fmt,
    io::{IsTerminal, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use jiff::Timestamp;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id},
};
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    layer::{Context, Layer, SubscriberExt},
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use self::{collapse::Collapse, journal::Journal, render::Render};
use crate::clock;

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStyle {
    Text,
    Json,
    Journal,
}

/// One event, as it is rendered.
#[derive(Clone, Debug)]
struct Line {
    time: Timestamp,
    level: Level,
    message: String,
    fields: Vec<(&'static str, Value)>,
    /// It answers somebody, and is written as often as it is asked for.
    answers: bool,
    /// How often the same was said since, and not written.
    repeated: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Value {
    Text(String),
    /// How something shows itself: a date, an error.
    Shown(String),
    /// A number, or true or false.
    Bare(String),
}

/// The target of what answers a person: never collapsed.
pub const UNCOLLAPSED: &str = "secure_score_forwarder::answer";

/// Events that may wait to be written.
const QUEUE: usize = 1_024;
/// The writer looks for repeats to be told this often.
const LOOK: Duration = Duration::from_secs(30);
/// The end waits no longer than this for a terminal that takes nothing.
const LAST_WORDS: Duration = Duration::from_secs(1);

enum Said {
    Line(Line),
    End,
}

struct ToWriter {
    queue: SyncSender<Said>,
    lost: Arc<AtomicU64>,
}

/// Writes what is left when it goes.
#[derive(Debug)]
pub struct Guard {
    queue: SyncSender<Said>,
    writer: Option<JoinHandle<()>>,
}

/// Text, or the journal where standard error goes there.
pub fn default_style() -> LogStyle {
    if journal::is_stderr() { LogStyle::Journal } else { LogStyle::Text }
}

/// Takes in events of this level and above; of libraries only what is wrong.
pub fn init(level: LevelFilter, style: LogStyle) -> Guard {
    let (queue, waiting) = sync_channel(QUEUE);
    let lost = Arc::new(AtomicU64::new(0));
    let mut output = Output::new(style);
    let counted = Arc::clone(&lost);
    let writer = std::thread::Builder::new().name("log".to_owned()).stack_size(256 << 10);
    let writer = writer.spawn(move || write_all(&waiting, &counted, &mut output)).ok();
    let filter = Targets::new()
        .with_target("secure_score_forwarder", level)
        .with_default(LevelFilter::WARN.min(level));
    let layer = ToWriter { queue: queue.clone(), lost };
    // Tests of the library begin it more than once; the first one stays.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
    Guard { queue, writer }
}

/// The writer's life. Ends when told, or when nobody can say anything any more.
fn write_all(waiting: &Receiver<Said>, lost: &AtomicU64, output: &mut Output) {
    let mut collapse = Collapse::default();
    loop {
        let said = waiting.recv_timeout(LOOK);
        let now = clock::now();
        match said {
            Ok(Said::Line(line)) => {
                collapse.take(line).iter().for_each(|line| output.write(line));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Said::End) | Err(RecvTimeoutError::Disconnected) => {
                collapse.end().iter().for_each(|line| output.write(line));
                return;
            }
        }
        collapse.due(now).iter().for_each(|line| output.write(line));
        let missing = lost.swap(0, Relaxed);
        if missing > 0 {
            output.write(&Line {
                time: now,
                level: Level::WARN,
                message: "events were not logged: they came faster than they could be written"
                    .to_owned(),
                fields: vec![("events", Value::Bare(missing.to_string()))],
                answers: false,
                repeated: 0,
            });
        }
    }
}

/// Where lines go.
struct Output {
    render: Render,
    journal: Option<Journal>,
    buffer: Vec<u8>,
}

impl Output {
    fn new(style: LogStyle) -> Self {
        let journal = if style == LogStyle::Journal { Journal::open() } else { None };
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let render = if style == LogStyle::Json { Render::Json } else { Render::Text { colour } };
        Self { render, journal, buffer: Vec::new() }
    }

    fn write(&mut self, line: &Line) {
        if self.journal.as_mut().is_some_and(|journal| journal.write(line)) {
            return;
        }
        self.buffer.clear();
        self.render.line(line, &mut self.buffer);
        // Who closed standard error has no use for it.
        let _ = std::io::stderr().write_all(&self.buffer);
    }
}

/// Whose work it is: the fields of a span stand in every line that is said within it.
struct Whose(Vec<(&'static str, Value)>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for ToWriter {
    fn on_new_span(&self, span: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut line = Line::new(span.metadata());
        span.record(&mut line);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Whose(line.fields));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Line::new(event.metadata());
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(Whose(fields)) = span.extensions().get() {
                line.fields.extend(fields.iter().cloned());
            }
        }
        event.record(&mut line);
        if self.queue.try_send(Said::Line(line)).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

impl Line {
    fn new(of: &Metadata<'_>) -> Self {
        Self {
            time: clock::now(),
            level: *of.level(),
            message: String::new(),
            fields: Vec::new(),
            answers: of.target() == UNCOLLAPSED,
            repeated: 0,
        }
    }

    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::Text(text) | Value::Shown(text) | Value::Bare(text)) => {
                self.message = text;
            }
            (name, value) => {
                self.fields.retain(|(said, _)| *said != name);
                self.fields.push((name, value));
            }
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::Text(value.to_owned()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Bare(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Bare(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Bare(value.to_string()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::Shown(format!("{value:?}")));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        let step = Duration::from_millis(2);
        let (mut told, mut waited) = (false, Duration::ZERO);
        while !writer.is_finished() && waited < LAST_WORDS {
            // After a burst there may be no room for it yet.
            told = told || self.queue.try_send(Said::End).is_ok();
            std::thread::park_timeout(step);
            waited += step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_whose_work_it_is() {
        let (queue, said) = sync_channel(8);
        let layer = ToWriter { queue, lost: Arc::default() };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!("nobody's");
            let _of = tracing::error_span!("drain", sink = "siem").entered();
            tracing::warn!(records = 3, "its own");
            tracing::warn!(sink = "other", "of another");
        });
        let fields = said.into_iter().map(|said| match said {
            Said::Line(line) => line.fields,
            Said::End => Vec::new(),
        });
        let text = |text: &str| Value::Text(text.to_owned());
        let wanted = [
            vec![],
            vec![("sink", text("siem")), ("records", Value::Bare("3".to_owned()))],
            vec![("sink", text("other"))],
        ];
        assert_eq!(fields.collect::<Vec<_>>(), wanted);
    }
}
