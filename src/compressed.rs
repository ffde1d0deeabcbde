//! A text that waits in memory, small.

/// Compressed at the least effort: the days of a backfill are alike, and nine parts in ten empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompressedText {
    bytes: Vec<u8>,
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
    fn what_was_packed_comes_out_again() {
        for text in ["", "x", &"a body, much like others; ".repeat(1_000)] {
            assert_eq!(CompressedText::compress(text).unwrap().decompress().unwrap(), text);
        }
    }
}
