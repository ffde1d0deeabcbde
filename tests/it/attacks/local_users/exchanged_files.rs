//! Files and directories that another user exchanges while a command uses them: the file of a
//! backup, a state directory, and the directory of a socket.

use std::{
    os::unix::fs::{MetadataExt, symlink},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{run, set_mode};
use crate::support::Workspace;

/// Replaces a new file by a planted one as soon as it appears.
fn exchange(new: &Path, planted: &Path, is_done: &AtomicBool) {
    loop {
        // Read first, so that a file that appeared before the end is always exchanged.
        let is_last = is_done.load(Ordering::SeqCst);
        if new.symlink_metadata().is_ok() {
            return std::fs::rename(planted, new).unwrap();
        }
        if is_last {
            return;
        }
        std::thread::yield_now();
    }
}

/// Another user exchanges the new file of a backup for a link, or for a file that the user can
/// read.
///
/// Regression: the mode of the target of the link was changed, and the database was copied into the
/// planted file.
#[test]
fn backups_reach_no_planted_file() {
    let mut workspace = Workspace::new();
    workspace.extra = "initial_backfill_days = 30".to_owned();
    workspace.file_sink("local");
    workspace.run_ok(&["once"]);
    let shared = workspace.path("shared");
    std::fs::create_dir(&shared).unwrap();
    set_mode(&shared, 0o777);

    for kind in ["link", "file"] {
        let (canary, planted) = (workspace.path(&format!("canary-{kind}")), shared.join(kind));
        std::fs::write(&canary, "").unwrap();
        set_mode(&canary, 0o666);
        if kind == "link" {
            symlink(&canary, &planted).unwrap();
        } else {
            std::fs::hard_link(&canary, &planted).unwrap();
        }

        let (new, is_done) = (shared.join(format!("{kind}.db")), Arc::new(AtomicBool::new(false)));
        let attacker = std::thread::spawn({
            let (new, is_done) = (new.clone(), Arc::clone(&is_done));
            move || exchange(&new, &planted, &is_done)
        });
        let ended = run(&workspace, &["state", "backup", &new.display().to_string()]);
        is_done.store(true, Ordering::SeqCst);
        attacker.join().unwrap();
        assert_eq!(ended.code, 0, "{kind}: {ended:?}");
        let found = std::fs::metadata(&canary).unwrap();
        assert_eq!((found.len(), found.mode() & 0o777), (0, 0o666), "{kind}");
    }
}

/// Another user can rename the state directory in a directory to which all users can write. Root
/// does not use it; any other user is warned.
///
/// Regression: only the permissions of the state directory itself were examined.
#[test]
fn root_refuses_exchangeable_state_directories() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    let (shared, state) = (workspace.path("shared"), workspace.path("shared/state"));
    std::fs::create_dir(&shared).unwrap();
    let configured = |path: &Path| format!("directory = \"{}\"", path.display());
    let configuration = workspace.configuration();
    let moved = configuration.replace(&configured(&workspace.state()), &configured(&state));
    workspace.literal = Some(moved);

    let message = format!("every user of this host can change `{}`", shared.display());
    for is_new in [true, false] {
        set_mode(&shared, 0o777);
        for (command, code) in [("check", 2), ("once", 3), ("run", 3)] {
            let ended = run(&workspace, &[command]);
            assert_eq!(ended.code, code, "{command}: {ended:?}");
            assert!(ended.stderr.contains(&message), "{command}: {ended:?}");
            assert!(ended.stderr.contains("hint: run `chmod o-w "), "{command}: {ended:?}");
            assert_eq!(state.exists(), !is_new, "{command}");
        }
        // In a sticky directory, users can rename only what belongs to them.
        set_mode(&shared, 0o1777);
        workspace.run_ok(&["once"]);
    }
}

/// Another user can exchange a socket in a directory to which all users can write.
///
/// Regression: the mode of the socket was changed by path, so that a link in its place changed the
/// mode of another file.
#[test]
fn exchangeable_sockets_are_refused() {
    let mut workspace = Workspace::new();
    workspace.file_sink("local");
    let shared = workspace.path("shared");
    std::fs::create_dir(&shared).unwrap();
    let socket = shared.join("admin.sock");
    workspace.head = format!("[admin]\nlisten = \"unix:{}\"\n", socket.display());
    workspace.run_ok(&["check", "--strict"]);

    set_mode(&shared, 0o777);
    for command in ["check", "run"] {
        let ended = run(&workspace, &[command]);
        let message = format!("every user of this host can change `{}`", shared.display());
        assert_ne!(ended.code, 0, "{command}: {ended:?}");
        assert!(ended.stderr.contains(&message), "{command}: {ended:?}");
        assert!(ended.stderr.contains("hint: "), "{command}: {ended:?}");
        assert!(!socket.exists(), "{command}");
    }
    set_mode(&shared, 0o1777);
    workspace.run_ok(&["check", "--strict"]);
}
