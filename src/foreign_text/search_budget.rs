//! The limit for the work of a search for secrets.
//!
//! The author of a text can mix encodings so that it is decoded in hundreds of different ways,
//! while an ordinary text is decoded in a few. The work is therefore limited in proportion to the
//! size of the text, and what is not searched within the limit must never be shown. Start reading
//! at [`SearchBudget`]. See decision 0086.

use std::cell::Cell;

/// How many bytes may be searched for each byte of a text, on average. Texts with several encodings
/// at the same time need about ten.
const BYTES_PER_BYTE: usize = 32;
/// How many bytes may be searched in addition, so that a short text may consist of encodings only.
const ADDITIONAL_BYTES: usize = 64 << 10;

/// The number of bytes that may still be searched. A text counts once for every way in which it is
/// decoded.
#[derive(Debug)]
pub(super) struct SearchBudget {
    left: Cell<usize>,
}

/// The budget does not suffice for the rest of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SearchTooLong;

impl SearchBudget {
    /// The budget for this number of bytes.
    pub(super) const fn new(bytes: usize) -> Self {
        Self { left: Cell::new(bytes) }
    }

    /// The budget for one text of this size.
    pub(super) const fn of_text(text_bytes: usize) -> Self {
        Self::new(text_bytes.saturating_mul(BYTES_PER_BYTE).saturating_add(ADDITIONAL_BYTES))
    }

    /// Reserves the search of a decoded text. Fails if the budget does not suffice, and then for
    /// every further text too.
    pub(super) fn reserve(&self, bytes: usize) -> Result<(), SearchTooLong> {
        let left = self.left.get().checked_sub(bytes);
        self.left.set(left.unwrap_or(0));
        left.map(drop).ok_or(SearchTooLong)
    }

    #[cfg(test)]
    pub(super) fn left(&self) -> usize {
        self.left.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_after_a_failure() {
        let budget = SearchBudget::new(10);
        assert_eq!(budget.reserve(4), Ok(()));
        assert_eq!(budget.left(), 6);
        assert_eq!(budget.reserve(6), Ok(()));
        assert_eq!(budget.reserve(0), Ok(()));
        assert_eq!(budget.reserve(1), Err(SearchTooLong));

        let budget = SearchBudget::new(10);
        assert_eq!(budget.reserve(11), Err(SearchTooLong));
        assert_eq!(budget.reserve(1), Err(SearchTooLong));
        assert_eq!(SearchBudget::of_text(usize::MAX).left(), usize::MAX);
    }
}
