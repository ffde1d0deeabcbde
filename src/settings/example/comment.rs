//! The comments of the example file: descriptions of keys, wrapped at the width of the file. A
//! comment must never begin with a single `#`, which marks a line that can be uncommented. Start
//! reading at [`comment`].

use crate::settings::{ExampleValue, KeyDefinition, Presence, Shape, key::NOTHING_IS_INHERITED};

/// The beginning of each line of a comment.
const MARK: &str = "##";

/// The maximum width of a comment, unless it contains a longer word.
const MAX_COLUMNS: usize = 100;

/// A text as the lines of a comment. An empty line of the text separates paragraphs.
pub(super) fn comment(text: &str) -> String {
    let mut comment = String::new();
    for paragraph in text.lines() {
        let mut line = MARK.to_owned();
        for word in words(paragraph) {
            if line != MARK && line.chars().count() + 1 + word.chars().count() > MAX_COLUMNS {
                comment.push_str(&line);
                comment.push('\n');
                MARK.clone_into(&mut line);
            }
            line.push(' ');
            line.push_str(&word);
        }
        comment.push_str(&line);
        comment.push('\n');
    }
    comment
}

/// The words of a paragraph. A code span between backticks is one word, so that it is not wrapped.
fn words(paragraph: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut is_in_span = false;
    for part in paragraph.split_whitespace() {
        match words.last_mut().filter(|_| is_in_span) {
            Some(word) => {
                word.push(' ');
                word.push_str(part);
            }
            None => words.push(part.to_owned()),
        }
        is_in_span ^= part.matches('`').count() % 2 == 1;
    }
    words
}

/// The description of a key, and the names that its value can have, unless the description
/// contains all of them.
pub(super) fn description(key: &KeyDefinition) -> String {
    let choices = match key.shape {
        Shape::OneOf(choices) | Shape::ManyOf(choices) | Shape::OneOfOrTable { choices, .. } => {
            choices
        }
        _ => &[],
    };
    let choices: Vec<String> = choices.iter().map(|choice| format!("`{choice}`")).collect();

    if choices.iter().all(|choice| key.doc.contains(choice.as_str())) {
        return key.doc.to_owned();
    }
    format!("{} Values: {}.", key.doc, choices.join(", "))
}

/// What applies without the key, as a sentence after a space; empty if the value in the file is
/// the default.
pub(super) fn effect_of_absence(key: &KeyDefinition) -> String {
    match (key.presence, key.example) {
        (Presence::Required | Presence::Optional(NOTHING_IS_INHERITED), _)
        | (Presence::Default(_), ExampleValue::OfKey) => String::new(),
        (Presence::Optional(without), _) => format!(" If it is not set: {without}."),
        (Presence::Default(default), _) => format!(" Default: `{default}`."),
    }
}
