//! The sink for standard output, with one record per line.
//!
//! Acknowledgement: the write returned. What the reader of the pipe does with the records is not
//! visible to this sink.

use std::io::Write;

use super::{
    Acknowledgement, Batch, BoxFuture, Context, EncodeError, Failure, Guarantee, Limits, Plan,
    Sink, formatter,
    shared_keys::{LINE_FORMAT, LINE_FORMAT_KEYS},
};
use crate::{
    format::{FormatName, Formatter},
    model::Record,
    settings::{ExampleSection, KeyDefinition, Section},
};

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[Guarantee {
    variant: "",
    acknowledgement: "the write returned",
    may_be_lost: "records that the reader drops",
    may_be_repeated: "one batch",
}];

/// The keys of this sink, besides those of all sinks.
pub(super) const KEYS: &[KeyDefinition] = LINE_FORMAT_KEYS;

/// The section in the example file.
pub(super) const EXAMPLES: &[ExampleSection] = &[ExampleSection {
    name: "console",
    about: "Standard output, one record per line.",
    ..ExampleSection::NOT_SET
}];

#[derive(Debug)]
struct StdoutPlan {
    format: FormatName,
}

struct Stdout {
    formatter: Formatter,
    /// The header line, until it has been written before the first record.
    header_line: Option<String>,
}

/// Reads a section. Every value is checked against [`KEYS`], so this never returns `None`.
#[expect(clippy::unnecessary_wraps, reason = "the signature of `SinkKind::read`")]
pub(super) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    Some(Box::new(StdoutPlan { format: section.get(&LINE_FORMAT) }))
}

impl Plan for StdoutPlan {
    fn format(&self) -> FormatName {
        self.format
    }

    fn acknowledgement(&self) -> &'static str {
        "the write to standard output returned"
    }

    fn limits(&self) -> Limits {
        Limits { records: 1_000, bytes: 256 << 10, in_flight: 1 }
    }

    fn exclusive_resource(&self) -> Option<String> {
        Some("standard output".to_owned())
    }

    fn probe<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(std::future::ready(Ok("standard output is open".to_owned())))
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        let sink: Box<dyn Sink> = Box::new(Stdout {
            formatter: formatter(self.format, context),
            header_line: self.format.header_line(),
        });
        Box::pin(std::future::ready(Ok(sink)))
    }
}

impl Sink for Stdout {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        batch.push(record, |out| {
            let start = out.len();
            self.formatter.write(record, out);
            out.push(b'\n');
            Ok(start)
        })
    }

    fn deliver<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Acknowledgement, Failure>> {
        let written = tokio::task::block_in_place(|| {
            let mut stdout = std::io::stdout().lock();
            if let Some(line) = self.header_line.take() {
                writeln!(stdout, "{line}")?;
            }
            stdout.write_all(batch.bytes()).and_then(|()| stdout.flush())
        });

        let acknowledgement = written.map(|()| Acknowledgement::received());
        Box::pin(std::future::ready(acknowledgement.map_err(|error| {
            Failure::misconfigured(format!("cannot write to standard output: {error}"))
        })))
    }
}
