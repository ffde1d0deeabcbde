//! Sequence numbers, which identify the entries of a tenant's log. The numbers of a log have no
//! gaps and begin at [`Seq::FIRST`].

use std::fmt;

use serde::{Deserialize, Serialize};

/// The number of an entry in a tenant's log, in which every entry has the number after that of the
/// entry before it. The numbers of different logs cannot be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(u64);

impl Seq {
    /// Precedes every entry. It also means that there is no entry.
    pub const ZERO: Self = Self(0);
    /// The first entry of a log.
    pub const FIRST: Self = Self(1);
    /// Follows every entry.
    pub const MAX: Self = Self(u64::MAX);

    /// The entry with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The entry after this one, or [`Self::MAX`].
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_without_their_type() {
        assert_eq!(Seq::new(412).to_string(), "412");
        assert_eq!(serde_json::to_string(&Seq::MAX).unwrap(), "18446744073709551615");
        assert_eq!(serde_json::from_str::<Seq>("1").unwrap(), Seq::FIRST);
        assert!(serde_json::from_str::<Seq>("-1").is_err());
    }

    #[test]
    fn the_last_number_has_no_successor() {
        assert_eq!(Seq::ZERO.next(), Seq::FIRST);
        assert_eq!(Seq::FIRST.next().get(), 2);
        assert_eq!(Seq::MAX.next(), Seq::MAX);
    }
}
