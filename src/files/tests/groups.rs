//! In which directories the group of a file shows that its owner can be trusted. Only root can run
//! these tests, because each case has several users.

use super::*;

/// What a process decides about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decision {
    Used,
    /// The owner is another user.
    Foreign,
    /// The owner is another user, who may not be a member of the group of the file.
    Uncertain,
}

/// The owner and the group of a file, and what a member of the group `OTHER` decides about it: in a
/// directory where this group is evidence, and in one where it is not. Another user of the group is
/// `THIRD`, who also has a group with the same number.
const DECISIONS: [(u32, u32, Decision, Decision); 6] = [
    (OTHER, OTHER, Decision::Used, Decision::Used),
    (OTHER, THIRD, Decision::Used, Decision::Used),
    (0, 0, Decision::Used, Decision::Used),
    (0, OTHER, Decision::Used, Decision::Used),
    (THIRD, OTHER, Decision::Used, Decision::Uncertain),
    (THIRD, THIRD, Decision::Foreign, Decision::Foreign),
];

/// Modes of a directory whose group can write to it, and whether the group is evidence there. The
/// last four also let all users write.
const MODES: [(u32, bool); 9] = [
    (0o770, true),
    (0o775, true),
    (0o2770, true),
    (0o2775, true),
    (0o3775, true),
    (0o777, true),
    (0o1777, false),
    (0o2777, false),
    (0o3777, false),
];

/// The decision about the file of a sink with this name.
fn decide(directory: &Path, name: &str) -> Decision {
    let opened = OwnedDirectory::open_for_output(directory)
        .and_then(|opened| opened.open_file(name, FileAccess::Create(NewFileMode::Output)));
    match opened {
        Ok(_) => Decision::Used,
        Err(FileError::ForeignOwner(..)) => Decision::Foreign,
        Err(FileError::UncertainMember(..)) => Decision::Uncertain,
        Err(error) => panic!("{error}"),
    }
}

/// Regression: in a directory of all users whose set-group-ID bit gives its group to new files, the
/// file of any user was used, because of that group. A directory of a group, such as the volume of
/// a container with an arbitrary user ID, remains shared.
///
/// Regression: a volume with the mode 0777, which gives its group to no file, was not shared.
#[test]
fn groups_are_evidence_unless_directories_give_them() {
    if !is_root() {
        return;
    }
    let parent = tempfile::tempdir().unwrap();
    set_mode(parent.path(), 0o755);
    let cases = MODES.into_iter().flat_map(|mode| [0, OTHER, THIRD].map(|owner| (mode, owner)));
    for ((mode, is_evidence), owner) in cases {
        let directory = parent.path().join(format!("{mode:o}-{owner}"));
        std::fs::create_dir(&directory).unwrap();
        for (index, (user, group, ..)) in DECISIONS.iter().enumerate() {
            let file = directory.join(index.to_string());
            std::fs::write(&file, "x").unwrap();
            give(&file, *user, *group);
            set_mode(&file, 0o666);
        }
        give(&directory, owner, OTHER);
        set_mode(&directory, mode);

        for (index, (user, group, evident, unclear)) in DECISIONS.into_iter().enumerate() {
            let case = format!("{mode:o}, directory of {owner}, file of {user}:{group}");
            let name = index.to_string();
            let expected = if is_evidence { evident } else { unclear };
            let decided = as_user(OTHER, OTHER, || decide(&directory, &name));
            assert_eq!(decided, expected, "{case}, a member of the group");

            // Without the group, only the owner counts. Others cannot enter every directory.
            let expected = if user == THIRD { Decision::Foreign } else { Decision::Used };
            if mode & 0o001 != 0 {
                let decided = as_user(OTHER, THIRD, || decide(&directory, &name));
                assert_eq!(decided, expected, "{case}, another user");
            }
            // Root uses no directory of another user, and trusts no group.
            if owner == 0 {
                let expected = if user == 0 { Decision::Used } else { Decision::Foreign };
                assert_eq!(decide(&directory, &name), expected, "{case}, root");
            }
        }
    }
}
