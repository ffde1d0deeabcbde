//! Who sends requests over the control socket: the kernel reports the user, and the log names it
//! with every request. Start reading at [`SocketUser::of`].

use std::path::Path;

use rustix::process::geteuid;
use tokio::net::UnixStream;

use super::Request;
use crate::files;

const ACCOUNTS: &str = "/etc/passwd";
/// The maximum size of the file with the local users.
const MAX_ACCOUNTS_BYTES: u64 = 4 << 20;

/// The user of the process at the other end of the control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SocketUser {
    pub uid: u32,
    /// The name, or the number if the user is not a local one.
    pub name: String,
}

impl SocketUser {
    /// The user whom the kernel reports for a connection. Fails if it reports none.
    pub(super) fn of(stream: &UnixStream) -> std::io::Result<Self> {
        let uid = stream.peer_cred()?.uid();
        let accounts = files::read_limited(Path::new(ACCOUNTS), MAX_ACCOUNTS_BYTES);
        let accounts = accounts.unwrap_or_default();
        Ok(Self { uid, name: name_of(uid, &String::from_utf8_lossy(&accounts)) })
    }

    /// Whether the user may send requests: root and the user of this process may.
    pub(super) fn is_permitted(&self) -> bool {
        self.uid == 0 || self.uid == geteuid().as_raw()
    }

    /// Logs a request of this user, before it is served. One that changes nothing may be sent every
    /// minute by a monitoring system, so it is not an entry of the log by default.
    pub(super) fn log(&self, request: &Request) {
        let command = request.command();
        if *request == Request::LiveFacts {
            tracing::debug!(command, uid = self.uid, user = self.name, "command received");
            return;
        }
        tracing::info!(command, uid = self.uid, user = self.name, "command received");
    }

    /// Logs that this user was rejected.
    pub(super) fn log_rejection(&self) {
        tracing::warn!(uid = self.uid, user = self.name, "rejected a caller of the control socket");
    }
}

/// The name of a user in the text of `/etc/passwd`, or its number.
fn name_of(uid: u32, accounts: &str) -> String {
    let name = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let is_user = fields.nth(1)?.parse() == Ok(uid);
        (is_user && !name.is_empty()).then(|| name.to_owned())
    };
    accounts.lines().find_map(name).unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_users_are_numbers() {
        let accounts = "root:x:0:0:root:/root:/bin/sh\nbroken\nforwarder:x:998:997::/:/bin/false\n";
        for (uid, name) in [(0, "root"), (998, "forwarder"), (997, "997"), (65_534, "65534")] {
            assert_eq!(name_of(uid, accounts), name);
        }
    }
}
