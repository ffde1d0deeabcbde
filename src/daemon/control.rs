//! The control socket: commands that write talk to the daemon that holds the checkpoint.
//!
//! A Unix socket, mode 0600, in the runtime directory. One JSON line asks, JSON lines answer; the
//! last one is `done` or `error`. Only the daemon's own user and root are heard.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream as StdStream},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader as AsyncReader},
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use secrecy::SecretString;
use tokio::task::block_in_place;
use tokio_util::sync::CancellationToken;

use super::{Engine, ReplaySelection, backfill, once::is_complete, prune};
use crate::{
    checkpoint::{Forgotten, Pruned},
    clock,
    error::{Explanation, chain},
    model::{Baseline, Day, TenantId},
};

/// Not `Debug`: one of them carries a secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Backfill {
        days: i32,
        tenant: Option<String>,
    },
    /// Days or dead letters once more.
    Replay {
        sink: String,
        selection: ReplaySelection,
    },
    /// Saved answers of one tenant, one item each.
    Import {
        tenant: String,
        items: Vec<String>,
    },
    /// What a tenant wants to keep from now on; targets as a baseline writes them.
    Baseline {
        tenant: String,
        name: String,
        /// Days since 1970-01-01.
        day: Option<i32>,
        targets: String,
    },
    /// Read the configuration anew; answered when it is found sound or refused.
    Reload,
    /// Let go of what is past its time.
    Prune,
    /// Erase a tenant that is no longer configured, by its GUID.
    Forget {
        tenant: String,
    },
    /// Somebody has signed in.
    SignedIn {
        credential: String,
        refresh_token: String,
        plaintext: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// One tenant is through: days taken, or the error.
    Tenant {
        name: String,
        days: usize,
        error: Option<Explanation>,
    },
    /// So many snapshots or dead letters are to be sent again.
    Queued {
        entries: u64,
    },
    /// One part of an import is in.
    Imported {
        days: usize,
        rejected: usize,
    },
    Pruned(Pruned),
    /// `None` if nothing was known of the tenant.
    Forgotten(Option<Forgotten>),
    Done {
        failed: usize,
    },
    Error(Explanation),
    /// The new configuration is rejected, with every fault.
    Invalid(Vec<Explanation>),
}

/// Who wants to be told whether the new configuration is in force, or why not.
pub(super) type AskedToReload = oneshot::Sender<Result<(), Vec<Explanation>>>;

/// Years of saved answers come in parts of this size at most.
const MAX_REQUEST: u64 = 32 << 20;
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// Callers at a time.
const CALLERS: usize = 8;
const FILE: &str = "control.sock";

/// Where the socket is: systemd's runtime directory, else beside the checkpoint.
pub(super) fn socket_path(state_directory: &Path) -> PathBuf {
    match std::env::var_os("RUNTIME_DIRECTORY") {
        // There may be several, and the first is ours.
        Some(directories) => match std::env::split_paths(&directories).next() {
            Some(directory) => directory.join(FILE),
            None => state_directory.join(FILE),
        },
        None => state_directory.join(FILE),
    }
}

/// Binds the socket. One left over by a process that was killed is in nobody's use: its lock is ours.
pub(super) fn bind(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers callers, each by itself, until the engine ends: who is being answered then is told so.
pub(super) async fn serve(
    engine: Arc<Engine>,
    listener: Arc<UnixListener>,
    reloads: mpsc::Sender<AskedToReload>,
    cancel: CancellationToken,
) {
    let mut callers = JoinSet::new();
    loop {
        while callers.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept(), if callers.len() < CALLERS => accepted,
            Some(_) = callers.join_next(), if callers.len() >= CALLERS => continue,
            () = cancel.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (engine, reloads) = (Arc::clone(&engine), reloads.clone());
                callers.spawn(call(engine, stream, reloads, cancel.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket failed");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        }
    }
    while callers.join_next().await.is_some() {}
}

async fn call(
    engine: Arc<Engine>,
    mut stream: UnixStream,
    reloads: mpsc::Sender<AskedToReload>,
    cancel: CancellationToken,
) {
    let answered = tokio::select! {
        // Who is just being given the last word gets it.
        biased;
        answered = answer(&engine, &reloads, &mut stream) => answered,
        () = cancel.cancelled() => {
            let message = "the daemon ends, or goes on with another configuration: ask again";
            send(&mut stream, &Event::Error(message.into())).await
        }
    };
    if let Err(error) = answered {
        tracing::debug!(%error, "a caller of the control socket went away");
    }
}

async fn answer(
    engine: &Arc<Engine>,
    reloads: &mpsc::Sender<AskedToReload>,
    stream: &mut UnixStream,
) -> std::io::Result<()> {
    let caller = stream.peer_cred()?.uid();
    if caller != 0 && caller != rustix::process::geteuid().as_raw() {
        return send(stream, &Event::Error("only root and the daemon's own user may ask".into()))
            .await;
    }
    let mut line = String::new();
    let (reader, mut writer) = stream.split();
    // A request without an end is cut off, and then not understood.
    let mut reader = AsyncReader::new(reader.take(MAX_REQUEST));
    // Who says nothing is not waited for.
    tokio::time::timeout(REQUEST_WITHIN, reader.read_line(&mut line)).await??;
    match serde_json::from_str(&line) {
        Ok(Request::Backfill { days, tenant }) => {
            answer_backfill(engine, days, tenant, &mut writer).await
        }
        Ok(Request::Replay { sink, selection }) => {
            send(&mut writer, &answer_replay(engine, &sink, selection, caller)).await
        }
        Ok(Request::Import { tenant, items }) => {
            send(&mut writer, &answer_import(engine, &tenant, &items).await).await
        }
        Ok(Request::Baseline { tenant, name, day, targets }) => {
            let event = match engine.set_baseline(&tenant, &name, day, &targets) {
                Ok(()) => {
                    tracing::info!(tenant, name, uid = caller, "a baseline is in force");
                    Event::Done { failed: 0 }
                }
                Err(message) => Event::Error(message.into()),
            };
            send(&mut writer, &event).await
        }
        Ok(Request::Reload) => send(&mut writer, &answer_reload(reloads).await).await,
        Ok(Request::Prune) => send(&mut writer, &answer_prune(engine, caller)).await,
        Ok(Request::Forget { tenant }) => {
            send(&mut writer, &answer_forget(engine, &tenant, caller)).await
        }
        Ok(Request::SignedIn { credential, refresh_token, plaintext }) => {
            let token = SecretString::from(refresh_token);
            send(&mut writer, &answer_signed_in(engine, &credential, token, plaintext).await).await
        }
        // The parser's words may quote what was asked.
        Err(_) => send(&mut writer, &Event::Error("the request is not understood".into())).await,
    }
}

impl Engine {
    /// Puts a baseline in force for the entries of a tenant to come.
    pub fn set_baseline(
        &self,
        tenant: &str,
        name: &str,
        day: Option<i32>,
        targets: &str,
    ) -> Result<(), String> {
        let known = self.tenant_named(tenant).and_then(super::TenantState::resolved);
        let known = known.ok_or_else(|| format!("tenant `{tenant}` is not known yet"))?;
        let targets = Baseline::parse_targets(targets)
            .map_err(|line| format!("line {line} of the targets makes no sense"))?;
        let day = day.and_then(Day::from_number);
        let baseline = Baseline { name: name.to_owned(), day, since: 0, targets };
        let now_ms = clock::now().as_millisecond();
        block_in_place(|| self.checkpoint.set_baseline(known.id, &baseline, now_ms))
            .map(drop)
            .map_err(|error| chain(&error))
    }
}

async fn answer_reload(reloads: &mpsc::Sender<AskedToReload>) -> Event {
    let (reply, verdict) = oneshot::channel();
    // Nobody left to ask drops the question, and that is the answer.
    let _ = reloads.send(reply).await;
    match verdict.await {
        Ok(Ok(())) => Event::Done { failed: 0 },
        Ok(Err(faults)) => Event::Invalid(faults),
        Err(_) => Event::Error("the daemon is ending".into()),
    }
}

fn answer_replay(engine: &Engine, sink: &str, selection: ReplaySelection, caller: u32) -> Event {
    match engine.replay(sink, selection) {
        Ok(entries) => {
            tracing::info!(sink, entries, uid = caller, "is to be sent again, as was asked");
            Event::Queued { entries }
        }
        Err(error) => Event::Error(chain(&error).into()),
    }
}

fn answer_prune(engine: &Engine, caller: u32) -> Event {
    match block_in_place(|| prune(&engine.configuration, &engine.checkpoint)) {
        Ok(pruned) => {
            let Pruned { days, used } = pruned;
            tracing::info!(
                days,
                used,
                uid = caller,
                "texts past their time are gone, as was asked"
            );
            Event::Pruned(pruned)
        }
        Err(error) => Event::Error(chain(&error).into()),
    }
}

fn answer_forget(engine: &Engine, tenant: &str, caller: u32) -> Event {
    let Ok(id) = TenantId::parse(tenant) else {
        return Event::Error(format!("`{tenant}` is no tenant's GUID").into());
    };
    if engine.tenants.iter().filter_map(super::TenantState::resolved).any(|known| known.id == id) {
        let message =
            "the daemon still reads this tenant: reload it with the new configuration first";
        return Event::Error(message.into());
    }
    let now_ms = clock::now().as_millisecond();
    let forget = || engine.meters.maintain(|| engine.checkpoint.forget(id, now_ms));
    match block_in_place(forget) {
        Ok(forgotten) => {
            if let Some(Forgotten { snapshots, .. }) = &forgotten {
                tracing::info!(
                    tenant,
                    snapshots,
                    uid = caller,
                    "the tenant is erased, as was asked"
                );
            }
            Event::Forgotten(forgotten)
        }
        Err(error) => Event::Error(chain(&error).into()),
    }
}

async fn answer_import(engine: &Engine, tenant: &str, items: &[String]) -> Event {
    let state = engine.tenant_named(tenant);
    let Some((state, known)) = state.and_then(|state| Some((state, state.resolved()?))) else {
        return Event::Error(format!("the daemon does not know tenant `{tenant}` yet").into());
    };
    let items: Vec<&str> = items.iter().map(String::as_str).collect();
    // Not in the middle of a poll, which compares with the same log.
    let _alone = state.polling.lock().await;
    match engine.import(&known, &items) {
        Ok(report) => Event::Imported { days: report.days, rejected: report.rejected },
        Err(error) => Event::Error(chain(&error).into()),
    }
}

async fn answer_signed_in(
    engine: &Engine,
    credential: &str,
    token: SecretString,
    plaintext: bool,
) -> Event {
    let named = engine.configuration.credentials.iter().find(|named| named.name == credential);
    let Some(user) = named.and_then(|named| named.credential.user()) else {
        return Event::Error(format!("the daemon has no user `{credential}`").into());
    };
    match user.accept(token, plaintext).await {
        Ok(()) => Event::Done { failed: 0 },
        Err(error) => Event::Error(chain(&error).into()),
    }
}

async fn answer_backfill(
    engine: &Arc<Engine>,
    days: i32,
    tenant: Option<String>,
    stream: &mut (impl AsyncWriteExt + Unpin),
) -> std::io::Result<()> {
    if !(1..=90).contains(&days) {
        return send(stream, &Event::Error("Microsoft keeps 90 days: ask for 1 to 90".into()))
            .await;
    }
    if let Some(name) = &tenant
        && !engine.tenants.iter().any(|state| state.plan.name == *name)
    {
        return send(stream, &Event::Error(format!("the daemon reads no tenant `{name}`").into()))
            .await;
    }
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let back_to = Day::of(clock::now()).plus(1 - days);
    let work = backfill(engine, Some(back_to), tenant.as_deref(), |name, result| {
        let days = result.as_ref().map_or(0, |report| report.days);
        let error = match result {
            Ok(report) => report.incomplete.clone(),
            Err(error) => Some(Explanation::of(error)),
        };
        // The receiver lives as long as the work does.
        let _ = sender.send(Event::Tenant { name: name.to_owned(), days, error });
    });
    let mut work = std::pin::pin!(work);
    let results = loop {
        tokio::select! {
            Some(event) = events.recv() => send(stream, &event).await?,
            results = &mut work => break results,
        }
    };
    while let Ok(event) = events.try_recv() {
        send(stream, &event).await?;
    }
    let failed = results.iter().filter(|(_, result)| !is_complete(result)).count();
    send(stream, &Event::Done { failed }).await
}

async fn send(stream: &mut (impl AsyncWriteExt + Unpin), event: &Event) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

/// Asks the daemon behind a socket, and hands on each event until the last.
pub fn send_request(
    socket: &Path,
    request: &Request,
    mut each: impl FnMut(&Event),
) -> std::io::Result<Event> {
    let mut stream = StdStream::connect(socket)?;
    stream.write_all(format!("{}\n", serde_json::to_string(request)?).as_bytes())?;
    for line in BufReader::new(stream).lines() {
        let event: Event = serde_json::from_str(&line?)?;
        if !matches!(event, Event::Tenant { .. }) {
            return Ok(event);
        }
        each(&event);
    }
    Err(std::io::Error::other("the daemon went away before it was done"))
}
