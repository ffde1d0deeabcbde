//! Rotation: renames the file of the sink when it is full, and deletes the oldest rotated files.
//!
//! A rotated file is recognized by its exact name, so that files of other programs in the same
//! directory are never deleted. Another user who can write to the directory can plant such names,
//! so only a file that the sink itself would use counts as a rotated one. Start reading at
//! [`Rotation::rotate`]. See decision 0088.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;

use crate::{
    error::chain,
    files::{FileError, OwnedDirectory},
    model::Day,
};

/// When a file is rotated, and how many rotated files are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct Rotation {
    /// The maximum size of a file, in bytes.
    pub size: Option<u64>,
    /// Whether a new UTC day begins a new file.
    pub daily: bool,
    /// The number of rotated files to keep; if `None`, all are kept.
    pub keep: Option<usize>,
    /// Whether the log contains a warning that old files cannot be deleted.
    pub is_reported: Arc<AtomicBool>,
}

impl Rotation {
    /// Whether a file of `length` bytes, last written on the day `written`, must be rotated before
    /// `more` bytes are appended. An empty file is never rotated, so a batch that is larger than
    /// the maximum size is written to one file.
    pub(super) fn is_due(&self, length: u64, more: u64, written: Day, today: Day) -> bool {
        let full = self.size.is_some_and(|size| length + more > size);
        length > 0 && (full || (self.daily && written != today))
    }

    /// Renames the file to a name with the current time, and deletes the oldest rotated files. A
    /// file that cannot be deleted does not prevent the delivery: it is reported once.
    /// Fails if the directory cannot be read, or the file cannot be renamed.
    pub(super) fn rotate(
        &self,
        directory: &OwnedDirectory,
        name: &str,
        now: Timestamp,
    ) -> Result<(), FileError> {
        directory.rename(name, &rotated_name(directory, name, now)?)?;
        directory.sync()?;

        match self.keep.map(|keep| delete_oldest(directory, name, keep)) {
            Some(Err(error)) => self.report(&error),
            Some(Ok(())) => self.is_reported.store(false, Ordering::Relaxed),
            None => {}
        }
        Ok(())
    }

    /// Warns that old files remain, unless an earlier rotation has done so.
    fn report(&self, error: &FileError) {
        if !self.is_reported.swap(true, Ordering::Relaxed) {
            let error = chain(error);
            tracing::warn!(
                error,
                "cannot delete old rotated files: more files than `rotate_keep` remain"
            );
        }
    }
}

/// Deletes all rotated files but the newest `keep`. Returns the first error after it has tried to
/// delete each of them.
fn delete_oldest(directory: &OwnedDirectory, name: &str, keep: usize) -> Result<(), FileError> {
    let names = directory.names()?;
    let rotated = rotated_files(directory, name, &names);
    let excess = rotated.len().saturating_sub(keep);

    let mut first_error = None;
    for old in rotated.iter().take(excess) {
        if let Err(error) = directory.remove_if_exists(old) {
            first_error.get_or_insert(error);
        }
    }
    first_error.map_or(Ok(()), Err)
}

/// The name of a rotated file, such as `records.jsonl.20261123T061500Z-000`, which nothing in the
/// directory has. The names sort by age: the number at the end is higher than the highest number of
/// the same second.
fn rotated_name(
    directory: &OwnedDirectory,
    name: &str,
    now: Timestamp,
) -> Result<String, FileError> {
    let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let names = directory.names()?;
    let rotated = rotated_files(directory, name, &names);
    let numbers = rotated.into_iter().filter_map(|other| {
        let (front, number) = other.rsplit_once('-')?;
        front.ends_with(&stamp).then(|| number.parse::<u32>().ok()).flatten()
    });

    // What another user has planted under such a name is neither counted nor replaced.
    let taken: HashSet<&str> = names.iter().map(String::as_str).collect();
    let mut number = numbers.max().map_or(0, |last| last.saturating_add(1));
    loop {
        let new = format!("{name}.{stamp}-{number:03}");
        if number == u32::MAX || !taken.contains(new.as_str()) {
            return Ok(new);
        }
        number = number.saturating_add(1);
    }
}

/// The names of the rotated files of a file among the names of a directory, oldest first.
fn rotated_files<'a>(directory: &OwnedDirectory, name: &str, names: &'a [String]) -> Vec<&'a str> {
    let is_rotated = |other: &&str| {
        let stamp = other.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
        stamp.is_some_and(is_stamp) && matches!(directory.inspect(other), Ok(Some(_)))
    };

    let mut found: Vec<&str> = names.iter().map(String::as_str).filter(is_rotated).collect();
    found.sort_unstable();
    found
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

        let names = opened.names().unwrap();
        let content = |name: &&str| std::fs::read_to_string(at(name)).unwrap();
        let kept: Vec<String> =
            rotated_files(&opened, "r.jsonl", &names).iter().map(content).collect();
        assert_eq!(kept, ["2", "3"]);
        assert!(at("r.jsonl.backup").exists());
    }

    /// Regression: another user planted names of rotated files in the directory: later ones, for
    /// which the sink deleted its own files, and an early directory, which parked the sink.
    #[test]
    fn planted_names_are_not_rotated_files() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let now: Timestamp = "2026-11-23T06:15:00Z".parse().unwrap();
        std::fs::write(at("r.jsonl"), "current").unwrap();
        std::fs::write(at("r.jsonl.20261122T061500Z-000"), "acknowledged").unwrap();
        std::fs::write(at("r.jsonl.20261121T061500Z-000"), "oldest").unwrap();

        std::fs::create_dir(at("r.jsonl.19990101T000000Z-000")).unwrap();
        std::fs::create_dir(at("r.jsonl.20261123T061500Z-000")).unwrap();
        std::fs::create_dir(at("r.jsonl.20261123T061500Z-4294967295")).unwrap();
        std::os::unix::fs::symlink(at("r.jsonl"), at("r.jsonl.20990101T000000Z-000")).unwrap();
        std::fs::write(at("canary"), "").unwrap();
        std::fs::hard_link(at("canary"), at("r.jsonl.20990101T000000Z-001")).unwrap();
        let mut planted = 6;
        if rustix::process::geteuid().is_root() {
            for (stamp, number) in [("20990101", 2), ("20990101", 3), ("19990101", 1)] {
                let path = at(&format!("r.jsonl.{stamp}T000000Z-00{number}"));
                std::fs::write(&path, "").unwrap();
                std::os::unix::fs::chown(path, Some(65_534), Some(65_534)).unwrap();
                planted += 1;
            }
        }

        let rotation = Rotation { keep: Some(2), ..Rotation::default() };
        let opened = OwnedDirectory::open_for_output(directory.path()).unwrap();
        rotation.rotate(&opened, "r.jsonl", now).unwrap();
        let content = |name: &str| std::fs::read_to_string(at(name)).unwrap();
        assert_eq!(content("r.jsonl.20261123T061500Z-001"), "current");
        assert_eq!(content("r.jsonl.20261122T061500Z-000"), "acknowledged");
        assert!(!at("r.jsonl.20261121T061500Z-000").exists());
        assert_eq!(opened.names().unwrap().len(), planted + 2, "nothing else was deleted");
    }
}
