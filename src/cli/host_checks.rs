//! Checks that depend on this host: which files the service can read, which other users can read
//! its secrets, whether it can use its state directory, and whether its port is free. Nothing that
//! a check creates remains, and every check is judged as the service's user. Start reading at
//! [`HostChecks::new`].

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::TcpListener,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, Mode, access, mkdir, rmdir},
    io::Errno,
};

use super::{findings::Findings, service_user::ServiceUser};
use crate::{
    config::{Configuration, DEFAULT_PATH, DIRECTORIES},
    error::Explanation,
    settings::{Fault, Origin, SecretRef},
};

/// The checks of one configuration.
pub(super) struct HostChecks<'a> {
    configuration: &'a Configuration,
    /// The user as whom the service runs; `None` if that is the user of this process.
    service: Option<ServiceUser>,
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
}

/// The permission bits of a file for users who are neither its owner nor in its group.
const READ_OR_WRITE_BY_OTHERS: u32 = 0o006;

impl<'a> HostChecks<'a> {
    pub(super) fn new(configuration: &'a Configuration) -> Self {
        Self { configuration, service: ServiceUser::of_service(&configuration.state_directory) }
    }

    /// Adds an error for each file that the service cannot read. Credentials of systemd are read by
    /// systemd, and a missing file of a secret is reported when the secret is read.
    pub(super) fn check_files(&self, findings: &mut Findings) {
        let files = self.files();
        let obstacles = self.as_service(|| {
            files.iter().map(|file| obstacle(&file.path)).collect::<Vec<Option<Obstacle>>>()
        });
        let obstacles = match obstacles {
            Ok(obstacles) => obstacles,
            Err(error) => {
                let message = format!("cannot check which files the service can read: {error}");
                return findings.add_notes([Explanation::new(message)]);
            }
        };

        let errors = files.iter().zip(obstacles).filter_map(|(file, obstacle)| {
            let explanation = self.explain(&file.path, &obstacle?);
            Some(match &file.origin {
                Some(origin) => origin.fault(explanation),
                None => Fault::elsewhere(explanation),
            })
        });
        findings.add_errors(errors);
    }

    /// Adds a warning for each secret and private key that other users can read or change, and for
    /// each secret that is probably not the intended one.
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
            if seen.insert(path.clone())
                && let Some(explanation) = exposure(&path)
            {
                findings.add_warnings([origin.fault(explanation)]);
            }
        }
        findings.add_warnings(self.configuration.doubtful_secrets());
    }

    /// Adds an error if the service cannot use or create its state directory.
    pub(super) fn check_state_directory(&self, findings: &mut Findings) {
        let explanation = self.state_directory_problem();
        let origin = &self.configuration.inspection.state_directory;
        findings.add_errors(explanation.map(|explanation| origin.fault(explanation)));
    }

    /// Adds an error if the service cannot listen on the address of the status page. The caller has
    /// checked that no daemon is running that already listens on it.
    pub(super) fn check_listener(&self, findings: &mut Findings) {
        let inspection = &self.configuration.inspection;
        let (Some(admin), Some(origin)) = (&self.configuration.admin, &inspection.listen) else {
            return;
        };
        let bound = self.as_service(|| TcpListener::bind(admin.listen).map(drop));
        let Err(error) = bound.and_then(|bound| bound) else { return };

        let reason = match error.kind() {
            ErrorKind::AddrInUse => "the address is in use by another process".to_owned(),
            ErrorKind::AddrNotAvailable => "this host does not have the address".to_owned(),
            ErrorKind::PermissionDenied => {
                format!("the user `{}` may not listen on this port", self.user().name)
            }
            _ => error.to_string(),
        };
        let hint = match error.kind() {
            ErrorKind::AddrInUse => "stop that process, or set another port",
            ErrorKind::PermissionDenied => "set a port above 1023",
            _ => "set an address of this host, such as 127.0.0.1:9633",
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
            path.exists().then(|| ReadFile { path: path.clone(), origin })
        });
        sources.chain(named).chain(secrets).collect()
    }

    /// Runs work as the service's user. Fails if this process cannot assume its identity.
    pub(super) fn as_service<T: Send>(
        &self,
        work: impl FnOnce() -> T + Send,
    ) -> std::io::Result<T> {
        match &self.service {
            Some(service) => service.run(work),
            None => Ok(work()),
        }
    }

    fn user(&self) -> ServiceUser {
        self.service.clone().unwrap_or_else(ServiceUser::current)
    }

    fn explain(&self, path: &Path, obstacle: &Obstacle) -> Explanation {
        let (user, file) = (self.user(), path.display());
        let reader = match &self.service {
            Some(service) => format!("the service, which runs as the user `{}`,", service.name),
            None => format!("the user `{}`", user.name),
        };

        match obstacle {
            Obstacle::Missing => {
                let message = format!("cannot read `{file}`: the file does not exist");
                Explanation::new(message).with_hint("correct the path, or create the file")
            }
            Obstacle::File => {
                let group = &user.group;
                Explanation::new(format!("{reader} cannot read `{file}`"))
                    .with_hint(format!("run `chgrp {group} {file}` and `chmod 640 {file}`"))
            }
            Obstacle::Directory(directory) => {
                let message = format!(
                    "{reader} cannot read `{file}`, because it cannot enter the directory `{}`",
                    directory.display()
                );
                Explanation::new(message).with_hint(entry_hint(directory, &user.group))
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

        let user = self.user();
        if directory.is_dir() {
            let usable = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
            let result = self.as_service(|| {
                access(directory, usable)?;
                try_creation(directory)
            });
            let error = result.and_then(|result| result.map_err(Into::into)).err()?;
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
        // other one, so this is not judged as the service's user.
        let error = std::io::Error::from(try_creation(nearest).err()?);
        let commands = format!("as root, run `install -d -m 700 -o {} {shown}`", user.name);
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

/// The message of an error of the operating system, without its number.
fn error_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Why the user of this thread cannot read a file; `None` if it can. The file is not opened,
/// because opening a named pipe would wait for its writer.
fn obstacle(path: &Path) -> Option<Obstacle> {
    match access(path, Access::READ_OK) {
        Ok(()) => None,
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
    let Ok(content) = fs_err::read(path) else { return false };
    let contains = |text: &[u8]| content.windows(text.len()).any(|part| part == text);
    contains(b"PRIVATE KEY-----") || !contains(b"-----BEGIN ")
}

/// What other users can do with a file that contains a secret; `None` if they have no access.
fn exposure(path: &Path) -> Option<Explanation> {
    let mode = fs_err::metadata(path).ok()?.mode();
    let verb = match mode & READ_OR_WRITE_BY_OTHERS {
        0 => return None,
        0o004 => "read",
        0o002 => "change",
        _ => "read and change",
    };

    let file = path.display();
    let message = format!("every user of this host can {verb} the secret in `{file}`");
    Some(Explanation::new(message).with_hint(format!("run `chmod 640 {file}`")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Tests run as any user: root can read everything, so only what is true for every user is
    /// asserted.
    #[test]
    fn missing_files_are_obstacles() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key.pem");
        assert_eq!(obstacle(&file), Some(Obstacle::Missing));
        fs_err::write(&file, "key").unwrap();
        assert_eq!(obstacle(&file), None);
        assert_eq!(obstacle(&file.join("below")), Some(Obstacle::Missing));
    }

    /// Regression: the hint for a file in `sinks.d` was to move it out of that directory.
    #[test]
    fn directories_of_the_configuration_are_not_left() {
        let hint = |directory: &str| entry_hint(Path::new(directory), "g");
        for name in DIRECTORIES {
            let path = format!("/etc/x/{name}");
            assert_eq!(hint(&path), format!("run `chgrp g {path}` and `chmod 750 {path}`"));
        }
        assert!(hint("/root").starts_with("move the file to `/etc/secure-score-forwarder`"));
    }

    /// Regression: `/proc/x` was accepted as the state directory: root may write to `/proc`.
    #[test]
    fn creation_is_tried_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(try_creation(directory.path()), Ok(()));
        assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 0);
        assert!(try_creation(Path::new("/proc")).is_err());
    }

    /// Regression: a secret that every user could read passed `check` without a message.
    #[test]
    fn exposed_secrets_are_reported_with_their_mode() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key.pem");
        for (content, mode, expected) in [
            ("-----BEGIN PRIVATE KEY-----", 0o644, Some("can read the secret")),
            ("-----BEGIN PRIVATE KEY-----", 0o666, Some("can read and change the secret")),
            ("-----BEGIN PRIVATE KEY-----", 0o640, None),
            ("-----BEGIN CERTIFICATE-----", 0o644, None),
            ("PFX", 0o644, Some("can read the secret")),
        ] {
            fs_err::write(&file, content).unwrap();
            fs_err::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let found = exposure(&file).filter(|_| is_confidential(&file));
            let message = found.map(|explanation| explanation.message).unwrap_or_default();
            assert_eq!(!message.is_empty(), expected.is_some(), "{content} {mode:o}: {message}");
            assert!(message.contains(expected.unwrap_or_default()), "{message}");
        }
    }
}
