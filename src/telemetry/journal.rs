//! The native protocol of systemd's journal: a datagram with one field per line. A value must never
//! be able to add a field, so one that contains line feeds is preceded by its length; other hidden
//! characters are escaped, because tools show fields on a terminal. Start reading at
//! [`Journal::write`]. Source: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.

use std::os::unix::{fs::MetadataExt, net::UnixDatagram};

use tracing::Level;

use super::{FieldValue, LogLine, render::message_and_fields};
use crate::foreign_text::ForeignText;

const SOCKET: &str = "/run/systemd/journal/socket";
/// The number of bytes to which a value is truncated, because the size of a datagram is limited.
const MAX_VALUE_BYTES: usize = 16 << 10;

/// A connection to the journal's socket.
#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    datagram: Vec<u8>,
}

/// Whether standard error is connected to the journal: `JOURNAL_STREAM` contains the device and
/// inode of the stream; see `systemd.exec(5)`.
pub(super) fn is_stderr() -> bool {
    let journal = std::env::var("JOURNAL_STREAM").ok();
    let stream = |metadata: std::fs::Metadata| format!("{}:{}", metadata.dev(), metadata.ino());
    let stderr = fs_err::metadata("/proc/self/fd/2").ok().map(stream);
    journal.is_some() && journal == stderr
}

impl Journal {
    /// Connects to the socket of the journal; `None` if there is none.
    pub(super) fn open() -> Option<Self> {
        Self::at(SOCKET)
    }

    fn at(path: &str) -> Option<Self> {
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect(path).ok()?;
        Some(Self { socket, datagram: Vec::new() })
    }

    /// Sends a line. Returns `false` if it could not be sent.
    pub(super) fn write(&mut self, line: &LogLine) -> bool {
        self.datagram.clear();

        let mut message = Vec::new();
        message_and_fields(line, &mut message);
        self.field("MESSAGE", &message);
        self.field("PRIORITY", priority(line.level).as_bytes());
        self.field("SYSLOG_IDENTIFIER", b"secure-score-forwarder");
        for (name, value) in &line.fields {
            let (FieldValue::Text(text) | FieldValue::Formatted(text) | FieldValue::Bare(text)) =
                value;
            let text = ForeignText::new(text).escaped_field();
            self.field(&name.to_ascii_uppercase(), text.as_bytes());
        }
        if line.repeated > 0 {
            self.field("REPEATED", line.repeated.to_string().as_bytes());
        }

        self.socket.send(&self.datagram).is_ok_and(|sent| sent == self.datagram.len())
    }

    fn field(&mut self, name: &str, value: &[u8]) {
        let value = truncated(value);
        self.datagram.extend_from_slice(name.as_bytes());
        if value.contains(&b'\n') {
            self.datagram.push(b'\n');
            self.datagram.extend_from_slice(&(value.len() as u64).to_le_bytes());
        } else {
            self.datagram.push(b'=');
        }
        self.datagram.extend_from_slice(value);
        self.datagram.push(b'\n');
    }
}

/// The beginning of a value, cut between two characters.
fn truncated(value: &[u8]) -> &[u8] {
    let is_continuation = |end: &usize| value.get(*end).is_some_and(|b| b & 0xc0 == 0x80);
    let end = value.len().min(MAX_VALUE_BYTES);
    let end = (0..=end).rev().find(|end| !is_continuation(end)).unwrap_or(end);
    &value[..end]
}

/// The priority of a level, as defined by `syslog(3)`.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn values_with_line_feeds_have_a_length() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journal::at(path.to_str().unwrap()).unwrap();
        let line = LogLine {
            time: Timestamp::UNIX_EPOCH,
            level: Level::ERROR,
            message: "parked".to_owned(),
            fields: vec![
                ("sink", FieldValue::Text("splunk".to_owned())),
                ("error", FieldValue::Text("a\nMESSAGE=forged".to_owned())),
            ],
            is_uncollapsed: false,
            repeated: 2,
        };

        assert!(journal.write(&line));
        let mut buffer = [0; 4_096];
        let length = receiver.recv(&mut buffer).unwrap();
        let mut expected =
            b"MESSAGE=parked sink=\"splunk\" error=\"a\\nMESSAGE=forged\" repeated=2\nPRIORITY=3\n\
            SYSLOG_IDENTIFIER=secure-score-forwarder\nSINK=splunk\nERROR\n"
                .to_vec();
        expected.extend_from_slice(&16_u64.to_le_bytes());
        expected.extend_from_slice(b"a\nMESSAGE=forged\nREPEATED=2\n");
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), String::from_utf8_lossy(&expected));
        assert!(Journal::at("/nowhere/at/all").is_none());
    }

    /// Regression: fields contained the control characters of the text.
    #[test]
    fn hidden_characters_in_fields_are_escaped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journal::at(path.to_str().unwrap()).unwrap();
        let line = LogLine {
            time: Timestamp::UNIX_EPOCH,
            level: Level::ERROR,
            message: "\u{9b}31m".to_owned(),
            fields: vec![("error", FieldValue::Text("\u{1b}[2J\u{202e}\u{e0041}".to_owned()))],
            is_uncollapsed: false,
            repeated: 0,
        };

        assert!(journal.write(&line));
        let mut buffer = [0; 4_096];
        let length = receiver.recv(&mut buffer).unwrap();
        let datagram = String::from_utf8_lossy(&buffer[..length]);
        let escapes = "\\u{1b}[2J\\u{202e}\\u{e0041}";
        assert!(datagram.starts_with(&format!("MESSAGE=\\u{{9b}}31m error=\"{escapes}\"\n")));
        assert!(datagram.ends_with(&format!("\nERROR={escapes}\n")));
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let long = format!("a{}", "ä".repeat(MAX_VALUE_BYTES));
        let kept = truncated(long.as_bytes());
        assert_eq!(kept.len(), MAX_VALUE_BYTES - 1);
        assert!(std::str::from_utf8(kept).is_ok());
        assert_eq!(truncated(b"short"), b"short");
        assert_eq!(truncated(b""), b"");
    }
}
