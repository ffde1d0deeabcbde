//! Markdown has one sentence per line, and its links resolve.

use std::path::Path;

use crate::files::{SourceFile, expect_none, files, root};

/// Abbreviations whose period does not end a sentence.
const ABBREVIATIONS: &[&str] = &["e.g.", "i.e.", "etc.", "vs.", "No.", "approx.", "…"];

/// All Markdown files of the repository.
fn pages() -> Vec<SourceFile> {
    let entries = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name());
    let names = entries.map(|name| name.into_string().unwrap());
    let places = names.filter(|name| name != ".git" && !is_build_output(name));
    let pages = places.flat_map(|place| files(&place));
    pages.filter(|page| page.path.ends_with(".md")).collect()
}

/// Cargo marks the folders of its output, such as `target`, so that backups omit them.
fn is_build_output(name: &str) -> bool {
    root().join(name).join("CACHEDIR.TAG").exists()
}

/// The lines outside fenced blocks; a line that starts or ends a block is empty.
fn prose(page: &SourceFile) -> Vec<(usize, &str)> {
    let mut is_fenced = false;
    let mut prose = Vec::new();
    for (number, line) in page.lines() {
        if line.trim_start().starts_with("```") {
            is_fenced = !is_fenced;
            prose.push((number, ""));
        } else if !is_fenced {
            prose.push((number, line));
        }
    }
    prose
}

#[test]
fn markdown_has_one_sentence_per_line() {
    let mut violations = Vec::new();
    for page in pages() {
        let lines = prose(&page);
        for (index, (number, line)) in lines.iter().enumerate() {
            if is_table(line) || line.starts_with('#') || line.starts_with("    ") {
                continue;
            }
            if has_two_sentences(line) {
                violations.push(format!("{}:{number}: two sentences on a line", page.path));
            }

            let next = lines.get(index + 1).map_or("", |(_, next)| *next);
            let continues = !next.trim().is_empty()
                && !is_item(next)
                && !is_table(next)
                && !next.starts_with(['#', '<', '!']);
            let ends =
                line.trim_end().ends_with(['.', '!', '?', ':', ';', '|', '>', ')', '*', '`']);
            if !line.trim().is_empty() && continues && !ends {
                violations.push(format!("{}:{number}: a sentence on two lines", page.path));
            }
        }
    }
    expect_none(&violations, "write one sentence per line");
}

#[test]
fn relative_links_resolve() {
    let mut violations = Vec::new();
    for page in pages() {
        let folder = root().join(&page.path).parent().unwrap().to_owned();
        for (number, line) in prose(&page) {
            for target in targets(line) {
                if let Some(problem) = broken(&page, &folder, target) {
                    violations.push(format!("{}:{number}: `{target}`: {problem}", page.path));
                }
            }
        }
    }
    expect_none(&violations, "a link does not resolve");
}

fn broken(page: &SourceFile, folder: &Path, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = match path.strip_prefix("../blob/main/") {
        // A link in a template is relative to the address of the pull request.
        Some(path) if page.path.starts_with(".github/") => root().join(path),
        _ if path.is_empty() => root().join(&page.path),
        _ => folder.join(path),
    };
    if !path.exists() {
        return Some("no such file".to_owned());
    }
    if anchor.is_empty() {
        return None;
    }
    let text = std::fs::read_to_string(&path).ok()?;
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let has_heading = headings.map(slug).any(|heading| heading == anchor);
    (!has_heading).then(|| "no such heading".to_owned())
}

/// The anchor that renderers generate for a heading.
fn slug(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The targets of inline links and images, except those in code.
fn targets(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(at) = rest.find("](") {
        let in_code = rest[..at].matches('`').count() % 2 == 1;
        rest = &rest[at + 2..];
        let Some(end) = rest.find(')') else { break };
        if !in_code {
            found.push(rest[..end].split(' ').next().unwrap());
        }
    }
    found
}

fn has_two_sentences(line: &str) -> bool {
    let without_code: String = line
        .split('`')
        .enumerate()
        .map(|(i, part)| if i % 2 == 0 { part } else { "code" })
        .collect();
    let mut text = without_code;
    for abbreviation in ABBREVIATIONS {
        text = text.replace(abbreviation, "");
    }
    // The number of an ordered item is not a sentence.
    let start = text.trim_start().trim_start_matches(|c: char| c.is_ascii_digit());
    let text = start.strip_prefix(". ").unwrap_or(start);
    let bytes = text.as_bytes();
    bytes.windows(3).any(|window| {
        matches!(window[0], b'.' | b'!' | b'?')
            && window[1] == b' '
            && window[2].is_ascii_uppercase()
    })
}

fn is_table(line: &str) -> bool {
    line.trim_start().starts_with('|')
}

fn is_item(line: &str) -> bool {
    let text = line.trim_start();
    let number = text.trim_start_matches(|c: char| c.is_ascii_digit());
    text.starts_with("- ")
        || text.starts_with("* ")
        || text.starts_with("> ")
        || (number.len() < text.len() && number.starts_with(". "))
}
