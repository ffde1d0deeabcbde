//! Checks single values, and describes the expected ones. This module must never report a fault,
//! because it does not know the name of the key: `settings::check` does so. Start reading at
//! [`is_valid_scalar`].

use crate::{
    model::Day,
    settings::{
        Shape,
        node::Node,
        parse_duration, parse_size,
        units::{show_duration, show_size},
    },
};

/// Whether a value that is neither a table nor a list has the shape.
pub(super) fn is_valid_scalar(value: &Node, shape: Shape) -> bool {
    let text = value.text();
    match shape {
        Shape::Bool => value.bool().is_some(),
        Shape::Integer { min, max } => {
            value.integer().is_some_and(|integer| (min..=max).contains(&integer))
        }
        Shape::Duration { min, max } => {
            text.and_then(parse_duration).is_some_and(|given| (min..=max).contains(&given))
        }
        Shape::Size { min, max } => {
            text.and_then(parse_size).is_some_and(|given| (min..=max).contains(&given))
        }
        Shape::Day => text.and_then(Day::parse).is_some(),
        _ => text.is_some_and(|text| !text.is_empty()),
    }
}

/// What a value that is not valid must be, as the object of "must be".
pub(super) fn expected_scalar(value: &Node, shape: Shape) -> String {
    let text = value.text();
    match shape {
        Shape::Bool => "true or false".to_owned(),
        Shape::Integer { min, max } => format!("a whole number from {min} to {max}"),
        Shape::Duration { min, max } if text.and_then(parse_duration).is_some() => {
            let (min, max) = (show_duration(min), show_duration(max));
            between(min.as_deref(), max.as_deref())
        }
        Shape::Duration { .. } => "a duration such as \"10m\" or \"6h\"".to_owned(),
        Shape::Size { min, max } if text.and_then(parse_size).is_some() => {
            let (min, max) = (show_size(min), show_size(max));
            between(min.as_deref(), max.as_deref())
        }
        Shape::Size { .. } => "a size such as \"32MiB\"".to_owned(),
        Shape::Day => "a date such as \"2026-09-01\"".to_owned(),
        _ => "a non-empty string".to_owned(),
    }
}

/// A range as a phrase; `None` means no limit.
pub(in crate::settings) fn between(min: Option<&str>, max: Option<&str>) -> String {
    match (min, max) {
        (Some(min), Some(max)) => format!("from {min} to {max}"),
        (Some(min), None) => format!("at least {min}"),
        (None, Some(max)) => format!("at most {max}"),
        (None, None) => String::new(),
    }
}

/// The first sentence of a description, as the object of "set … to".
pub(super) fn as_phrase(doc: &str) -> String {
    let sentence = doc.split(". ").next().unwrap_or(doc).trim_end_matches('.');
    let mut characters = sentence.chars();
    let first = characters.next().map(char::to_lowercase);
    first.into_iter().flatten().chain(characters).collect()
}
