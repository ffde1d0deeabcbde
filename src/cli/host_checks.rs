//! Checks that depend on this host: which files the service can read, which other users can read
//! its secrets, whether it can use its state directory, and whether its port is free. Nothing that
//! a check creates remains, and every check is judged as the service's user, as whom root executes
//! the command. Start reading at [`HostChecks::new`].

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::TcpListener,
    os::unix::{
        fs::{FileTypeExt, MetadataExt},
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, Mode, access, mkdir, rmdir},
    io::Errno,
    process::geteuid,
};

use super::{
    findings::Findings,
    service_user::{ServiceUser, is_of_package},
};
use crate::{
    checkpoint::CheckpointError,
    config::{Configuration, DEFAULT_PATH, DIRECTORIES, ListenAddress},
    error::Explanation,
    files::{
        FileError, OwnedDirectory, PathOwner, acts_for_root, owner_of, read_limited,
        require_fixed_for_root, require_protected, require_protected_name,
    },
    settings::{Fault, Origin, SecretRef},
    state_directory::exchange_warning,
};

/// The checks of one configuration.
pub(super) struct HostChecks<'a> {
    configuration: &'a Configuration,
    /// The user of this process. Root has executed `check` as the user of the service, unless the
    /// service runs as root.
    user: ServiceUser,
}

/// A file that the service reads.
struct ReadFile {
    path: PathBuf,
    /// `None` for a file of the configuration itself.
    origin: Option<Origin>,
}

/// Why a file cannot be read.
#[derive(Debug, PartialEq, Eq)]
enum Obstacle {
    Missing,
    /// The permissions of the file.
    File,
    /// The permissions of this directory, in which the file is.
    Directory(PathBuf),
    /// It is a directory, a FIFO, a socket or a device.
    NotRegular,
}

/// What other users can do with a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exposure {
    /// Every user can read it.
    Read,
    /// Every user can change or replace it.
    Change,
    /// It belongs to a user who is neither root nor the user of the service.
    Own,
}

/// The permission bits of a file for users who are neither its owner nor in its group.
const READ_OR_WRITE_BY_OTHERS: u32 = 0o006;
/// The maximum size in bytes of a file that is searched for a private key.
const MAX_SEARCHED_BYTES: u64 = 4 << 20;

impl<'a> HostChecks<'a> {
    pub(super) fn new(configuration: &'a Configuration) -> Self {
        Self { configuration, user: ServiceUser::current() }
    }

    /// Adds an error for each file that the service cannot read. Credentials of systemd are read by
    /// systemd, and a missing file of a secret is reported when the secret is read.
    pub(super) fn check_files(&self, findings: &mut Findings) {
        let files = self.files();
        let errors = files.iter().filter_map(|file| {
            let explanation = self.explain(&file.path, &obstacle(&file.path)?);
            Some(match &file.origin {
                Some(origin) => origin.fault(explanation),
                None => Fault::elsewhere(explanation),
            })
        });
        findings.add_errors(errors);
    }

    /// Adds an error for each file and directory of the configuration that all users can change.
    /// Root uses no configuration that any other user can change.
    pub(super) fn check_sources(&self, findings: &mut Findings) {
        let sources = &self.configuration.inspection.sources;
        let directories = sources
            .first()
            .into_iter()
            .flat_map(|main| DIRECTORIES.iter().map(move |name| main.with_file_name(name)));
        let changed = sources.iter().cloned().chain(directories);
        let changed = changed.map(|path| require_protected(&path));
        let replaced = sources.iter().map(|path| require_protected_name(path));

        let errors = changed.chain(replaced).filter_map(unprotected);
        let explanations = errors.map(|error| Explanation::of(&error));
        let mut seen = BTreeSet::new();
        let new = explanations.filter(|explanation| seen.insert(explanation.message.clone()));
        findings.add_errors(new.map(Fault::elsewhere));
    }

    /// Adds an error for each secret and private key that other users can change or replace, and a
    /// warning for each one that they can read, that belongs to another user, or that is probably
    /// not the intended one. Nothing is added about a file with another error.
    pub(super) fn check_secrets(&self, findings: &mut Findings) {
        let secrets = self
            .configuration
            .secrets()
            .iter()
            .filter_map(|secret| Some((secret.reference.path()?, secret.origin.clone())));
        let keys = self.configuration.inspection.files.iter();
        let keys = keys.map(|file| (file.path.clone(), file.origin.clone()));

        let mut seen = BTreeSet::new();
        for (path, origin) in secrets.chain(keys.filter(|(path, _)| is_confidential(path))) {
            if !seen.insert(path.clone()) {
                continue;
            }
            for (exposure, explanation) in exposures(&path) {
                let fault = origin.fault(explanation);
                if findings.has_error_at(&fault) || findings.has_error_about(&fault.message) {
                    continue;
                }
                match exposure {
                    Exposure::Change => findings.add_errors([fault]),
                    Exposure::Read | Exposure::Own => findings.add_warnings([fault]),
                }
            }
        }
        findings.add_warnings(self.configuration.doubtful_secrets());
    }

    /// Adds an error if the service cannot use or create its state directory, or a warning if other
    /// users can exchange it.
    pub(super) fn check_state_directory(&self, findings: &mut Findings) {
        let origin = &self.configuration.inspection.state_directory;
        if let Some(problem) = self.state_directory_problem() {
            findings.add_errors([origin.fault(problem)]);
        } else {
            let warning = exchange_warning(&self.configuration.state_directory);
            findings.add_warnings(warning.map(|warning| origin.fault(warning)));
        }
    }

    /// Adds an error for each sink that could not write to its file. A directory that does not
    /// exist is not an error, because it may be created before the service starts.
    pub(super) fn check_sink_files(&self, findings: &mut Findings) {
        let sinks = self.configuration.sinks.iter().filter(|sink| !sink.discarded);
        let errors = sinks.filter_map(|sink| {
            let failure = sink.plan.check_host().err()?;
            let explanation = Explanation::of(&failure).within(&format!("sink `{}`", sink.name));
            Some(Fault::elsewhere(explanation))
        });
        findings.add_errors(errors);
    }

    /// Adds an error if the service cannot listen on the address of the status page. The caller has
    /// checked that no daemon is running that already listens on it.
    pub(super) fn check_listener(&self, findings: &mut Findings) {
        let inspection = &self.configuration.inspection;
        let (Some(admin), Some(origin)) = (&self.configuration.admin, &inspection.listen) else {
            return;
        };
        if let ListenAddress::Unix(path) = &admin.listen
            && let Err(error) = OwnedDirectory::open_for_socket(path)
            && !matches!(error, FileError::Io { .. })
        {
            let context = format!("cannot listen on `{}`", admin.listen);
            findings.add_errors([origin.fault(Explanation::of(&error).within(&context))]);
            return;
        }
        let Err(error) = can_listen(&admin.listen) else { return };

        let reason = match error.kind() {
            ErrorKind::AddrInUse => "the address is in use by another process".to_owned(),
            ErrorKind::AddrNotAvailable => "this host does not have the address".to_owned(),
            ErrorKind::PermissionDenied => {
                format!("the user `{}` may not listen on this address", self.user.name)
            }
            _ => error.to_string(),
        };
        let is_unix = matches!(admin.listen, ListenAddress::Unix(_));
        let hint = match error.kind() {
            ErrorKind::AddrInUse => "stop that process, or set another address".to_owned(),
            kind if is_unix || kind == ErrorKind::PermissionDenied => {
                admin.listen.permission_hint()
            }
            _ => "set an address of this host, such as 127.0.0.1:9633".to_owned(),
        };
        let message = format!("cannot listen on `{}`: {reason}", admin.listen);
        findings.add_errors([origin.fault(Explanation::new(message).with_hint(hint))]);
    }

    /// The files that the service reads, except those that systemd passes to it.
    fn files(&self) -> Vec<ReadFile> {
        let inspection = &self.configuration.inspection;
        let sources =
            inspection.sources.iter().map(|path| ReadFile { path: path.clone(), origin: None });
        let named = inspection
            .files
            .iter()
            .map(|file| ReadFile { path: file.path.clone(), origin: Some(file.origin.clone()) });
        let secrets = self.configuration.secrets().iter().filter_map(|secret| {
            let SecretRef::File(path) = &secret.reference else { return None };
            let origin = Some(secret.origin.clone());
            // A file in a directory that cannot be entered may exist.
            let may_exist = !matches!(path.try_exists(), Ok(false));
            may_exist.then(|| ReadFile { path: path.clone(), origin })
        });
        sources.chain(named).chain(secrets).collect()
    }

    fn explain(&self, path: &Path, obstacle: &Obstacle) -> Explanation {
        let (user, file) = (&self.user, path.display());
        let reader = if acts_for_root() {
            format!("the service, which runs as the user `{}`,", user.name)
        } else {
            format!("the user `{}`", user.name)
        };

        match obstacle {
            Obstacle::Missing => {
                let message = format!("cannot read `{file}`: the file does not exist");
                Explanation::new(message).with_hint("correct the path, or create the file")
            }
            Obstacle::File => {
                let group = &user.group;
                let directory = path.parent().unwrap_or(Path::new("/"));

                // A link that another user has planted would apply the commands to its target.
                let hint = match owner_of(directory) {
                    Ok(PathOwner::Root) => {
                        format!("run `chgrp {group} {file}` and `chmod 640 {file}`")
                    }
                    _ => entry_hint(directory, group),
                };
                Explanation::new(format!("{reader} cannot read `{file}`")).with_hint(hint)
            }
            Obstacle::Directory(directory) => {
                let message = format!(
                    "{reader} cannot read `{file}`, because it cannot enter the directory `{}`",
                    directory.display()
                );
                Explanation::new(message).with_hint(entry_hint(directory, &user.group))
            }
            Obstacle::NotRegular => {
                let message = format!("cannot read `{file}`: it is not a regular file");
                Explanation::new(message).with_hint("use the path of a regular file")
            }
        }
    }

    fn state_directory_problem(&self) -> Option<Explanation> {
        let directory = &self.configuration.state_directory;
        let shown = directory.display();
        let problem = |reason: String, hint: String| {
            let message = format!("cannot use the state directory `{shown}`: {reason}");
            Some(Explanation::new(message).with_hint(hint))
        };
        // Only another owner or mode helps if permissions are missing, and only another directory
        // otherwise, for example on a file system that is read-only or stores no files.
        let hint = |error: &std::io::Error, commands: String| match error.kind() {
            ErrorKind::PermissionDenied => commands,
            _ => "set `state.directory` to a directory in which files can be created".to_owned(),
        };

        let user = &self.user;
        if directory.is_dir() {
            let usable = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
            let result = access(directory, usable).and_then(|()| try_creation(directory));
            let Err(error) = result.map_err(std::io::Error::from) else {
                let distrusted = OwnedDirectory::open(directory).err();
                return distrusted.map(|error| Explanation::of(&CheckpointError::from(error)));
            };
            let commands = format!(
                "run `chown -R {}:{} {shown}` and `chmod 700 {shown}`",
                user.name, user.group
            );
            let reason = error_text(&error);
            let reason = format!("the user `{}` cannot write to it: {reason}", user.name);
            return problem(reason, hint(&error, commands));
        }

        // The directory is not created: the nearest existing ancestor must allow its creation.
        let nearest = directory.ancestors().find(|path| path.exists()).unwrap_or(directory);
        if !nearest.is_dir() {
            let hint = "set `state.directory` to a directory that can be created".to_owned();
            return problem(format!("`{}` is not a directory", nearest.display()), hint);
        }
        // systemd creates the directory of the packages, and the user who starts the program any
        // other one.
        if is_of_package(directory) && acts_for_root() {
            return None;
        }
        if let Err(error) = require_fixed_for_root(directory) {
            return Some(Explanation::of(&CheckpointError::from(error)));
        }
        let error = std::io::Error::from(try_creation(nearest).err()?);
        let commands =
            format!("as root, run `install -d -m 700 -o {} -g {} {shown}`", user.name, user.group);
        let reason = format!(
            "it does not exist, and no directory can be created in `{}`: {}",
            nearest.display(),
            error_text(&error)
        );
        problem(reason, hint(&error, commands))
    }
}

/// The hint for a file in a directory that the service cannot enter. A directory of the
/// configuration must stay where it is.
fn entry_hint(directory: &Path, group: &str) -> String {
    let shown = directory.display();
    if DIRECTORIES.iter().any(|name| directory.ends_with(name)) {
        return format!("run `chgrp {group} {shown}` and `chmod 750 {shown}`");
    }
    let folder = Path::new(DEFAULT_PATH).parent().unwrap_or(Path::new("/etc"));
    let folder = folder.display();
    format!("move the file to `{folder}`, and run `chgrp {group}` and `chmod 640` for it")
}

/// Creates a directory in another one, and removes it. The permissions do not show whether that is
/// possible: root may write to `/proc`, which stores no files.
fn try_creation(parent: &Path) -> Result<(), Errno> {
    let name = format!(".secure-score-forwarder-{}", std::process::id());
    let probe = parent.join(name);
    match mkdir(&probe, Mode::RWXU) {
        // A process that was killed may have left it.
        Ok(()) | Err(Errno::EXIST) => rmdir(&probe),
        // The daemon continues to deliver while the disk is full.
        Err(Errno::NOSPC | Errno::DQUOT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Listens on an address, and stops at once. A socket that this creates is removed; one that exists
/// already is in use, or is replaced when the daemon starts.
fn can_listen(address: &ListenAddress) -> std::io::Result<()> {
    match address {
        ListenAddress::Tcp(address) => TcpListener::bind(address).map(drop),
        ListenAddress::Unix(path) => match UnixListener::bind(path) {
            Ok(listener) => {
                drop(listener);
                fs_err::remove_file(path)
            }
            Err(_) if is_stale_socket(path) => Ok(()),
            Err(error) => Err(error),
        },
    }
}

/// Whether the path is a socket on which no process listens.
fn is_stale_socket(path: &Path) -> bool {
    let is_socket = fs_err::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    is_socket && UnixStream::connect(path).is_err()
}

/// The message of an error of the operating system, without its number.
fn error_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Why the user of this thread cannot read a file; `None` if it can. The file is not opened,
/// because opening a named pipe would wait for its writer.
fn obstacle(path: &Path) -> Option<Obstacle> {
    match access(path, Access::READ_OK) {
        Ok(()) => {
            let is_other = path.metadata().is_ok_and(|found| !found.is_file());
            is_other.then_some(Obstacle::NotRegular)
        }
        Err(Errno::NOENT | Errno::NOTDIR) => Some(Obstacle::Missing),
        Err(_) => {
            let mut directories: Vec<&Path> =
                path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
            directories.reverse();
            let closed = directories.iter().find(|path| access(**path, Access::EXEC_OK).is_err());
            Some(closed.map_or(Obstacle::File, |path| Obstacle::Directory((*path).to_owned())))
        }
    }
}

/// Whether a file contains more than certificates: a private key, or data in another format.
fn is_confidential(path: &Path) -> bool {
    let Ok(content) = read_limited(path, MAX_SEARCHED_BYTES) else { return false };
    let contains = |text: &[u8]| content.windows(text.len()).any(|part| part == text);
    contains(b"PRIVATE KEY-----") || !contains(b"-----BEGIN ")
}

/// What other users can do with a file that contains a secret; empty if they have no access.
fn exposures(path: &Path) -> Vec<(Exposure, Explanation)> {
    let Ok(found) = fs_err::metadata(path) else { return Vec::new() };
    let file = path.display();
    let access = match found.mode() & READ_OR_WRITE_BY_OTHERS {
        0 => None,
        0o004 => Some((Exposure::Read, "read")),
        0o002 => Some((Exposure::Change, "change")),
        _ => Some((Exposure::Change, "read and change")),
    };
    let access = access.map(|(exposure, verb)| {
        let message = format!("every user of this host can {verb} the secret in `{file}`");
        // A link that another user has planted would apply the command to its target.
        let hint = match owner_of(path.parent().unwrap_or(Path::new("/"))) {
            Ok(PathOwner::Root) => format!("run `chmod 640 {file}`"),
            _ => "change the mode of the file to 640 as its owner".to_owned(),
        };
        (exposure, Explanation::new(message).with_hint(hint))
    });

    let directory = unprotected(require_protected_name(path));
    let directory = directory.map(|error| (Exposure::Change, Explanation::of(&error)));
    let owner = foreign_owner(found.uid(), geteuid().as_raw()).map(|owner| {
        let message = format!("the secret in `{file}` belongs to another user (ID {owner})");
        let hint = "move the file to a directory of root, so that it belongs to root or to the user of the service";
        (Exposure::Own, Explanation::new(message).with_hint(hint))
    });
    directory.into_iter().chain(access).chain(owner).collect()
}

/// The owner of a file, unless that is root or this user.
fn foreign_owner(owner: u32, user: u32) -> Option<u32> {
    (owner != 0 && owner != user).then_some(owner)
}

/// Why a file is not protected. Other problems are reported when it is read.
fn unprotected(result: Result<(), FileError>) -> Option<FileError> {
    result.err().filter(|error| matches!(error, FileError::WritableByOthers(_)))
}

#[cfg(test)]
mod tests;
