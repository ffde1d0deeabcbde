//! A file of lines. Acknowledgement: `fdatasync` returned. The length up to which records are confirmed is
//! kept with the cursor, and the file is cut back to it when it is opened, so that a crash leaves
//! neither a torn line nor a record twice. A file that is full is put aside between two batches, and
//! the mark of the next is kept before anything is written to it.

mod rotation;

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use self::rotation::Rotation;
use super::{
    Acknowledgement, Batch, BoxFuture, Context, LINE_FORMAT, Failure, Limits, Plan, Receipt,
    EncodeError, Sink, chain, formatter, read_format,
};
use crate::{
    clock,
    format::{FormatName, Formatter},
    model::{Day, Record},
    settings::{Key, Section, Shape, optional, required},
};

pub(super) const KEYS: &[Key] = &[
    required("path", Shape::Text, "The file to append to."),
    LINE_FORMAT,
    optional("rotate_size", Shape::Size, "A file that would become larger is put aside."),
    optional("rotate_daily", Shape::Bool, "A file is put aside when the UTC day is over."),
    optional(
        "rotate_keep",
        Shape::Integer { min: 1, max: 100_000 },
        "Files put aside that stay; default: all.",
    ),
];

#[derive(Debug)]
struct FilePlan {
    path: PathBuf,
    format: FormatName,
    rotation: Rotation,
}

struct FileSink {
    path: PathBuf,
    file: File,
    /// Bytes up to which everything is confirmed.
    length: u64,
    identity: Identity,
    /// The day on which it was last written to.
    day: Day,
    rotation: Rotation,
    /// Bytes of the heading.
    heading: u64,
    formatter: Formatter,
}

/// Which file it is: the same path may be another one after a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

pub(super) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    let path = section.path("path")?;
    if !path.is_absolute() {
        section.fault("path", "`path` must be absolute: the service does not run where you do");
        return None;
    }
    if section.size("rotate_size").is_some_and(|size| size < 64 << 10) {
        section.fault("rotate_size", "`rotate_size` must be at least 64KiB");
    }
    let rotation = Rotation {
        size: section.size("rotate_size"),
        daily: section.bool("rotate_daily") == Some(true),
        keep: section.integer("rotate_keep").and_then(|n| usize::try_from(n).ok()),
    };
    if rotation.keep.is_some() && rotation.size.is_none() && !rotation.daily {
        section.fault("rotate_keep", "`rotate_keep` goes with `rotate_size` or `rotate_daily`");
    }
    Some(Box::new(FilePlan { path, format: read_format(section, FormatName::Json), rotation }))
}

impl Plan for FilePlan {
    fn format(&self) -> FormatName {
        self.format
    }

    fn acknowledgement(&self) -> &'static str {
        "the file was synced to the disk"
    }

    fn limits(&self) -> Limits {
        // A batch goes into one file.
        let file = self.rotation.size.and_then(|size| usize::try_from(size / 8).ok());
        Limits { records: 5_000, bytes: file.unwrap_or(usize::MAX).min(1 << 20), in_flight: 1 }
    }

    fn exclusive_resource(&self) -> Option<String> {
        Some(self.path.display().to_string())
    }

    fn probe<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        let seen = may_write(&self.path).map_err(|error| io_failure(&self.path, &error));
        let who = if rustix::process::geteuid().is_root() { " by root, who asks" } else { "" };
        let seen = seen.map(|()| format!("`{}` can be written{who}", self.path.display()));
        Box::pin(std::future::ready(seen))
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        mark: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        let opened = tokio::task::block_in_place(|| {
            let (mut file, length, identity) = open(&self.path, mark.and_then(Mark::read))?;
            let length = begin(&mut file, length, self.format)?;
            Ok((file, length, identity))
        });
        let sink = opened.map(|(file, length, identity)| -> Box<dyn Sink> {
            Box::new(FileSink {
                path: self.path.clone(),
                file,
                length,
                identity,
                day: last_written(&self.path),
                rotation: self.rotation,
                heading: self.format.heading().map_or(0, |heading| heading.len() as u64 + 1),
                formatter: formatter(self.format, context),
            })
        });
        Box::pin(std::future::ready(sink.map_err(|error| io_failure(&self.path, &error))))
    }
}

impl Sink for FileSink {
    fn encode(&mut self, record: &Record<'_>, batch: &mut Batch) -> Result<(), EncodeError> {
        batch.push(record, |out| {
            let start = out.len();
            self.formatter.write(record, out);
            out.push(b'\n');
            Ok(start)
        })
    }

    fn mark(&self) -> Option<Vec<u8>> {
        Some(Mark { identity: self.identity, length: self.length }.write())
    }

    fn deliver<'a>(
        &'a mut self,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<Acknowledgement, Failure>> {
        match tokio::task::block_in_place(|| self.rotate(batch.bytes().len() as u64)) {
            Ok(false) => {}
            Ok(true) => return Box::pin(std::future::ready(Err(Failure::Reopen))),
            Err(error) => {
                let failure = io_failure(&self.path, &error);
                return Box::pin(std::future::ready(Err(failure)));
            }
        }
        let appended = tokio::task::block_in_place(|| self.append(batch.bytes()));
        let path = self.path.clone();
        Box::pin(std::future::ready(appended.map(Acknowledgement::Received).map_err(|error| {
            match io_failure(&path, &error) {
                // After a failed write or sync nobody knows what the disk holds: open it anew.
                Failure::Retry { reason, .. } => Failure::Broken { reason },
                other => other,
            }
        })))
    }
}

impl FileSink {
    /// Puts the file aside if it is full. Says whether it was.
    fn rotate(&self, more: u64) -> std::io::Result<bool> {
        let now = clock::now();
        let empty = self.length <= self.heading;
        let due = !empty && self.rotation.is_due(self.length, more, self.day, Day::of(now));
        if due {
            self.rotation.put_aside(&self.path, now)?;
        }
        Ok(due)
    }

    fn append(&mut self, bytes: &[u8]) -> std::io::Result<Receipt> {
        let now = std::fs::metadata(&self.path).ok();
        // Opened anew, so that the mark of what is there now is kept before anything is written.
        match now.map(|now| (Identity::of(&now), now.len())) {
            Some((identity, length)) if identity == self.identity && length == self.length => {}
            Some((identity, _)) if identity == self.identity => {
                return Err(std::io::Error::other("its length was changed by somebody else"));
            }
            _ => return Err(std::io::Error::other("it was moved aside; going on in a new one")),
        }
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        self.length += bytes.len() as u64;
        self.day = Day::of(clock::now());
        Ok(Receipt { mark: Some(Mark { identity: self.identity, length: self.length }.write()) })
    }
}

fn last_written(path: &Path) -> Day {
    let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
    let time = modified.ok().and_then(|time| jiff::Timestamp::try_from(time).ok());
    Day::of(time.unwrap_or_else(clock::now))
}

/// What is kept with the cursor.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    identity: Identity,
    length: u64,
}

impl Mark {
    fn write(&self) -> Vec<u8> {
        let Identity { device, inode } = self.identity;
        [device, inode, self.length].map(u64::to_le_bytes).concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (fields, rest) = bytes.as_chunks::<8>();
        let [device, inode, length] = fields else { return None };
        let identity =
            Identity { device: u64::from_le_bytes(*device), inode: u64::from_le_bytes(*inode) };
        rest.is_empty().then_some(Self { identity, length: u64::from_le_bytes(*length) })
    }
}

/// Whether the file, or one in its directory, can be written by who asks. Neither is touched.
fn may_write(path: &Path) -> std::io::Result<()> {
    if path.is_dir() {
        return Err(rustix::io::Errno::ISDIR.into());
    }
    let place = if path.exists() { path } else { path.parent().unwrap_or(path) };
    if place != path && !place.metadata()?.is_dir() {
        return Err(rustix::io::Errno::NOTDIR.into());
    }
    Ok(rustix::fs::access(place, rustix::fs::Access::WRITE_OK)?)
}

/// Opens the file for appending; cuts it back to what was confirmed, if it is still that file.
fn open(path: &Path, mark: Option<Mark>) -> std::io::Result<(File, u64, Identity)> {
    let is_new = !path.exists();
    let mut options = std::fs::OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).mode(0o640).open(path)?;
    file.try_lock().map_err(|_| std::io::Error::other("another process has it open as a sink"))?;
    if is_new && let Some(directory) = path.parent() {
        let directory = File::open(directory)?;
        directory.sync_all()?;
        // Root tries a sink out, and the service is to write there.
        if rustix::process::geteuid().is_root() {
            let owner = directory.metadata()?;
            std::os::unix::fs::fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
    }
    let metadata = file.metadata()?;
    let (mut length, identity) = (metadata.len(), Identity::of(&metadata));
    match mark {
        Some(mark) if mark.identity == identity && mark.length <= length => {
            length = mark.length;
            file.set_len(length)?;
        }
        // Not a file of ours so far: what stands in it stays, on lines of its own.
        other => {
            if other.is_some() {
                let path = path.display().to_string();
                tracing::warn!(
                    path,
                    "the file is not the one that was written to, or was cut; going on at its end"
                );
            }
            length = end_last_line(&mut file, length)?;
        }
    }
    Ok((file, length, identity))
}

/// Puts the heading into a file that is empty, if its records have one. Gives the length then.
fn begin(file: &mut File, length: u64, format: FormatName) -> std::io::Result<u64> {
    match format.heading() {
        Some(heading) if length == 0 => {
            file.write_all(format!("{heading}\n").as_bytes())?;
            file.sync_data()?;
            Ok(heading.len() as u64 + 1)
        }
        _ => Ok(length),
    }
}

/// Ends the last line if it has no end; gives the length then.
fn end_last_line(file: &mut File, length: u64) -> std::io::Result<u64> {
    if length == 0 {
        return Ok(0);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(length);
    }
    file.write_all(b"\n")?;
    Ok(length + 1)
}

fn io_failure(path: &Path, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind as Kind;
    let reason = format!("cannot write `{}`: {}", path.display(), chain(error));
    let remedy = match error.kind() {
        Kind::NotFound => "make the directory, and let the service's user write there",
        Kind::PermissionDenied => "let the service's user write there",
        Kind::IsADirectory => "name a file",
        Kind::ReadOnlyFilesystem => {
            "the shipped unit may write below /var/log/secure-score; others want `ReadWritePaths=` in a drop-in"
        }
        _ => return Failure::retry(reason),
    };
    Failure::misconfigured(format!("{reason}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_file_can_be_written() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs_err::write(at("there"), "").unwrap();
        for (path, good) in [
            (at("there"), true),
            (at("new"), true),
            (at("there/new"), false),
            (at("away/new"), false),
            (directory.path().to_owned(), false),
        ] {
            assert_eq!(may_write(&path).is_ok(), good, "{}", path.display());
        }
        assert!(!at("new").exists());
    }

    #[test]
    fn opening_cuts_back_to_the_mark() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records.jsonl");
        let content = |path: &Path| std::fs::read_to_string(path).unwrap();
        std::fs::write(&path, "one\ntwo\nthr").unwrap();
        let identity = Identity::of(&std::fs::metadata(&path).unwrap());
        drop(open(&path, Some(Mark { identity, length: 4 })).unwrap());
        assert_eq!(content(&path), "one\n");
        std::fs::write(&path, "somebody else's\ntor").unwrap();
        let other = Identity { device: identity.device + 1, ..identity };
        drop(open(&path, Some(Mark { identity: other, length: 4 })).unwrap());
        assert_eq!(content(&path), "somebody else's\ntor\n");
    }

    /// Rotation by copy and truncate made the next write start with a hole of zeroes.
    #[test]
    fn a_file_that_was_truncated_is_gone_on_with_at_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records.jsonl");
        let context = Context {
            name: "local".into(),
            host: "h".into(),
            texts: crate::format::Texts::None,
            fields: vec![],
            tokens: None,
        };
        let sink = |mark: Option<Mark>| {
            let (file, length, identity) = open(&path, mark).unwrap();
            let formatter = formatter(FormatName::Json, &context);
            let (day, rotation) = (last_written(&path), Rotation::default());
            FileSink {
                path: path.clone(),
                file,
                length,
                identity,
                day,
                rotation,
                heading: 0,
                formatter,
            }
        };
        let mut before = sink(None);
        let receipt = before.append(b"one\n").unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(before.append(b"two\n").is_err());
        drop(before);
        sink(Mark::read(&receipt.mark.unwrap())).append(b"two\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
    }

    #[test]
    fn one_writer_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records.jsonl");
        let _first = open(&path, None).unwrap();
        assert!(open(&path, None).is_err());
    }
}
