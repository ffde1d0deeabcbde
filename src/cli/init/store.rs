//! Creates the directories and files of a finished interview. If one of them cannot be created,
//! those that were created before it are removed. Existing files are never overwritten. Start
//! reading at [`write`].

use std::{
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use fs_err::os::unix::fs::OpenOptionsExt;
use secrecy::ExposeSecret;

use super::{
    facts::{NewDirectory, Settings},
    interview::Files,
    usage,
};
use crate::cli::{CommandFailure, service_user::ServiceUser};

/// The mode of directories above a new one, which the service must be able to enter.
const PARENT_MODE: u32 = 0o755;

/// What has been created, in this order. It is removed if the value is dropped before
/// [`Self::keep`] is called.
#[derive(Default)]
struct Created(Vec<PathBuf>);

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
        created.file(&path, &format!("{}\n", secret.expose_secret()))?;
    }
    created.file(&settings.file, &files.configuration)?;

    created.keep();
    Ok(())
}

impl Created {
    fn directory(
        &mut self,
        directory: &NewDirectory,
        service: Option<&ServiceUser>,
    ) -> Result<(), CommandFailure> {
        let mut missing: Vec<&Path> =
            directory.path.ancestors().take_while(|path| !path.exists()).collect();
        missing.reverse();
        for path in missing {
            fs_err::create_dir(path)?;
            self.0.push(path.to_owned());
            let mode = if path == directory.path { directory.mode } else { PARENT_MODE };
            fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        }

        let assigned = match service {
            Some(service) if directory.owner.is_some() => service.own(&directory.path),
            Some(service) => service.share(&directory.path),
            None => Ok(()),
        };
        assigned.map_err(|error| {
            usage(format!("cannot change the owner of `{}`: {error}", directory.path.display()))
        })
    }

    /// Creates a file that its owner and the group of its directory can read; the package assigns
    /// this directory to the group of the service. Fails if the file exists.
    fn file(&mut self, path: &Path, text: &str) -> Result<(), CommandFailure> {
        let mut options = fs_err::OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(0o600).open(path);
        let mut file = opened.map_err(|error| usage(error.to_string()))?;
        self.0.push(path.to_owned());
        file.write_all(text.as_bytes())?;
        file.sync_all()?;

        let directory = path.parent().and_then(|parent| fs_err::metadata(parent).ok());
        let group = directory.map(|metadata| metadata.gid()).filter(|group| *group != 0);
        if let Some(group) = group
            && std::os::unix::fs::chown(path, None, Some(group)).is_ok()
        {
            fs_err::set_permissions(path, std::fs::Permissions::from_mode(0o640))?;
        }
        Ok(())
    }

    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Created {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            // The failure that led here is reported; another one would hide it.
            let _ =
                if path.is_dir() { fs_err::remove_dir(path) } else { fs_err::remove_file(path) };
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(mode(path("secrets/graph-secret")) & 0o007, 0);
    }
}
