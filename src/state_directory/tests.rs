//! A state directory without a database: its lock, its control socket and its second cursor file.

use super::*;

/// The directory that is deleted when the test ends, and the path of a state directory in it that
/// does not exist yet.
fn new_path() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    (directory, path)
}

#[test]
fn the_lock_excludes_other_holders() {
    let (_directory, path) = new_path();
    assert_eq!(StateDirectory::holder(&path), None, "the directory does not exist");
    let held = StateDirectory::open(&path).unwrap();
    assert!(held.is_locked());
    let holder = StateDirectory::holder(&path).unwrap();
    assert_eq!((holder.pid, holder.socket), (std::process::id(), None));

    held.announce(Path::new("/run/x.sock")).unwrap();
    let reader = StateDirectory::open_read_only(&path).unwrap();
    assert!(!reader.is_locked());
    reader.announce(Path::new("/run/y.sock")).unwrap();
    let announced = StateDirectory::holder(&path).unwrap();
    assert_eq!(announced.socket.as_deref(), Some(Path::new("/run/x.sock")));

    for opened in [StateDirectory::open(&path), reader.into_locked()] {
        let StateDirectoryError::Locked(Some(found)) = opened.unwrap_err() else {
            panic!("the directory is not locked")
        };
        assert_eq!(found, announced);
    }
    drop(held);
    assert_eq!(StateDirectory::holder(&path), None);
    StateDirectory::open(&path).unwrap();
}

#[test]
fn directories_that_cannot_be_created_are_named() {
    let (directory, _) = new_path();
    let file = directory.path().join("file");
    fs_err::write(&file, "").unwrap();
    let path = file.join("state");
    let error = StateDirectory::open(&path).unwrap_err();
    assert!(matches!(&error, StateDirectoryError::Create(found, _) if *found == path), "{error:?}");
}

#[test]
fn the_second_cursor_file_needs_no_database() {
    let (_directory, path) = new_path();
    let state = StateDirectory::open(&path).unwrap();
    assert!(matches!(state.read_cursors(), Ok(None)));
    for text in ["{}", "", "{\"cursors\":[\"\u{fc}\"]}"] {
        state.write_cursors(text).unwrap();
        assert_eq!(state.read_cursors().unwrap().as_deref(), Some(text));
        let reader = StateDirectory::open_read_only(&path).unwrap();
        assert_eq!(reader.read_cursors().unwrap().as_deref(), Some(text));
    }

    let mut names = state.files().names().unwrap();
    names.sort();
    assert_eq!(names, [CURSOR_FILE, LOCK_FILE]);
}

/// No part of the file can be changed, or missing at its end, without being noticed.
#[test]
fn damaged_cursor_files_are_rejected() {
    let (_directory, path) = new_path();
    let state = StateDirectory::open(&path).unwrap();
    state.write_cursors("{\"checkpoint_id\":\"x\",\"cursors\":[]}").unwrap();
    let file = state.files().path_of(CURSOR_FILE);
    let intact = fs_err::read(&file).unwrap();

    // The line break at the end can be missing.
    for at in 0..intact.len() - 1 {
        let mut changed = intact.clone();
        changed[at] ^= 1;
        for damaged in [&changed[..], &intact[..at]] {
            fs_err::write(&file, damaged).unwrap();
            let read = state.read_cursors();
            assert!(matches!(read, Err(CursorFileError::Damaged)), "byte {at}: {read:?}");
        }
    }
}
