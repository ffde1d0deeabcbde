//! Rotation: renames the file of the sink when it is full, and deletes the oldest rotated files.
//!
//! A rotated file is recognized by its exact name, so that files of other programs in the same
//! directory are never deleted.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::model::Day;

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
    pub(super) fn rotate(&self, path: &Path, now: Timestamp) -> std::io::Result<()> {
        let to = rotated_path(path, now)?;
        fs_err::rename(path, &to)?;
        if let Some(directory) = path.parent() {
            fs_err::File::open(directory)?.sync_all()?;
        }

        let Some(keep) = self.keep else { return Ok(()) };
        let old = rotated_files(path)?;
        for path in old.iter().take(old.len().saturating_sub(keep)) {
            fs_err::remove_file(path)?;
        }
        Ok(())
    }
}

/// The name of a rotated file, such as `records.jsonl.20261123T061500Z-000`. The names sort by age:
/// the number at the end is one higher than the highest number of the same second.
fn rotated_path(path: &Path, now: Timestamp) -> std::io::Result<PathBuf> {
    let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let numbers = rotated_files(path)?.into_iter().filter_map(|other| {
        let name = other.to_str()?;
        let (front, number) = name.rsplit_once('-')?;
        front.ends_with(&stamp).then(|| number.parse::<u32>().ok()).flatten()
    });

    let number = numbers.max().map_or(0, |last| last + 1);
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{stamp}-{number:03}"));
    Ok(PathBuf::from(name))
}

/// The rotated files of a path, oldest first.
fn rotated_files(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|n| n.to_str()))
    else {
        return Ok(Vec::new());
    };

    let mut found = Vec::new();
    for entry in fs_err::read_dir(directory)? {
        let entry = entry?;
        let other = entry.file_name();
        let stamp = other.to_str().and_then(|other| other.strip_prefix(name)?.strip_prefix('.'));
        if stamp.is_some_and(is_stamp) {
            found.push(entry.path());
        }
    }

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
        let path = directory.path().join("r.jsonl");
        let rotation = Rotation { keep: Some(2), ..Rotation::default() };
        let other = directory.path().join("r.jsonl.backup");
        std::fs::write(&other, "x").unwrap();
        let now: Timestamp = "2026-11-23T06:15:00Z".parse().unwrap();
        for n in 0..4 {
            std::fs::write(&path, format!("{n}")).unwrap();
            rotation.rotate(&path, now).unwrap();
        }

        let kept = rotated_files(&path).unwrap();
        let kept: Vec<String> = kept.iter().map(|p| std::fs::read_to_string(p).unwrap()).collect();
        assert_eq!(kept, ["2", "3"]);
        assert!(other.exists());
    }
}
