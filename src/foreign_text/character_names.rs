//! The names of characters in the character references of HTML, such as `equals` in `&equals;`.
//! Only those that can represent a character of a secret, or be between its characters, are listed.
//! Source: the section "Named character references" of the HTML Standard.

/// The names of the characters from U+00A0 to U+00FF. Upper and lower case differ.
const LATIN_1: [&str; 96] = [
    "nbsp", "iexcl", "cent", "pound", "curren", "yen", "brvbar", "sect", "uml", "copy", "ordf",
    "laquo", "not", "shy", "reg", "macr", "deg", "plusmn", "sup2", "sup3", "acute", "micro",
    "para", "middot", "cedil", "sup1", "ordm", "raquo", "frac14", "frac12", "frac34", "iquest",
    "Agrave", "Aacute", "Acirc", "Atilde", "Auml", "Aring", "AElig", "Ccedil", "Egrave", "Eacute",
    "Ecirc", "Euml", "Igrave", "Iacute", "Icirc", "Iuml", "ETH", "Ntilde", "Ograve", "Oacute",
    "Ocirc", "Otilde", "Ouml", "times", "Oslash", "Ugrave", "Uacute", "Ucirc", "Uuml", "Yacute",
    "THORN", "szlig", "agrave", "aacute", "acirc", "atilde", "auml", "aring", "aelig", "ccedil",
    "egrave", "eacute", "ecirc", "euml", "igrave", "iacute", "icirc", "iuml", "eth", "ntilde",
    "ograve", "oacute", "ocirc", "otilde", "ouml", "divide", "oslash", "ugrave", "uacute", "ucirc",
    "uuml", "yacute", "thorn", "yuml",
];

/// The names of other characters, regardless of the case: the punctuation of ASCII, the euro sign,
/// and characters that are not visible. The standard has no name for `-` and `~`; the names of
/// similar characters represent them.
const NAMES: &[(&str, char)] = &[
    ("Tab", '\t'),
    ("NewLine", '\n'),
    ("excl", '!'),
    ("quot", '"'),
    ("num", '#'),
    ("dollar", '$'),
    ("percnt", '%'),
    ("amp", '&'),
    ("apos", '\''),
    ("lpar", '('),
    ("rpar", ')'),
    ("ast", '*'),
    ("midast", '*'),
    ("plus", '+'),
    ("comma", ','),
    ("hyphen", '-'),
    ("dash", '-'),
    ("minus", '-'),
    ("period", '.'),
    ("sol", '/'),
    ("colon", ':'),
    ("semi", ';'),
    ("lt", '<'),
    ("equals", '='),
    ("gt", '>'),
    ("quest", '?'),
    ("commat", '@'),
    ("lsqb", '['),
    ("lbrack", '['),
    ("bsol", '\\'),
    ("rsqb", ']'),
    ("rbrack", ']'),
    ("Hat", '^'),
    ("lowbar", '_'),
    ("UnderBar", '_'),
    ("grave", '`'),
    ("DiacriticalGrave", '`'),
    ("lcub", '{'),
    ("lbrace", '{'),
    ("verbar", '|'),
    ("vert", '|'),
    ("VerticalLine", '|'),
    ("rcub", '}'),
    ("rbrace", '}'),
    ("tilde", '~'),
    ("NonBreakingSpace", '\u{a0}'),
    ("euro", '€'),
    ("ZeroWidthSpace", '\u{200b}'),
    ("NegativeThinSpace", '\u{200b}'),
    ("NegativeVeryThinSpace", '\u{200b}'),
    ("NegativeMediumSpace", '\u{200b}'),
    ("NegativeThickSpace", '\u{200b}'),
    ("zwnj", '\u{200c}'),
    ("zwj", '\u{200d}'),
    ("lrm", '\u{200e}'),
    ("rlm", '\u{200f}'),
    ("NoBreak", '\u{2060}'),
    ("ApplyFunction", '\u{2061}'),
    ("af", '\u{2061}'),
    ("InvisibleTimes", '\u{2062}'),
    ("it", '\u{2062}'),
    ("InvisibleComma", '\u{2063}'),
    ("ic", '\u{2063}'),
];

/// The character with this name; `None` if it is not listed.
pub(super) fn named_character(name: &str) -> Option<char> {
    if let Some(index) = LATIN_1.iter().position(|known| *known == name) {
        return char::from_u32(u32::try_from(0xa0 + index).ok()?);
    }
    let found = NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
    found.map(|(_, character)| *character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_punctuation_has_a_name() {
        for c in ('!'..='~').filter(char::is_ascii_punctuation) {
            assert!(NAMES.iter().any(|(_, named)| *named == c), "{c}");
        }
    }

    #[test]
    fn names_of_letters_differ_by_case() {
        for (name, expected) in [
            ("nbsp", Some('\u{a0}')),
            ("Auml", Some('Ä')),
            ("auml", Some('ä')),
            ("szlig", Some('ß')),
            ("divide", Some('÷')),
            ("yuml", Some('ÿ')),
            ("AMP", Some('&')),
            ("Equals", Some('=')),
            ("AUML", None),
            ("", None),
        ] {
            assert_eq!(named_character(name), expected, "{name}");
        }
    }
}
