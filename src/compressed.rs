//! Text that is kept compressed in memory until it is stored.

/// Text that is compressed with zstd at level 1. The days of a backfill are repetitive JSON, which
/// compresses to about a tenth of its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompressedText {
    bytes: Vec<u8>,
    /// The length of the text in bytes.
    length: usize,
}

impl CompressedText {
    pub fn compress(text: &str) -> std::io::Result<Self> {
        Ok(Self { bytes: zstd::bulk::compress(text.as_bytes(), 1)?, length: text.len() })
    }

    pub fn decompress(&self) -> std::io::Result<String> {
        let bytes = zstd::bulk::decompress(&self.bytes, self.length)?;
        String::from_utf8(bytes).map_err(std::io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decompresses_to_the_same_text() {
        for text in ["", "x", &"a body, much like others; ".repeat(1_000)] {
            assert_eq!(CompressedText::compress(text).unwrap().decompress().unwrap(), text);
        }
    }
}
