//! Tests of the paths that root trusts.

use super::*;

/// Paths below a directory of root, and the part of each that another user can change.
const CHANGEABLE_PARTS: [(&str, Option<&str>); 23] = [
    ("closed", None),
    ("closed/file", None),
    ("closed/link", None),
    ("closed/missing", None),
    ("closed/missing/deep", None),
    ("closed/group", Some("closed/group")),
    ("closed/owned", Some("closed/owned")),
    ("closed/planted", Some("closed/planted")),
    ("open", Some("open")),
    ("open/file", Some("open")),
    ("open/link", Some("open")),
    ("open/missing", Some("open")),
    ("through-open", Some("open")),
    ("sticky", Some("sticky")),
    ("sticky/of-root", None),
    ("sticky/of-root/file", None),
    ("sticky/of-root/missing", None),
    ("sticky/file", Some("sticky")),
    ("sticky/link", Some("sticky")),
    ("sticky/missing", Some("sticky")),
    ("foreign/file", Some("foreign")),
    ("foreign/missing", Some("foreign")),
    ("through-foreign/closed/file", Some("foreign")),
];

/// Regression: a missing file counted as one that no other user can change, only the directories on
/// the path without links were examined, and the directory of a file was not examined itself.
#[test]
fn changeable_parts_of_a_path_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    for name in ["closed", "open", "sticky", "sticky/of-root", "foreign"] {
        std::fs::create_dir(at(name)).unwrap();
        std::fs::write(at(name).join("file"), "x").unwrap();
        symlink(at("closed/file"), at(name).join("link")).unwrap();
    }
    symlink("open/link", at("through-open")).unwrap();
    symlink("foreign/..", at("through-foreign")).unwrap();
    symlink("loop", at("loop")).unwrap();

    if !is_root() {
        return;
    }

    for (name, mode) in [("open", 0o775), ("sticky", 0o1777)] {
        set_mode(&at(name), mode);
    }
    std::fs::write(at("closed/group"), "x").unwrap();
    set_mode(&at("closed/group"), 0o660);
    std::fs::write(at("closed/owned"), "x").unwrap();

    for name in ["foreign", "closed/owned"] {
        give(&at(name), OTHER, OTHER);
    }
    symlink("file", at("closed/planted")).unwrap();
    lchown(at("closed/planted"), Some(OTHER), Some(OTHER)).unwrap();

    for (name, expected) in CHANGEABLE_PARTS {
        let found = changeable_part(&at(name)).unwrap();
        assert_eq!(found, expected.map(&at), "{name}");
    }
    assert!(changeable_part(&at("loop")).is_err());
    assert!(changeable_part(&at("closed/file/below")).is_err());
}

/// Regression: a device was opened before its kind was known, which can have an effect, such as
/// rewinding a tape. A device without a driver cannot be opened, except as a path.
#[test]
fn devices_are_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("device");
    let mode = Mode::RUSR | Mode::WUSR;
    // The number of no driver. Only root can create a device, and not in every container.
    if mknodat(CWD, &path, FileType::CharacterDevice, mode, makedev(4_000, 1)).is_err() {
        return;
    }

    let error = open_regular(&path).unwrap_err();
    assert!(matches!(error, FileError::NotRegular(_)), "{error}");
    let error = open_input_as_root(&path, InputFileKind::Regular).unwrap_err();
    assert!(matches!(error, FileError::NotRegular(_)), "{error}");
    let error = open_input_as_root(&path, InputFileKind::Any).unwrap_err();
    assert!(matches!(error, FileError::Io { .. }), "{error}");
}
