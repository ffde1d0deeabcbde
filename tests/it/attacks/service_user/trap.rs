//! Directories of another user, in which everything that root might open is a link, a hard link or
//! a FIFO, and the files outside that must not change.

use std::{
    cell::Cell,
    collections::BTreeMap,
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown, lchown, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    time::Duration,
};

use rustix::fs::{CWD, Mode, mkfifoat};

use crate::support::{Run, Workspace, write};

/// The user and the group of the service in these tests: those without privileges.
pub const OTHER: u32 = 65_534;

/// The time after which a command counts as waiting. The slowest one is `demo`.
const LIMIT: Duration = Duration::from_secs(120);

/// The names that are planted, each with its directory.
const PLANTED: &[(&str, &str)] = &[
    ("state", "lock"),
    ("state", "checkpoint.db"),
    ("state", "checkpoint.db-wal"),
    ("state", "checkpoint.db-shm"),
    ("state", "checkpoint.db-journal"),
    ("state", "checkpoint.db.restored"),
    ("state", "checkpoint.db.received"),
    ("state", "checkpoint.db.rebuilt"),
    ("state", "cursors.json"),
    ("state", "cursors.json.new"),
    ("state", "control.sock"),
    ("state", "tokens"),
    ("out", "local.jsonl"),
    ("out", "absent.jsonl"),
];

/// What is planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlantedKind {
    Link,
    HardLink,
    Fifo,
}

pub const KINDS: [PlantedKind; 3] = [PlantedKind::Link, PlantedKind::HardLink, PlantedKind::Fifo];

impl PlantedKind {
    /// A part of the message about it.
    pub fn message(self) -> &'static str {
        match self {
            Self::Link => "is a symbolic link",
            Self::HardLink => "names (hard links) of the same file",
            Self::Fifo => "is not a regular file",
        }
    }
}

/// The content, the owner, the group and the mode of a file.
type FileFacts = (String, u32, u32, u32);

pub struct Trap {
    pub workspace: Workspace,
    /// How many names `{new}` has represented.
    new: Cell<u32>,
}

impl Trap {
    pub fn new() -> Self {
        let mut workspace = Workspace::new();
        workspace.extra = "initial_backfill_days = 2".to_owned();
        set_mode(workspace.path(""), 0o755);

        // A valid backup and an export, which belong to root.
        let records = workspace.file_sink("of-root");
        workspace.run_ok(&["once"]);
        workspace.run_ok(&["state", "backup", &workspace.path("backup.db").display().to_string()]);
        let saved = workspace.run_ok(&["state", "export"]).stdout;
        write(workspace.path("saved.jsonl"), &saved);
        std::fs::remove_file(records).unwrap();
        std::fs::remove_dir_all(workspace.state()).unwrap();

        workspace.clear_sinks();
        for name in ["local", "absent"] {
            let path = workspace.path(&format!("out/{name}.jsonl"));
            workspace.sink(name, &format!("type = \"file\"\npath = \"{}\"", path.display()));
        }
        Self { workspace, new: Cell::new(0) }
    }

    /// Plants all names.
    pub fn plant_everything(&self, kind: PlantedKind) {
        self.plant(kind, |_, _| true);
    }

    /// Plants the files of the sinks; the state directory is empty.
    pub fn plant_sinks(&self, kind: PlantedKind) {
        self.plant(kind, |directory, _| directory == "out");
    }

    /// Plants the files that a process replaces as a whole.
    pub fn plant_leftovers(&self, kind: PlantedKind) {
        self.plant(kind, |directory, name| {
            directory == "state"
                && [".restored", ".received", ".json", ".new"].iter().any(|end| name.ends_with(end))
        });
    }

    fn plant(&self, kind: PlantedKind, is_planted: impl Fn(&str, &str) -> bool) {
        for directory in ["state", "out", "outside"] {
            let path = self.workspace.path(directory);
            let _ = std::fs::remove_dir_all(&path);
            std::fs::create_dir(&path).unwrap();
            if directory != "outside" {
                chown(path, Some(OTHER), Some(OTHER)).unwrap();
            }
        }

        for (index, (directory, name)) in PLANTED.iter().enumerate() {
            let path = self.workspace.path(&format!("{directory}/{name}"));
            let target = self.workspace.path(&format!("outside/{name}"));
            // The target of one link does not exist, and must not be created.
            if kind != PlantedKind::Link || *name != "absent.jsonl" {
                write(&target, "unchanged\n");
                // Half of the files are protected only by the rules of this program.
                set_mode(&target, if index % 2 == 0 { 0o666 } else { 0o600 });
            }
            if !is_planted(directory, name) {
                continue;
            }

            match kind {
                PlantedKind::Link => {
                    symlink(&target, &path).unwrap();
                    lchown(&path, Some(OTHER), Some(OTHER)).unwrap();
                }
                PlantedKind::HardLink => std::fs::hard_link(&target, &path).unwrap(),
                PlantedKind::Fifo => {
                    mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
                    chown(&path, Some(OTHER), Some(OTHER)).unwrap();
                }
            }
        }
    }

    /// All files that must not change.
    pub fn outside(&self) -> BTreeMap<PathBuf, FileFacts> {
        let entries = std::fs::read_dir(self.workspace.path("outside")).unwrap();
        let facts = entries.map(|entry| {
            let path = entry.unwrap().path();
            let found = std::fs::symlink_metadata(&path).unwrap();
            let content = std::fs::read_to_string(&path).unwrap();
            (path, (content, found.uid(), found.gid(), found.mode()))
        });
        facts.collect()
    }

    /// Runs a command as root.
    pub fn run(&self, name: &str, options: &str) -> Run {
        self.new.set(self.new.get() + 1);
        let path = |name: &str| self.workspace.path(name).display().to_string();
        let options = options
            .replace("{backup}", &path("backup.db"))
            .replace("{saved}", &path("saved.jsonl"))
            .replace("{new}", &path(&format!("new-{}", self.new.get())));

        let args: Vec<&str> = name.split_whitespace().chain(options.split_whitespace()).collect();
        run_within_limit(self.workspace.command(&args))
    }
}

/// Runs a command, and fails if it does not end within the limit.
pub fn run_within_limit(mut command: Command) -> Run {
    let child = command.spawn().unwrap();
    let id = child.id().to_string();
    let (ended, wait) = channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let is_late = wait.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout);
        if is_late {
            Command::new("kill").args(["-s", "KILL", &id]).status().unwrap();
        }
        is_late
    });

    let run = Run::of(child.wait_with_output().unwrap());
    drop(ended);
    assert!(!watchdog.join().unwrap(), "the command waited: {command:?} {run:?}");
    run
}

/// Runs a command as a user whose only group is that of root, as in a container.
pub fn run_as(workspace: &Workspace, user: u32, args: &[&str]) -> Run {
    run_within_limit(command_as(workspace, user, args))
}

/// A command of a user whose only group is that of root, as in a container.
pub fn command_as(workspace: &Workspace, user: u32, args: &[&str]) -> Command {
    // The user may not be able to enter the directory in which the program was built.
    let program = workspace.path("program");
    if !program.exists() {
        // A separate process copies it: a process that another test starts in the meantime would
        // inherit the descriptor for writing, and a file that is open for writing cannot be run.
        let mut install = Command::new("install");
        install.args(["-m", "0755", env!("CARGO_BIN_EXE_secure-score-forwarder")]).arg(&program);
        assert!(install.status().unwrap().success());
    }

    let prepared = workspace.command(args);
    let mut command = Command::new(program);
    command.args(prepared.get_args()).env_clear().env("NO_COLOR", "1").uid(user).gid(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn set_mode(path: impl AsRef<Path>, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
