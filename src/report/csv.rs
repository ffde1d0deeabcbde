//! A line a day, for spreadsheets.

use super::{Report, shown};
use crate::format::csv_cell;

const COLUMNS: &str = "tenant_id,tenant_name,date,score,max_score,percentage,sum_of_controls,controls,revision,partial,average_all_tenants,average_total_seats,average_industry_types";

pub(super) fn days(report: &Report) -> String {
    let mut out = format!("{COLUMNS}\n").into_bytes();
    for (day, line) in &report.days {
        let average = |basis: &str| {
            shown(line.averages.iter().find(|(known, _)| known == basis).map(|(_, score)| *score))
        };
        let cells = [
            report.tenant.id.to_string(),
            report.tenant.name.clone(),
            day.to_string(),
            shown(line.current),
            shown(line.max),
            shown(line.percentage),
            line.sum_of_controls.to_string(),
            line.controls.to_string(),
            line.revision.to_string(),
            line.partial.to_string(),
            average("AllTenants"),
            average("TotalSeats"),
            average("IndustryTypes"),
        ];
        write_row(&cells, &mut out);
    }
    String::from_utf8_lossy(&out).into_owned()
}

pub(super) fn write_row(cells: &[String], out: &mut Vec<u8>) {
    for (index, cell) in cells.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        csv_cell(cell, out);
    }
    out.push(b'\n');
}
