//! The HTML form of a message. Every text is escaped here, and nothing is loaded from elsewhere.
//! The styles are attributes, because many mail clients ignore style sheets.

use std::fmt::Write as _;

use crate::{
    model::Severity,
    sink::notification::{Message, Part},
    text::html_escaped,
};

/// The style of secondary text.
const MUTED: &str = "color:#59636e";

/// The page for a message. `footer` is one line.
pub(super) fn page(message: &Message, footer: &str) -> String {
    let title = html_escaped(&message.title);
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title></head>\n<body style=\"font-family:sans-serif;font-size:14px;color:#1f2328\">\n<h1 style=\"font-size:18px\">{title}</h1>\n"
    );
    for part in &message.parts {
        write_part(part, &mut page);
    }
    let footer = html_escaped(footer);
    let _ = write!(page, "<p style=\"{MUTED};font-size:12px\">{footer}</p>\n</body>\n</html>\n");
    page
}

fn write_part(part: &Part, page: &mut String) {
    let (color, heading) = (color(part.severity), html_escaped(&part.heading));
    let _ = writeln!(
        page,
        "<div style=\"border-left:4px solid {color};margin:16px 0;padding-left:12px\">\n<b>{heading}</b>"
    );
    if !part.text.is_empty() {
        let _ = writeln!(page, "<p style=\"margin:4px 0\">{}</p>", html_escaped(&part.text));
    }

    let id = part.event_id.iter().map(|id| ("Event ID", id.as_str()));
    let facts = part.facts.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let mut rows = facts.chain(id).peekable();
    if rows.peek().is_some() {
        page.push_str("<table style=\"border-spacing:0\">\n");
        for (name, value) in rows {
            let (name, value) = (html_escaped(name), html_escaped(value));
            let _ = writeln!(
                page,
                "<tr><td style=\"{MUTED};padding-right:12px;vertical-align:top\">{name}</td><td>{value}</td></tr>"
            );
        }
        page.push_str("</table>\n");
    }
    page.push_str("</div>\n");
}

fn color(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "#cf222e",
        Severity::Medium => "#bf8700",
        Severity::Low | Severity::Informational => "#8c959f",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::notification::{Mode, Notice, tests::change};

    #[test]
    fn every_text_is_escaped() {
        let evil = "<img src=x onerror='alert(1)'>&\"";
        let notice = Notice {
            sentence: evil.to_owned(),
            subject: evil.to_owned(),
            ..change(evil, "regressed", -1.0, 8)
        };
        let fields = [(evil.to_owned(), evil.to_owned())];
        let page = page(&Mode::Messages.message(&[notice], &fields), evil);
        assert!(!page.contains("<img") && !page.contains("'alert"), "{page}");
        let escaped = "img src=x onerror=&#39;alert(1)&#39;&gt;&amp;&quot;";
        assert_eq!(page.matches(escaped).count(), 8, "{page}");
    }

    #[test]
    fn a_part_has_its_color_and_facts() {
        let message = Mode::Messages.message(&[change("contoso", "regressed", -1.0, 5)], &[]);
        let page = page(&message, "the footer");
        for expected in [
            "<h1 style=\"font-size:18px\">Secure Score: 1 change in contoso</h1>",
            "border-left:4px solid #bf8700",
            "<b>Medium · contoso · regressed</b>",
            "<td>AdminMFAV2</td>",
            "<td>c0fe22cef211175205f5d2746d6bede65c9d0659</td>",
            "font-size:12px\">the footer</p>",
        ] {
            assert!(page.contains(expected), "{expected}: {page}");
        }
    }
}
