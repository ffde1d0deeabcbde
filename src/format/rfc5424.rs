//! Syslog messages according to RFC 5424, and headers according to RFC 3164, without the framing of
//! the transport.
//!
//! RFC 5424, section 6: `<PRI>1 SP TIMESTAMP SP HOSTNAME SP APP-NAME SP PROCID SP MSGID SP SD
//! [SP MSG]`. Header fields are printable US-ASCII without spaces, cut to the lengths of the RFC,
//! and `-` if empty. In a parameter value, `"`, `\` and `]` are escaped. No byte order mark is
//! written before MSG, because readers expect `CEF:` or `{` as its first characters. A timestamp
//! must have at most six fractional digits, because rsyslog misreads more.

/// The header fields of a message. The functions here replace characters that a field must not
/// contain.
#[derive(Clone, Copy, Debug)]
pub struct SyslogHeader<'a> {
    /// Facility x 8 + severity, from 0 to 191.
    pub pri: u8,
    /// For RFC 5424, an RFC 3339 time with `T` and with `Z` or an offset, or `-`. For RFC 3164,
    /// `Mmm dd hh:mm:ss`.
    pub timestamp: &'a str,
    /// HOSTNAME. In this field and the following ones, each byte that the RFC does not permit
    /// becomes `_`.
    pub hostname: &'a str,
    /// APP-NAME of RFC 5424, or TAG of RFC 3164.
    pub app_name: &'a str,
    /// PROCID; only RFC 5424 has it.
    pub procid: &'a str,
    /// MSGID; only RFC 5424 has it.
    pub msgid: &'a str,
}

/// An SD-ELEMENT: its SD-ID and its parameters as pairs of name and value. IDs and names are
/// written unchanged; values are escaped.
pub type Sd<'a> = (&'a str, &'a [(&'a str, &'a str)]);

/// Whether the header of RFC 3164 contains a TAG.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyslogTag {
    /// `app_name` is written as the TAG.
    AppName,
    /// MSG follows the host name, as the CEF standard requires.
    Omitted,
}

/// Appends a message of RFC 5424. Without `msg`, it ends after STRUCTURED-DATA. An empty `msg`
/// leaves a space at the end, so that the caller can append MSG.
pub fn write_message(
    header: &SyslogHeader<'_>,
    sd: &[Sd<'_>],
    msg: Option<&[u8]>,
    out: &mut Vec<u8>,
) {
    out.push(b'<');
    crate::model::write_integer(header.pri.into(), out);
    out.extend_from_slice(b">1 ");
    out.extend_from_slice(header.timestamp.as_bytes());
    for (field, max) in
        [(header.hostname, 255), (header.app_name, 48), (header.procid, 128), (header.msgid, 32)]
    {
        out.push(b' ');
        write_field(field, max, out);
    }

    out.push(b' ');
    if sd.is_empty() {
        out.push(b'-');
    }
    for (id, params) in sd {
        out.push(b'[');
        out.extend_from_slice(id.as_bytes());
        for (name, value) in *params {
            out.push(b' ');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"=\"");
            write_param(value, out);
            out.push(b'"');
        }
        out.push(b']');
    }

    if let Some(msg) = msg {
        out.push(b' ');
        out.extend_from_slice(msg);
    }
}

/// Appends a header field of at most `max` bytes; a byte that is not allowed becomes `_`.
fn write_field(field: &str, max: usize, out: &mut Vec<u8>) {
    if field.is_empty() {
        out.push(b'-');
    }
    out.extend(field.bytes().take(max).map(|b| if b.is_ascii_graphic() { b } else { b'_' }));
}

fn write_param(value: &str, out: &mut Vec<u8>) {
    for byte in value.bytes() {
        if matches!(byte, b'"' | b'\\' | b']') {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

/// Appends the header of a message of RFC 3164, section 4.1, up to MSG: `<PRI>TIMESTAMP SP HOSTNAME
/// SP [TAG: SP]`. A tag has at most 32 letters, digits, `-` and `_`.
pub fn write_message_3164(header: &SyslogHeader<'_>, tag: SyslogTag, out: &mut Vec<u8>) {
    out.push(b'<');
    crate::model::write_integer(header.pri.into(), out);
    out.push(b'>');
    out.extend_from_slice(header.timestamp.as_bytes());
    out.push(b' ');
    write_field(header.hostname, 255, out);
    out.push(b' ');
    if tag == SyslogTag::AppName {
        let is_tag = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        let tag = header.app_name.bytes().take(32);
        out.extend(tag.map(|b| if is_tag(b) { b } else { b'_' }));
        out.extend_from_slice(b": ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_invalid_bytes_in_header_fields() {
        let header = SyslogHeader {
            pri: 134,
            timestamp: "-",
            hostname: "my host",
            app_name: "é",
            procid: "",
            msgid: &"m".repeat(40),
        };
        let mut out = Vec::new();
        write_message(&header, &[], None, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            format!("<134>1 - my_host __ - {} -", "m".repeat(32))
        );

        let (timestamp, app_name) = ("Nov  5 06:15:00", "secure score:x");
        let header = SyslogHeader { timestamp, app_name, ..header };
        for (tag, expected) in [
            (SyslogTag::AppName, "<134>Nov  5 06:15:00 my_host secure_score_x: "),
            (SyslogTag::Omitted, "<134>Nov  5 06:15:00 my_host "),
        ] {
            let mut out = Vec::new();
            write_message_3164(&header, tag, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
