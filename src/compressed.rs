//! Text that is kept compressed in memory until it is stored. A poll keeps its bodies in this form
//! until the checkpoint stores them, because a backfill would otherwise keep 90 days of JSON in
//! memory. The checkpoint has its own encoding; this one is never written to disk.

/// Text that is compressed with zstd at level 1. The days of a backfill are repetitive JSON, which
/// compresses to about a tenth of its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompressedText {
    bytes: Vec<u8>,
    /// The length of the text in bytes.
    length: usize,
}

impl CompressedText {
    /// Compresses a text.
    ///
    /// # Errors
    ///
    /// Fails only if zstd cannot allocate memory.
    pub fn compress(text: &str) -> std::io::Result<Self> {
        Ok(Self { bytes: zstd::bulk::compress(text.as_bytes(), 1)?, length: text.len() })
    }

    /// The size of the compressed text in bytes.
    pub fn compressed_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The text that was compressed.
    ///
    /// # Errors
    ///
    /// Fails if zstd cannot allocate memory or the bytes are damaged, which only a fault in memory
    /// can cause.
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
