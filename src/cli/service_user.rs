//! The user as whom the service runs. A command that runs as root assumes this identity before it
//! uses the state directory, and `init` judges with it which files the service can read: the kernel
//! decides, so groups and access control lists count. Start reading at [`ServiceUser::of_service`].

use std::path::Path;

use rustix::{
    process::{Gid, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use super::protect_memory;
use crate::files::{self, FileError, OwnedDirectory, PathOwner};

/// The user and the state directory of the packages. systemd creates the directory when the service
/// starts for the first time.
const PACKAGE_USER: &str = "secure-score-forwarder";
const PACKAGE_STATE_DIRECTORY: &str = "/var/lib/secure-score-forwarder";

/// The group without privileges, with this ID on every system.
const NO_GROUP: u32 = 65_534;

/// A user with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceUser {
    /// The name, or the number if the system does not know the user.
    pub name: String,
    /// The name or the number of the group of its processes.
    pub group: String,
    uid: u32,
    gid: u32,
    /// All groups, including the one of its processes.
    groups: Vec<u32>,
}

/// The local users and groups, as the texts of `/etc/passwd` and `/etc/group`. Users of a directory
/// service have numbers instead of names, and no further groups.
struct Accounts {
    users: String,
    groups: String,
}

impl ServiceUser {
    /// The owner of a directory or, if it does not exist, of the directory in which it would be
    /// created. `None` if that is root, and if this process does not run as root.
    ///
    /// # Errors
    ///
    /// Fails if root could not use the directory without following another user.
    pub(super) fn owner_of(directory: &Path) -> Result<Option<Self>, FileError> {
        if !files::is_root() {
            return Ok(None);
        }
        Ok(match files::owner_of(directory)? {
            PathOwner::Root => None,
            PathOwner::User { uid, gid } => Some(Accounts::read().owner(uid, gid)),
        })
    }

    /// The user as whom the service runs with this state directory: its owner or, if it is the one
    /// of the packages and does not exist yet, the user of the packages.
    ///
    /// # Errors
    ///
    /// Fails in the same cases as [`Self::owner_of`].
    pub(super) fn of_service(state_directory: &Path) -> Result<Option<Self>, FileError> {
        let owner = Self::owner_of(state_directory)?;
        let is_future = is_of_package(state_directory) && !state_directory.exists();
        Ok(owner.or_else(|| is_future.then(Self::of_package).flatten()))
    }

    /// The user of the packages. `None` if it does not exist, and if this process does not run as
    /// root.
    pub(super) fn of_package() -> Option<Self> {
        files::is_root().then(|| Accounts::read().user_named(PACKAGE_USER)).flatten()
    }

    /// The user of this process.
    pub(super) fn current() -> Self {
        let group = rustix::process::getegid();
        Accounts::read().user(rustix::process::geteuid().as_raw(), group.as_raw())
    }

    /// Runs work with this identity, in a separate thread. Fails if this process may not change
    /// its identity.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> std::io::Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| -> std::io::Result<T> {
                self.assume()?;
                Ok(work())
            });
            thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the thread failed")))
        })
    }

    /// Makes this user and its group the owners of a directory.
    pub(super) fn own(&self, directory: &OwnedDirectory) -> Result<(), FileError> {
        directory.assign(Some(self.uid), self.gid)
    }

    /// Assigns a directory to the group of this user, and keeps its owner.
    pub(super) fn share(&self, directory: &OwnedDirectory) -> Result<(), FileError> {
        directory.assign(None, self.gid)
    }

    /// Changes the identity of the calling thread permanently. Other threads keep theirs, because
    /// the kernel has one identity per thread.
    pub(super) fn assume(&self) -> std::io::Result<()> {
        let (user, group) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        let groups: Vec<Gid> = self.groups.iter().map(|group| Gid::from_raw(*group)).collect();

        // After the user has changed, the groups could no longer be changed.
        set_thread_groups(&groups)?;
        set_thread_res_gid(group, group, group)?;
        set_thread_res_uid(user, user, user)?;
        Ok(protect_memory()?)
    }
}

impl Accounts {
    fn read() -> Self {
        let text = |path: &str| fs_err::read_to_string(path).unwrap_or_default();
        Self { users: text("/etc/passwd"), groups: text("/etc/group") }
    }

    /// The user with these numbers.
    fn user(&self, user: u32, group: u32) -> ServiceUser {
        let name = lines(&self.users).find(|fields| number(fields, 2) == Some(user));
        let name = name.and_then(|fields| fields.first().copied());

        let mut groups = vec![group];
        groups.extend(name.into_iter().flat_map(|name| self.groups_of(name)));
        groups.sort_unstable();
        groups.dedup();
        ServiceUser {
            name: name.map_or_else(|| user.to_string(), str::to_owned),
            group: self.group_name(group),
            uid: user,
            gid: group,
            groups,
        }
    }

    /// The owner of a directory with this group. The processes of a user whom the system knows have
    /// the group of that user.
    ///
    /// For any other user, the group of the directory is used only if it can be that of the user:
    /// not the group of root, as in containers with an arbitrary user ID, and no local group, such
    /// as `shadow`. No local group lists a user who is not local, and the process could read what
    /// the user cannot read. Instead, it has the group with the number of the user, which the local
    /// files do not contain either, or else the one without privileges.
    fn owner(&self, user: u32, group: u32) -> ServiceUser {
        let fields = lines(&self.users).find(|fields| number(fields, 2) == Some(user));
        let own = fields.and_then(|fields| number(&fields, 3));
        let can_be_own = |group: &u32| *group != 0 && !self.has_group(*group);
        let other = || [group, user].into_iter().find(can_be_own).unwrap_or(NO_GROUP);
        self.user(user, own.unwrap_or_else(other))
    }

    fn user_named(&self, name: &str) -> Option<ServiceUser> {
        let fields = lines(&self.users).find(|fields| fields.first().copied() == Some(name))?;
        Some(self.user(number(&fields, 2)?, number(&fields, 3)?))
    }

    fn has_group(&self, group: u32) -> bool {
        lines(&self.groups).any(|fields| number(&fields, 2) == Some(group))
    }

    fn group_name(&self, group: u32) -> String {
        let found = lines(&self.groups).find(|fields| number(fields, 2) == Some(group));
        let name = found.and_then(|fields| fields.first().copied());
        name.map_or_else(|| group.to_string(), str::to_owned)
    }

    /// The groups that list a user as a member.
    fn groups_of(&self, name: &str) -> Vec<u32> {
        let has_member = |fields: &Vec<&str>| {
            fields.get(3).is_some_and(|members| members.split(',').any(|member| member == name))
        };
        let groups = lines(&self.groups).filter(has_member);
        groups.filter_map(|fields| number(&fields, 2)).collect()
    }
}

/// Whether a state directory is the one of the packages, which systemd creates.
pub(super) fn is_of_package(state_directory: &Path) -> bool {
    state_directory == Path::new(PACKAGE_STATE_DIRECTORY)
}

/// The fields of each line, which colons separate.
fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect())
}

fn number(fields: &[&str], index: usize) -> Option<u32> {
    fields.get(index)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_all_groups_that_list_them() {
        let accounts = Accounts {
            users: "root:x:0:0::/root:/bin/sh\nforwarder:x:998:997::/:/sbin/nologin\n".to_owned(),
            groups: "root:x:0:\nforwarder:x:997:\nssl-cert:x:110:www,forwarder\n".to_owned(),
        };

        let user = accounts.user(998, 997);
        assert_eq!((user.name.as_str(), user.group.as_str()), ("forwarder", "forwarder"));
        assert_eq!(user.groups, [110, 997]);
        assert_eq!(accounts.user_named("forwarder"), Some(user));

        let unknown = accounts.user(4_711, 4_712);
        assert_eq!((unknown.name.as_str(), unknown.group.as_str()), ("4711", "4712"));
        assert_eq!(unknown.groups, [4_712]);
        assert_eq!(accounts.user_named("www"), None);

        // Regression: with a directory of the group of root, root judged what this group can read.
        assert_eq!(accounts.owner(998, 0), accounts.user(998, 997));
        assert_eq!(accounts.owner(4_711, 4_712), unknown);
    }

    /// Regression: a user whom the system does not know acted with the group of its directory, also
    /// with that of root.
    #[test]
    fn unknown_users_have_no_privileged_group() {
        let accounts = Accounts {
            users: "root:x:0:0::/root:/bin/sh\n".to_owned(),
            groups: "root:x:0:\nshadow:x:42:\n".to_owned(),
        };

        for (user, group, expected) in
            [(4_711, 0, 4_711), (4_711, 42, 4_711), (4_711, 4_712, 4_712), (42, 0, NO_GROUP)]
        {
            let owner = accounts.owner(user, group);
            assert_eq!((owner.gid, owner.groups), (expected, vec![expected]), "{user} {group}");
        }
    }

    /// Regression: after a thread had changed its user, other processes could trace this one on a
    /// host that permits it for such processes.
    #[test]
    fn threads_of_other_users_protect_the_memory() {
        use rustix::process::{DumpableBehavior, dumpable_behavior};

        // Only root can set the groups of a thread.
        if ServiceUser::current().run(|| ()).is_ok() {
            assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        }
    }
}
