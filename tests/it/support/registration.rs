//! The registration scripts in `deploy/`, against a substitute for the directory of a tenant; see
//! `tests/registration/directory.py`. The Azure CLI is a substitute too, because the real one
//! cannot sign in to this directory. PowerShell is in no package registry that the tests use, so an
//! interpreter runs the script, and fails for everything that it does not know.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{Run, cache, write};

/// The application ID of Microsoft Graph.
pub const GRAPH: &str = "00000003-0000-0000-c000-000000000000";
/// The service principal of Microsoft Graph in the directory.
pub const GRAPH_PRINCIPAL: &str = "99999999-0000-4000-8000-000000000003";
/// The app role `SecurityEvents.Read.All`.
pub const ROLE: &str = "bf394140-e372-4bf9-a898-299cfc7564e5";
/// The user who is signed in.
pub const ADMINISTRATOR: &str = "eeeeeeee-0000-4000-8000-000000000001";

/// Substitutes for programs of the host. The group of the service exists if `$GROUPS_LOG.exists`
/// does.
const PROGRAMS: [(&str, &str); 3] = [
    ("sleep", ""),
    ("getent", "[ -e \"$GROUPS_LOG.exists\" ]\n"),
    ("chgrp", "printf '%s\\n' \"$*\" >>\"$GROUPS_LOG\"\n"),
];

/// A registration script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    Shell,
    PowerShell,
}

/// Both scripts, which do the same.
pub const SCRIPTS: [Script; 2] = [Script::Shell, Script::PowerShell];

/// A host on which an administrator is signed in to the directory, and the files of the scripts.
pub struct Registration {
    folder: TempDir,
    python: PathBuf,
}

impl Registration {
    /// `directory` is described in `tests/registration/directory.py`.
    pub fn new(directory: &Value) -> Self {
        let python = cache("PYTHON_READERS", "python").join("bin/python");
        let registration = Self { folder: tempfile::tempdir().unwrap(), python };
        registration.set_directory(directory);

        for (name, body) in PROGRAMS {
            registration.install(name, body);
        }
        let az = root().join("tests/registration/az.py");
        let az = format!("exec '{}' '{}' \"$@\"\n", registration.python.display(), az.display());
        registration.install("az", &az);
        registration
    }

    /// Installs a shell script as a program of this host.
    pub fn install(&self, program: &str, body: &str) {
        let path = self.path(program);
        write(&path, &format!("#!/bin/sh\n{body}"));
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The file with the certificate and the key.
    pub fn key(&self) -> PathBuf {
        self.path("out/secure-score-forwarder.pem")
    }

    /// The state of the directory, with all requests that it has received.
    pub fn directory(&self) -> Value {
        let text = std::fs::read_to_string(self.path("directory.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    pub fn set_directory(&self, directory: &Value) {
        write(self.path("directory.json"), &directory.to_string());
    }

    /// The requests that the directory has received, except those that only read.
    pub fn changes(&self) -> Vec<String> {
        let directory = self.directory();
        let requests = directory["requests"].as_array().cloned().unwrap_or_default();
        let requests = requests.iter().map(|request| request.as_str().unwrap().to_owned());
        requests.filter(|request| !request.starts_with("GET ")).collect()
    }

    /// Runs a script. Its options are those of the shell script.
    pub fn run(&self, script: Script, options: &[&str]) -> Run {
        let out = self.path("out").display().to_string();
        let options = ["--out", out.as_str()].into_iter().chain(options.iter().copied());
        let mut command = match script {
            Script::Shell => {
                let mut command = Command::new("bash");
                command.arg(root().join("deploy/register-app.sh")).args(options);
                command
            }
            Script::PowerShell => {
                let mut command = Command::new(&self.python);
                command.arg(root().join("tests/registration/powershell.py"));
                command.arg(root().join("deploy/register-app.ps1")).args(options.map(parameter));
                command
            }
        };
        Run::of(self.on_host(&mut command).output().unwrap())
    }

    /// Makes a command use the programs and the directory of this host.
    pub fn on_host<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let path = std::env::var("PATH").unwrap();
        command
            .env("PATH", format!("{}:{path}", self.folder.path().display()))
            .env("DIRECTORY", self.path("directory.json"))
            .env("GROUPS_LOG", self.path("groups"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
    }
}

/// The parameter of the PowerShell script for an option of the shell script: `-AppId` for
/// `--app-id`. A value remains unchanged.
fn parameter(option: &str) -> String {
    let Some(name) = option.strip_prefix("--") else { return option.to_owned() };
    let words = name.split('-').map(|word| word[..1].to_uppercase() + &word[1..]);
    format!("-{}", words.collect::<String>())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
