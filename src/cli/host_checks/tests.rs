//! Tests of the checks that depend on this host, as any user.

use std::os::unix::fs::PermissionsExt;

use rustix::fs::{CWD, mkfifoat};

use super::*;

/// Tests run as any user: root can read everything, so only what is true for every user is
/// asserted.
#[test]
fn missing_files_are_obstacles() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key.pem");
    assert_eq!(obstacle(&file), Some(Obstacle::Missing));
    fs_err::write(&file, "key").unwrap();
    assert_eq!(obstacle(&file), None);
    assert_eq!(obstacle(&file.join("below")), Some(Obstacle::Missing));
    assert_eq!(obstacle(directory.path()), Some(Obstacle::NotRegular));
    let fifo = directory.path().join("fifo");
    mkfifoat(CWD, &fifo, Mode::RUSR).unwrap();
    assert_eq!(obstacle(&fifo), Some(Obstacle::NotRegular));
    assert!(!is_confidential(&fifo));
}

/// Regression: the hint for a file in `sinks.d` was to move it out of that directory.
#[test]
fn directories_of_the_configuration_are_not_left() {
    let hint = |directory: &str| entry_hint(Path::new(directory), "g");
    for name in DIRECTORIES {
        let path = format!("/etc/x/{name}");
        assert_eq!(hint(&path), format!("run `chgrp g {path}` and `chmod 750 {path}`"));
    }
    assert!(hint("/root").starts_with("move the file to `/etc/secure-score-forwarder`"));
}

/// Regression: `/proc/x` was accepted as the state directory: root may write to `/proc`.
#[test]
fn creation_is_tried_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(try_creation(directory.path()), Ok(()));
    assert_eq!(fs_err::read_dir(directory.path()).unwrap().count(), 0);
    assert!(try_creation(Path::new("/proc")).is_err());
}

/// Regression: a secret that every user could read passed `check` without a message.
#[test]
fn exposed_secrets_are_reported_with_their_mode() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key.pem");
    for (content, mode, expected) in [
        ("-----BEGIN PRIVATE KEY-----", 0o644, Some("can read the secret")),
        ("-----BEGIN PRIVATE KEY-----", 0o666, Some("can read and change the secret")),
        ("-----BEGIN PRIVATE KEY-----", 0o640, None),
        ("-----BEGIN CERTIFICATE-----", 0o644, None),
        ("PFX", 0o644, Some("can read the secret")),
    ] {
        fs_err::write(&file, content).unwrap();
        fs_err::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let found = exposures(&file).into_iter().find(|_| is_confidential(&file));
        let message = found.map(|(_, explanation)| explanation.message).unwrap_or_default();
        assert_eq!(!message.is_empty(), expected.is_some(), "{content} {mode:o}: {message}");
        assert!(message.contains(expected.unwrap_or_default()), "{message}");
    }
}

/// Regression: a secret that every user could replace, or that another user owned, passed
/// `check` without a message.
#[test]
fn foreign_and_replaceable_secrets_are_reported() {
    let found = [(0, 7), (7, 7), (7, 0), (7, 8)].map(|(owner, user)| foreign_owner(owner, user));
    assert_eq!(found, [None, None, Some(7), Some(7)]);

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    fs_err::write(&file, "s3cret").unwrap();
    fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    for (mode, expected) in [(0o700, Vec::new()), (0o777, vec![Exposure::Change])] {
        let permissions = std::fs::Permissions::from_mode(mode);
        fs_err::set_permissions(directory.path(), permissions).unwrap();
        let found: Vec<_> = exposures(&file).into_iter().map(|(found, _)| found).collect();
        assert_eq!(found, expected, "{mode:o}");
    }
}
