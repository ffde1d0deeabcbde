//! Rotation: renames the file of the sink when it is full, and deletes the oldest rotated files.
//!
//! A rotated file is recognized by its exact name, so that files of other programs in the same
//! directory are never deleted.

use jiff::Timestamp;

use crate::{
    files::{FileError, OwnedDirectory},
    model::Day,
};

/// When a file is rotated, and how many rotated files are kept.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rotation {
    /// The maximum size of a file, in bytes.
    pub size: Option<u64>,
    /// Whether a new UTC day begins a new file.
    pub daily: bool,
    /// The number of rotated files to keep; if `None`, all are kept.
    pub keep: Option<usize>,
}

impl Rotation {
    /// Whether a file of `length` bytes, last written on the day `written`, must be rotated before
    /// `more` bytes are appended. An empty file is never rotated, so a batch that is larger than
    /// the maximum size is written to one file.
    pub(super) fn is_due(&self, length: u64, more: u64, written: Day, today: Day) -> bool {
        let full = self.size.is_some_and(|size| length + more > size);
        length > 0 && (full || (self.daily && written != today))
    }

    /// Renames the file to a name with the current time, and deletes the oldest rotated files.
    /// Fails if the directory cannot be read, or a file cannot be renamed or deleted.
    pub(super) fn rotate(
        &self,
        directory: &OwnedDirectory,
        name: &str,
        now: Timestamp,
    ) -> Result<(), FileError> {
        directory.rename(name, &rotated_name(directory, name, now)?)?;
        directory.sync()?;

        let Some(keep) = self.keep else { return Ok(()) };
        let old = rotated_files(directory, name)?;
        for name in old.iter().take(old.len().saturating_sub(keep)) {
            directory.remove(name)?;
        }
        Ok(())
    }
}

/// The name of a rotated file, such as `records.jsonl.20261123T061500Z-000`. The names sort by age:
/// the number at the end is one higher than the highest number of the same second.
fn rotated_name(
    directory: &OwnedDirectory,
    name: &str,
    now: Timestamp,
) -> Result<String, FileError> {
    let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let numbers = rotated_files(directory, name)?.into_iter().filter_map(|other| {
        let (front, number) = other.rsplit_once('-')?;
        front.ends_with(&stamp).then(|| number.parse::<u32>().ok()).flatten()
    });

    let number = numbers.max().map_or(0, |last| last.saturating_add(1));
    Ok(format!("{name}.{stamp}-{number:03}"))
}

/// The names of the rotated files of a file, oldest first.
fn rotated_files(directory: &OwnedDirectory, name: &str) -> Result<Vec<String>, FileError> {
    let is_rotated = |other: &String| {
        let stamp = other.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
        stamp.is_some_and(is_stamp)
    };

    let mut found = directory.names()?;
    found.retain(is_rotated);
    found.sort();
    Ok(found)
}

/// Whether a file name suffix has the form `20261123T061500Z-000`.
fn is_stamp(text: &str) -> bool {
    let Some((stamp, number)) = text.split_once('-') else { return false };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let date_and_time = stamp.strip_suffix('Z').and_then(|stamp| stamp.split_once('T'));
    digits(number)
        && date_and_time
            .is_some_and(|(d, t)| d.len() == 8 && t.len() == 6 && digits(d) && digits(t))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        Day::parse(text).unwrap()
    }

    #[test]
    fn is_due_by_size_or_day_unless_empty() {
        let (one, two) = (day("2026-11-22"), day("2026-11-23"));
        let by_size = Rotation { size: Some(100), ..Rotation::default() };
        let daily = Rotation { daily: true, ..Rotation::default() };
        assert!(by_size.is_due(60, 41, one, one) && !by_size.is_due(60, 40, one, two));
        assert!(
            !by_size.is_due(0, 200, one, one),
            "a batch larger than the limit is written to one file"
        );
        assert!(daily.is_due(1, 1, one, two) && !daily.is_due(1, 1, two, two));
        assert!(!daily.is_due(0, 1, one, two));
    }

    #[test]
    fn deletes_only_the_oldest_rotated_files() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let rotation = Rotation { keep: Some(2), ..Rotation::default() };
        std::fs::write(at("r.jsonl.backup"), "x").unwrap();
        let now: Timestamp = "2026-11-23T06:15:00Z".parse().unwrap();
        let opened = OwnedDirectory::open_for_output(directory.path()).unwrap();
        for n in 0..4 {
            std::fs::write(at("r.jsonl"), format!("{n}")).unwrap();
            rotation.rotate(&opened, "r.jsonl", now).unwrap();
        }

        let kept = rotated_files(&opened, "r.jsonl").unwrap();
        let content = |name: &String| std::fs::read_to_string(at(name)).unwrap();
        let kept: Vec<String> = kept.iter().map(content).collect();
        assert_eq!(kept, ["2", "3"]);
        assert!(at("r.jsonl.backup").exists());
    }
}
