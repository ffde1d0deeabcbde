//! Planted links, FIFOs and foreign files. Root also tests what needs several users, by acting as
//! another one in a thread. `groups` tests whose files a group shares, and `exchange` which state
//! directories other users can replace.

mod exchange;
mod groups;
mod trusted_paths;

use std::{
    ffi::OsStr,
    io::{ErrorKind, Read},
    os::{
        fd::{AsRawFd, IntoRawFd},
        unix::{
            fs::{MetadataExt, PermissionsExt, chown, lchown, symlink},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, FileType, Mode, makedev, mkfifoat, mknodat},
    io::{FdFlags, fcntl_getfd},
    process::{Gid, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use super::{
    handed_down::receive,
    walk::{InputFileKind, open_input_as_root},
    *,
};
use crate::error::Hint;

/// A user and a group without privileges.
const OTHER: u32 = 65_534;
/// A third user.
const THIRD: u32 = 65_533;

/// Every way in which a file is opened.
const ACCESSES: [FileAccess; 4] = [
    FileAccess::Read,
    FileAccess::ReadWrite,
    FileAccess::Create(NewFileMode::State),
    FileAccess::Create(NewFileMode::Output),
];

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o7777
}

fn give(path: &Path, user: u32, group: u32) {
    chown(path, Some(user), Some(group)).unwrap();
}

/// Runs work in a thread of another user. Only root can do that.
fn as_user<T: Send>(user: u32, group: u32, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
            set_thread_groups(&[group]).unwrap();
            set_thread_res_gid(group, group, group).unwrap();
            set_thread_res_uid(user, user, user).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// A directory with a file outside, and everything that can be planted in the directory: the name,
/// and the beginning of the message about it.
struct Planted {
    directory: tempfile::TempDir,
    sockets: Vec<UnixListener>,
}

const KINDS: [(&str, &str); 5] = [
    ("link", "is a symbolic link"),
    ("dangling", "is a symbolic link"),
    ("hard", "is one of 2 names (hard links) of the same file"),
    ("fifo", "is not a regular file"),
    ("socket", "is not a regular file"),
];

impl Planted {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let planted = Self { directory, sockets: Vec::new() };
        std::fs::create_dir(planted.state()).unwrap();
        std::fs::write(planted.canary(), "unchanged").unwrap();

        let at = |name: &str| planted.state().join(name);
        symlink(planted.canary(), at("link")).unwrap();
        symlink(planted.path("created"), at("dangling")).unwrap();
        std::fs::hard_link(planted.canary(), at("hard")).unwrap();
        mkfifoat(CWD, at("fifo"), Mode::RUSR | Mode::WUSR).unwrap();
        let socket = UnixListener::bind(at("socket")).unwrap();
        Self { sockets: vec![socket], ..planted }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn state(&self) -> PathBuf {
        self.path("state")
    }

    fn canary(&self) -> PathBuf {
        self.path("canary")
    }
}

/// Regression: a link named `lock` was followed and its target truncated, and a FIFO made the
/// process wait.
#[test]
fn nothing_that_is_planted_is_opened() {
    let planted = Planted::new();
    for directory in [
        OwnedDirectory::prepare(&planted.state()).unwrap(),
        OwnedDirectory::open_for_output(&planted.state()).unwrap(),
    ] {
        for (name, message) in KINDS {
            let expected = format!("`{}` {message}", planted.state().join(name).display());
            for access in ACCESSES {
                let error = directory.open_file(name, access).unwrap_err();
                assert_eq!(error.to_string(), expected, "{access:?}");
                assert!(error.hint().is_some(), "{expected}");
            }
            assert_eq!(directory.inspect(name).unwrap_err().to_string(), expected);
            assert_eq!(directory.check_writable(name).unwrap_err().to_string(), expected);
            let new = FileAccess::CreateNew(NewFileMode::State);
            let existing = directory.open_file(name, new).unwrap_err();
            assert_eq!(existing.kind(), ErrorKind::AlreadyExists, "{name}");
        }
    }

    assert_eq!(planted.sockets.len(), 1);
    assert_eq!(std::fs::read_to_string(planted.canary()).unwrap(), "unchanged");
    assert!(!planted.path("created").exists());
}

#[test]
fn a_replacement_removes_only_the_link() {
    let planted = Planted::new();
    let directory = OwnedDirectory::prepare(&planted.state()).unwrap();
    for name in ["link", "hard"] {
        symlink(planted.canary(), planted.state().join(format!("{name}.new"))).unwrap();
        directory.replace(name, b"new", NewFileMode::State).unwrap();
        assert_eq!(directory.read(name, 3).unwrap(), b"new");
        assert_eq!(mode(&planted.state().join(name)), 0o600);
    }
    assert_eq!(std::fs::read_to_string(planted.canary()).unwrap(), "unchanged");
    assert!(directory.names().unwrap().iter().all(|name| !name.contains(".new")));
}

#[test]
fn files_are_created_but_never_truncated() {
    let directory = tempfile::tempdir().unwrap();
    let opened = OwnedDirectory::prepare(directory.path()).unwrap();
    let missing = opened.open_file("new", FileAccess::ReadWrite).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(opened.inspect("new").unwrap().is_none());

    opened.open_file("new", FileAccess::Create(NewFileMode::Secret)).unwrap();
    assert_eq!(mode(&directory.path().join("new")), 0o600);
    std::fs::write(directory.path().join("new"), "content").unwrap();
    let mut text = String::new();
    let mut file = opened.open_file("new", FileAccess::Create(NewFileMode::State)).unwrap();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");

    set_mode(&directory.path().join("new"), 0o644);
    opened.restrict_file("new").unwrap();
    assert_eq!(mode(&directory.path().join("new")), 0o600);
    opened.rename("new", "old").unwrap();
    opened.sync().unwrap();
    assert_eq!(opened.names().unwrap(), ["old"]);
    opened.remove("old").unwrap();
    opened.remove_if_exists("old").unwrap();
}

/// Regression: a directory that its group shares was narrowed to 0700, so that the next user of the
/// group could not start, and so was one whose mode an administrator had chosen; and one to which
/// all users could write was changed instead of rejected.
#[test]
fn only_new_directories_are_made_private() {
    let parent = tempfile::tempdir().unwrap();
    for (before, after) in [
        (0o700, 0o700),
        (0o755, 0o755),
        (0o751, 0o751),
        (0o500, 0o500),
        (0o770, 0o770),
        (0o775, 0o775),
        (0o2775, 0o2775),
        (0o777, 0o777),
        (0o707, 0o707),
    ] {
        let path = parent.path().join(format!("{before:o}"));
        std::fs::create_dir(&path).unwrap();
        set_mode(&path, before);
        if before & 0o002 != 0 {
            let error = OwnedDirectory::open(&path).unwrap_err();
            assert!(matches!(error, FileError::WritableByOthers(_)), "{error}");
            OwnedDirectory::open_for_output(&path).unwrap();
        }
        assert_eq!(OwnedDirectory::prepare(&path).is_ok(), before & 0o002 == 0, "{before:o}");
        assert_eq!(mode(&path), after, "{before:o}");
    }

    let sticky = parent.path().join("sticky");
    std::fs::create_dir(&sticky).unwrap();
    set_mode(&sticky, 0o1777);
    let error = OwnedDirectory::prepare(&sticky).unwrap_err();
    assert!(matches!(error, FileError::WritableByOthers(_)), "{error}");
    assert_eq!(mode(&sticky), 0o1777);

    let deep = parent.path().join("a/b");
    OwnedDirectory::prepare(&deep).unwrap();
    assert_eq!((mode(&deep), mode(&parent.path().join("a"))), (0o700, 0o700));
    let child = OwnedDirectory::open(&deep).unwrap();
    child.create_directory(OsStr::new("c"), 0o750).unwrap();
    assert_eq!(mode(&deep.join("c")), 0o750);
}

#[test]
fn state_that_all_users_can_change_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "x").unwrap();
    set_mode(&path, 0o666);

    let opened = OwnedDirectory::prepare(directory.path()).unwrap();
    let error = opened.open_file("file", FileAccess::Read).unwrap_err();
    assert!(matches!(error, FileError::WritableByOthers(_)), "{error}");
    assert_eq!(error.hint().unwrap(), format!("run `chmod o-w {}`", path.display()));
    let output = OwnedDirectory::open_for_output(directory.path()).unwrap();
    output.open_file("file", FileAccess::ReadWrite).unwrap();
}

#[test]
fn files_of_the_administrator_have_a_limit() {
    let planted = Planted::new();
    let link = planted.state().join("link");
    assert_eq!(read_limited(&link, 9).unwrap(), b"unchanged", "links are followed");
    assert!(matches!(read_limited(&link, 8), Err(FileError::TooLarge(_, 8))));

    for path in [planted.state().join("fifo"), PathBuf::from("/dev/zero")] {
        let error = read_limited(&path, 9).unwrap_err();
        assert!(matches!(error, FileError::NotRegular(_)), "{error}");
    }
    let error = read_limited(&planted.state(), 9).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IsADirectory);
    let missing = std::io::Error::from(read_limited(&planted.path("missing"), 9).unwrap_err());
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

/// Root must not use what belongs to another user, and no user what a third one has planted.
#[test]
fn files_of_other_users_are_rejected() {
    let directory = tempfile::tempdir().unwrap();
    set_mode(directory.path(), 0o755);
    let (state, file) = (directory.path().join("state"), directory.path().join("state/file"));
    std::fs::create_dir(&state).unwrap();
    std::fs::write(&file, "x").unwrap();
    if !is_root() {
        // A file of root is trusted by every user.
        let etc = OwnedDirectory::open_for_output(Path::new("/etc")).unwrap();
        etc.open_file("passwd", FileAccess::Read).unwrap();
        return;
    }

    let open = || OwnedDirectory::open(&state).and_then(|opened| opened.read("file", 9));
    let is_foreign = |result: Result<Vec<u8>, FileError>, path: &Path, owner: u32| match result {
        Err(FileError::ForeignOwner(found, uid)) => found == path && uid == owner,
        _ => false,
    };
    assert_eq!(open().unwrap(), b"x");
    give(&file, OTHER, OTHER);
    assert!(is_foreign(open(), &file, OTHER), "root, file of another user");
    give(&state, OTHER, OTHER);
    assert!(is_foreign(open(), &state, OTHER), "root, directory of another user");
    assert_eq!(as_user(OTHER, OTHER, open).unwrap(), b"x");
    assert!(is_foreign(as_user(THIRD, THIRD, open), &state, OTHER), "a third user");
    give(&file, THIRD, THIRD);
    assert!(is_foreign(as_user(OTHER, OTHER, open), &file, THIRD), "a planted file");

    // The group shares the directory: another user of the group continues with its files.
    set_mode(&state, 0o2770);
    set_mode(&file, 0o664);
    assert!(is_foreign(as_user(OTHER, OTHER, open), &file, THIRD), "another group");
    give(&file, THIRD, OTHER);
    assert_eq!(as_user(OTHER, OTHER, open).unwrap(), b"x");
    as_user(THIRD, OTHER, || {
        let shared = OwnedDirectory::prepare(&state).unwrap();
        shared.open_file("new", FileAccess::Create(NewFileMode::State)).unwrap();
        shared.open_file("secret", FileAccess::Create(NewFileMode::Secret)).unwrap();
    });
    assert_eq!(mode(&state.join("new")), 0o660);
    assert_eq!(mode(&state.join("secret")), 0o600);
    assert_eq!(mode(&state), 0o2770);
}

/// Regression: a state directory that was created in the volume of a group had the mode 0700, and
/// the file of a sink the mode 0600, so that the next user of the group could use neither; and none
/// was created in a volume to which all users can write.
#[test]
fn new_names_in_a_shared_directory_are_shared() {
    if !is_root() {
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    set_mode(parent.path(), 0o755);
    for (volume, directory, file) in [
        (0o2775, 0o2770, 0o660),
        (0o775, 0o770, 0o660),
        (0o777, 0o770, 0o660),
        (0o2777, 0o2770, 0o660),
        (0o1777, 0o700, 0o600),
    ] {
        let path = parent.path().join(format!("{volume:o}"));
        std::fs::create_dir(&path).unwrap();
        give(&path, 0, OTHER);
        set_mode(&path, volume);
        let state = path.join("a/state");

        let write = || {
            let state = OwnedDirectory::prepare(&state)?;
            let output = OwnedDirectory::open_for_output(state.path())?;
            output.open_file("records", FileAccess::Create(NewFileMode::Output))?;
            state.open_file("lock", FileAccess::Create(NewFileMode::State)).map(drop)
        };
        as_user(OTHER, OTHER, write).unwrap();
        assert_eq!(mode(&state), directory, "{volume:o}");
        assert_eq!(mode(&path.join("a")), directory, "{volume:o}");
        assert_eq!(mode(&state.join("lock")), file, "{volume:o}");
        let is_shared = file == 0o660;
        assert_eq!(mode(&state.join("records")) & 0o020 != 0, is_shared, "{volume:o}");
        assert_eq!(as_user(THIRD, OTHER, write).is_ok(), is_shared, "{volume:o}");
    }
}

#[test]
fn a_path_leads_to_its_owner() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["own", "own/below", "foreign", "foreign/below", "third"] {
        std::fs::create_dir(at(name)).unwrap();
    }
    symlink("own/below", at("link")).unwrap();
    symlink(at("third"), at("foreign/link")).unwrap();
    symlink("loop", at("loop")).unwrap();
    if !is_root() {
        return;
    }

    give(&at("foreign"), OTHER, OTHER);
    give(&at("third"), THIRD, THIRD);
    let user = |id: u32| Some(PathOwner::User { uid: id, gid: id });
    let root = Some(PathOwner::Root);
    let owner = |name: &str| owner_of(&at(name)).ok();
    assert_eq!(owner("own/below"), root);
    assert_eq!(owner("own/missing/deep"), root);
    assert_eq!(owner("link/.."), root);
    assert_eq!(owner("foreign"), user(OTHER));
    assert_eq!(owner("foreign/missing/deep"), user(OTHER));
    assert_eq!(owner("foreign/below"), None, "a directory of root below one of another user");
    assert_eq!(owner("loop"), None);

    // No link in the directory of a user leads to a third user, and no link of a user to root.
    assert_eq!(owner("foreign/link"), None);
    lchown(at("foreign/link"), Some(OTHER), Some(OTHER)).unwrap();
    assert_eq!(owner("foreign/link"), None);
    lchown(at("link"), Some(OTHER), Some(OTHER)).unwrap();
    assert_eq!(owner("link"), None);
    for name in ["link", "link/new", "foreign/new", "foreign/link/new"] {
        let error = OwnedDirectory::prepare(&at(name)).unwrap_err();
        assert!(matches!(error, FileError::ForeignOwner(..)), "{name}: {error}");
    }
    assert!(!at("own/below/new").exists() && !at("foreign/new").exists());
}

/// Regression: root acted as the user who had created a missing directory where every user can, or
/// who owned the directory in which all users could exchange the one that root used.
#[test]
fn owners_that_any_user_can_be_are_rejected() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (shared, state) = (directory.path().join("shared"), directory.path().join("shared/state"));
    for path in [&shared, &state, &state.join("below")] {
        std::fs::create_dir(path).unwrap();
    }

    for (mode, above, owner, is_used) in [
        (0o755, 0, OTHER, true),
        (0o775, 0, OTHER, false),
        (0o777, 0, OTHER, false),
        (0o1777, 0, OTHER, false),
        (0o1777, 0, 0, true),
        // The owner of a directory can always exchange what is in it, and decides about its group.
        (0o755, OTHER, OTHER, true),
        (0o775, OTHER, OTHER, true),
        (0o1777, OTHER, OTHER, true),
        (0o777, OTHER, OTHER, false),
    ] {
        give(&shared, above, above);
        set_mode(&shared, mode);
        give(&state, owner, owner);
        give(&state.join("below"), owner, owner);
        for path in [state.clone(), state.join("below"), state.join("missing")] {
            let found = owner_of(&path);
            assert_eq!(found.is_ok(), is_used, "{mode:o} {above} {owner} {path:?}: {found:?}");
            if let Err(error) = found {
                let message = format!("they can write to `{}`", shared.display());
                assert!(matches!(error, FileError::UncertainOwner { .. }), "{error}");
                assert!(error.to_string().ends_with(&message) && error.hint().is_some(), "{error}");
            }
        }
    }
}

#[test]
fn received_descriptors_are_read_from_their_beginning() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    std::fs::write(&path, "s3cr3t").unwrap();

    let mut handed_down = HandedDown::default();
    handed_down.add_file(&path);
    handed_down.add_file(&directory.path().join("missing"));
    handed_down.add_directory(directory.path());
    let variable = handed_down.variable().unwrap();
    let (file, folder) = (path.display(), directory.path().display());
    assert!(variable.starts_with(&format!("{{\"files\":{{\"{file}\":")), "{variable}");
    let directories = format!("\"directories\":{{\"{folder}\":[\"secret\"]}}}}");
    assert!(variable.ends_with(&directories), "{variable}");

    let inherited = std::fs::File::open(&path).unwrap().into_raw_fd();
    let received = receive(inherited, path.clone()).unwrap();
    assert!(fcntl_getfd(&received).unwrap().contains(FdFlags::CLOEXEC));
    assert_ne!(received.as_raw_fd(), inherited);
    for _ in 0..2 {
        let mut text = String::new();
        FromStart::of(&received).read_to_string(&mut text).unwrap();
        assert_eq!(text, "s3cr3t");
    }
    for invalid in [-1, 0, 2, 1_000_000] {
        assert!(receive(invalid, path.clone()).is_none(), "{invalid}");
    }
}

#[test]
fn names_of_an_absent_directory_are_empty() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(list_directory(&directory.path().join("missing")).unwrap().is_empty());
    assert!(list_directory(&file).unwrap().is_empty());
    assert_eq!(list_directory(directory.path()).unwrap(), [file]);
}
