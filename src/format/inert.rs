//! Makes foreign text inert for services that interpret markup, such as chats and mail clients.
//!
//! Titles, comments and names are untrusted: they must not become a link, a mention or formatting.
//! Each service has its own markup and its own way to escape it, which not every client implements,
//! so this module changes the few characters that begin a markup. The text stays readable. A
//! service additionally escapes what its protocol requires. Start reading at [`inert`].

use super::text::{cut, is_unsafe, replacement};

/// The text on one line, without markup, and cut to at most `max` characters:
///
/// - Control characters, and characters that reorder text, are removed; whitespace is collapsed.
/// - An `@` at the start of a word, which could mention a person or a channel, becomes `＠`.
/// - The brackets of a Markdown link are separated: `[text] (target)`.
/// - A URL is broken by a space, so that no client makes it a link: `https: //example.com`.
/// - `*`, `` ` ``, and `_` and `~` at the edge of a word, become similar characters.
pub fn inert(text: &str, max: usize) -> String {
    let chars: Vec<char> = one_line(text).chars().collect();
    let mut out = String::with_capacity(chars.len());

    for (index, &c) in chars.iter().enumerate() {
        let (before, after) = (&chars[..index], &chars[index + 1..]);
        let in_word = is_word(before.last()) && is_word(after.first());
        match c {
            '@' if !is_word(before.last()) => out.push('＠'),
            '*' => out.push('∗'),
            '`' => out.push('\''),
            '_' if !in_word => out.push('＿'),
            '~' if !in_word => out.push('∼'),
            ']' if matches!(after.first(), Some('(' | '[' | ':')) => out.push_str("] "),
            ':' if after.starts_with(&['/', '/']) => out.push_str(": "),
            '.' if ends_with_www(before) => out.push_str(" ."),
            c => out.push(c),
        }
    }

    cut(&out, max).into_owned()
}

/// The text without control characters, and with one space for each run of whitespace.
fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let c = if is_unsafe(c) { replacement(c) } else { c };
        match c {
            char::REPLACEMENT_CHARACTER => {}
            c if !c.is_whitespace() => out.push(c),
            _ if out.is_empty() || out.ends_with(' ') => {}
            _ => out.push(' '),
        }
    }
    out.truncate(out.trim_end().len());
    out
}

fn is_word(c: Option<&char>) -> bool {
    c.is_some_and(|c| c.is_alphanumeric())
}

/// Whether the text ends with the word `www`, in any case.
fn ends_with_www(text: &[char]) -> bool {
    let (rest, end) = text.split_at(text.len().saturating_sub(3));
    end.len() == 3 && end.iter().all(|c| c.eq_ignore_ascii_case(&'w')) && !is_word(rest.last())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn markup_becomes_inert_and_stays_readable() {
        for (text, expected) in [
            ("Require MFA for administrative roles", "Require MFA for administrative roles"),
            ("aad_mfa_all, 5 < 6 & 7 > 3", "aad_mfa_all, 5 < 6 & 7 > 3"),
            ("by anna@contoso.example", "by anna@contoso.example"),
            ("@channel look", "＠channel look"),
            ("(@here)", "(＠here)"),
            ("<!here> <@U123>", "<!here> <＠U123>"),
            ("[x](http://evil.example)", "[x] (http: //evil.example)"),
            ("[x][y] [y]: https://evil.example", "[x] [y] [y] : https: //evil.example"),
            ("see www.evil.example", "see www .evil.example"),
            ("WWW.evil.example, awww.example", "WWW .evil.example, awww.example"),
            ("*bold* _italic_ ~gone~ `code`", "∗bold∗ ＿italic＿ ∼gone∼ 'code'"),
            ("a*b*c", "a∗b∗c"),
            ("line one\nline two\r\n\tthree", "line one line two three"),
            ("\u{202e}gnp.exe\u{200f} \u{7}beep", "gnp.exe beep"),
            ("  \u{2028} ", ""),
            ("東京 @here", "東京 ＠here"),
        ] {
            assert_eq!(inert(text, 100), expected, "{text}");
        }
        assert_eq!(inert("abcdef", 4), "abc…");
    }

    proptest! {
        #[test]
        fn no_text_contains_markup(text in ".*", max in 1_usize..200) {
            let written = inert(&text, max);
            prop_assert!(written.chars().count() <= max);
            prop_assert!(!written.chars().any(is_unsafe));
            for markup in ["](", "][", "]:", "://", "*", "`"] {
                prop_assert!(!written.contains(markup), "{written}");
            }
            prop_assert!(!written.starts_with('@') && !written.contains(" @"));
        }
    }
}
