//! The report as CSV: one line per day, for a spreadsheet. An absent number is an empty cell. Text
//! must be written through [`ForeignText`], which also prevents it from becoming a formula.

use std::collections::BTreeMap;

use super::{PointTotals, Report, text::display};
use crate::{foreign_text::ForeignText, model::Day};

const COLUMNS: &str = "tenant_id,tenant_name,date,score,max_score,percentage,sum_of_controls,controls,revision,partial,average_all_tenants,average_total_seats,average_industry_types,points_gained,points_lost,previous_score,previous_percentage";

/// The header line, and one line per day of the report, oldest first. The previous score is that of
/// the same position in the period before.
pub(super) fn days(report: &Report) -> String {
    let mut points: BTreeMap<Day, PointTotals> = BTreeMap::new();
    for change in &report.changes {
        points.entry(change.day).or_insert(PointTotals::ZERO).add(change);
    }

    let mut out = format!("{COLUMNS}\n").into_bytes();
    for (day, totals) in &report.days {
        let average = |basis: &str| display(totals.average(basis));
        let points = points.get(day).copied().unwrap_or(PointTotals::ZERO);
        let day_before = day.plus(-report.window.days());
        let previous = report.previous.as_ref().and_then(|previous| previous.days.get(&day_before));

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
            points.gained.to_string(),
            points.lost.to_string(),
            display(previous.and_then(|score| score.current)),
            display(previous.and_then(|score| score.percentage)),
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
        ForeignText::new(cell).write_csv_cell(out);
    }
    out.push(b'\n');
}
