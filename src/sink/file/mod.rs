//! The sink for a local file, with one record per line.
//!
//! Acknowledgement: `fdatasync` returned. The confirmed length of the file is stored as the mark
//! with the cursor, and the file is truncated to it when it is opened, so a crash leaves neither a
//! torn line nor a repeated record. Rotation happens only between two batches, and the sink never
//! writes to a new file before the mark of that file is stored. The file is never opened through a
//! link, and its owner is never changed. See decisions 0023 and 0060.

mod opening;
mod rotation;

use std::{
    io::{Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use fs_err::File;

use self::{
    opening::{last_written, locate, may_write, open, write_header_line},
    rotation::Rotation,
};
use super::{
    Acknowledgement, Batch, BoxFuture, Context, EncodeError, Failure, FailurePlace, Guarantee,
    Limits, Plan, Receipt, Sink, chain, formatter,
    shared_keys::{LINE_FORMAT, LINE_FORMAT_KEYS},
};
use crate::{
    clock,
    error::{Explanation, Hint},
    files::{FileError, HostFault},
    format::{FormatName, Formatter},
    model::{Day, Record},
    settings::{
        ExampleSection, FLAG, Flag, Integer, Key, KeyWithDefault, Section, Size, TEXT, Text,
        defaulted, integer, keys, optional, require_absolute, required, size,
    },
};

/// See [`Guarantee`].
pub(super) const GUARANTEES: &[Guarantee] = &[Guarantee {
    variant: "",
    acknowledgement: "the file was synchronized to disk (`fdatasync`)",
    may_be_lost: "nothing",
    may_be_repeated: "nothing: the file is truncated to the confirmed length",
}];

keys! {
    /// The keys of this sink, besides those of all sinks.
    pub(super) const KEYS;
    ..LINE_FORMAT_KEYS;
    PATH: Key<Text> = required("path", TEXT, "The file to append to, as an absolute path.")
        .example("/var/log/secure-score/records.jsonl");
    ROTATE_SIZE: Key<Size> = optional(
        "rotate_size",
        size(64 << 10, u64::MAX),
        "no limit",
        "Rotates the file before it exceeds this size.",
    )
    .example("100MiB");
    ROTATE_DAILY: KeyWithDefault<Flag> = defaulted(
        "rotate_daily",
        FLAG.or(false),
        "Rotates the file at the end of the UTC day.",
    );
    ROTATE_KEEP: Key<Integer<usize>> = optional(
        "rotate_keep",
        integer::<usize>(1, 100_000),
        "all rotated files",
        "The number of rotated files to keep.",
    )
    .example("30");
}

/// The section in the example file.
pub(super) const EXAMPLES: &[ExampleSection] = &[ExampleSection {
    name: "local",
    about: "A local file, one record per line.",
    ..ExampleSection::NOT_SET
}];

#[derive(Debug)]
struct FilePlan {
    path: PathBuf,
    format: FormatName,
    rotation: Rotation,
}

struct FileSink {
    path: PathBuf,
    file: File,
    /// The confirmed length, in bytes.
    length: u64,
    identity: FileIdentity,
    /// The day of the last write.
    day: Day,
    rotation: Rotation,
    /// The length of the header line, in bytes; 0 if the format has none.
    header_length: u64,
    formatter: Formatter,
}

/// Identifies a file independently of its path, because the file at a path can be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
}

/// The mark of this sink: the file that the last batch was written to, and its confirmed length.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    identity: FileIdentity,
    length: u64,
}

impl FileIdentity {
    fn of(metadata: &std::fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl Mark {
    /// Encodes the mark as three little-endian `u64`: device, inode and length.
    fn write(&self) -> Vec<u8> {
        let FileIdentity { device, inode } = self.identity;
        [device, inode, self.length].map(u64::to_le_bytes).concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (fields, rest) = bytes.as_chunks::<8>();
        let [device, inode, length] = fields else { return None };
        let identity =
            FileIdentity { device: u64::from_le_bytes(*device), inode: u64::from_le_bytes(*inode) };
        rest.is_empty().then_some(Self { identity, length: u64::from_le_bytes(*length) })
    }
}

/// Reads a section. Returns `None` if it is not valid.
pub(super) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    let path = PathBuf::from(section.get(&PATH)?);
    if let Err(Explanation { message, hint }) = require_absolute(PATH.name(), &path) {
        section.fault_with(&PATH, message, hint);
        return None;
    }

    let rotation = Rotation {
        size: section.get(&ROTATE_SIZE).map(|size| size as u64),
        daily: section.get(&ROTATE_DAILY),
        keep: section.get(&ROTATE_KEEP),
        ..Rotation::default()
    };
    if rotation.keep.is_some() && rotation.size.is_none() && !rotation.daily {
        section.fault(&ROTATE_KEEP, "`rotate_keep` requires `rotate_size` or `rotate_daily`");
    }

    Some(Box::new(FilePlan { path, format: section.get(&LINE_FORMAT), rotation }))
}

impl Plan for FilePlan {
    fn format(&self) -> FormatName {
        self.format
    }

    fn acknowledgement(&self) -> &'static str {
        "the file was synchronized to disk"
    }

    fn limits(&self) -> Limits {
        // A batch is never split between two files, so it must be small compared with
        // `rotate_size`.
        let share = self.rotation.size.and_then(|size| usize::try_from(size / 8).ok());
        Limits { records: 5_000, bytes: share.unwrap_or(usize::MAX).min(1 << 20), in_flight: 1 }
    }

    fn failure_place(&self) -> FailurePlace {
        FailurePlace::Host
    }

    fn check_host(&self) -> Result<(), Failure> {
        match may_write(&self.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|error| io_failure(&self.path, &error)),
        }
    }

    fn exclusive_resource(&self) -> Option<String> {
        Some(format!("`{}`", self.path.display()))
    }

    fn probe<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        let writable = may_write(&self.path).map_err(|error| io_failure(&self.path, &error));
        // Root can write everywhere, so the result does not show what the service's user can write.
        let user = if rustix::process::geteuid().is_root() { " by root" } else { "" };
        let result = writable.map(|()| format!("`{}` is writable{user}", self.path.display()));
        Box::pin(std::future::ready(result))
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        mark: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        let opened = tokio::task::block_in_place(|| {
            let (mut file, length, identity) = open(&self.path, mark.and_then(Mark::read))?;
            let length = write_header_line(&mut file, length, self.format)?;
            let day = last_written(&file);
            Ok((file, length, identity, day))
        });

        let sink = opened.map(|(file, length, identity, day)| -> Box<dyn Sink> {
            Box::new(FileSink {
                path: self.path.clone(),
                file,
                length,
                identity,
                day,
                rotation: self.rotation.clone(),
                header_length: self.format.header_line().map_or(0, |line| line.len() as u64 + 1),
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
        let delivered = tokio::task::block_in_place(|| self.rotate_or_append(batch));
        Box::pin(std::future::ready(delivered.map(Acknowledgement::Received)))
    }
}

impl FileSink {
    /// Appends a batch, unless the file was rotated and must be opened again first.
    fn rotate_or_append(&mut self, batch: &Batch) -> Result<Receipt, Failure> {
        let rotated = self.rotate(batch.bytes().len() as u64);
        if rotated.map_err(|error| delivery_failure(&self.path, &error))? {
            return Err(Failure::Reopen);
        }
        self.append(batch.bytes()).map_err(|error| delivery_failure(&self.path, &error))
    }

    /// Rotates the file if that is due before `more` bytes are appended. Returns whether it was
    /// rotated.
    fn rotate(&self, more: u64) -> std::io::Result<bool> {
        let now = clock::now();
        let empty = self.length <= self.header_length;
        let due = !empty && self.rotation.is_due(self.length, more, self.day, Day::of(now));

        if due {
            let (directory, name) = locate(&self.path)?;
            self.rotation.rotate(&directory, name, now)?;
        }
        Ok(due)
    }

    /// Appends the bytes and synchronizes the file.
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<Receipt> {
        // If another program has changed the file, this fails and the sink is reopened, so that
        // the mark of the current file is stored before anything is written to it.
        let current = locate(&self.path).and_then(|(directory, name)| directory.inspect(name));
        let current = match current {
            // A lack of descriptors, for example, does not show that the file has changed.
            Err(error @ FileError::Io { .. }) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error.into());
            }
            current => current.ok().flatten(),
        };
        match current.map(|current| (FileIdentity::of(&current), current.len())) {
            Some((identity, length)) if identity == self.identity && length == self.length => {}
            Some((identity, _)) if identity == self.identity => {
                return Err(std::io::Error::other(
                    "another process changed the length of the file",
                ));
            }
            _ => return Err(std::io::Error::other("another process moved or replaced the file")),
        }

        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.write_all(bytes)?;
        self.file.sync_data()?;

        self.length += bytes.len() as u64;
        self.day = Day::of(clock::now());
        Ok(Receipt { mark: Some(Mark { identity: self.identity, length: self.length }.write()) })
    }
}

/// The failure of a delivery, after which the sink must always be opened again: it is not known
/// whether the file was renamed, and what is on disk. Opening it truncates the file to the
/// confirmed length.
fn delivery_failure(path: &Path, error: &std::io::Error) -> Failure {
    match io_failure(path, error) {
        Failure::Retry { reason, .. } | Failure::Host { reason, .. } => Failure::Broken { reason },
        other => other,
    }
}

/// Classifies an error: an error that the operator must fix has a hint, and any other is retried.
fn io_failure(path: &Path, error: &std::io::Error) -> Failure {
    use std::io::ErrorKind as Kind;

    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<FileError>());
    if let Some(untrusted) = inner.filter(|inner| !matches!(inner, FileError::Io { .. })) {
        return Failure::Misconfigured { reason: chain(untrusted), hint: untrusted.hint() };
    }

    // An error from `fs_err` contains the operation and the file.
    let (path, cause) = (path.display().to_string(), chain(error));
    let reason =
        if cause.contains(&path) { cause } else { format!("cannot write `{path}`: {cause}") };
    let hint = match error.kind() {
        Kind::NotFound => "create the directory and make it writable by the service's user",
        Kind::PermissionDenied => "make the file and its directory writable by the service's user",
        Kind::IsADirectory => "set `path` to a file",
        Kind::ReadOnlyFilesystem => {
            "set `path` to a file under `/var/log/secure-score`, or add the directory to `ReadWritePaths=` in a drop-in of the systemd unit"
        }
        _ => {
            return match HostFault::of(error) {
                Some(fault) => Failure::Host { reason, fault },
                None => Failure::retry(reason),
            };
        }
    };

    Failure::Misconfigured { reason, hint: Some(hint.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_which_paths_are_writable() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs_err::write(at("existing"), "").unwrap();
        for (path, is_writable) in [
            (at("existing"), true),
            (at("new"), true),
            (at("existing/new"), false),
            (at("missing/new"), false),
            (directory.path().to_owned(), false),
        ] {
            assert_eq!(may_write(&path).is_ok(), is_writable, "{}", path.display());
        }
        assert!(!at("new").exists());
    }

    #[test]
    fn opening_truncates_to_the_mark() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records.jsonl");
        let content = |path: &Path| std::fs::read_to_string(path).unwrap();
        std::fs::write(&path, "one\ntwo\nthr").unwrap();
        let identity = FileIdentity::of(&std::fs::metadata(&path).unwrap());

        drop(open(&path, Some(Mark { identity, length: 4 })).unwrap());
        assert_eq!(content(&path), "one\n");

        std::fs::write(&path, "foreign line\ntor").unwrap();
        let other = FileIdentity { device: identity.device + 1, ..identity };
        drop(open(&path, Some(Mark { identity: other, length: 4 })).unwrap());
        assert_eq!(content(&path), "foreign line\ntor\n");
    }

    /// Regression: after a rotation that copied and truncated the file, the next write left a hole
    /// of zeros.
    #[test]
    fn continues_a_truncated_file_at_its_end() {
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
            let (day, rotation) = (last_written(&file), Rotation::default());
            FileSink {
                path: path.clone(),
                file,
                length,
                identity,
                day,
                rotation,
                header_length: 0,
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

    /// Regression: a link was followed, and the file behind it got another owner; a FIFO made the
    /// process wait.
    #[test]
    fn planted_files_are_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("canary"), "unchanged").unwrap();
        std::os::unix::fs::symlink(at("canary"), at("link")).unwrap();
        std::os::unix::fs::symlink(at("created"), at("dangling")).unwrap();
        std::fs::hard_link(at("canary"), at("hard")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, at("fifo"), rustix::fs::Mode::RWXU).unwrap();

        for name in ["link", "dangling", "hard", "fifo"] {
            let error = open(&at(name), None).unwrap_err();
            let failure = io_failure(&at(name), &error);
            assert!(
                matches!(&failure, Failure::Misconfigured { hint: Some(_), reason }
                    if reason.contains(&at(name).display().to_string())),
                "{failure:?}"
            );
            assert!(may_write(&at(name)).is_err(), "{name}");
        }
        assert_eq!(std::fs::read_to_string(at("canary")).unwrap(), "unchanged");
        assert!(!at("created").exists());
    }

    #[test]
    fn a_second_writer_is_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records.jsonl");
        let _first = open(&path, None).unwrap();
        assert!(open(&path, None).is_err());
    }
}
