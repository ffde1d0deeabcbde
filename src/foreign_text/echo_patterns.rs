//! Finds secrets in a text of any encoding.
//!
//! The text and the secrets are decoded in the same way until nothing is left to decode, and their
//! comparable forms are compared after each step, so a secret that looks like an escape sequence is
//! found too. Long secrets are found by their parts of eight bytes, so one that the peer has cut is
//! found, and the time does not depend on the number of secrets. A large text is searched in
//! windows that overlap, so the memory is limited; a `SearchBudget` limits the work. Start reading
//! at [`EchoPatterns`]. See decision 0086.

use std::{
    collections::{BTreeSet, HashSet},
    ops::Range,
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};

use super::{
    echo::{EchoEncoding, EchoText},
    search_budget::{SearchBudget, SearchTooLong},
};

/// The maximum length of an encoded part of a secret that is found in a text of any length. A part
/// whose bytes are all escaped twice has at most 36 times its length.
pub(super) const MAX_ENCODED_BYTES: usize = 4 << 10;

/// The length of the parts of a secret that are found.
const PART_BYTES: usize = 8;
/// The minimum length of a secret that is found within a word.
const MIN_BYTES: usize = 4;
/// The minimum length of the decoded form of a longer secret.
const MIN_DECODED_BYTES: usize = 3;
/// The length of a window of a text. It overlaps with the next one by [`MAX_ENCODED_BYTES`].
const WINDOW_BYTES: usize = 32 << 10;
/// How many encodings, one within the other, are decoded. Characters of Latin-1 count as one.
const MAX_DEPTH: usize = 4;

/// What is searched for, in the comparable form.
#[derive(Default)]
pub(super) struct EchoPatterns {
    /// The parts of long secrets.
    parts: HashSet<[u8; PART_BYTES]>,
    /// Values that are found only completely.
    whole: BTreeSet<Vec<u8>>,
    /// Values that are found only as a whole word.
    words: BTreeSet<Vec<u8>>,
    /// Whether a part or a whole value begins with two bytes, by their number, which excludes most
    /// positions of a text. Empty if there are none.
    beginnings: Vec<bool>,
}

/// The secrets in a text.
#[derive(Debug)]
pub(super) struct FoundSecrets {
    /// Their ranges, in order and without overlaps.
    pub ranges: Vec<Range<usize>>,
    /// Whether the whole text was searched. Otherwise, the last range is the rest of the text.
    pub is_complete: bool,
}

impl EchoPatterns {
    /// Adds a secret, its decoded forms, and its encodings in Base64.
    pub(super) fn add_secret(&mut self, secret: &[u8]) {
        if secret.len() < MIN_BYTES {
            let word = EchoText::new(secret).comparable().into_bytes();
            if !word.is_empty() {
                self.words.insert(word);
            }
            return;
        }

        for form in comparable_forms(secret) {
            self.add_parts(form);
        }
        for form in base64_forms(secret) {
            self.add_parts(EchoText::new(form.as_bytes()).comparable().into_bytes());
        }
    }

    /// Adds a value whose parts are not secret, and its decoded forms.
    pub(super) fn add_whole(&mut self, value: &[u8]) {
        for form in comparable_forms(value) {
            if form.len() >= PART_BYTES {
                self.mark(&form);
                self.whole.insert(form);
            }
        }
    }

    /// The ranges of a text that contain secrets. If the budget is exceeded, the window that is
    /// being searched then, and everything after it, counts as one.
    pub(super) fn find(&self, text: &[u8], budget: &SearchBudget) -> FoundSecrets {
        let mut found = Vec::new();
        let mut start = 0;
        loop {
            let end = text.len().min(start + WINDOW_BYTES);
            let window = EchoText::new(&text[start..end]);
            let mut in_window = Vec::new();
            let (depth, encodings) = (MAX_DEPTH, EchoEncoding::ALL);
            let searched = self.find_decoded(&window, depth, encodings, budget, &mut in_window);

            let in_window = merged(in_window).into_iter();
            found.extend(in_window.map(|range| range.start + start..range.end + start));
            if searched.is_err() {
                found.push(start..text.len());
            }
            if searched.is_err() || end == text.len() {
                return FoundSecrets { ranges: merged(found), is_complete: searched.is_ok() };
            }
            start = end - MAX_ENCODED_BYTES;
        }
    }

    fn add_parts(&mut self, form: Vec<u8>) {
        match form.len() {
            0..MIN_DECODED_BYTES => {}
            MIN_DECODED_BYTES..MIN_BYTES => {
                self.words.insert(form);
            }
            MIN_BYTES..PART_BYTES => {
                self.mark(&form);
                self.whole.insert(form);
            }
            _ => {
                for part in form.windows(PART_BYTES) {
                    let mut key = [0; PART_BYTES];
                    key.copy_from_slice(part);
                    self.mark(part);
                    self.parts.insert(key);
                }
            }
        }
    }

    fn mark(&mut self, value: &[u8]) {
        self.beginnings.resize(1 << 16, false);
        self.beginnings[beginning(value)] = true;
    }

    /// Searches a text, and the text after each of the encodings is decoded, up to `depth` times.
    /// Before each step, invisible characters within the escapes are removed. Fails if the budget
    /// is exceeded.
    fn find_decoded(
        &self,
        text: &EchoText,
        depth: usize,
        encodings: &'static [EchoEncoding],
        budget: &SearchBudget,
        found: &mut Vec<Range<usize>>,
    ) -> Result<(), SearchTooLong> {
        budget.reserve(text.bytes().len())?;
        self.find_comparable(&text.comparable(), found);
        if depth == 0 {
            return Ok(());
        }

        let visible = text.visible();
        for encoding in encodings {
            for decoded in text.all_decoded(visible.as_ref(), *encoding) {
                let inner = encoding.inner(encodings);
                self.find_decoded(&decoded, depth - 1, inner, budget, found)?;
            }
        }
        Ok(())
    }

    fn find_comparable(&self, text: &EchoText, found: &mut Vec<Range<usize>>) {
        let bytes = text.bytes();
        let mut record = |start: usize, length: usize| {
            let Some(range) = text.position(start..start + length) else { return };
            // A text that repeats a secret again and again has a match at each of its bytes.
            match found.last_mut() {
                Some(last) if (last.start..=last.end).contains(&range.start) => {
                    last.end = last.end.max(range.end);
                }
                _ => found.push(range),
            }
        };

        if !self.beginnings.is_empty() {
            for (start, pair) in bytes.windows(2).enumerate() {
                if !self.beginnings[beginning(pair)] {
                    continue;
                }
                let rest = &bytes[start..];
                if rest.get(..PART_BYTES).is_some_and(|part| self.parts.contains(part)) {
                    record(start, PART_BYTES);
                }
                for value in self.whole.iter().filter(|value| rest.starts_with(value)) {
                    record(start, value.len());
                }
            }
        }

        let is_alphanumeric = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        for word in &self.words {
            for (start, end) in occurrences(bytes, word) {
                let before = start.checked_sub(1).and_then(|at| bytes.get(at));
                let is_continuation = is_alphanumeric(before) && text.is_adjacent(start);
                let is_continued = is_alphanumeric(bytes.get(end)) && text.is_adjacent(end);
                if !is_continuation && !is_continued {
                    record(start, word.len());
                }
            }
        }
    }
}

/// The comparable forms of a value: as it is sent, also with single bytes for the characters of
/// Latin-1, and after each further decoding.
fn comparable_forms(value: &[u8]) -> Vec<Vec<u8>> {
    let sent = EchoText::new(value);
    let single_bytes = sent.in_single_bytes();

    let mut forms = Vec::new();
    for first in [Some(sent), single_bytes] {
        let mut next = first;
        for _ in 0..=MAX_DEPTH {
            let Some(text) = next else { break };
            forms.push(text.comparable().into_bytes());
            next = text.decoded(EchoEncoding::Escapes);
        }
    }
    forms
}

/// The number of the first two bytes of a value.
fn beginning(value: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([value[0], value[1]]))
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
