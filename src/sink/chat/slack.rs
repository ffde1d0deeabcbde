//! Messages for an incoming webhook of Slack: blocks with text in Slack's markup.
//!
//! Sources: "Sending messages using incoming webhooks", "Formatting text" and "Blocks" in the
//! documentation of Slack. A message has at most 50 blocks, and the text of a section at most 3,000
//! characters. In text, `&`, `<` and `>` must be escaped; without `<`, nothing is a mention or a
//! link, and `verbatim` prevents that bare URLs and names become links.

use serde_json::{Value, json};

use crate::{
    format::cut,
    sink::notification::{Message, Part},
};

/// The maximum number of blocks of a message.
pub(super) const MAX_BLOCKS: usize = 50;
/// The maximum number of parts; the header is another block.
const MAX_WRITTEN_PARTS: usize = MAX_BLOCKS - 1;
/// The maximum number of characters of a header.
const MAX_HEADER: usize = 150;
/// The maximum number of characters of a section, without the mark of a cut text.
const MAX_TEXT: usize = 2_990;

/// The body of the request for a message. Only the first 49 parts are written.
pub(super) fn body(message: &Message) -> Vec<u8> {
    let mut blocks = vec![json!({
        "type": "header",
        "text": { "type": "plain_text", "text": cut(&message.title, MAX_HEADER), "emoji": false },
    })];
    blocks.extend(message.parts.iter().take(MAX_WRITTEN_PARTS).map(section));

    // The text is shown in notifications, and by clients that do not support blocks.
    let body = json!({
        "text": escaped(&message.title),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
    });
    body.to_string().into_bytes()
}

/// The block of a part. The ID of the block is the event ID of a record.
fn section(part: &Part) -> Value {
    let facts = part.facts.iter();
    let facts = facts.map(|(name, value)| format!("{}: {}", escaped(name), escaped(value)));
    let text = Some(escaped(&part.text)).filter(|text| !text.is_empty());

    let mut written = format!("*{}*", escaped(&part.heading));
    let mut length = written.chars().count();
    for line in text.into_iter().chain(facts) {
        length = length.saturating_add(line.chars().count()).saturating_add(1);
        if length > MAX_TEXT {
            written.push_str("\n…");
            break;
        }
        written.push('\n');
        written.push_str(&line);
    }

    let mut block = json!({
        "type": "section",
        "text": { "type": "mrkdwn", "text": written, "verbatim": true },
    });
    if let Some(id) = &part.event_id {
        block["block_id"] = json!(id);
    }
    block
}

/// The text with the three characters escaped that Slack requires.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::notification::{
        Mode, Notice,
        tests::{change, problem},
    };

    fn parsed(message: &Message) -> Value {
        serde_json::from_slice(&body(message)).unwrap()
    }

    #[test]
    fn builds_the_published_form_of_a_message() {
        let notices = [change("R&D <contoso>", "regressed", -10.0, 8)];
        let expected = json!({
            "text": "Secure Score: 1 change in R&amp;D &lt;contoso&gt;",
            "unfurl_links": false,
            "unfurl_media": false,
            "blocks": [
                {
                    "type": "header",
                    "text": {
                        "type": "plain_text",
                        "text": "Secure Score: 1 change in R&D <contoso>",
                        "emoji": false,
                    },
                },
                {
                    "type": "section",
                    "block_id": "c0fe22cef211175205f5d2746d6bede65c9d0659",
                    "text": {
                        "type": "mrkdwn",
                        "text": "*High · R&amp;D &lt;contoso&gt; · regressed*\nRequire MFA: regressed\nPoints: −10\nControl: AdminMFAV2\nTime: 2026-11-22 06:15 UTC",
                        "verbatim": true,
                    },
                },
            ],
        });

        assert_eq!(parsed(&Mode::Messages.message(&notices, &[])), expected);
    }

    #[test]
    fn mentions_of_channels_are_escaped() {
        let notice = Notice { sentence: "<!here> <@U1> & more".to_owned(), ..problem("a", "x") };
        let message = parsed(&Mode::Messages.message(&[notice], &[]));
        let text = message["blocks"][1]["text"]["text"].as_str().unwrap();
        assert!(text.contains("\n&lt;!here&gt; &lt;@U1&gt; &amp; more\n"), "{text}");
    }

    #[test]
    fn blocks_and_texts_stay_below_the_limits() {
        let long = Notice {
            sentence: "&".repeat(500),
            hint: Some("<".repeat(200)),
            tenant: ">".repeat(80),
            ..problem("a", "x")
        };
        let many: Vec<Notice> = (0..100).map(|_| long.clone()).collect();
        for message in [Mode::Messages.message(&many, &[]), Mode::Digest.message(&many, &[])] {
            let blocks = parsed(&message)["blocks"].as_array().unwrap().clone();
            assert!(blocks.len() <= MAX_BLOCKS);
            assert!(blocks[0]["text"]["text"].as_str().unwrap().chars().count() <= MAX_HEADER);
            for block in &blocks[1..] {
                assert!(block["text"]["text"].as_str().unwrap().chars().count() < 3_000);
            }
        }
    }
}
