//! The report as CSV: one line per day, for a spreadsheet. An absent number is an empty cell. Text
//! must be written through [`csv_cell`], which also prevents it from becoming a formula.

use super::{Report, display};
use crate::format::csv_cell;

const COLUMNS: &str = "tenant_id,tenant_name,date,score,max_score,percentage,sum_of_controls,controls,revision,partial,average_all_tenants,average_total_seats,average_industry_types";

/// The header line, and one line per day of the report, oldest first.
pub(super) fn days(report: &Report) -> String {
    let mut out = format!("{COLUMNS}\n").into_bytes();
    for (day, totals) in &report.days {
        let average = |basis: &str| {
            let found = totals.averages.iter().find(|(name, _)| name == basis);
            display(found.map(|(_, score)| *score))
        };

        let cells = [
            report.tenant.id.to_string(),
            report.tenant.name.clone(),
            day.to_string(),
            display(totals.current),
            display(totals.max),
            display(totals.percentage),
            totals.sum_of_controls.to_string(),
            totals.controls.to_string(),
            totals.revision.to_string(),
            totals.partial.to_string(),
            average("AllTenants"),
            average("TotalSeats"),
            average("IndustryTypes"),
        ];
        write_row(&cells, &mut out);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Appends a line with these cells.
pub(super) fn write_row(cells: &[String], out: &mut Vec<u8>) {
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        csv_cell(cell, out);
    }
    out.push(b'\n');
}
