//! References to secrets.
//!
//! The configuration contains only the reference. The secret is read when it is used, so that a
//! rotated file takes effect without a restart, and it is never part of an error or a log line.
//! See decision 0034.

use std::{
    borrow::Cow,
    env::VarError,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};

use super::{hidden::HiddenCharacter, node::Node};
use crate::{
    error::{Explanation, Hint},
    files::{self, FileError, WideEncoding, decode_text},
};

/// Where a secret is read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// The name of a credential that systemd has loaded (`LoadCredential=`), or of a file in
    /// [`SECRETS`].
    Credential(String),
    /// The path of a file.
    File(PathBuf),
    /// The name of an environment variable, for containers. Under systemd a credential is safer,
    /// because child processes inherit the environment.
    Env(String),
}

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error(
        "no credential `{0}`: systemd did not load it, and the file `{SECRETS}/{0}` does not exist"
    )]
    NoCredential(String),
    #[error("cannot read the secret")]
    Read(#[source] FileError),
    #[error("the secret in `{0}` is empty")]
    Empty(String),
    #[error("environment variable `{0}` is not set")]
    NoVariable(String),
    #[error("the secret in `{0}` is not a single line of text")]
    NotALine(String, #[source] NotALine),
}

/// Why a text is not a single line. Contains no part of the text, except for control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotALine {
    /// The position of the first byte that is not valid, counted from 1.
    #[error("it is not UTF-8 from byte {0} on")]
    OtherEncoding(usize),
    #[error("it is {0}, not UTF-8")]
    WideEncoding(&'static str),
    /// The value of the environment variable is not UTF-8.
    #[error("it is not UTF-8")]
    Variable,
    /// The position is that of the first character of the second line, in bytes counted from 1.
    #[error("its second line begins at byte {0}")]
    SecondLine(usize),
    /// The code point, and the position in bytes, counted from 1.
    #[error("it contains the control character U+{0:04X} at byte {1}")]
    ControlCharacter(u32, usize),
}

impl Hint for SecretError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Read(error) => error.hint(),
            Self::NotALine(_, reason) => Some(reason.remedy().into()),
            _ => None,
        }
    }
}

impl NotALine {
    /// Checks a text without its trailing line break.
    fn check(text: &str) -> Result<(), Self> {
        match text.char_indices().find(|(_, c)| c.is_control()) {
            None => Ok(()),
            Some((at, '\n')) => Err(Self::SecondLine(at + 2)),
            Some((at, '\r')) if text[at..].starts_with("\r\n") => Err(Self::SecondLine(at + 3)),
            Some((at, c)) => Err(Self::ControlCharacter(u32::from(c), at + 1)),
        }
    }

    /// What an operator can do about it, as an imperative.
    const fn remedy(self) -> &'static str {
        match self {
            Self::OtherEncoding(_) | Self::WideEncoding(_) => {
                "save the file as UTF-8 without a byte order mark"
            }
            Self::Variable => "set the variable again, and copy only the secret into it",
            Self::SecondLine(_) => "write only the secret, on one line",
            Self::ControlCharacter(..) => {
                "copy the secret again, and write it without this character"
            }
        }
    }
}

impl SecretRef {
    /// The reference that a table with one known name represents.
    pub(super) fn of(node: &Node) -> Option<Self> {
        let table = node.table()?;
        KINDS.into_iter().find_map(|(kind, reference)| table.text(kind).map(reference))
    }

    /// The names of all kinds, each of which is the key of a table with one entry.
    pub(super) fn kinds() -> impl Iterator<Item = &'static str> {
        KINDS.into_iter().map(|(kind, _)| kind)
    }

    /// Reads the secret, without a trailing line break.
    ///
    /// # Errors
    ///
    /// Fails with [`SecretError::NoCredential`], [`SecretError::NoVariable`] or
    /// [`SecretError::Read`] if there is no such secret, or if its file is not a regular file, is
    /// larger than 64 KiB, or can be changed by all users; and with [`SecretError::Empty`] or
    /// [`SecretError::NotALine`] if its text is not usable. No error contains the secret.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        let text = match self {
            Self::Credential(name) => self.read_file(&credential(name)?)?,
            Self::File(path) => self.read_file(path)?,
            Self::Env(name) => std::env::var(name).map_err(|error| match error {
                VarError::NotPresent => SecretError::NoVariable(name.clone()),
                VarError::NotUnicode(_) => {
                    SecretError::NotALine(self.to_string(), NotALine::Variable)
                }
            })?,
        };

        let line = text.strip_suffix('\n').unwrap_or(&text);
        let line = line.strip_suffix('\r').unwrap_or(line);

        if line.is_empty() {
            return Err(SecretError::Empty(self.to_string()));
        }
        NotALine::check(line).map_err(|reason| SecretError::NotALine(self.to_string(), reason))?;
        Ok(SecretString::from(line))
    }

    /// The file that contains the secret. `None` for an environment variable, and for a credential
    /// that does not exist.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Credential(name) => credential(name).ok(),
            Self::File(path) => Some(path.clone()),
            Self::Env(_) => None,
        }
    }

    /// Why the secret is probably not the intended one: an editor or a shell has added something
    /// that is difficult to see. The explanation does not contain the secret. `None` for a secret
    /// that cannot be read, because [`Self::read`] reports that.
    pub fn doubt(&self) -> Option<Explanation> {
        let secret = self.read().ok()?;
        let (what, hint) = doubt(secret.expose_secret())?;
        Some(Explanation::new(format!("the secret in `{self}` {what}")).with_hint(hint))
    }

    fn read_file(&self, path: &Path) -> Result<String, SecretError> {
        let bytes = files::read_secret(path, MAX_SECRET_BYTES).map_err(SecretError::Read)?;
        decode_text(bytes).map_err(|error| {
            let encoding = error.encoding.map(WideEncoding::as_str);
            let other = NotALine::OtherEncoding(error.offset + 1);
            let reason = encoding.map_or(other, NotALine::WideEncoding);
            SecretError::NotALine(self.to_string(), reason)
        })
    }
}

/// The reference that the value of a key in the table represents.
type ReferenceTo = fn(&str) -> SecretRef;

/// The kinds of references: the key of the table, and the reference that its value represents.
const KINDS: [(&str, ReferenceTo); 3] = [
    ("credential", |name| SecretRef::Credential(name.to_owned())),
    ("file", |path| SecretRef::File(PathBuf::from(path))),
    ("env", |name| SecretRef::Env(name.to_owned())),
];

/// What is unusual about the text of a secret, as a predicate, and a hint.
fn doubt(text: &str) -> Option<(String, &'static str)> {
    if text.starts_with('\u{feff}') {
        let hint = "save the file as UTF-8 without a byte order mark";
        return Some(("begins with a byte order mark".to_owned(), hint));
    }

    if let Some(hidden) = HiddenCharacter::in_secret(text) {
        let what = format!("contains {hidden}");
        return Some((what, "copy the secret again, and write it without this character"));
    }

    if text.starts_with(' ') || text.ends_with(' ') {
        let end = if text.starts_with(' ') { "begins" } else { "ends" };
        return Some((format!("{end} with a space"), "remove the space"));
    }

    let mut letters = text.chars();
    let ends = letters.next().zip(letters.next_back());
    if ends.is_some_and(|ends| QUOTATION_MARKS.contains(&ends)) {
        return Some(("is in quotation marks".to_owned(), "remove the quotation marks"));
    }

    is_assignment(text)
        .then(|| ("has the form `NAME=value`".to_owned(), "write only the value, without its name"))
}

/// Whether a text assigns a value to a variable, as in the file of an environment: to a name in
/// upper case, to one such as `client_secret`, or after `export`. Connection strings begin with
/// names such as `Endpoint`.
fn is_assignment(text: &str) -> bool {
    let (is_exported, text) = match text.strip_prefix("export ") {
        Some(rest) => (true, rest.trim_start()),
        None => (false, text),
    };
    text.split_once('=').is_some_and(|(name, value)| {
        let is_word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let is_upper = !name.bytes().any(|b| b.is_ascii_lowercase());
        let is_snake = !name.bytes().any(|b| b.is_ascii_uppercase()) && name.contains('_');
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && is_word
            && (is_upper || is_snake || is_exported)
            && !value.trim_matches('=').is_empty()
    })
}

impl std::fmt::Display for SecretRef {
    /// Prints the reference, which is not secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Credential(name) => write!(f, "credential {name}"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Env(name) => write!(f, "${name}"),
        }
    }
}

/// Pairs of marks around a text, which an editor, a shell or a word processor has added.
const QUOTATION_MARKS: [(char, char); 5] =
    [('"', '"'), ('\'', '\''), ('`', '`'), ('\u{201c}', '\u{201d}'), ('\u{2018}', '\u{2019}')];

/// The directory whose files the systemd unit loads as credentials, and where commands that run
/// outside the unit look for them.
const SECRETS: &str = "/etc/secure-score-forwarder/secrets";
/// The maximum size of the file of a secret; a key of a Google service account has about 2 KiB.
const MAX_SECRET_BYTES: u64 = 64 << 10;
/// The prefix that systemd adds to the file names of a directory that is loaded with
/// `LoadCredential=secrets:…`.
const DIRECTORY_PREFIX: &str = "secrets_";

/// The path of a credential. In the unit it is the credential that was loaded under this name, or
/// as part of its directory; outside the unit it is the file itself.
fn credential(name: &str) -> Result<PathBuf, SecretError> {
    let candidates = match std::env::var_os("CREDENTIALS_DIRECTORY") {
        Some(directory) => {
            let directory = Path::new(&directory);
            vec![
                directory.join(name),
                directory.join(format!("{DIRECTORY_PREFIX}{name}")),
                // systemd loads credentials only when the unit starts, so a file that was added
                // later is read directly.
                Path::new(SECRETS).join(name),
            ]
        }
        None => vec![Path::new(SECRETS).join(name)],
    };

    // A file that exists but is not accessible counts as found, so that the read error is reported.
    let may_exist = |path: &PathBuf| !matches!(path.try_exists(), Ok(false));
    candidates.into_iter().find(may_exist).ok_or_else(|| SecretError::NoCredential(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_a_trailing_line_break() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let read = |text: &str| {
            fs_err::write(&path, text).unwrap();
            SecretRef::File(path.clone()).read().map(|s| s.expose_secret().to_owned())
        };

        assert_eq!(read("abc~ 1\n").unwrap(), "abc~ 1");
        assert_eq!(read("abc\r\n").unwrap(), "abc");
        assert!(matches!(read(""), Err(SecretError::Empty(_))));
        assert!(matches!(read("a\nb\n"), Err(SecretError::NotALine(..))));

        let debug = format!("{:?}", SecretRef::File(path.clone()).read());
        fs_err::write(&path, "canary").unwrap();
        assert!(!debug.contains("canary"));
    }

    /// Regression: every fault was reported as `not a single line of text`, without its position.
    #[test]
    fn texts_of_several_lines_name_the_byte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        for (bytes, reason) in [
            (&b"ab\ncd\n"[..], "its second line begins at byte 4"),
            (&b"ab\r\ncd"[..], "its second line begins at byte 5"),
            (&b"\nab\n"[..], "its second line begins at byte 2"),
            (&b"ab\t\n"[..], "it contains the control character U+0009 at byte 3"),
            (&b"s\xfccret"[..], "it is not UTF-8 from byte 2 on"),
            (&b"\xff\xfea\0b\0"[..], "it is UTF-16, not UTF-8"),
        ] {
            fs_err::write(&path, bytes).unwrap();
            let error = SecretRef::File(path.clone()).read().unwrap_err();
            let explanation = Explanation::of(&error);
            let expected = format!(
                "the secret in `{}` is not a single line of text: {reason}",
                path.display()
            );
            assert_eq!(explanation.message, expected);
            assert!(explanation.hint.is_some(), "{reason}");
        }
    }

    /// Regression: a secret with a character that an editor had added passed `check`, and the hint
    /// of the rejected sign-in named another cause.
    #[test]
    fn invisible_additions_to_secrets_are_reported() {
        let cases = [
            ("\u{feff}s3cr3t", Some("begins with a byte order mark")),
            ("s3cr3t\u{a0}", Some("contains the invisible character U+00A0 at byte 7")),
            ("s3\u{200b}cr3t", Some("contains the invisible character U+200B at byte 3")),
            ("s3cr3t ", Some("ends with a space")),
            (" s3cr3t", Some("begins with a space")),
            ("\"s3cr3t\"", Some("is in quotation marks")),
            ("\u{201c}s3cr3t\u{201d}", Some("is in quotation marks")),
            ("s3cr3t\u{2066}", Some("contains the invisible character U+2066 at byte 7")),
            ("s3cr3t\u{fe0f}", Some("contains the invisible character U+FE0F at byte 7")),
            ("CLIENT_SECRET=s3cr3t", Some("has the form `NAME=value`")),
            ("client_secret=s3cr3t", Some("has the form `NAME=value`")),
            ("export secret=s3cr3t", Some("has the form `NAME=value`")),
            ("Endpoint=sb://a.example/;SharedAccessKey=QUJD", None),
            ("\"", None),
            ("s3~cr.3t with spaces", None),
            ("QUJD=", None),
            ("QUJDRA==", None),
            ("11111111-2222-4333-8444-555555555555", None),
        ];

        for (text, expected) in cases {
            let found = doubt(text).map(|(what, _)| what);
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }
}
