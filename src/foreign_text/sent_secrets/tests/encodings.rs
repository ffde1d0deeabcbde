//! The encodings in which a secret must be found, independent of the code that decodes them.

/// An encoding of a text.
pub(super) type Encode = fn(&str) -> Vec<u8>;

/// Every encoding of any text except Base64, with its name.
pub(super) const ENCODINGS: &[(&str, Encode)] = &[
    ("plain", |text| text.into()),
    ("upper case", |text| text.to_ascii_uppercase().into()),
    ("percent", |text| each_byte(text, |byte| format!("%{byte:02x}"))),
    ("percent, upper case", |text| each_byte(text, |byte| format!("%{byte:02X}"))),
    ("percent, if necessary", |text| percent(text).into()),
    ("percent, twice", |text| percent(text).replace('%', "%25").into()),
    ("form", |text| percent(text).replace("%20", "+").into()),
    ("JavaScript's escape", |text| each_unit(text, |unit| format!("%u{unit:04X}"))),
    ("JSON", |text| json(text).into()),
    ("JSON with slashes", |text| json(text).replace('/', "\\/").into()),
    ("JSON, twice", |text| json(&json(text)).into()),
    ("JSON, all escaped", |text| each_unit(text, |unit| format!("\\u{unit:04x}"))),
    ("JSON, percent", |text| percent(&json(text)).into()),
    ("braces", |text| each_char(text, |c| format!("\\u{{{:x}}}", u32::from(c)))),
    ("eight digits", |text| each_char(text, |c| format!("\\U{:08x}", u32::from(c)))),
    ("hexadecimal", |text| each_byte(text, |byte| format!("\\x{byte:02x}"))),
    ("octal", |text| each_byte(text, |byte| format!("\\{byte:03o}"))),
    ("shell", |text| each_char(text, quoted)),
    ("HTML", |text| html(text).into()),
    ("HTML in JSON", |text| json(&html(text)).into()),
    ("JSON in HTML", |text| html(&json(text)).into()),
    ("HTML, decimal", |text| each_char(text, |c| format!("&#{};", u32::from(c)))),
    ("HTML, hexadecimal", |text| each_char(text, |c| format!("&#x{:X};", u32::from(c)))),
    ("HTML, names", |text| each_char(text, named)),
    ("quoted-printable", |text| each_byte(text, printable)),
    ("quoted-printable, all", |text| each_byte(text, |byte| format!("={byte:02X}"))),
    ("soft line breaks", |text| each_byte(text, |byte| format!("{}=\r\n", printable(byte)))),
    ("UTF-16, little", |text| text.encode_utf16().flat_map(u16::to_le_bytes).collect()),
    ("UTF-16, big", |text| text.encode_utf16().flat_map(u16::to_be_bytes).collect()),
    ("UTF-16 in percent", |text| each_unit(text, percent_unit)),
    ("zeros in debug output", |text| each_char(text, |c| format!("\\0{}", json(&c.to_string())))),
    ("Latin-1 in UTF-8", |text| text.bytes().map(char::from).collect::<String>().into()),
    ("zero-width spaces", |text| each_char(text, |c| format!("{c}\u{200b}"))),
    ("zero-width joiners", |text| each_char(text, |c| format!("\u{200d}{c}"))),
    ("soft hyphens", |text| each_char(text, |c| format!("{c}\u{ad}"))),
    ("soft hyphens in HTML", |text| each_char(text, |c| format!("{c}&shy;"))),
    ("interrupted hexadecimal", |text| {
        each_byte(text, |byte| format!("\\\u{ad}x\u{200b}{byte:02x}"))
    }),
    ("interrupted percent", |text| each_byte(text, |byte| format!("%\u{feff}{byte:02x}"))),
    ("interrupted octal", |text| each_byte(text, |byte| format!("\\\u{2060}{byte:03o}"))),
    ("interrupted HTML", |text| each_char(text, |c| format!("&#\u{200b}{};", u32::from(c)))),
    ("interrupted, twice", |text| {
        each_byte(text, |byte| format!("\\x\u{200b}5c\u{200d}x\r\n{byte:02x}"))
    }),
    ("interrupted by an escape", |text| each_byte(text, |byte| format!("\\x\\u200b{byte:02x}"))),
    ("interrupted quoted-printable", |text| each_byte(text, |byte| format!("=\u{200b}{byte:02X}"))),
    ("line breaks", |text| each_char(text, |c| format!("{c}\r\n"))),
];

/// Names of characters in HTML.
const NAMES: &[(char, &str)] = &[
    ('=', "equals"),
    ('+', "plus"),
    ('/', "sol"),
    ('.', "period"),
    ('_', "lowbar"),
    ('-', "hyphen"),
    ('%', "percnt"),
    ('\\', "bsol"),
    ('&', "amp"),
    ('#', "num"),
    (';', "semi"),
    ('{', "lcub"),
    ('ä', "auml"),
    ('ß', "szlig"),
    ('€', "euro"),
];

/// A text in Windows-1252, with the euro sign as its only character that is not in Latin-1; `None`
/// if it contains others.
pub(super) fn latin_1(text: &str) -> Option<Vec<u8>> {
    let byte = |c: char| match c {
        '€' => Some(0x80),
        c => u8::try_from(u32::from(c)).ok(),
    };
    text.chars().map(byte).collect()
}

fn each_byte(text: &str, encode: impl Fn(u8) -> String) -> Vec<u8> {
    text.bytes().map(encode).collect::<String>().into()
}

fn each_char(text: &str, encode: impl Fn(char) -> String) -> Vec<u8> {
    text.chars().map(encode).collect::<String>().into()
}

fn each_unit(text: &str, encode: impl Fn(u16) -> String) -> Vec<u8> {
    text.encode_utf16().map(encode).collect::<String>().into()
}

fn percent(text: &str) -> String {
    let encode = |byte: u8| {
        let is_kept = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if is_kept { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    text.bytes().map(encode).collect()
}

fn percent_unit(unit: u16) -> String {
    let [low, high] = unit.to_le_bytes();
    format!("%{low:02x}%{high:02x}")
}

/// The content of a string of JSON.
fn json(text: &str) -> String {
    let quoted = serde_json::to_string(text).unwrap();
    quoted[1..quoted.len() - 1].to_owned()
}

fn html(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;")
}

fn named(c: char) -> String {
    let name = NAMES.iter().find(|(known, _)| *known == c);
    name.map_or_else(|| c.to_string(), |(_, name)| format!("&{name};"))
}

fn quoted(c: char) -> String {
    if c.is_ascii_punctuation() || c == ' ' { format!("\\{c}") } else { c.to_string() }
}

fn printable(byte: u8) -> String {
    match byte {
        b'=' => "=3D".to_owned(),
        b'!'..=b'~' => char::from(byte).to_string(),
        _ => format!("={byte:02X}"),
    }
}
