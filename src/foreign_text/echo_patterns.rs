//! Finds secrets in a text of any encoding.
//!
//! Long secrets are found by their parts of eight bytes, so one that the peer has cut is found too,
//! and the time does not depend on the number of secrets. A large text is searched in windows that
//! overlap, so the memory is limited. Start reading at [`EchoPatterns`]. See decision 0086.

use std::{collections::HashSet, ops::Range};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};

use super::echo::{EchoEncoding, EchoText};

/// The length of the parts of a secret that are found.
const PART_BYTES: usize = 8;
/// The minimum length of a secret that is found within a word.
const MIN_BYTES: usize = 4;
/// The length of a window of a text, and of its overlap with the next one. A part of a secret that
/// is encoded twice has at most 12 times its length.
const WINDOW_BYTES: usize = 32 << 10;
const OVERLAP_BYTES: usize = 1 << 10;
/// How many encodings can be combined.
const MAX_DEPTH: usize = 2;

/// What is searched for, in lower case.
#[derive(Default)]
pub(super) struct EchoPatterns {
    /// The parts of long secrets.
    parts: HashSet<[u8; PART_BYTES]>,
    /// Whether a part begins with two bytes, by their number, which excludes most positions of a
    /// text. Empty if there are no parts.
    beginnings: Vec<bool>,
    /// Values that are found only completely.
    whole: Vec<Vec<u8>>,
    /// Values that are found only as a whole word.
    words: Vec<Vec<u8>>,
}

impl EchoPatterns {
    /// Adds a secret and its encodings in Base64.
    pub(super) fn add_secret(&mut self, secret: &[u8]) {
        if secret.len() < MIN_BYTES {
            self.words.push(secret.to_ascii_lowercase());
            return;
        }
        self.add_parts(secret);
        for form in base64_forms(secret) {
            self.add_parts(form.as_bytes());
        }
    }

    /// Adds a value whose parts are not secret.
    pub(super) fn add_whole(&mut self, value: &[u8]) {
        self.whole.push(value.to_ascii_lowercase());
    }

    /// The ranges of a text that contain secrets, in order and without overlaps.
    pub(super) fn find(&self, text: &[u8]) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let mut start = 0;
        loop {
            let end = text.len().min(start + WINDOW_BYTES);
            let mut in_window = Vec::new();
            self.find_decoded(&EchoText::new(&text[start..end], start), MAX_DEPTH, &mut in_window);
            // A text that repeats a secret again and again has a match at each of its bytes.
            found.append(&mut merged(in_window));
            if end == text.len() {
                return merged(found);
            }
            start = end - OVERLAP_BYTES;
        }
    }

    fn add_parts(&mut self, secret: &[u8]) {
        let secret = secret.to_ascii_lowercase();
        if secret.len() < PART_BYTES {
            self.whole.push(secret);
            return;
        }
        self.beginnings.resize(1 << 16, false);
        for part in secret.windows(PART_BYTES) {
            let mut key = [0; PART_BYTES];
            key.copy_from_slice(part);
            self.beginnings[beginning(part)] = true;
            self.parts.insert(key);
        }
    }

    /// Searches a text, and the text after each encoding of it is decoded, up to `depth` times.
    fn find_decoded(&self, echo: &EchoText, depth: usize, found: &mut Vec<Range<usize>>) {
        self.find_plain(echo, found);
        if depth == 0 {
            return;
        }
        for encoding in EchoEncoding::ALL {
            if let Some(decoded) = echo.decoded(encoding) {
                self.find_decoded(&decoded, depth - 1, found);
            }
        }
    }

    fn find_plain(&self, echo: &EchoText, found: &mut Vec<Range<usize>>) {
        let text = echo.bytes().to_ascii_lowercase();
        let mut record = |start: usize, length: usize| {
            found.extend(echo.position(start..start + length));
        };

        if !self.parts.is_empty() {
            for (start, part) in text.windows(PART_BYTES).enumerate() {
                if self.beginnings[beginning(part)] && self.parts.contains(part) {
                    record(start, PART_BYTES);
                }
            }
        }

        for value in &self.whole {
            for (start, _) in occurrences(&text, value) {
                record(start, value.len());
            }
        }
        for word in &self.words {
            for (start, end) in occurrences(&text, word) {
                let before = start.checked_sub(1).and_then(|at| text.get(at));
                let is_part = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
                if !is_part(before) && !is_part(text.get(end)) {
                    record(start, word.len());
                }
            }
        }
    }
}

/// The number of the first two bytes of a part.
fn beginning(part: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([part[0], part[1]]))
}

/// The parts of Base64 that depend on the secret alone, in both alphabets (RFC 4648), if zero, one
/// or two other bytes precede it in its group of three.
fn base64_forms(secret: &[u8]) -> Vec<String> {
    let mut forms = Vec::new();
    for (preceding, dependent) in [(0, 0), (1, 2), (2, 3)] {
        let mut bytes = vec![0; preceding];
        bytes.extend_from_slice(secret);
        // The last digit can also depend on what follows.
        let end = bytes.len() * 8 / 6;
        for encoded in [STANDARD_NO_PAD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)] {
            forms.push(encoded[dependent..end].to_owned());
        }
    }
    forms
}

/// The beginning and the end of each occurrence of a value that is not empty.
fn occurrences<'a>(text: &'a [u8], value: &'a [u8]) -> impl Iterator<Item = (usize, usize)> + 'a {
    let windows = text.windows(value.len().max(1)).enumerate();
    windows.filter(move |(_, part)| *part == value).map(|(at, part)| (at, at + part.len()))
}

/// The ranges in order. Those that overlap or adjoin become one.
fn merged(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}
