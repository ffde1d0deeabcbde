//! Creates the directories and files of a finished interview. If one of them cannot be created,
//! those that were created before it are removed. Existing files are never overwritten, and root
//! creates nothing in a directory of another user. Start reading at [`write`].

use std::{
    ffi::OsStr,
    io::Write,
    os::unix::fs::{PermissionsExt, fchown},
    path::{Path, PathBuf},
};

use rustix::process::getegid;
use secrecy::ExposeSecret;

use super::{
    facts::{NewDirectory, Settings},
    interview::Files,
    usage,
};
use crate::{
    cli::{CommandFailure, service_user::ServiceUser},
    error::Explanation,
    files::{FileAccess, FileError, NewFileMode, OwnedDirectory},
};

/// The mode of directories above a new one, which the service must be able to enter.
const PARENT_MODE: u32 = 0o755;
/// The mode of a file that the group of the service can read.
const SHARED_FILE_MODE: u32 = 0o640;

/// What has been created, in this order. It is removed if the value is dropped before
/// [`Self::keep`] is called.
#[derive(Default)]
struct Created(Vec<CreatedPath>);

/// A new file or directory.
struct CreatedPath {
    path: PathBuf,
    /// The user who has created it, if that is another user than that of this process.
    owner: Option<ServiceUser>,
}

/// Creates everything, or nothing. `service` is the user of the service, if this process can create
/// files for it.
pub(super) fn write(
    files: &Files,
    settings: &Settings,
    service: Option<&ServiceUser>,
) -> Result<(), CommandFailure> {
    let mut created = Created::default();
    for directory in &files.directories {
        created.directory(directory, service)?;
    }
    for (name, secret) in &files.secrets {
        let path = settings.secrets.directory.join(name);
        created.file(&path, &format!("{}\n", secret.expose_secret()), service)?;
    }
    created.file(&settings.file, &files.configuration, service)?;

    created.keep();
    Ok(())
}

impl Created {
    fn directory(
        &mut self,
        directory: &NewDirectory,
        service: Option<&ServiceUser>,
    ) -> Result<(), CommandFailure> {
        // In a directory of another user, that user creates the new one.
        let owner = ServiceUser::owner_of(&directory.path);
        let owner = owner.map_err(|error| not_created(&error))?;
        let mut paths = Vec::new();
        let created = match &owner {
            Some(owner) => owner.run(|| create(directory, &mut paths))?,
            None => create(directory, &mut paths),
        };
        let paths = paths.into_iter().map(|path| CreatedPath { path, owner: owner.clone() });
        self.0.extend(paths);
        let created = created.map_err(|error| not_created(&error))?;

        let assigned = match service {
            Some(service) if owner.is_none() && directory.owner.is_some() => service.own(&created),
            Some(service) if owner.is_none() => service.share(&created),
            _ => Ok(()),
        };
        assigned.map_err(|error| not_created(&error))
    }

    /// Creates a file that only its owner and the group of the service can read. Without a service
    /// that runs as another user, only its owner can: the group of a directory can contain any
    /// user. Fails if the file exists.
    fn file(
        &mut self,
        path: &Path,
        text: &str,
        service: Option<&ServiceUser>,
    ) -> Result<(), CommandFailure> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let access = FileAccess::CreateNew(NewFileMode::Secret);
        let new = OwnedDirectory::open_for_output(parent)
            .and_then(|directory| directory.open_file(name, access));

        let mut file = new.map_err(|error| not_created(&error))?;
        self.0.push(CreatedPath { path: path.to_owned(), owner: None });
        file.write_all(text.as_bytes())?;
        file.sync_all()?;

        if let Some(service) = service {
            // The group with which the processes of the service run.
            let group = service.run(|| getegid().as_raw())?;
            let shared = fchown(&file, None, Some(group));
            let shared = shared.map_err(FileError::io("change the group of", path));
            shared.map_err(|error| not_created(&error))?;
            file.set_permissions(std::fs::Permissions::from_mode(SHARED_FILE_MODE))?;
        }
        Ok(())
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        for CreatedPath { path, owner } in self.0.iter().rev() {
            let remove =
                || if path.is_dir() { fs_err::remove_dir(path) } else { fs_err::remove_file(path) };
            // The failure that led here is reported; another one would hide it.
            let _ = match owner {
                Some(owner) => owner.run(remove).and_then(|removed| removed),
                None => remove(),
            };
        }
    }
}

/// Creates a directory and the missing ones above it. Adds the new ones to `created`.
fn create(
    directory: &NewDirectory,
    created: &mut Vec<PathBuf>,
) -> Result<OwnedDirectory, FileError> {
    let mut missing: Vec<&Path> =
        directory.path.ancestors().take_while(|path| !path.exists()).collect();
    missing.reverse();
    let existing = directory.path.ancestors().nth(missing.len()).unwrap_or(Path::new("/"));

    let mut parent = OwnedDirectory::open_for_output(existing)?;
    for path in missing {
        let mode = if path == directory.path { directory.mode } else { PARENT_MODE };
        parent = parent.create_directory(path.file_name().unwrap_or_default(), mode)?;
        created.push(path.to_owned());
    }
    Ok(parent)
}

fn not_created(error: &FileError) -> CommandFailure {
    usage(Explanation::of(error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use secrecy::SecretString;

    use super::*;
    use crate::cli::init::facts::{ReferenceKind, SecretStore};

    /// Nothing remains of a configuration that could not be written completely.
    #[test]
    fn failures_leave_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let settings = Settings {
            file: path("config.toml"),
            state_directory: path("state/deep"),
            listen: String::new(),
            cloud: String::new(),
            secrets: SecretStore { directory: path("secrets"), reference: ReferenceKind::File },
        };
        let new = |path: PathBuf| NewDirectory { path, mode: 0o750, owner: None, group: None };
        let files = Files {
            directories: vec![new(path("state/deep")), new(path("secrets"))],
            secrets: vec![("graph-secret", SecretString::from("s3cret"))],
            configuration: "text".to_owned(),
        };

        fs_err::write(&settings.file, "existing").unwrap();
        assert!(write(&files, &settings, None).is_err());
        assert_eq!(fs_err::read_to_string(&settings.file).unwrap(), "existing");
        assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 1);

        fs_err::remove_file(&settings.file).unwrap();
        write(&files, &settings, None).unwrap();
        let mode = |path: PathBuf| fs_err::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(path("state")), 0o755);
        assert_eq!(mode(path("state/deep")), 0o750);
        assert_eq!(mode(path("secrets/graph-secret")), 0o600);
    }

    /// Regression: without a user of the service, the client secret was readable for the group of
    /// its directory, which for many users is a group of all users.
    #[test]
    fn only_the_group_of_the_service_reads_files() {
        let directory = tempfile::tempdir().unwrap();
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(directory.path(), None, Some(65_534)).unwrap();
        }
        let path = directory.path().join("graph-secret");
        let mut created = Created::default();
        created.file(&path, "s3cret", None).unwrap();
        let found = fs_err::metadata(&path).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600);

        // Only root can act as another user.
        let service = ServiceUser::current();
        if rustix::process::geteuid().is_root() {
            let path = directory.path().join("shared");
            created.file(&path, "s3cret", Some(&service)).unwrap();
            let found = fs_err::metadata(&path).unwrap();
            assert_eq!(found.permissions().mode() & 0o777, 0o640);
            assert_eq!(found.gid(), getegid().as_raw());
        }
    }
}
