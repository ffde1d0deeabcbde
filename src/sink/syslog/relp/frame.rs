//! RELP frames: `TXNR SP COMMAND SP DATALEN [SP DATA] LF`.
//!
//! Source: the RELP specification (`doc/relp.html` of librelp), and librelp itself, which omits
//! `SP DATA` if DATALEN is 0 and begins the data of `rsp` with a status code of three digits.
//! Any other input is an error; the parser never panics.

use crate::{foreign_text::ForeignText, model::write_integer};

/// The last transaction number, after which numbering restarts at 1. A server uses 0 for frames
/// that are not replies.
pub(super) const LAST_NUMBER: u32 = 999_999_999;
/// The maximum length of the data of a reply, in bytes. A reply contains a status code, a message
/// and, for `open`, a few offers.
const MAX_REPLY: usize = 16 << 10;
/// The maximum length of the fields before the data, with their delimiters: a transaction number of
/// 9 digits, a command of 32 letters and a length of 9 digits.
#[cfg(test)]
const MAX_FIELDS: usize = 9 + 32 + 9 + 3;
/// The maximum number of characters of the message in a reply that are kept.
const MAX_MESSAGE_CHARS: usize = 200;

/// A frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RelpReply {
    /// `rsp`: the transaction number, the status code, and the message after it on the first line.
    Response { number: u32, code: u16, text: String },
    /// `serverclose`: the server accepts no more frames.
    ServerClose,
}

/// Why received bytes are not a reply.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("the receiver does not speak RELP")]
    NotRelp,
    #[error("the receiver sent a reply of more than {MAX_REPLY} bytes")]
    TooLong,
}

/// Appends one frame.
pub(super) fn write(number: u32, command: &str, data: &[u8], out: &mut Vec<u8>) {
    write_integer(number.into(), out);
    out.push(b' ');
    out.extend_from_slice(command.as_bytes());
    out.push(b' ');
    write_integer(data.len() as u64, out);
    if !data.is_empty() {
        out.push(b' ');
        out.extend_from_slice(data);
    }
    out.push(b'\n');
}

/// The transaction number that follows `number`.
pub(super) fn next(number: u32) -> u32 {
    if number >= LAST_NUMBER { 1 } else { number.saturating_add(1) }
}

/// How many transactions after `first` the transaction `number` is.
pub(super) fn distance(first: u32, number: u32) -> u32 {
    let before_restart = LAST_NUMBER.saturating_sub(first);
    number.checked_sub(first).unwrap_or_else(|| number.saturating_add(before_restart))
}

/// Parses one reply from the beginning of the received bytes, and returns it with its length in
/// bytes. Returns `None` if the reply is incomplete, which can be the case only for less than
/// 17 KiB. Fails if the bytes are not RELP, or if the data is longer than 16 KiB.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(RelpReply, usize)>, FrameError> {
    let mut at = 0;
    let Some(number) = field(bytes, &mut at, 9)? else { return Ok(None) };
    let Some(command) = field(bytes, &mut at, 32)? else { return Ok(None) };
    let Some(length) = length(bytes, &mut at)? else { return Ok(None) };
    let number: u32 = parse(number)?;
    if length > MAX_REPLY {
        return Err(FrameError::TooLong);
    }

    // A space precedes the data, if there is any.
    let start = if length > 0 { at.saturating_add(1) } else { at };
    let end = start.saturating_add(length);
    let Some(data) = bytes.get(start..end) else { return Ok(None) };
    match bytes.get(end) {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) => return Err(FrameError::NotRelp),
    }

    let reply = match command {
        "rsp" => response(number, data),
        "serverclose" => RelpReply::ServerClose,
        _ => return Err(FrameError::NotRelp),
    };
    Ok(Some((reply, end.saturating_add(1))))
}

/// Parses a field of at most `max` bytes up to a space, and skips the space.
fn field<'a>(bytes: &'a [u8], at: &mut usize, max: usize) -> Result<Option<&'a str>, FrameError> {
    let rest = &bytes[*at..];
    match rest.iter().take(max.saturating_add(1)).position(|b| *b == b' ') {
        Some(end) => {
            *at = at.saturating_add(end).saturating_add(1);
            std::str::from_utf8(&rest[..end]).map(Some).map_err(|_| FrameError::NotRelp)
        }
        None if rest.len() > max => Err(FrameError::NotRelp),
        None => Ok(None),
    }
}

/// Parses DATALEN up to its delimiter: a space, or the line feed of a frame without data.
fn length(bytes: &[u8], at: &mut usize) -> Result<Option<usize>, FrameError> {
    let rest = &bytes[*at..];
    match rest.iter().take(10).position(|b| !b.is_ascii_digit()) {
        Some(end) => {
            *at = at.saturating_add(end);
            let text = std::str::from_utf8(&rest[..end]).map_err(|_| FrameError::NotRelp)?;
            parse(text).map(Some)
        }
        None if rest.len() >= 10 => Err(FrameError::NotRelp),
        None => Ok(None),
    }
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, FrameError> {
    text.parse().map_err(|_| FrameError::NotRelp)
}

/// Parses the data of an `rsp`. If it has no status code, the code is 0, which counts as a
/// rejection: only an explicit 200 is an acknowledgement.
fn response(number: u32, data: &[u8]) -> RelpReply {
    let text = String::from_utf8_lossy(data);
    let (code, message) = text.split_once([' ', '\n']).unwrap_or((&text, ""));
    let text = ForeignText::new(message).for_message(MAX_MESSAGE_CHARS);
    RelpReply::Response { number, code: code.parse().unwrap_or(0), text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn response(number: u32, code: u16, text: &str) -> RelpReply {
        RelpReply::Response { number, code, text: text.to_owned() }
    }

    #[test]
    fn parses_replies_and_rejects_other_bytes() {
        let open = "1 rsp 93 200 OK\nrelp_version=0\nrelp_software=librelp,1.11.0,http://librelp.adiscon.com\ncommands=syslog\n";
        for (bytes, expected) in [
            ("2 rsp 6 200 OK\n", Some(response(2, 200, "OK"))),
            ("1 rsp 20 500 command disabled\n", Some(response(1, 500, "command disabled"))),
            ("3 rsp 0\n", Some(response(3, 0, ""))),
            ("0 serverclose 0\n", Some(RelpReply::ServerClose)),
            ("2 rsp 6 200 OK", None),
            ("2 rsp 6", None),
            ("2 rs", None),
            ("", None),
        ] {
            let read = read(bytes.as_bytes()).unwrap();
            let length = read.as_ref().map(|(_, length)| *length);
            assert_eq!(length, expected.as_ref().map(|_| bytes.len()));
            assert_eq!(read.map(|(reply, _)| reply), expected, "{bytes}");
        }

        let (reply, length) = read(open.as_bytes()).unwrap().unwrap();
        assert!(matches!(reply, RelpReply::Response { number: 1, code: 200, .. }));
        assert_eq!(length, open.len());

        for bad in [
            "HTTP/1.1 400 Bad Request\r\n",
            "x rsp 6 200 OK\n",
            "2 what 0\n",
            "2 rsp 6 200 OK!",
            "2 rsp x\n",
            "1234567890123 rsp",
            "-1 rsp 6 200 OK\n",
            "4294967296 rsp 6 200 OK\n",
            "2 rsp -1 200 OK\n",
            "2 rsp 18446744073709551615 200 OK\n",
            "2 rsp 1e9 200 OK\n",
        ] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(read(b"2 rsp 99999999 200"), Err(FrameError::TooLong));
    }

    /// Only the code 200 is an acknowledgement; 65,736 has the same last 16 bits.
    #[test]
    fn a_code_out_of_range_is_a_rejection() {
        for code in ["-1", "65736", "200.0", "2e2", "1e308", "NaN", "18446744073709551816"] {
            let frame = format!("2 rsp {} {code}\n", code.len());
            let (reply, _) = read(frame.as_bytes()).unwrap().unwrap();
            assert_eq!(reply, response(2, 0, ""), "{frame}");
        }
    }

    #[test]
    fn transaction_numbers_restart_at_one() {
        assert_eq!((next(1), next(LAST_NUMBER - 1), next(LAST_NUMBER)), (2, LAST_NUMBER, 1));
    }

    #[test]
    fn distances_continue_after_the_last_number() {
        for (first, number, expected) in [
            (1, 1, 0),
            (2, 7, 5),
            (LAST_NUMBER, 1, 1),
            (LAST_NUMBER - 1, 3, 4),
            (1, 0, LAST_NUMBER - 1),
            (1, LAST_NUMBER, LAST_NUMBER - 1),
        ] {
            assert_eq!(distance(first, number), expected, "{first} {number}");
        }
    }

    #[test]
    fn writes_frames_with_and_without_data() {
        let mut out = Vec::new();
        write(2, "syslog", b"<134>a\nb", &mut out);
        write(3, "close", b"", &mut out);
        assert_eq!(out, b"2 syslog 8 <134>a\nb\n3 close 0\n");
    }

    proptest! {
        #[test]
        fn never_panics_on_received_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Some((_, length))) = read(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }

        /// However long its fields are, a reply is complete, or an error, after a limited number
        /// of bytes.
        #[test]
        fn incomplete_replies_have_a_limited_length(
            start in "[0-9]{0,12} ?[a-z]{0,40} ?[0-9]{0,12}[ \n]?",
            byte in any::<u8>(),
        ) {
            let mut bytes = start.into_bytes();
            bytes.resize(bytes.len().max(MAX_FIELDS + MAX_REPLY + 1), byte);
            prop_assert_ne!(read(&bytes), Ok(None));
        }
    }
}
