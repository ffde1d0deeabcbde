//! Requests to the daemon that holds the checkpoint. All commands use these functions, so that a
//! failure of a request has the same message and the same exit code in each of them. A request must
//! never be sent a second time, because the daemon may have carried out the first one. Start
//! reading at [`request`].

use std::{io::ErrorKind, path::Path, sync::mpsc, time::Duration};

use super::{CommandFailure, ExitCode};
use crate::{
    daemon::{
        self, Event, ImportPart, LiveFacts, NoLiveFacts, Request, RequestFailure,
        RequestFailureKind,
    },
    error::{Explanation, chain},
    state_directory::{Holder, StateDirectory},
};

/// The number of attempts to read the path of the control socket from the lock file, and the
/// interval between them.
const SOCKET_ATTEMPTS: u32 = 20;
const SOCKET_INTERVAL: Duration = Duration::from_millis(100);

/// How long `status` waits for the daemon.
const LIVE_FACTS_LIMIT: Duration = Duration::from_secs(2);

/// The process that holds the lock of a checkpoint, if there is one. A daemon writes the path of
/// its control socket shortly after it has taken the lock, so this function waits up to two seconds
/// for the path.
#[expect(clippy::disallowed_methods, reason = "no runtime is running that this could block")]
pub(super) fn lock_holder(directory: &Path) -> Option<Holder> {
    for _ in 0..SOCKET_ATTEMPTS {
        let holder = StateDirectory::holder(directory)?;
        if holder.socket.is_some() {
            return Some(holder);
        }
        std::thread::sleep(SOCKET_INTERVAL);
    }
    StateDirectory::holder(directory)
}

/// The process that holds the lock of a checkpoint, for a command that only a daemon can carry out.
/// Fails if there is none; `operation` is a verb such as `reload`.
pub(super) fn running_daemon(
    directory: &Path,
    operation: &str,
    hint: &str,
) -> Result<Holder, CommandFailure> {
    lock_holder(directory).ok_or_else(|| {
        let explanation = Explanation::new(format!("cannot {operation}: no daemon is running"));
        CommandFailure::new(ExitCode::Usage, explanation.with_hint(hint))
    })
}

/// Sends a request to the daemon, and returns its response.
///
/// Fails if the process does not accept requests, does not respond, or has not carried out the
/// request.
pub(super) fn request(holder: &Holder, request: &Request) -> Result<Event, CommandFailure> {
    request_with_progress(holder, request, |_| {})
}

/// Like [`request`], and calls `on_event` with each event before the response.
pub(super) fn request_with_progress(
    holder: &Holder,
    request: &Request,
    on_event: impl FnMut(&Event),
) -> Result<Event, CommandFailure> {
    response(daemon::send_request(control_socket(holder)?, request, on_event))
}

/// Sends the parts of an import to the daemon, and returns its response, as
/// [`request_with_progress`] does.
pub(super) fn send_import(
    holder: &Holder,
    parts: &[ImportPart<'_>],
    on_event: impl FnMut(&Event),
) -> Result<Event, CommandFailure> {
    response(daemon::send_import(control_socket(holder)?, parts, on_event))
}

fn response(event: std::io::Result<Event>) -> Result<Event, CommandFailure> {
    match event.map_err(|error| no_response(&error))? {
        Event::Error(failure) => Err(failure.into()),
        Event::Invalid(explanations) => Err(CommandFailure { code: ExitCode::Usage, explanations }),
        event => Ok(event),
    }
}

/// What the running daemon knows. Fails if the user of this process may not ask it, or if it does
/// not respond within two seconds: `status` must never wait for a daemon that hangs.
pub(super) fn live_facts(socket: &Path) -> Result<LiveFacts, NoLiveFacts> {
    let (sender, receiver) = mpsc::channel();
    let socket = socket.to_owned();
    let ask = move || {
        // An error means that nothing waits for the response anymore.
        let _ = sender.send(daemon::send_request(&socket, &Request::LiveFacts, |_| {}));
    };
    // The thread waits as long as the daemon does not respond, and ends with the process.
    std::thread::Builder::new().spawn(ask).map_err(|error| {
        let message = format!("cannot ask the daemon: {}", chain(&error));
        NoLiveFacts::NoResponse(Explanation::new(message))
    })?;

    receiver.recv_timeout(LIVE_FACTS_LIMIT).map_or_else(
        |_| {
            let limit = LIVE_FACTS_LIMIT.as_secs();
            let message = format!("no response within {limit} s");
            Err(NoLiveFacts::NoResponse(Explanation::new(message)))
        },
        live_facts_of,
    )
}

/// The facts in the response of the daemon.
fn live_facts_of(response: std::io::Result<Event>) -> Result<LiveFacts, NoLiveFacts> {
    let failure = match response {
        Ok(Event::LiveFacts(facts)) => return Ok(facts),
        // The daemon rejects a caller that was able to connect nevertheless.
        Ok(Event::Error(RequestFailure { kind: RequestFailureKind::Unusable, .. })) => {
            return Err(NoLiveFacts::NotPermitted);
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            return Err(NoLiveFacts::NotPermitted);
        }
        Ok(Event::Error(failure)) => return Err(NoLiveFacts::NoResponse(failure.reason)),
        Ok(_) => unexpected_response(),
        Err(error) => no_response(&error),
    };
    let reason = failure.explanations.into_iter().next().unwrap_or_default();
    Err(NoLiveFacts::NoResponse(reason))
}

/// The failure for a response that does not belong to the request.
pub(super) fn unexpected_response() -> CommandFailure {
    let explanation = Explanation::new("unexpected response from the daemon")
        .with_hint("run the command from the same version as the daemon");
    CommandFailure::new(ExitCode::Incomplete, explanation)
}

/// The control socket of the daemon that holds a checkpoint. Fails for a process without one, such
/// as `once`.
fn control_socket(holder: &Holder) -> Result<&Path, CommandFailure> {
    holder.socket.as_deref().ok_or_else(|| {
        let message = format!(
            "the checkpoint is in use by process {}, which does not accept commands",
            holder.pid
        );
        CommandFailure::new(ExitCode::Unusable, message)
    })
}

fn no_response(error: &std::io::Error) -> CommandFailure {
    let explanation = Explanation::new(format!("no response from the daemon: {}", chain(error)));
    if error.kind() == ErrorKind::PermissionDenied {
        let hint = "run the command as root or as the user of the service";
        return CommandFailure::new(ExitCode::Unusable, explanation.with_hint(hint));
    }
    CommandFailure::new(ExitCode::Incomplete, explanation)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: `status` reported to a user who may not use the control socket that the daemon
    /// does not respond.
    #[test]
    fn a_missing_permission_is_no_missing_response() {
        let not_permitted = RequestFailure {
            kind: RequestFailureKind::Unusable,
            reason: Explanation::new("permission denied"),
        };
        let response = |reason: &str| Err(NoLiveFacts::NoResponse(Explanation::new(reason)));
        for (event, expected) in [
            (Ok(Event::LiveFacts(LiveFacts::default())), Ok(LiveFacts::default())),
            (Err(ErrorKind::PermissionDenied.into()), Err(NoLiveFacts::NotPermitted)),
            (Ok(Event::Error(not_permitted)), Err(NoLiveFacts::NotPermitted)),
            (
                Err(ErrorKind::ConnectionRefused.into()),
                response("no response from the daemon: connection refused"),
            ),
            (Ok(Event::Error(RequestFailure::incomplete("stopping"))), response("stopping")),
        ] {
            assert_eq!(live_facts_of(event), expected);
        }
        assert!(matches!(
            live_facts_of(Ok(Event::Done { failed: 0 })),
            Err(NoLiveFacts::NoResponse(_))
        ));
    }
}
