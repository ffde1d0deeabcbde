//! Logs: one line per event, as text, as JSON, or with native fields in systemd's journal.
//!
//! An `error` needs an operator; a `warn` is retried and clears by itself; `info` is normal
//! operation; `debug` is for developers. A separate thread renders and writes the events, so that
//! logging never waits for a terminal, a pipe or the journal. Events that do not fit into its queue
//! are counted, and the count is logged. Start reading at [`init`]. See decision 0033.

mod collapse;
mod color;
mod journal;
mod render;

use std::{
    fmt,
    io::Write,
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

pub use self::color::is_colored;
use self::{
    collapse::Collapse,
    journal::Journal,
    render::{LevelColor, Render},
};
use crate::clock;

/// The output format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogStyle {
    /// One line of text per event on standard error, with colors on a terminal.
    Text,
    /// One JSON object per event on standard error.
    Json,
    /// One datagram with separate fields per event, to the journal of systemd.
    Journal,
}

/// One line of the log.
#[derive(Clone, Debug)]
struct LogLine {
    time: Timestamp,
    level: Level,
    message: String,
    fields: Vec<(&'static str, FieldValue)>,
    /// Whether every repeat of the line is written; see [`UNCOLLAPSED`].
    is_uncollapsed: bool,
    /// The number of repeats of the line that were not written.
    repeated: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum FieldValue {
    /// A string, which text output quotes.
    Text(String),
    /// A value in the format of its `Debug` or `Display`, such as a date or an error.
    Formatted(String),
    /// A number or a Boolean, which JSON output does not quote.
    Bare(String),
}

/// The target of events that respond to an operator's request. They are never collapsed.
pub const UNCOLLAPSED: &str = "secure_score_forwarder::uncollapsed";

/// The number of messages that may wait for the writer.
const QUEUE_LENGTH: usize = 1_024;
/// The interval at which the writer checks for repeats that are due.
const REPEATS_INTERVAL: Duration = Duration::from_secs(30);
/// The longest time that the process waits for the writer when it ends; the output may be blocked.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);
const FLUSH_POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A message to the writer.
enum WriterMessage {
    Line(LogLine),
    End,
}

/// The layer that sends events to the writer.
struct QueueLayer {
    queue: SyncSender<WriterMessage>,
    /// Events that did not fit into the queue.
    lost: Arc<AtomicU64>,
}

/// Writes the remaining lines when it is dropped.
#[derive(Debug)]
pub struct Guard {
    queue: SyncSender<WriterMessage>,
    writer: Option<JoinHandle<()>>,
}

/// The journal's format if standard error is connected to the journal, else text.
pub fn default_style() -> LogStyle {
    if journal::is_stderr() { LogStyle::Journal } else { LogStyle::Text }
}

/// Starts logging events of this level and above; of libraries, only warnings and errors are
/// logged. Only the first call in a process has an effect.
pub fn init(level: LevelFilter, style: LogStyle) -> Guard {
    let (queue, messages) = sync_channel(QUEUE_LENGTH);
    let lost = Arc::new(AtomicU64::new(0));

    let mut output = LogOutput::new(style);
    let lost_events = Arc::clone(&lost);
    let writer = std::thread::Builder::new().name("log".to_owned()).stack_size(256 << 10);
    let writer = writer.spawn(move || write_all(&messages, &lost_events, &mut output)).ok();

    let filter = Targets::new()
        .with_target("secure_score_forwarder", level)
        .with_default(LevelFilter::WARN.min(level));
    let layer = QueueLayer { queue: queue.clone(), lost };
    // Fails in tests of the library, which call this function several times.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
    Guard { queue, writer }
}

/// The thread of the writer. Returns after `WriterMessage::End`, or when all senders are dropped.
fn write_all(messages: &Receiver<WriterMessage>, lost: &AtomicU64, output: &mut LogOutput) {
    let mut collapse = Collapse::default();
    loop {
        let message = messages.recv_timeout(REPEATS_INTERVAL);
        let now = clock::now();
        match message {
            Ok(WriterMessage::Line(line)) => {
                collapse.add(line).iter().for_each(|line| output.write(line));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Ok(WriterMessage::End) | Err(RecvTimeoutError::Disconnected) => {
                collapse.finish().iter().for_each(|line| output.write(line));
                return;
            }
        }

        collapse.due(now).iter().for_each(|line| output.write(line));
        let lost = lost.swap(0, Relaxed);
        if lost > 0 {
            output.write(&LogLine {
                time: now,
                level: Level::WARN,
                message: "log events lost: they arrived faster than they could be written"
                    .to_owned(),
                fields: vec![("events", FieldValue::Bare(lost.to_string()))],
                is_uncollapsed: false,
                repeated: 0,
            });
        }
    }
}

/// The destination of lines: the journal's socket if it is open, else standard error.
struct LogOutput {
    render: Render,
    journal: Option<Journal>,
    buffer: Vec<u8>,
}

impl LogOutput {
    fn new(style: LogStyle) -> Self {
        let journal = if style == LogStyle::Journal { Journal::open() } else { None };
        let is_colored = is_colored(&std::io::stderr());
        let color = if is_colored { LevelColor::Ansi } else { LevelColor::Plain };
        let render = if style == LogStyle::Json { Render::Json } else { Render::Text(color) };
        Self { render, journal, buffer: Vec::new() }
    }

    fn write(&mut self, line: &LogLine) {
        if self.journal.as_mut().is_some_and(|journal| journal.write(line)) {
            return;
        }

        self.buffer.clear();
        self.render.line(line, &mut self.buffer);
        // Fails if standard error is closed, in which case the failure cannot be reported.
        let _ = std::io::stderr().write_all(&self.buffer);
    }
}

/// The fields of a span, such as the sink or the tenant. Every line of an event inside the span
/// contains them.
struct SpanFields(Vec<(&'static str, FieldValue)>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for QueueLayer {
    fn on_new_span(&self, span: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut line = LogLine::new(span.metadata());
        span.record(&mut line);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(line.fields));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = LogLine::new(event.metadata());
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(SpanFields(fields)) = span.extensions().get() {
                line.fields.extend(fields.iter().cloned());
            }
        }
        event.record(&mut line);

        if self.queue.try_send(WriterMessage::Line(line)).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

impl LogLine {
    fn new(metadata: &Metadata<'_>) -> Self {
        Self {
            time: clock::now(),
            level: *metadata.level(),
            message: String::new(),
            fields: Vec::new(),
            is_uncollapsed: metadata.target() == UNCOLLAPSED,
            repeated: 0,
        }
    }

    /// Adds a field. It replaces one with the same name, so that an event overrides its spans.
    fn add(&mut self, field: &Field, value: FieldValue) {
        match (field.name(), value) {
            (
                "message",
                FieldValue::Text(text) | FieldValue::Formatted(text) | FieldValue::Bare(text),
            ) => {
                self.message = text;
            }
            (name, value) => {
                self.fields.retain(|(existing, _)| *existing != name);
                self.fields.push((name, value));
            }
        }
    }
}

impl Visit for LogLine {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, FieldValue::Text(value.to_owned()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, FieldValue::Bare(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, FieldValue::Bare(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, FieldValue::Bare(value.to_string()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, FieldValue::Formatted(format!("{value:?}")));
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(writer) = self.writer.take() else { return };
        let (mut is_sent, mut waited) = (false, Duration::ZERO);
        while !writer.is_finished() && waited < FLUSH_LIMIT {
            // The queue may still be full after a burst.
            is_sent = is_sent || self.queue.try_send(WriterMessage::End).is_ok();
            std::thread::park_timeout(FLUSH_POLL_INTERVAL);
            waited += FLUSH_POLL_INTERVAL;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_contain_the_fields_of_their_spans() {
        let (queue, messages) = sync_channel(8);
        let layer = QueueLayer { queue, lost: Arc::default() };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!("outside the span");
            let _span = tracing::error_span!("drain", sink = "siem").entered();
            tracing::warn!(records = 3, "inside the span");
            tracing::warn!(sink = "other", "overrides the span");
        });

        let fields = messages.into_iter().map(|message| match message {
            WriterMessage::Line(line) => line.fields,
            WriterMessage::End => Vec::new(),
        });
        let text = |text: &str| FieldValue::Text(text.to_owned());
        let expected = [
            vec![],
            vec![("sink", text("siem")), ("records", FieldValue::Bare("3".to_owned()))],
            vec![("sink", text("other"))],
        ];
        assert_eq!(fields.collect::<Vec<_>>(), expected);
    }
}
