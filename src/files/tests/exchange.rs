//! State directories that all users can replace by renaming. Root also tests what another user
//! decides, in a thread of that user.

use super::*;

/// Modes of a directory, and whether all users can replace what it contains.
const MODES: [(u32, bool); 7] = [
    (0o777, true),
    (0o2777, true),
    (0o703, true),
    (0o700, false),
    (0o775, false),
    (0o1777, false),
    (0o3777, false),
];

/// State directories whose paths lead through the directory `shared`. One of them does not exist.
const NAMES: [&str; 5] =
    ["shared/above/state", "shared/above/state/..", "shared/new", "link", "shared/link"];

/// Directories and links for [`NAMES`].
fn create_paths() -> tempfile::TempDir {
    let parent = tempfile::tempdir().unwrap();
    let at = |name: &str| parent.path().join(name);
    set_mode(parent.path(), 0o755);
    std::fs::create_dir_all(at("shared/above/state")).unwrap();
    std::fs::create_dir(at("closed")).unwrap();
    symlink("shared/above/state", at("link")).unwrap();
    symlink("../closed", at("shared/link")).unwrap();
    parent
}

/// Gives everything that [`create_paths`] has created to the user `OTHER`.
fn give_paths(parent: &Path) {
    for name in
        ["", "closed", "link", "shared", "shared/link", "shared/above", "shared/above/state"]
    {
        lchown(parent.join(name), Some(OTHER), Some(OTHER)).unwrap();
    }
}

/// Opens every directory as the user of this thread, and asserts whether that is possible.
fn assert_decisions(parent: &Path, mode: u32, is_used: bool) {
    let shared = parent.join("shared");
    for name in NAMES {
        let path = parent.join(name);
        for opened in [OwnedDirectory::prepare(&path), OwnedDirectory::open(&path)] {
            assert_eq!(opened.is_ok(), is_used, "{name} {mode:o}: {opened:?}");
            let Err(error) = opened else { continue };
            let is_named = matches!(&error, FileError::WritableByOthers(path)
                if path.file_name() == shared.file_name());
            assert!(is_named, "{name} {mode:o}: {error}");
            let hint = error.hint().unwrap();
            assert!(hint.starts_with("run `chmod o-w "), "{name}: {hint}");
        }
    }

    assert_eq!(shared.join("new").exists(), is_used, "{mode:o}: nothing is created");
    let _ = std::fs::remove_dir(shared.join("new"));
    OwnedDirectory::prepare(&parent.join("closed")).unwrap();
}

/// Regression: all users could replace a state directory by renaming it, if they could write to
/// the directory above it, or to one through which a link leads. In a sticky directory, only its
/// owner can.
///
/// Regression: a process that is not root refused such a directory too, so it could not use the
/// volume of a container with the mode 0777.
#[test]
fn only_root_refuses_exchangeable_state() {
    let parent = create_paths();
    let shared = parent.path().join("shared");
    for (mode, is_replaceable) in MODES {
        set_mode(&shared, mode);
        assert_decisions(parent.path(), mode, !(is_root() && is_replaceable));
        for name in NAMES {
            let part = replaceable_part(&parent.path().join(name));
            let found = part.as_deref().and_then(Path::file_name);
            let expected = is_replaceable.then(|| OsStr::new("shared"));
            assert_eq!(found, expected, "{name} {mode:o}: {part:?}");
        }
    }
    if !is_root() {
        return;
    }

    give_paths(parent.path());
    for (mode, _) in MODES {
        set_mode(&shared, mode);
        as_user(OTHER, OTHER, || assert_decisions(parent.path(), mode, true));
    }
}

/// A state directory to which all users can write is used by no user, regardless of the directory
/// above it.
#[test]
fn open_state_directories_are_always_refused() {
    let parent = create_paths();
    let at = |name: &str| parent.path().join(name);
    let assert_refused = |case: &str| {
        for name in ["shared/above/state", "link"] {
            for opened in [OwnedDirectory::prepare(&at(name)), OwnedDirectory::open(&at(name))] {
                let error = opened.expect_err(case);
                assert!(matches!(error, FileError::WritableByOthers(_)), "{case}: {error}");
            }
        }
    };

    let modes = [(0o755, 0o777), (0o777, 0o777), (0o777, 0o1777), (0o1777, 0o707)];
    let set_modes = |(above, state): (u32, u32)| {
        set_mode(&at("shared"), above);
        set_mode(&at("shared/above/state"), state);
        format!("{above:o} {state:o}")
    };
    for pair in modes {
        assert_refused(&set_modes(pair));
    }
    if !is_root() {
        return;
    }

    give_paths(parent.path());
    for pair in modes {
        let case = set_modes(pair);
        as_user(OTHER, OTHER, || assert_refused(&case));
    }
}
