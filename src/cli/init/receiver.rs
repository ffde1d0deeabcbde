//! The receivers that `init` can configure. The first answer is an address, a path, or the name of
//! a type of sink for which further questions follow. Nothing here performs I/O.

use crate::{error::Explanation, sink};

/// A type of receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiver {
    Syslog,
    Splunk,
    File,
    Kafka,
    Elasticsearch,
    Sentinel,
}

impl Receiver {
    pub(super) const PROMPT: &str = "Receiver: tls://HOST:6514, tcp://, relp:// or udp:// for syslog; https://HOST:8088 for Splunk HEC; kafka, elasticsearch or sentinel; a path for a file";

    /// The receiver that an answer describes. `None` for other answers, and for a receiver that is
    /// not part of this build.
    pub(super) fn of(answer: &str) -> Option<Self> {
        let is_built = |name: &str| sink::KINDS.iter().any(|kind| kind.name == name);
        match (answer, answer.split_once("://").map(|(scheme, _)| scheme)) {
            ("kafka", _) if is_built("kafka") => Some(Self::Kafka),
            ("elasticsearch", _) => Some(Self::Elasticsearch),
            ("sentinel", _) => Some(Self::Sentinel),
            (_, Some("http" | "https")) => Some(Self::Splunk),
            (_, Some("tls" | "tcp" | "udp" | "relp" | "relps" | "unix")) => Some(Self::Syslog),
            (path, None) if path.starts_with('/') => Some(Self::File),
            _ => None,
        }
    }

    /// The explanation omits the answer: a script may have supplied a secret to this question.
    pub(super) fn unsupported() -> Explanation {
        Explanation::new("unsupported receiver").with_hint(
            "enter one of the forms above; the example configuration shows other types of sink",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_select_the_receiver() {
        for (answer, expected) in [
            ("tls://siem.example.com:6514", Some(Receiver::Syslog)),
            ("unix:///dev/log", Some(Receiver::Syslog)),
            ("https://splunk.example.com:8088", Some(Receiver::Splunk)),
            ("/var/log/records.jsonl", Some(Receiver::File)),
            ("elasticsearch", Some(Receiver::Elasticsearch)),
            ("sentinel", Some(Receiver::Sentinel)),
            ("nonsense://x", None),
            ("records.jsonl", None),
        ] {
            assert_eq!(Receiver::of(answer), expected, "{answer}");
        }
    }
}
