//! A headless browser, and the layout of a page in it: a page is laid out in frames of several
//! widths, and measured there.

use std::{
    path::Path,
    process::{Command, Output},
};

use super::{remove_profile, write};

/// The widths of A4 and Letter without the margins of 12 mm, in CSS pixels.
pub const PAPERS: [u32; 2] = [703, 725];

/// Lays out the page in frames of these widths, and shows what `examine` returns for each of them.
const LAY_OUT: &str = r#"
for (const width of widths) {
    const frame = document.createElement("iframe");
    frame.style = `width: ${width}px; height: 900px; border: 0`;
    frame.srcdoc = page;
    document.body.append(frame);
}
onload = () => {
    const frames = [...document.querySelectorAll("iframe")];
    const lines = frames.flatMap((frame) => examine(frame.contentDocument.documentElement));
    const result = document.createElement("pre");
    result.id = "result";
    result.textContent = lines.slice(0, 20).join("\n") || "fits";
    document.body.replaceChildren(result);
};
"#;

/// What is outside the page, and which of the selectors match no visible element.
const OUTSIDE: &str = r"
function examine(root) {
    const width = root.clientWidth, problems = [];
    if (root.scrollWidth > width) problems.push(`${width}: the page is ${root.scrollWidth} wide`);
    for (const element of root.querySelectorAll('body *')) {
        const { left, right } = element.getBoundingClientRect();
        if (right > left && (left < -1 || right > width + 1)) {
            problems.push(`${width}: ${element.outerHTML.slice(0, 120)}: ${left} to ${right}`);
        }
    }
    for (const selector of selectors) {
        const boxes = [...root.querySelectorAll(selector)].map((e) => e.getBoundingClientRect());
        if (!boxes.some((box) => box.width > 0)) problems.push(`${width}: no ${selector}`);
    }
    return problems;
}";

/// The lower edge of the last element that matches one of the selectors.
const LOWEST: &str = r"
function examine(root) {
    const boxes = [...root.querySelectorAll(selectors)].map((e) => e.getBoundingClientRect());
    return [Math.ceil(Math.max(...boxes.map((box) => box.bottom)))];
}";

/// Runs Chromium with a profile in this directory until it ends.
pub fn chromium(profile: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
    command.arg(format!("--user-data-dir={}", profile.display())).args(arguments);
    command.output().expect("cannot start chromium: run `tests/run --all`")
}

/// What does not fit a page at these widths, and the selectors without a visible element; `fits` if
/// there is nothing.
pub fn measure(page: &str, widths: &[u32], selectors: &[&str]) -> String {
    examine(page, widths, selectors, OUTSIDE)
}

/// The lower edge of the last element that matches a selector, in CSS pixels from the top of the
/// page, at each of these widths. Panics if there is no such element.
pub fn lowest_edges(page: &str, widths: &[u32], selector: &str) -> Vec<u32> {
    let edges = examine(page, widths, &[selector], LOWEST);
    edges.lines().map(|edge| edge.parse().unwrap()).collect()
}

/// The page with the rules for paper in place of those for screens.
pub fn on_paper(page: &str) -> String {
    page.replace("@media print", "@media all").replace("@media screen", "@media speech")
}

/// The result of a script that defines `examine`.
fn examine(page: &str, widths: &[u32], selectors: &[&str], script: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    // A closing tag in the text would end the script.
    let page = serde_json::to_string(page).unwrap().replace("</", "<\\/");
    let constants = format!("const page = {page}, widths = {widths:?}, selectors = {selectors:?};");
    let path = directory.path().join("measure.html");
    let head = "<!DOCTYPE html><meta charset=\"utf-8\"><body><script>";
    write(&path, &format!("{head}{constants}{script}{LAY_OUT}</script>"));

    let profile = directory.path().join("profile");
    let url = format!("file://{}", path.display());
    let access = "--allow-file-access-from-files";
    let output = chromium(&profile, &["--dump-dom", "--hide-scrollbars", access, &url]);
    remove_profile(&profile);

    let dom = String::from_utf8(output.stdout).unwrap();
    let Some(result) = dom.split("<pre id=\"result\">").nth(1) else {
        panic!("no result: {}", String::from_utf8_lossy(&output.stderr));
    };
    result.split("</pre>").next().unwrap().to_owned()
}
