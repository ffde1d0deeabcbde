//! The journal's own protocol: a datagram of fields, one a line; a value with line ends is preceded by
//! its length. Source: <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>.

use std::os::unix::{fs::MetadataExt, net::UnixDatagram};

use tracing::Level;

use super::{Line, Value, render::sentence};

const SOCKET: &str = "/run/systemd/journal/socket";
/// More than this of a value says nothing more; and a datagram has its limits.
const LONGEST: usize = 16 << 10;

#[derive(Debug)]
pub(super) struct Journal {
    socket: UnixDatagram,
    datagram: Vec<u8>,
}

/// Whether standard error ends in the journal: systemd says which stream it is.
pub(super) fn is_stderr() -> bool {
    let said = std::env::var("JOURNAL_STREAM").ok();
    let is = |metadata: std::fs::Metadata| format!("{}:{}", metadata.dev(), metadata.ino());
    let stderr = std::fs::metadata("/proc/self/fd/2").ok().map(is);
    said.is_some() && said == stderr
}

impl Journal {
    pub(super) fn open() -> Option<Self> {
        Self::at(SOCKET)
    }

    fn at(path: &str) -> Option<Self> {
        let socket = UnixDatagram::unbound().ok()?;
        socket.connect(path).ok()?;
        Some(Self { socket, datagram: Vec::new() })
    }

    /// `false` if it could not be sent.
    pub(super) fn write(&mut self, line: &Line) -> bool {
        self.datagram.clear();
        let mut message = Vec::new();
        sentence(line, &mut message);
        self.field("MESSAGE", &message);
        self.field("PRIORITY", priority(line.level).as_bytes());
        self.field("SYSLOG_IDENTIFIER", b"secure-score-forwarder");
        for (name, value) in &line.fields {
            let (Value::Text(text) | Value::Shown(text) | Value::Bare(text)) = value;
            self.field(&name.to_ascii_uppercase(), text.as_bytes());
        }
        if line.repeated > 0 {
            self.field("REPEATED", line.repeated.to_string().as_bytes());
        }
        self.socket.send(&self.datagram).is_ok_and(|sent| sent == self.datagram.len())
    }

    fn field(&mut self, name: &str, value: &[u8]) {
        let value = &value[..value.len().min(LONGEST)];
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

/// As syslog counts.
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
    fn fields_are_lines_and_line_ends_are_counted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let mut journal = Journal::at(path.to_str().unwrap()).unwrap();
        let line = Line {
            time: Timestamp::UNIX_EPOCH,
            level: Level::ERROR,
            message: "parked".to_owned(),
            fields: vec![
                ("sink", Value::Text("splunk".to_owned())),
                ("error", Value::Text("a\nMESSAGE=forged".to_owned())),
            ],
            answers: false,
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
}
