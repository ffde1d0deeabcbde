//! Markdown, and the markup of chats and mail clients: foreign text must not become a link, a
//! mention or formatting.
//!
//! A backslash is not enough for links and mentions: many programs search for them in the rendered
//! text, and each chat has its own way to escape markup, which not every client implements. This
//! module therefore changes the few characters that begin a link, a mention or a reference; the
//! text stays readable. Start reading at [`markdown`] and [`chat`].

use super::characters::visible;
use crate::text::cut;

/// A character with its neighbors in the text.
#[derive(Clone, Copy)]
struct CharInText<'t> {
    before: &'t [char],
    c: char,
    after: &'t [char],
}

/// What the text is written to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Markup {
    /// Markdown with the extensions of GitHub and GitLab.
    Markdown,
    /// Any chat or mail client, whose markup may differ.
    Chat,
}

/// The characters that Markdown interprets anywhere in a text, except those of links.
const MARKUP: [char; 14] = ['\\', '`', '*', '_', '[', ']', '<', '>', '#', '!', '|', '~', '$', '^'];
/// The maximum number of characters of an HTML entity between `&` and `;`.
const MAX_ENTITY_CHARS: usize = 32;
/// The minimum number of letters of a top-level domain.
const MIN_TOP_LEVEL_CHARS: usize = 2;
/// The beginning of a label in the ASCII form of an internationalized name (RFC 5890, 2.3.2.5).
const ASCII_PREFIX: [char; 4] = ['x', 'n', '-', '-'];

/// The text on one line in which nothing is markup:
///
/// - Links, mentions, references and `{{` are changed as by [`chat`].
/// - Every other character that begins markup is escaped with a backslash.
pub(super) fn markdown(text: &str, max: usize) -> String {
    rendered(&cut(&one_line(text), max), Markup::Markdown)
}

/// The text on one line in which nothing is markup:
///
/// - Every `@` becomes `＠`, because it could mention a person or a channel, also after a letter, or
///   be a part of an email address.
/// - The brackets of a Markdown link are separated: `[text] (target)`.
/// - URLs and the names of hosts are broken by spaces, so that no client makes them links:
///   `https: //www .example .com`. Version numbers and abbreviations are not changed.
/// - The braces of `{{`, which begins a function in an Adaptive Card, are separated.
/// - A `<` before a word or a sign, such as in Slack's `<!here>`, becomes `‹`.
/// - A `#` before a number or a word becomes `＃`.
/// - The backslashes at the beginning of a UNC path are separated: `\ \server\share`.
/// - `*`, `` ` ``, and `_` and `~` at the edge of a word, become similar characters, and so do
///   characters at the beginning that would make the text a heading, a quotation or a list.
pub(super) fn chat(text: &str, max: usize) -> String {
    cut(&rendered(&one_line(text), Markup::Chat), max).into_owned()
}

/// The text without hidden characters, and with one space for each run of whitespace.
fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().map(visible) {
        match c {
            c if !c.is_whitespace() => out.push(c),
            _ if out.is_empty() || out.ends_with(' ') => {}
            _ => out.push(' '),
        }
    }
    out.truncate(out.trim_end().len());
    out
}

fn rendered(text: &str, markup: Markup) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for (index, &c) in chars.iter().enumerate() {
        let place = CharInText { before: &chars[..index], c, after: &chars[index + 1..] };
        if place.push_without_link(&mut out) {
            continue;
        }
        match markup {
            Markup::Markdown => place.push_escaped(&mut out),
            Markup::Chat => place.push_similar(&mut out),
        }
    }
    out
}

impl CharInText<'_> {
    /// Appends a character that begins a link, a mention, a reference or a function in another
    /// form. Returns `false`, and appends nothing, for any other character.
    fn push_without_link(self, out: &mut String) -> bool {
        let written = match self.c {
            '@' => "＠",
            ':' if self.after.starts_with(&['/', '/']) => ": ",
            '.' if ends_with_www(self.before) || self.is_in_host_name() => " .",
            '{' if self.after.first() == Some(&'{') => "{ ",
            '#' if is_word(self.after.first()) && !is_word(self.before.last()) => "＃",
            _ => return false,
        };
        out.push_str(written);
        true
    }

    /// Whether a dot is between a label and what could be a top-level domain, as in `evil.example`.
    /// In `v1.2` and `e.g. this`, it is not.
    fn is_in_host_name(self) -> bool {
        // Names can contain symbols, and clients differ in which ones they accept.
        let ends_label = self.before.last().is_some_and(|c| {
            c.is_alphanumeric() || matches!(c, '-' | '_') || !(c.is_ascii() || c.is_whitespace())
        });
        ends_label && (begins_with_top_level(self.after) || begins_with_ascii_prefix(self.after))
    }

    /// Appends a character with a backslash if Markdown would interpret it.
    fn push_escaped(self, out: &mut String) {
        let is_entity = self.c == '&' && is_entity(self.after);
        if MARKUP.contains(&self.c) || is_entity || self.begins_block() {
            out.push('\\');
        }
        out.push(self.c);
    }

    /// Appends a character that is similar to one that a chat would interpret.
    fn push_similar(self, out: &mut String) {
        let in_word = is_word(self.before.last()) && is_word(self.after.first());
        let is_first = self.before.is_empty();
        match self.c {
            '*' => out.push('∗'),
            '`' => out.push('\''),
            '_' if !in_word => out.push('＿'),
            '~' if !in_word => out.push('∼'),
            '<' if self.begins_tag() => out.push('‹'),
            '\\' if self.after.first() == Some(&'\\') => out.push_str("\\ "),
            ']' if matches!(self.after.first(), Some('(' | '[' | ':')) => out.push_str("] "),
            '#' if is_first => out.push('＃'),
            '>' if is_first => out.push('›'),
            '-' if self.begins_block() => out.push('–'),
            '+' if self.begins_block() => out.push('＋'),
            c => out.push(c),
        }
    }

    /// Whether a `<` could begin a tag, a link or a mention. In `5 < 6` and `<5%`, it does not.
    fn begins_tag(self) -> bool {
        let next = self.after.first();
        next.is_some_and(|c| !c.is_whitespace() && !c.is_numeric() && !matches!(c, '=' | '-'))
    }

    /// Whether the character would make the text an item of a list, a rule or the line below a
    /// heading: `- `, `1. `, `---`, `==`. The sign and the point of a number do not.
    fn begins_block(self) -> bool {
        let is_first = self.before.is_empty();
        let is_marker = match self.c {
            '-' | '+' | '=' => is_first,
            '.' | ')' => !is_first && self.before.iter().all(char::is_ascii_digit),
            _ => false,
        };
        let next = self.after.first();
        is_marker && next.is_none_or(|next| *next == ' ' || *next == self.c)
    }
}

fn is_word(c: Option<&char>) -> bool {
    c.is_some_and(|c| c.is_alphanumeric())
}

/// Whether the text ends with the word `www`, in any case.
fn ends_with_www(text: &[char]) -> bool {
    let (rest, end) = text.split_at(text.len().saturating_sub(3));
    end.len() == 3 && end.iter().all(|c| c.eq_ignore_ascii_case(&'w')) && !is_word(rest.last())
}

/// Whether the text begins with letters that could be a top-level domain. Those of `rc1` cannot,
/// but in a text such as `com東1`, some clients end the name before the first letter that is not in
/// ASCII.
fn begins_with_top_level(text: &[char]) -> bool {
    let count = text.iter().take_while(|c| c.is_alphabetic()).count();
    let (letters, rest) = text.split_at(count);
    let is_before_digit = rest.first().is_some_and(char::is_ascii_digit);
    count >= MIN_TOP_LEVEL_CHARS && !(is_before_digit && letters.iter().all(char::is_ascii))
}

/// Whether the text begins with `xn--`, in any case.
fn begins_with_ascii_prefix(text: &[char]) -> bool {
    text.get(..ASCII_PREFIX.len()).is_some_and(|begin| {
        begin.iter().zip(ASCII_PREFIX).all(|(c, expected)| c.eq_ignore_ascii_case(&expected))
    })
}

/// Whether the text after an `&` is the rest of an HTML entity, such as `lt;` and `#60;`.
fn is_entity(after: &[char]) -> bool {
    let mut name = after.iter().take(MAX_ENTITY_CHARS);
    let end = name.find(|c| !c.is_ascii_alphanumeric() && **c != '#');
    end == Some(&';')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::foreign_text::is_hidden;

    #[test]
    fn markup_in_a_chat_becomes_inert() {
        let cases = [
            ("Require MFA for administrative roles", "Require MFA for administrative roles"),
            ("aad_mfa_all, 5 < 6 & 7 > 3, <5%", "aad_mfa_all, 5 < 6 & 7 > 3, <5%"),
            ("by anna@contoso.example", "by anna＠contoso .example"),
            ("@channel look", "＠channel look"),
            ("(@here)", "(＠here)"),
            ("<!here> <@U123> <users/all>", "‹!here> ‹＠U123> ‹users/all>"),
            ("[x](http://evil.example)", "[x] (http: //evil .example)"),
            ("[x][y] [y]: https://evil.example", "[x] [y] [y] : https: //evil .example"),
            ("<https://evil.example|x>", "‹https: //evil .example|x>"),
            ("see www.evil.example", "see www .evil .example"),
            ("WWW.evil.example, awww.example", "WWW .evil .example, awww .example"),
            ("*bold* _italic_ ~gone~ `code`", "∗bold∗ ＿italic＿ ∼gone∼ 'code'"),
            ("a*b*c, C#, see #12", "a∗b∗c, C#, see ＃12"),
            ("# heading", "＃ heading"),
            // Regression: some clients open such a path, and send the credentials of the user.
            (r"see \\198.51.100.1\share, C:\x", r"see \ \198.51.100.1\share, C:\x"),
            ("> quotation", "› quotation"),
            ("- item", "– item"),
            ("+ item", "＋ item"),
            ("-10.5, +1", "-10.5, +1"),
            ("line one\nline two\r\n\tthree", "line one line two three"),
            ("\u{202e}gnp.exe\u{200f} \u{7}beep", "\u{fffd}gnp .exe\u{fffd} \u{fffd}beep"),
            ("  \u{2028} ", ""),
            ("東京 @here", "東京 ＠here"),
            ("東京@here x@everyone", "東京＠here x＠everyone"),
            ("{{DATE(2026-11-22T10:00:00Z)}} {{{x", "{ {DATE(2026-11-22T10:00:00Z)}} { { {x"),
        ];

        for (text, expected) in cases {
            assert_eq!(chat(text, 100), expected, "{text}");
        }
        assert_eq!(chat("abcdef", 4), "abc…");
    }

    /// Regression: only `://` and `www.` were broken, so other names of hosts became links.
    #[test]
    fn names_of_hosts_become_inert() {
        let cases = [
            ("evil-login.com/reset", "evil-login .com/reset"),
            ("(EVIL.COM:8080)", "(EVIL .COM:8080)"),
            ("login.evil1.co.uk?x", "login.evil1 .co .uk?x"),
            ("xn--e1awd7f.xn--p1ai", "xn--e1awd7f .xn--p1ai"),
            ("пример.рф 例.中国。", "пример .рф 例 .中国。"),
            ("❤.ws, evil\u{200b}.com", "❤ .ws, evil\u{fffd} .com"),
            ("evil-.com evil_.com", "evil- .com evil＿ .com"),
            ("evil.com東1 evil.comです", "evil .com東1 evil .comです"),
            ("end.Next", "end .Next"),
            ("v1.2, 71.2%, 10.0.0.7, 2.0.rc1", "v1.2, 71.2%, 10.0.0.7, 2.0.rc1"),
            ("e.g. this, i.e. that, a.b", "e.g. this, i.e. that, a.b"),
            ("The end. Next (.NET)…", "The end. Next (.NET)…"),
        ];

        for (text, expected) in cases {
            assert_eq!(chat(text, 100), expected, "{text}");
            assert_eq!(chat(expected, 100), expected, "it is changed once");
        }
    }

    #[test]
    fn markup_in_markdown_is_escaped() {
        let cases = [
            ("Require MFA (R&D, 71.2%)", "Require MFA (R&D, 71.2%)"),
            ("-10.5 points, +1, 10.25", "-10.5 points, +1, 10.25"),
            ("- item", "\\- item"),
            ("---", "\\---"),
            ("==", "\\=="),
            ("1. first", "1\\. first"),
            ("1) first", "1\\) first"),
            ("# heading, C#, see #12", "\\# heading, C\\#, see ＃12"),
            ("a | b", "a \\| b"),
            ("[x](http://evil.example)", "\\[x\\](http: //evil .example)"),
            ("![x](//evil.example/a.png)", "\\!\\[x\\](//evil .example/a .png)"),
            ("<https://evil.example>", "\\<https: //evil .example\\>"),
            ("<img src=x> &lt;b&#62; &", "\\<img src=x\\> \\&lt;b\\&＃62; &"),
            ("www.evil.example", "www .evil .example"),
            ("{{ site.title }}", "{ { site .title }}"),
            (
                "@channel @org/team anna@contoso.example",
                "＠channel ＠org/team anna＠contoso .example",
            ),
            ("```sh\nrm\n```", "\\`\\`\\`sh rm \\`\\`\\`"),
            ("~~gone~~ $x$ x^2", "\\~\\~gone\\~\\~ \\$x\\$ x\\^2"),
            ("a\\|b", "a\\\\\\|b"),
            ("\u{1b}[31m\u{202e}", "\u{fffd}\\[31m\u{fffd}"),
        ];

        for (text, expected) in cases {
            assert_eq!(markdown(text, 100), expected, "{text}");
        }
        assert_eq!(markdown("||||", 3), "\\|\\|…", "no escape is cut");
    }

    /// The text with an `x` in place of each character that a backslash escapes.
    fn interpreted(markdown: &str) -> String {
        let (mut rest, mut is_escaped) = (String::new(), false);
        for c in markdown.chars() {
            match (is_escaped, c) {
                (true, _) => rest.push('x'),
                (false, '\\') => {}
                (false, c) => rest.push(c),
            }
            is_escaped = !is_escaped && c == '\\';
        }
        rest
    }

    proptest! {
        #[test]
        fn no_text_in_a_chat_contains_markup(text in ".*", max in 1_usize..200) {
            let written = chat(&text, max);
            prop_assert!(written.chars().count() <= max);
            prop_assert!(!written.chars().any(is_hidden));
            for markup in ["](", "][", "]:", "://", "{{", "@", "*", "`", "<!", "<@", "<#", "<a"] {
                prop_assert!(!written.contains(markup), "{written}");
            }
            prop_assert!(!written.starts_with(['#', '>']));
        }

        #[test]
        fn no_host_remains_in_any_text(
            host in "[a-z0-9][a-z0-9-]{0,9}\\.([a-zA-Z]{2,24}|xn--[a-z0-9]{1,9})",
            before in "[ -~]{0,9}",
            after in "([/:?,)> ].{0,9})?",
        ) {
            let text = format!("{before}{host}{after}");
            for written in [chat(&text, 200), markdown(&text, 200)] {
                prop_assert!(!written.contains(&host), "{written}");
            }
        }

        #[test]
        fn no_text_in_markdown_contains_markup(text in "[ -~\\p{L}\u{1b}\u{202e}\n]*") {
            let written = markdown(&text, 200);
            prop_assert!(!written.chars().any(is_hidden));
            let interpreted = interpreted(&written);
            prop_assert!(!interpreted.contains(MARKUP) && !interpreted.contains('@'), "{written}");
            for link in ["://", "www.", "{{"] {
                prop_assert!(!interpreted.contains(link), "{written}");
            }
            for block in ["- ", "+ ", "--", "==", "1. "] {
                prop_assert!(!interpreted.starts_with(block), "{written}");
            }
        }
    }
}
