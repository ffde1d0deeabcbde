//! Writes values into the text of a configuration that the program generates. Start reading at
//! [`toml_string`].

use std::fmt::Write as _;

/// A TOML basic string on one line, with its quotation marks. Line breaks become spaces.
pub fn toml_string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' | '\r' => quoted.push(' '),
            c if c.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strings_are_on_one_line() {
        for (text, quoted) in [
            ("contoso", r#""contoso""#),
            (r#"C:\a "b" 'c'"#, r#""C:\\a \"b\" 'c'""#),
            ("a\nb", r#""a b""#),
            ("\u{1b}\u{7f}", r#""\u001B\u007F""#),
        ] {
            assert_eq!(toml_string(text), quoted);
        }
    }

    proptest! {
        #[test]
        fn strings_are_read_back_unchanged(text in "[^\n\r]*") {
            let parsed: toml::Table = format!("key = {}", toml_string(&text)).parse().unwrap();
            prop_assert_eq!(parsed["key"].as_str(), Some(text.as_str()));
        }
    }
}
