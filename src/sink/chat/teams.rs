//! Messages for a workflow of Microsoft Teams: an adaptive card.
//!
//! Sources: "Create incoming webhooks with Workflows for Microsoft Teams", and the schema of
//! adaptive cards 1.4. Teams rejects messages of more than 28 KB. A `TextBlock` and the values of a
//! `FactSet` interpret a subset of Markdown, so all foreign text in a message must be inert.

use serde_json::{Value, json};

use crate::{
    model::Severity,
    sink::notification::{Message, Part},
};

/// The maximum size of a message in bytes, with a margin below the limit of Teams.
pub(super) const MAX_BYTES: usize = 27_000;

/// The body of the request for a message.
pub(super) fn body(message: &Message) -> Vec<u8> {
    let mut elements = vec![json!({
        "type": "TextBlock",
        "text": message.title,
        "size": "large",
        "weight": "bolder",
        "wrap": true,
    })];
    elements.extend(message.parts.iter().flat_map(part));

    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": elements,
        "msteams": { "width": "Full" },
    });
    let attachment = json!({
        "contentType": "application/vnd.microsoft.card.adaptive",
        "contentUrl": null,
        "content": card,
    });
    json!({ "type": "message", "attachments": [attachment] }).to_string().into_bytes()
}

/// The elements of a part. The heading carries the event ID of a record.
fn part(part: &Part) -> Vec<Value> {
    let mut heading = json!({
        "type": "TextBlock",
        "text": part.heading,
        "weight": "bolder",
        "color": color(part.severity),
        "separator": true,
        "wrap": true,
    });
    if let Some(id) = &part.event_id {
        heading["id"] = json!(id);
    }
    let mut elements = vec![heading];

    if !part.text.is_empty() {
        elements.push(json!({
            "type": "TextBlock",
            "text": part.text,
            "spacing": "none",
            "wrap": true,
        }));
    }
    if !part.facts.is_empty() {
        let facts: Vec<Value> = part
            .facts
            .iter()
            .map(|(title, value)| json!({ "title": title, "value": value }))
            .collect();
        elements.push(json!({ "type": "FactSet", "spacing": "small", "facts": facts }));
    }
    elements
}

/// The color of the heading: only what may need an operator is conspicuous.
fn color(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "attention",
        Severity::Medium => "warning",
        Severity::Low | Severity::Informational => "default",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::notification::{
        Mode, Notice,
        tests::{change, fleet, problem},
    };

    fn parsed(notices: &[Notice]) -> Value {
        serde_json::from_slice(&body(&Mode::Messages.message(notices, &[]))).unwrap()
    }

    /// The body of the card for one change, in the form of the published examples.
    fn published_elements() -> Value {
        json!([
            {
                "type": "TextBlock",
                "text": "Secure Score: 1 change in contoso",
                "size": "large",
                "weight": "bolder",
                "wrap": true,
            },
            {
                "type": "TextBlock",
                "id": "c0fe22cef211175205f5d2746d6bede65c9d0659",
                "text": "High · contoso · regressed",
                "weight": "bolder",
                "color": "attention",
                "separator": true,
                "wrap": true,
            },
            {
                "type": "TextBlock",
                "text": "Require MFA: regressed",
                "spacing": "none",
                "wrap": true,
            },
            {
                "type": "FactSet",
                "spacing": "small",
                "facts": [
                    { "title": "Points", "value": "−10" },
                    { "title": "Control", "value": "AdminMFAV2" },
                    { "title": "Time", "value": "2026-11-22 06:15 UTC" },
                ],
            },
        ])
    }

    #[test]
    fn builds_the_published_form_of_a_card() {
        let card = json!({
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "body": published_elements(),
            "msteams": { "width": "Full" },
        });
        let attachment = json!({
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": card,
        });

        let expected = json!({ "type": "message", "attachments": [attachment] });
        assert_eq!(parsed(&[change("contoso", "regressed", -10.0, 8)]), expected);
    }

    #[test]
    fn only_urgent_parts_have_a_color() {
        for (severity, color) in
            [(1, "default"), (3, "default"), (5, "warning"), (8, "attention"), (10, "attention")]
        {
            let card = parsed(&[change("contoso", "added", 1.0, severity)]);
            assert_eq!(card["attachments"][0]["content"]["body"][1]["color"], color);
        }
    }

    /// The texts of the rows of a card are complete, and it does not grow with the fleet.
    #[test]
    fn the_card_of_a_fleet_is_bounded() {
        let problems = fleet::problems();
        let all = [problems.clone(), fleet::changes()].concat();
        for (mode, notices, elements) in
            [(Mode::Messages, &problems, 1 + 7 * 3), (Mode::Digest, &all, 1 + 3 * 2)]
        {
            let body = body(&mode.message(notices, &[]));
            assert!(body.len() <= MAX_BYTES, "{mode:?}: {} bytes", body.len());

            let card: Value = serde_json::from_slice(&body).unwrap();
            let shown = card["attachments"][0]["content"]["body"].as_array().unwrap();
            assert!(shown.len() <= elements, "{mode:?}: {} elements", shown.len());
            assert!(shown.iter().all(|e| e["type"] == "FactSet" || e["wrap"] == true), "{card}");

            let facts = shown.iter().filter_map(|element| element["facts"].as_array()).flatten();
            let values: Vec<&Value> = facts.map(|fact| &fact["value"]).collect();
            for hint in problems.iter().filter_map(|notice| notice.hint.as_ref()) {
                assert!(values.iter().any(|value| *value == hint), "{mode:?}: {hint}");
            }
        }
    }

    /// The longest record, in which each character takes four bytes.
    #[test]
    fn no_message_exceeds_the_size_limit() {
        let longest = |mut notice: Notice| {
            notice.sentence = "🛡".repeat(500);
            notice.tenant = "🛡".repeat(80);
            notice.subject = "🛡".repeat(80);
            notice.hint = Some("🛡".repeat(300));
            notice
        };
        let fields: Vec<(String, String)> =
            (0..16).map(|_| ("🛡".repeat(80), "🛡".repeat(80))).collect();
        let one = [longest(change("a", "regressed", -1.0, 8))];
        assert!(body(&Mode::Messages.message(&one, &fields)).len() <= MAX_BYTES);

        let mut many = Vec::new();
        for day in 0..100 {
            many.push(longest(change("a", "regressed", -1.0, 8)));
            // A digest shows equal hints once.
            let hint = Some(format!("{day:02}{}", "🛡".repeat(298)));
            many.push(Notice { what: day.to_string(), hint, ..longest(problem("a", "x")) });
        }
        assert!(body(&Mode::Digest.message(&many, &[])).len() <= MAX_BYTES);
    }
}
