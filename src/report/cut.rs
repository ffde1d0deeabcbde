//! Limits the length of a table. The rows with the fewest points are omitted, never a row with more
//! points than a listed one, and a sentence below the table reports their number and their sum.
//! Start reading at [`Cut::of`].

use super::text::{points, rounded};
use crate::text::with_separators;

/// The rows of a table, and the points of those that are not listed.
pub(super) struct Cut<'a, T> {
    /// In their original order.
    pub listed: Vec<&'a T>,
    /// The points of each omitted row, without a sign; the most first.
    omitted: Vec<f64>,
}

impl<'a, T> Cut<'a, T> {
    /// Lists the `limit` rows with the most points. `size` returns the points of a row, which are
    /// at least zero.
    pub(super) fn of(rows: &'a [T], limit: usize, size: impl Fn(&T) -> f64) -> Self {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        // The sort is stable, so the first of several rows with the same points is listed.
        order.sort_by(|a, b| size(&rows[*b]).total_cmp(&size(&rows[*a])));
        let rest = order.split_off(limit.min(order.len()));
        order.sort_unstable();

        Self {
            listed: order.into_iter().map(|index| &rows[index]).collect(),
            omitted: rest.into_iter().map(|index| size(&rows[index])).collect(),
        }
    }

    /// A sentence about the omitted rows, which are `what`; `None` if all are listed.
    pub(super) fn omission(&self, what: &str) -> Option<String> {
        let most = self.omitted.first()?;
        Some(omission(what, self.omitted.len(), self.omitted.iter().sum(), *most))
    }
}

/// Describes what is not listed: how many, their sum, and the most points of one of them.
pub(super) fn omission(what: &str, number: usize, sum: f64, most: f64) -> String {
    let number = with_separators(number);
    let (sum, most) = (points(rounded(sum)), points(rounded(most)));
    format!("{what} that are not listed: {number}, with {sum} in total and at most {most} each.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_with_the_fewest_points_are_omitted() {
        let cut = Cut::of(&[0.1, 10.0, 0.3, 5.0, 0.2], 2, |points| *points);
        assert_eq!(cut.listed, [&10.0, &5.0]);
        assert_eq!(
            cut.omission("Rows").unwrap(),
            "Rows that are not listed: 3, with 0.6 points in total and at most 0.3 points each."
        );
    }

    #[test]
    fn a_short_table_is_complete() {
        let cut = Cut::of(&[1.0, 2.0], 2, |points| *points);
        assert_eq!((cut.listed.len(), cut.omission("Rows")), (2, None));
    }
}
