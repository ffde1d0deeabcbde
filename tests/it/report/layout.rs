//! The pages of reports fit a phone, a desktop and paper. A headless browser lays a page out at
//! each width and measures every element, because text outside the page is cut off on paper and
//! hidden on a screen.

use std::process::Command;

use secure_score_forwarder::{
    model::{Day, Number},
    report::{Format, Overview, PointTotals, Row, Window},
};

use super::workspace;
use crate::support::{
    browser::{PAPERS, chromium, measure, on_paper},
    remove_profile, write,
};

/// The widths of a phone, a tablet and a desktop in CSS pixels.
const SCREENS: [u32; 3] = [375, 768, 1_280];

/// The page with everything that the reader can open.
fn opened(page: &str) -> String {
    page.replace("<details>", "<details open>")
}

/// A long word, which cannot be broken at a space.
fn long_word(length: usize) -> String {
    "Wort".repeat(length / 4)
}

/// The newest day of each tenant in [`overview`]. It is not a day of the period's ends.
const NEWEST: &str = "2026-11-29";

/// An overview of 500 tenants, one of which has a long name, with large numbers.
fn overview() -> String {
    let number = |value: f64| Number::new(value).unwrap();
    let day = Day::parse(NEWEST).unwrap();

    let rows = (0..500_u32).map(|index| Row {
        name: if index == 7 { long_word(128) } else { format!("customer-{index:03}.example") },
        id: format!("{index:08x}-0000-4000-8000-00000000c0de"),
        newest: Some(day),
        current: Some(number(1_234.56)),
        max: Some(number(2_345.67)),
        percentage: Some(number(52.63)),
        points: PointTotals { gained: number(1_234.56), lost: number(f64::from(index)) },
        previous_points: Some(PointTotals { gained: number(0.0), lost: number(1.0) }),
        previous_percentage: Some(number(40.0)),
        gained_7: Some(-12.34),
        gained_30: Some(12.34),
        high_changes: 123,
        below_baseline: Some(45),
        accepted: 67,
        missing: 89,
        trend: (0..45).map(|n| (day.plus(n - 45), f64::from(n % 7))).collect(),
    });
    let window = Window::of_month("2026-11").unwrap();
    Overview::new(rows.collect(), window).write(Format::Html, "2026-12-01 06:00 UTC")
}

/// The page of one tenant with a long heading, of a period with a period before.
fn page() -> String {
    let workspace = workspace();
    workspace.run_ok(&["once"]);
    workspace.run_ok(&["report", "--days", "10", "--title", &long_word(200)]).stdout
}

/// Regression: the overview of 500 tenants was cut off on a screen and on paper.
#[test]
fn overview_fits_screens_and_paper() {
    let page = overview();
    let shown = ["[data-l='Percent']", "[data-l='Points lost']", "[data-l='Newest day']"];
    assert_eq!(measure(&opened(&page), &SCREENS, &shown), "fits");
    assert_eq!(measure(&on_paper(&page), &PAPERS, &shown), "fits");
}

/// Regression: the points and the cause of a change were outside the screen of a phone.
#[test]
fn page_of_a_tenant_fits_screens_and_paper() {
    let page = page();
    let shown = ["[data-l='Points']", "[data-l='Cause']", "[data-l='Missing points']", ".lead"];
    assert_eq!(measure(&opened(&page), &SCREENS, &shown), "fits");
    assert_eq!(measure(&on_paper(&page), &PAPERS, &shown), "fits");
}

/// The measurement finds what does not fit.
#[test]
fn a_wide_element_is_found() {
    let page = "<!DOCTYPE html><body style=\"margin: 0\"><p style=\"width: 400px\">wide</p>";
    let result = measure(page, &[375], &[".absent"]);
    assert!(result.contains("375: the page is 400 wide"), "{result}");
    assert!(result.contains("0 to 400") && result.contains("no .absent"), "{result}");
}

#[test]
fn paper_repeats_the_head_and_clips_no_row() {
    let directory = tempfile::tempdir().unwrap();
    let (html, pdf) = (directory.path().join("page.html"), directory.path().join("page.pdf"));
    write(&html, &overview());

    let profile = directory.path().join("profile");
    let (target, url) =
        (format!("--print-to-pdf={}", pdf.display()), format!("file://{}", html.display()));
    chromium(&profile, &[&target, "--no-pdf-header-footer", &url]);
    remove_profile(&profile);

    // `pdftotext` omits text outside the page, and ends each page with a form feed.
    let output = Command::new("pdftotext").arg("-layout").arg(&pdf).arg("-").output();
    let output = output.expect("cannot start pdftotext: run `tests/run --all`");
    let text = String::from_utf8(output.stdout).unwrap();
    let pages = text.matches('\u{c}').count();
    assert!(pages > 1, "{text}");
    assert_eq!(text.matches("Newest").count(), pages, "the head is on each page:\n{text}");
    assert_eq!(text.matches(NEWEST).count(), 500, "each row has all its columns:\n{text}");
}
