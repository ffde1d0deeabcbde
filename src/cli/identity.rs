//! As whom a command runs.
//!
//! Root follows nothing that another user has planted: a command that touches the state directory
//! or the file of a sink runs as the owner of the state directory, even if it only reads. What only
//! root can read is opened before that, and no configuration is used that another user can
//! change. No other module may decide as whom a command runs. Start reading at [`Identity::of`].
//! See decision 0060.

use std::{
    ffi::OsString,
    io,
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process,
};

use fs_err::File;
use rustix::{
    fs::{Access, CWD, MemfdFlags, Mode, OFlags, access, fchmod, memfd_create, openat},
    io::Errno,
};

use super::{
    CommandFailure, ExitCode,
    args::{Command, Touched},
    caller,
    environment::used_variables,
    service_user::ServiceUser,
};
use crate::{
    config::{Configuration, DIRECTORIES},
    error::Explanation,
    files::{self, HandedDown, HostFault, OwnedDirectory, PathOwner, VARIABLE},
    settings::SecretRef,
};

/// The name of the copy of the program that another user executes.
const COPY_NAME: &str = "secure-score-forwarder";

/// As whom the command of this process runs.
pub(super) enum Identity {
    /// The user of this process.
    Caller,
    /// The owner of the state directory; the user of this process is root.
    Owner(Box<StateOwner>),
}

/// The owner of a state directory, and what only root can read.
pub(super) struct StateOwner {
    user: ServiceUser,
    directory: PathBuf,
    handed_down: HandedDown,
    /// The variables that the command of this user inherits.
    environment: Vec<(OsString, OsString)>,
}

impl Identity {
    /// As whom a command with this configuration must run. Creates a missing state directory of the
    /// packages if the command requires it. Fails if another user can change a configuration that
    /// the command uses, or if root could not use the state directory without following another
    /// user.
    pub(super) fn of(config: &Path, command: &Command) -> Result<Self, CommandFailure> {
        let touched = command.touched();
        if touched == Touched::Nothing || !files::is_root() {
            return Ok(Self::Caller);
        }
        require_trusted(config)?;
        if touched == Touched::Configuration {
            return Ok(Self::Caller);
        }

        let configuration = Configuration::load(config).ok();
        let directory = match &configuration {
            Some(configuration) => Some(configuration.state_directory.clone()),
            None => Configuration::state_directory_in(config),
        };
        // Without a state directory, the command only reports the faults of the configuration.
        let Some(directory) = directory else { return Ok(Self::Caller) };
        let user = match ServiceUser::of_service(&directory) {
            // The command reports this fault, `check` with its location.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Self::Caller),
            user => user?,
        };
        let Some(user) = user else { return Ok(Self::Caller) };

        if touched == Touched::Created && files::owner_of(&directory)? == PathOwner::Root {
            // systemd would create it when the service starts for the first time.
            user.own(&OwnedDirectory::prepare(&directory)?)?;
        }
        let handed_down = hand_down(config, configuration.as_ref(), command, &user)?;
        let environment = inherited(configuration.as_ref());
        Ok(Self::Owner(Box::new(StateOwner { user, directory, handed_down, environment })))
    }
}

/// Fails if this process is root, and another user can change the configuration, which names the
/// secrets that root reads, the files that it writes, and where it sends both. Afterwards, no other
/// user can change what is read, because only root can change anything on the way to it.
pub(super) fn require_trusted(config: &Path) -> Result<(), CommandFailure> {
    if !files::is_root() {
        return Ok(());
    }
    // The main file names another one, so it must be trusted before it is read.
    require_unchangeable(config)?;
    Configuration::further_sources(config).iter().try_for_each(|path| require_unchangeable(path))
}

/// Fails if another user than root can change a file or directory of the configuration.
fn require_unchangeable(path: &Path) -> Result<(), CommandFailure> {
    let changeable = match files::changeable_part(path) {
        Ok(None) => return Ok(()),
        Ok(Some(changeable)) => changeable,
        Err(error) if HostFault::of(&error).is_some() => return Err(error.into()),
        Err(error) => return Err(CommandFailure::from_error(ExitCode::Usage, &error)),
    };

    let is_itself = std::path::absolute(path).is_ok_and(|absolute| absolute == changeable);
    let reason = if is_itself {
        "it".to_owned()
    } else {
        format!("`{}`, which leads to it", changeable.display())
    };
    let message = format!(
        "root does not use `{}`, because another user can change or replace {reason}",
        path.display()
    );
    let hint = "run the command as that user, as with `sudo -u USER`; or make root the owner of all files of the configuration and of the directories above them, with modes that permit no other user to write";
    Err(CommandFailure::new(ExitCode::Usage, Explanation::new(message).with_hint(hint)))
}

impl StateOwner {
    /// Executes the command again as this user, with all groups. Returns only the failure.
    pub(super) fn execute_again(self) -> CommandFailure {
        let attempt = || -> io::Result<io::Error> {
            let (program, variable) = (unreadable_program()?, self.handed_down.variable()?);
            let path = format!("/proc/self/fd/{}", program.as_raw_fd());
            // The new program has the identity of the thread that executes it.
            self.user.assume()?;
            Ok(self.execute(Path::new(&path), &variable))
        };
        let error = attempt().unwrap_or_else(|error| error);
        failure(&self.directory, &error)
    }

    /// Runs the command in a thread of this user, for a command that writes to files of root. See
    /// [`caller::as_caller`].
    pub(super) fn run<T: Send>(self, work: impl FnOnce() -> T + Send) -> Result<T, CommandFailure> {
        let Self { user, directory, handed_down, environment: _ } = self;
        handed_down.keep();
        caller::run_as(&user, work).map_err(|error| failure(&directory, &error))
    }

    /// Executes a program with the arguments of this one. Returns only the failure.
    fn execute(&self, program: &Path, variable: &str) -> io::Error {
        let mut process = process::Command::new(program);
        let mut arguments = std::env::args_os();
        if let Some(name) = arguments.next() {
            process.arg0(name);
        }
        process.args(arguments);
        process.env_clear().envs(self.environment.iter().cloned()).env(VARIABLE, variable).exec()
    }
}

/// A copy of this program in memory, which other users can execute and cannot read. The kernel lets
/// no other process trace a process of such a program, from its first instruction on. The user
/// could otherwise control the terminal of root, and take the files that are handed down.
fn unreadable_program() -> io::Result<File> {
    let created = match memfd_create(COPY_NAME, MemfdFlags::CLOEXEC | MemfdFlags::EXEC) {
        // Linux before 6.3 does not know the second flag, and permits the execution.
        Err(Errno::INVAL) => memfd_create(COPY_NAME, MemfdFlags::CLOEXEC),
        created => created,
    };
    let mut copy = File::from_parts(created?.into(), format!("/memfd:{COPY_NAME}"));
    io::copy(&mut File::open("/proc/self/exe")?, &mut copy)?;
    fchmod(&copy, Mode::XUSR | Mode::XGRP | Mode::XOTH)?;

    // A program that is open for writing cannot be executed.
    let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let executable = openat(CWD, path.as_str(), flags, Mode::empty())?;
    Ok(File::from_parts(executable.into(), path))
}

/// Runs another command of this program as a separate process, which determines itself as whom it
/// runs. Returns its exit code.
pub(super) fn run_process(config: &Path, arguments: &[&str]) -> io::Result<ExitCode> {
    let mut process = process::Command::new(std::env::current_exe()?);
    process.args(arguments).arg("--config").arg(config).env_remove(VARIABLE);
    let status = process.status()?;
    let code = ExitCode::ALL.into_iter().find(|code| status.code() == Some(*code as i32));
    Ok(code.unwrap_or(ExitCode::Incomplete))
}

fn failure(directory: &Path, error: &io::Error) -> CommandFailure {
    CommandFailure::new(
        ExitCode::Incomplete,
        format!("cannot run as the owner of `{}`: {error}", directory.display()),
    )
}

/// The variables of this process that the command uses: those that the program always uses, and
/// those with the secrets that a valid configuration names. Root passes no others on.
fn inherited(configuration: Option<&Configuration>) -> Vec<(OsString, OsString)> {
    let secrets = configuration.map(Configuration::secrets).unwrap_or_default().iter();
    let secrets = secrets.filter_map(|secret| match &secret.reference {
        SecretRef::Env(name) => Some(name.as_str()),
        _ => None,
    });
    used_variables(&secrets.collect::<Vec<&str>>()).collect()
}

/// Opens the files that the command may read and the user cannot: those of the configuration, those
/// that it names if it is valid, and those that the caller names.
fn hand_down(
    config: &Path,
    configuration: Option<&Configuration>,
    command: &Command,
    user: &ServiceUser,
) -> io::Result<HandedDown> {
    let directories: Vec<PathBuf> =
        DIRECTORIES.iter().map(|name| config.with_file_name(name)).collect();
    let mut paths = vec![config.to_owned()];
    for directory in &directories {
        // The command reports an error.
        paths.extend(files::list_directory(directory).unwrap_or_default());
    }
    if let Some(configuration) = configuration {
        let inspection = &configuration.inspection;
        paths.extend(inspection.sources.iter().cloned());
        paths.extend(inspection.files.iter().map(|file| file.path.clone()));
        paths.extend(configuration.secrets().iter().filter_map(|secret| secret.reference.path()));
    }
    let inputs = command.inputs();

    let (list, enter) = (Access::READ_OK, Access::READ_OK | Access::EXEC_OK);
    let (inputs, paths, directories) =
        user.run(|| (denied(&inputs, list), denied(&paths, list), denied(&directories, enter)))?;

    let mut handed_down = HandedDown::default();
    for path in &inputs {
        handed_down.add_input(path);
    }
    for path in &paths {
        handed_down.add_file(path);
    }
    for path in &directories {
        handed_down.add_directory(path);
    }
    Ok(handed_down)
}

/// The paths to which the user of this thread has no access. The kernel decides, so that groups and
/// access control lists count.
fn denied(paths: &[PathBuf], required: Access) -> Vec<PathBuf> {
    let is_denied = |path: &&PathBuf| access(path.as_path(), required).is_err();
    paths.iter().filter(is_denied).cloned().collect()
}
