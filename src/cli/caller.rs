//! Work for the caller of a command that runs as another user: root can read and write files to
//! which the owner of the state directory has no access.
//!
//! The command runs in a thread of the owner, and hands the work to a thread that is still root.
//! Only files that the caller has named may be used there. Start reading at [`run_as`] and
//! [`as_caller`]. See decision 0060.

use std::{
    cell::RefCell,
    io::{self, Read},
    path::Path,
    sync::mpsc::{self, Sender},
};

use super::service_user::ServiceUser;
use crate::files::{self, FromStart};

type CallerWork = Box<dyn FnOnce() + Send>;

thread_local! {
    /// In a thread of another user: the thread of the caller.
    static CALLER: RefCell<Option<Sender<CallerWork>>> = const { RefCell::new(None) };
}

/// Runs work in a thread of another user. Meanwhile, this thread does what that thread requests
/// with [`as_caller`]. Fails if this process cannot act as the user.
pub(super) fn run_as<T: Send>(
    user: &ServiceUser,
    work: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    let (sender, requests) = mpsc::channel::<CallerWork>();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || -> io::Result<T> {
            user.assume()?;
            CALLER.set(Some(sender));
            let result = work();
            CALLER.set(None);
            Ok(result)
        });

        // Ends when the other thread has dropped the sender.
        for request in requests {
            request();
        }
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread failed")))
    })
}

/// Runs work as the caller of the command. Fails if the thread of the caller has ended.
pub(super) fn as_caller<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let Some(caller) = CALLER.with_borrow(Clone::clone) else { return Ok(work()) };

    let (sender, result) = mpsc::channel();
    let request = move || {
        // Only a thread that has ended does not receive the result.
        let _ = sender.send(work());
    };
    let ended = || io::Error::other("the thread of the caller has ended");
    caller.send(Box::new(request)).map_err(|_| ended())?;
    result.recv().map_err(|_| ended())
}

/// The text of a file that the caller has named. Root has opened a file that only root can read.
pub(super) fn read_text(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    match files::opened_by_root(path) {
        None => bytes = fs_err::read(path)?,
        Some(file) if file.metadata()?.is_file() => {
            FromStart::of(file).read_to_end(&mut bytes)?;
        }
        Some(mut pipe) => {
            pipe.read_to_end(&mut bytes)?;
        }
    }
    files::decode_text(bytes).map_err(|error| {
        let message = format!("cannot read `{}`: {error}", path.display());
        io::Error::new(io::ErrorKind::InvalidData, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without another user, the work is done at once.
    #[test]
    fn work_is_done_by_the_caller() {
        let user = ServiceUser::current();
        let thread = || std::thread::current().id();
        assert_eq!(as_caller(thread).unwrap(), thread());

        // Only root can set the groups of a thread.
        let ran = run_as(&user, || (thread(), as_caller(thread).unwrap()));
        match ran {
            Ok((own, of_caller)) => {
                assert_ne!(own, thread());
                assert_eq!(of_caller, thread());
            }
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }
}
