//! Decodes the text files of an administrator, which must be UTF-8. A file in another encoding is
//! never converted: its encoding is only known to its author, and a wrong guess would change names
//! and secrets. Start reading at [`decode_text`].

use std::fmt;

/// Why a file is not used as text. The message contains the position of a byte and its value, which
/// must not be shown for a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncodingError {
    /// The index of the first byte that is not valid, counted from 0.
    pub offset: usize,
    /// The value of that byte.
    pub byte: u8,
    /// The line and the column (in characters) of that byte, counted from 1.
    pub line: usize,
    pub column: usize,
    /// The encoding, if it is recognized.
    pub encoding: Option<WideEncoding>,
    /// The kind of file, if it is one that contains no text.
    pub format: Option<BinaryFormat>,
}

/// A kind of file in which spreadsheets are saved, and which contains no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryFormat {
    /// A ZIP archive, such as `.xlsx` and `.ods`.
    Archive,
    /// A compound file, such as `.xls`.
    Compound,
}

/// An encoding with several bytes for each letter, which some editors and spreadsheets write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WideEncoding {
    Utf16,
    Utf32,
}

/// The text of a file.
///
/// # Errors
///
/// Fails with the first byte that is not UTF-8, or with the first zero byte of a text in UTF-16 or
/// UTF-32, which can be valid UTF-8.
pub fn decode_text(bytes: Vec<u8>) -> Result<String, EncodingError> {
    let format = BinaryFormat::of(&bytes);
    let encoding = if format.is_some() { None } else { WideEncoding::of(&bytes) };
    let (bytes, offset) = match (String::from_utf8(bytes), encoding) {
        (Ok(text), None) => return Ok(text),
        (Ok(text), Some(_)) => {
            let offset = text.find('\0').unwrap_or_default();
            (text.into_bytes(), offset)
        }
        (Err(error), _) => {
            let offset = error.utf8_error().valid_up_to();
            (error.into_bytes(), offset)
        }
    };

    let before = String::from_utf8_lossy(bytes.get(..offset).unwrap_or_default());
    let last_line = before.rsplit('\n').next().unwrap_or_default();
    Err(EncodingError {
        offset,
        byte: bytes.get(offset).copied().unwrap_or_default(),
        line: before.matches('\n').count() + 1,
        column: last_line.chars().count() + 1,
        encoding,
        format,
    })
}

impl BinaryFormat {
    /// The kind of a file that begins with these bytes.
    fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [b'P', b'K', 3, 4, ..] => Some(Self::Archive),
            [0xd0, 0xcf, 0x11, 0xe0, ..] => Some(Self::Compound),
            _ => None,
        }
    }

    const fn description(self) -> &'static str {
        match self {
            Self::Archive => "a ZIP archive, as a spreadsheet in .xlsx is",
            Self::Compound => "a binary file, as a spreadsheet in .xls is",
        }
    }
}

impl WideEncoding {
    /// The encoding of a file with a byte order mark (Unicode, section 23.8), or of one that mostly
    /// contains ASCII, whose other bytes are zero.
    fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return Some(Self::Utf32),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Some(Self::Utf16),
            _ => {}
        }

        let zeros: usize = bytes.iter().map(|byte| usize::from(*byte == 0)).sum();
        let has_at_least = |part: usize, of: usize| zeros > 1 && zeros >= bytes.len() / of * part;
        if has_at_least(2, 3) {
            Some(Self::Utf32)
        } else if has_at_least(1, 3) {
            Some(Self::Utf16)
        } else {
            None
        }
    }

    /// The name of the encoding.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Utf16 => "UTF-16",
            Self::Utf32 => "UTF-32",
        }
    }
}

impl EncodingError {
    /// What an operator can do about it, as an imperative.
    pub const HINT: &'static str = "save the file as UTF-8";

    /// Like [`Self::HINT`], for this file.
    pub const fn hint(&self) -> &'static str {
        match self.format {
            Some(_) => "export the table as CSV in UTF-8",
            None => Self::HINT,
        }
    }
}

impl std::error::Error for EncodingError {}

impl fmt::Display for EncodingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(format) = self.format {
            return write!(f, "the file is not text but {}", format.description());
        }
        f.write_str("the file is not UTF-8")?;
        if let Some(encoding) = self.encoding {
            write!(f, " but {}", encoding.as_str())?;
        }
        write!(f, ": byte {} is 0x{:02x}", self.offset + 1, self.byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, mark: &[u8]) -> Vec<u8> {
        let units = text.encode_utf16().flat_map(u16::to_le_bytes);
        mark.iter().copied().chain(units).collect()
    }

    #[test]
    fn other_encodings_are_named() {
        let utf32 = "name = 1\n".chars().flat_map(|c| u32::from(c).to_be_bytes()).collect();
        for (bytes, message, line, column) in [
            (b"a\nM\xfcller".to_vec(), "the file is not UTF-8: byte 4 is 0xfc", 2, 2),
            (
                utf16("name = 1\n", &[0xff, 0xfe]),
                "the file is not UTF-8 but UTF-16: byte 1 is 0xff",
                1,
                1,
            ),
            (utf16("name = 1\n", &[]), "the file is not UTF-8 but UTF-16: byte 2 is 0x00", 1, 2),
            (utf32, "the file is not UTF-8 but UTF-32: byte 1 is 0x00", 1, 1),
            (b"\xff".to_vec(), "the file is not UTF-8: byte 1 is 0xff", 1, 1),
        ] {
            let error = decode_text(bytes).unwrap_err();
            assert_eq!(error.to_string(), message);
            assert_eq!((error.line, error.column), (line, column), "{message}");
        }
    }

    /// Regression: a spreadsheet was reported as UTF-16.
    #[test]
    fn spreadsheets_are_recognized() {
        for (start, kind) in [(&b"PK\x03\x04\x14"[..], ".xlsx"), (b"\xd0\xcf\x11\xe0", ".xls ")] {
            let bytes = [start, &[0; 40], &[0xff; 40]].concat();
            let error = decode_text(bytes).unwrap_err();
            assert!(error.to_string().contains(kind), "{error}");
            assert_eq!((error.encoding, error.hint()), (None, "export the table as CSV in UTF-8"));
        }
    }

    #[test]
    fn utf8_is_returned_unchanged() {
        for text in ["", "a", "\u{feff}a", "ä\r\n\u{4e16}", "a zero byte \0 in a text"] {
            assert_eq!(decode_text(text.as_bytes().to_vec()).unwrap(), text);
        }
    }
}
