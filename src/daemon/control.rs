//! The control socket: commands that write to the checkpoint send a request to the daemon that
//! holds it.
//!
//! It is a Unix socket of mode 0600. A command sends one JSON line with a [`Request`], and an
//! import one more per part; the daemon responds with one JSON line per [`Event`], and the last
//! event ends the connection. Only root and the user of the daemon are permitted. Start reading at
//! [`serve`] for the daemon's side, and at [`send_request`] for the command's side. See decision
//! 0035.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

mod import;
mod waiting;

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    os::unix::net::UnixStream as StdStream,
    path::Path,
    sync::Arc,
    time::Duration,
};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader as AsyncReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

pub use self::import::{ImportEvent, ImportPart, send_import};
use self::{
    import::respond_to_import,
    waiting::{MAX_WAITING, WaitingCommands},
};
use super::{
    ContainedTask, Engine, LiveFacts, PollOutcome, ReloadReport, ReplayExtent, ReplayRequest,
    RequestFailure, RequestFailureKind, TenantRemovals, contain,
    poll::{respond_to_backfill, respond_to_poll},
    report_panic,
    socket_user::SocketUser,
};
use crate::{
    checkpoint::{CheckpointError, DeadLetterKey, ErasureReceipt, Pruned},
    error::Explanation,
    files::{OwnedDirectory, SocketPath},
    model::{Day, TenantId},
    source::PlaintextPolicy,
    state_directory::SOCKET_NAME,
};

/// A request to the daemon. Not `Debug`, because `SignedIn` contains a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Poll the tenants with these names back to this day; all tenants if there are no names. An
    /// older daemon does not know the names and would poll all tenants, so it must reject the
    /// request.
    #[serde(rename = "backfill_tenants")]
    Backfill { first_day: Day, tenants: Vec<String> },
    /// Poll the tenants with these names now; all tenants if there are no names.
    Poll { tenants: Vec<String> },
    /// Send stored days to a sink again.
    Replay(ReplayRequest),
    /// Send dead letters again.
    RetryDeadLetters { letters: Vec<DeadLetterKey> },
    /// Discard dead letters.
    DiscardDeadLetters { letters: Vec<DeadLetterKey> },
    /// Import saved snapshots, in this number of parts. Each [`ImportEvent::NextPart`] asks for an
    /// [`ImportPart`].
    Import { parts: usize },
    /// Set the baseline of all later entries of a tenant.
    Baseline {
        /// The name of the tenant.
        tenant: String,
        /// The name of the baseline.
        name: String,
        /// The day that the targets are taken from; `None` if they are from a file.
        day: Option<Day>,
        /// In the format of `Baseline::parse_targets`.
        targets: String,
    },
    /// Reload the configuration. The response is sent when it has been accepted or rejected.
    Reload { removals: TenantRemovals },
    /// Prune bodies now.
    Prune,
    /// Erase a tenant that is no longer configured.
    Forget { tenant: TenantId },
    /// Report what the daemon knows and may be unable to store.
    LiveFacts,
    /// Use the refresh token of a new sign-in.
    SignedIn { credential: String, refresh_token: String, plaintext: PlaintextPolicy },
}

/// A part of the response to a request; see [`Event::is_last`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A poll or a backfill of the tenant with this name has finished, or is paused.
    Polled { name: String, outcome: PollOutcome },
    /// A replay was queued. Nothing was queued if there are no stored days.
    Queued(ReplayExtent),
    /// This number of dead letters was queued or discarded.
    DeadLetters { count: u64 },
    /// The progress of an import.
    Import(ImportEvent),
    /// Bodies were pruned.
    Pruned(Pruned),
    /// `None` if the checkpoint did not contain the tenant.
    Forgotten(Option<ErasureReceipt>),
    /// The request was completed; `failed` is the number of tenants whose poll was not, or of parts
    /// that were not imported.
    Done { failed: usize },
    /// What the daemon knows.
    LiveFacts(LiveFacts),
    /// The new configuration was accepted, and is applied next.
    Reloaded(Box<ReloadReport>),
    /// The request was rejected or failed.
    Error(RequestFailure),
    /// The new configuration was rejected; contains all its faults.
    Invalid(Vec<Explanation>),
}

impl Request {
    /// The command that sends this request, as it is entered.
    pub(super) fn command(&self) -> &'static str {
        match self {
            Self::Backfill { .. } => "backfill",
            Self::Poll { .. } => "poll",
            Self::Replay(_) => "replay",
            Self::RetryDeadLetters { .. } => "dead-letters retry",
            Self::DiscardDeadLetters { .. } => "dead-letters discard",
            Self::Import { .. } => "import",
            Self::Baseline { .. } => "baseline set",
            Self::Reload { .. } => "reload",
            Self::Prune => "state prune",
            Self::Forget { .. } => "state forget",
            Self::LiveFacts => "status",
            Self::SignedIn { .. } => "login",
        }
    }

    /// Whether the response can take as long as a poll.
    fn waits_for_polls(&self) -> bool {
        matches!(self, Self::Backfill { .. } | Self::Poll { .. } | Self::Import { .. })
    }
}

impl Event {
    /// Whether the event ends the response. The others report the progress of single tenants, and
    /// of the parts of an import.
    fn is_last(&self) -> bool {
        !matches!(self, Self::Polled { .. } | Self::Import(_))
    }
}

/// Sends the result of a reload: `Ok` when the new configuration is valid, before it is applied.
pub(super) type ReloadReply = oneshot::Sender<Result<ReloadReport, Vec<Explanation>>>;

/// A request to the main loop to reload the configuration.
pub(super) struct ReloadRequest {
    pub removals: TenantRemovals,
    /// `None` if no command waits for the result.
    pub reply: Option<ReloadReply>,
}

/// The largest request, and the largest part of an import, in bytes.
const MAX_REQUEST_BYTES: u64 = 32 << 20;
/// The largest line of a response, in bytes.
const MAX_EVENT_BYTES: u64 = 16 << 20;
/// The time within which a caller must send its request.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);
/// The number of connections that are served at the same time. Two are for requests that do not
/// wait for polls.
const MAX_CONNECTIONS: usize = MAX_WAITING.saturating_add(2);
/// The pause after `accept` has failed, for example because no file descriptor was free.
const ACCEPT_BACKOFF: Duration = Duration::from_secs(1);
/// The permissions of the socket: only the user of the daemon, and root.
const SOCKET_MODE: u32 = 0o600;

/// Binds the socket. Removes a socket that a killed process has left: the caller holds the lock of
/// the checkpoint, so no other process uses it. Fails if the old socket cannot be removed, or if
/// the directory does not permit a new one. A socket in the state directory is protected like the
/// other files there; any other one must not be replaceable by all users.
pub(super) fn bind(path: &Path, state_directory: &Path) -> std::io::Result<UnixListener> {
    let (directory, name) = if path.parent() == Some(state_directory) {
        (OwnedDirectory::open(state_directory)?, SOCKET_NAME)
    } else {
        OwnedDirectory::open_for_socket(path)?
    };
    directory.remove_if_exists(name)?;
    UnixListener::from_std(directory.bind_socket(name, SOCKET_MODE)?)
}

/// Serves connections concurrently until `cancel` is triggered, and then aborts the running
/// requests with an error.
pub(super) async fn serve(
    engine: Arc<Engine>,
    listener: Arc<UnixListener>,
    reloads: mpsc::Sender<ReloadRequest>,
    cancel: CancellationToken,
) {
    let (mut connections, waiting) = (JoinSet::new(), WaitingCommands::new());
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => accepted,
            Some(_) = connections.join_next(), if connections.len() >= MAX_CONNECTIONS => continue,
            () = cancel.cancelled() => break,
        };

        match accepted {
            Ok((stream, _)) => {
                let (engine, reloads) = (Arc::clone(&engine), reloads.clone());
                let (waiting, cancel) = (waiting.clone(), cancel.clone());
                connections.spawn(serve_connection(engine, stream, reloads, waiting, cancel));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection on the control socket");
                tokio::time::sleep(ACCEPT_BACKOFF).await;
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn serve_connection(
    engine: Arc<Engine>,
    mut stream: UnixStream,
    reloads: mpsc::Sender<ReloadRequest>,
    waiting: WaitingCommands,
    cancel: CancellationToken,
) {
    let responded = tokio::select! {
        // A complete response is sent even if the daemon stops at the same time.
        biased;
        responded = contain(respond(&engine, &reloads, &waiting, &mut stream)) => Some(responded),
        () = cancel.cancelled() => None,
    };

    let served = match responded {
        Some(Ok(served)) => served,
        Some(Err(panic)) => {
            report_panic(engine.meters(), ContainedTask::Request, "control socket", &panic);
            let failure = RequestFailure::incomplete(Explanation::of(&panic));
            send(&mut stream, &Event::Error(failure)).await
        }
        None => {
            let error =
                Explanation::new("the request was aborted: the daemon is stopping or reloading");
            let error = error.with_hint(
                "run the command again; queued backfills and queued parts of an import continue by themselves",
            );
            send(&mut stream, &Event::Error(RequestFailure::incomplete(error))).await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a caller of the control socket disconnected");
    }
}

/// Checks the caller, reads its request, and sends the response.
async fn respond(
    engine: &Arc<Engine>,
    reloads: &mpsc::Sender<ReloadRequest>,
    waiting: &WaitingCommands,
    stream: &mut UnixStream,
) -> std::io::Result<()> {
    let caller = SocketUser::of(stream)?;
    if !caller.is_permitted() {
        caller.log_rejection();
        return send(stream, &Event::Error(permission_denied())).await;
    }

    let mut line = String::new();
    let (reader, mut writer) = stream.split();
    // A longer request is cut off here and fails to parse.
    let mut reader = AsyncReader::new(reader.take(MAX_REQUEST_BYTES));
    tokio::time::timeout(REQUEST_LIMIT, reader.read_line(&mut line)).await??;

    let request: Result<Request, _> = serde_json::from_str(&line);
    let _permit = match request.as_ref().map_or(Ok(None), |request| waiting.admit(request)) {
        Ok(permit) => permit,
        Err(failure) => return send(&mut writer, &Event::Error(failure)).await,
    };

    let request = request.inspect(|request| caller.log(request));
    let event = match request {
        Ok(Request::Backfill { first_day, tenants }) => {
            return respond_to_backfill(engine, first_day, &tenants, &mut writer).await;
        }
        Ok(Request::Poll { tenants }) => {
            return respond_to_poll(engine, &tenants, &mut writer).await;
        }
        Ok(Request::Replay(request)) => replay(engine, &request, &caller),
        Ok(Request::RetryDeadLetters { letters }) => {
            let queued = engine.operations().retry_dead_letters(&letters);
            changed_dead_letters("dead letters queued for a retry", queued, &caller)
        }
        Ok(Request::DiscardDeadLetters { letters }) => {
            let discarded = engine.operations().discard_dead_letters(&letters);
            changed_dead_letters("dead letters discarded", discarded, &caller)
        }
        Ok(Request::Import { parts }) => {
            return respond_to_import(engine, parts, &mut reader, &mut writer).await;
        }

        Ok(Request::Baseline { tenant, name, day, targets }) => {
            match engine.operations().set_baseline(&tenant, &name, day, &targets) {
                Ok(()) => {
                    let SocketUser { uid, name: user } = &caller;
                    tracing::info!(tenant, name, uid, user, "baseline set");
                    Event::Done { failed: 0 }
                }
                Err(error) => Event::Error(error),
            }
        }

        Ok(Request::Reload { removals }) => reload(reloads, removals).await,
        Ok(Request::Prune) => prune_now(engine, &caller),
        Ok(Request::Forget { tenant }) => forget(engine, tenant, &caller),
        Ok(Request::LiveFacts) => Event::LiveFacts(LiveFacts::of(engine.meters())),
        Ok(Request::SignedIn { credential, refresh_token, plaintext }) => {
            let token = SecretString::from(refresh_token);
            accept_token(engine, &credential, token, plaintext).await
        }
        // The parser's message may contain a secret of the request.
        Err(_) => Event::Error(RequestFailure::invalid(
            Explanation::new("cannot parse the request")
                .with_hint("run the command from the same version as the daemon"),
        )),
    };
    send(&mut writer, &event).await
}

fn permission_denied() -> RequestFailure {
    let reason =
        Explanation::new("permission denied: only root and the user of the daemon are permitted")
            .with_hint("run the command as root or as the user of the service");
    RequestFailure { kind: RequestFailureKind::Unusable, reason }
}

async fn reload(reloads: &mpsc::Sender<ReloadRequest>, removals: TenantRemovals) -> Event {
    let (reply, result) = oneshot::channel();
    // If the daemon is stopping, the sender is dropped, and the receiver returns an error.
    let _ = reloads.send(ReloadRequest { removals, reply: Some(reply) }).await;
    match result.await {
        Ok(Ok(report)) => Event::Reloaded(Box::new(report)),
        Ok(Err(faults)) => Event::Invalid(faults),
        Err(_) => Event::Error(RequestFailure::incomplete("the daemon is stopping")),
    }
}

fn replay(engine: &Engine, request: &ReplayRequest, caller: &SocketUser) -> Event {
    match engine.operations().replay(request) {
        Ok(extent) => {
            let (sink, days) = (request.sink.as_str(), extent.tenant_days);
            let SocketUser { uid, name: user } = caller;
            tracing::info!(sink, days, tenants = extent.tenants, uid, user, "replay queued");
            Event::Queued(extent)
        }
        Err(error) => Event::Error(error.into()),
    }
}

/// Logs a change of dead letters, and returns the event with the number of them.
fn changed_dead_letters(
    message: &str,
    result: Result<u64, CheckpointError>,
    caller: &SocketUser,
) -> Event {
    match result {
        Ok(count) => {
            tracing::info!(records = count, uid = caller.uid, user = caller.name, "{message}");
            Event::DeadLetters { count }
        }
        Err(error) => Event::Error(error.into()),
    }
}

fn prune_now(engine: &Engine, caller: &SocketUser) -> Event {
    match engine.operations().prune() {
        Ok(pruned) => {
            let SocketUser { uid, name: user } = caller;
            let Pruned { days, used_bytes } = pruned;
            tracing::info!(days, used_bytes, uid, user, "pruned the bodies of old days");
            Event::Pruned(pruned)
        }
        Err(error) => Event::Error(error.into()),
    }
}

fn forget(engine: &Engine, tenant: TenantId, caller: &SocketUser) -> Event {
    match engine.operations().forget(tenant) {
        Ok(forgotten) => {
            if let Some(ErasureReceipt { snapshots, .. }) = &forgotten {
                let SocketUser { uid, name: user } = caller;
                tracing::info!(%tenant, snapshots, uid, user, "tenant erased");
            }
            Event::Forgotten(forgotten)
        }
        Err(error) => Event::Error(error),
    }
}

async fn accept_token(
    engine: &Engine,
    credential: &str,
    token: SecretString,
    plaintext: PlaintextPolicy,
) -> Event {
    let named = engine.configuration().credentials.iter().find(|named| named.name == credential);
    let Some(user) = named.and_then(|named| named.credential.user()) else {
        let error = format!("the running configuration has no user credential `{credential}`");
        let error = Explanation::new(error).with_hint("run `reload`");
        return Event::Error(RequestFailure::invalid(error));
    };
    match user.accept(token, plaintext).await {
        Ok(()) => Event::Done { failed: 0 },
        Err(error) => Event::Error(RequestFailure::incomplete(Explanation::of(&error))),
    }
}

/// Sends one event as a line. Fails if the caller has disconnected.
pub(super) async fn send(
    stream: &mut (impl AsyncWriteExt + Unpin),
    event: &Event,
) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

/// Sends a request to the daemon and returns the last event of the response. Calls `on_event` with
/// each event before it.
///
/// Fails if the daemon cannot be reached, or closes the connection before its last event.
pub fn send_request(
    socket: &Path,
    request: &Request,
    mut on_event: impl FnMut(&Event),
) -> std::io::Result<Event> {
    converse(socket, request, |event| {
        on_event(event);
        Ok(None)
    })
}

/// As [`send_request`], and sends what `reply` returns for an event: a line with its end.
fn converse(
    socket: &Path,
    request: &Request,
    mut reply: impl FnMut(&Event) -> std::io::Result<Option<String>>,
) -> std::io::Result<Event> {
    let mut stream = StdStream::connect(SocketPath::of(socket)?.as_path())?;
    stream.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes())?;

    let mut reader = BufReader::new(stream);
    loop {
        let event: Event = serde_json::from_slice(&read_line(&mut reader)?).map_err(|error| {
            let message = format!("the response of the daemon cannot be read: {error}");
            std::io::Error::new(ErrorKind::InvalidData, message)
        })?;
        if event.is_last() {
            return Ok(event);
        }
        if let Some(line) = reply(&event)? {
            reader.get_mut().write_all(line.as_bytes())?;
        }
    }
}

/// Reads a line of a response, which another process might send in the place of the daemon.
fn read_line(reader: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut line = Vec::new();
    reader.take(MAX_EVENT_BYTES).read_until(b'\n', &mut line)?;
    let reason = match line.last() {
        Some(b'\n') => return Ok(line),
        Some(_) if line.len() as u64 == MAX_EVENT_BYTES => {
            format!("the daemon sent a line of more than {MAX_EVENT_BYTES} bytes")
        }
        _ => "the daemon closed the connection before it responded".to_owned(),
    };
    Err(std::io::Error::other(reason))
}

#[cfg(test)]
mod tests;
