//! Writes keys and values into the text of a configuration that the program generates or prints. A
//! text must never end its quotation marks or its line, because the rest would be read as other
//! keys. Start reading at [`toml_string`].

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

/// A key of TOML: the name itself, or in quotation marks if TOML requires them.
pub fn toml_key(name: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(is_bare) { name.to_owned() } else { toml_string(name) }
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

    #[test]
    fn keys_are_quoted_if_necessary() {
        for (name, key) in [("app-1", "app-1"), ("a.b", "\"a.b\""), ("", "\"\""), ("ä", "\"ä\"")]
        {
            assert_eq!(toml_key(name), key);
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
