//! The endpoints for operators: metrics, health and the status page, over HTTP on a separate
//! listener.
//!
//! They never change any state. They read the checkpoint through a separate connection, so that
//! they never delay a delivery, and everything else from the running engine. The `server` module
//! limits methods, host names, sizes and times. Start reading at [`Admin`] and `respond`.
//! See decision 0032.

mod connections;
mod exposition;
mod listener;
mod metrics;
mod overview;
mod page;
mod server;
mod views;

pub use metrics::{MetricDescription, metric_families};

use std::{borrow::Cow, sync::Arc, time::Duration};

use tokio::sync::{RwLock, Semaphore, watch};

use self::{listener::Listener, overview::StatusOverview, server::PageResponse, views::Views};
use crate::{
    checkpoint::{CheckpointError, StatusDetail},
    conditions::{grouped, not_ready_reasons},
    config::ListenAddress,
    daemon::{CaughtPanic, ContainedTask, Engine, blocking, contain, report_panic},
    error::{Explanation, Hint, chain},
    foreign_text::ForeignText,
};

/// A bound listener. It is opened before the daemon starts, so that a port that is in use is
/// reported at startup.
#[derive(Debug)]
pub struct Admin {
    listener: Listener,
    hosts: Arc<[String]>,
}

/// The address could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{address}` for the status page")]
pub struct ListenError {
    address: ListenAddress,
    source: std::io::Error,
}

impl Hint for ListenError {
    fn hint(&self) -> Option<Cow<'static, str>> {
        let is_denied = self.source.kind() == std::io::ErrorKind::PermissionDenied;
        is_denied.then(|| self.address.permission_hint().into())
    }
}

/// The data from which all responses are rendered.
#[derive(Debug)]
struct Sources {
    /// The engine of the running generation.
    current: watch::Receiver<Arc<Engine>>,
    views: RwLock<Arc<Views>>,
    /// Permits one request at a time to read the checkpoint, because there are few threads for
    /// blocking calls, and the deliverers need them.
    reading: Semaphore,
}

/// The minimum time between two updates of the views. The log usually grows several times in a row.
const UPDATE_INTERVAL: Duration = Duration::from_secs(5);

impl Admin {
    /// Binds the address. `hosts` are the host names that requests may use in addition to those of
    /// loopback. Fails if the address cannot be bound, for example because its port is in use.
    pub async fn listen(address: &ListenAddress, hosts: &[String]) -> Result<Self, ListenError> {
        let listener = Listener::bind(address).await;
        let listener =
            listener.map_err(|source| ListenError { address: address.clone(), source })?;
        Ok(Self { listener, hosts: hosts.into() })
    }

    /// The bound address. Its port is the selected one if the configured port is 0.
    pub fn address(&self) -> Option<ListenAddress> {
        self.listener.address()
    }

    /// Serves requests. Never returns.
    pub async fn serve(self, current: watch::Receiver<Arc<Engine>>) {
        let sources =
            Arc::new(Sources { current, views: RwLock::default(), reading: Semaphore::new(1) });
        tokio::spawn(update_views(Arc::clone(&sources)));
        server::serve(self.listener, self.hosts, move |path, query| {
            let sources = Arc::clone(&sources);
            async move {
                let response = contain(respond(&sources, &path, &query)).await;
                response.unwrap_or_else(|panic| after_panic(&sources, &panic))
            }
        })
        .await;
    }
}

/// Updates the views whenever the log has grown or the engine has been replaced. Returns when
/// the daemon ends.
async fn update_views(sources: Arc<Sources>) {
    let mut current = sources.current.clone();
    loop {
        let engine = current.borrow_and_update().clone();
        let mut log_grown = engine.log().subscribe();
        log_grown.mark_unchanged();

        let mut views = Views::clone(&*sources.views.read().await);
        // An error would mean that the semaphore is closed, which never happens.
        let reading = sources.reading.acquire().await;
        match blocking(|| views.update(&engine)) {
            Ok(()) => *sources.views.write().await = Arc::new(views),
            Err(error) => {
                let error = Explanation::of(&error);
                tracing::warn!(
                    error = error.message,
                    hint = error.hint,
                    "cannot update the status page"
                );
            }
        }
        drop(reading);

        tokio::select! {
            grown = log_grown.changed() => if grown.is_err() { return },
            changed = current.changed() => if changed.is_err() { return },
        }
        tokio::time::sleep(UPDATE_INTERVAL).await;
    }
}

async fn respond(sources: &Sources, path: &str, query: &str) -> PageResponse {
    let engine = sources.current.borrow().clone();
    match path {
        "/healthz" => {
            let stalled = engine.meters().stalled();
            if stalled.is_empty() {
                PageResponse::text("alive\n")
            } else {
                PageResponse::unavailable(&stalled)
            }
        }
        "/readyz" | "/metrics" | "/" => {
            let _reading = sources.reading.acquire().await;
            let views = sources.views.read().await.clone();
            let response = blocking(|| render(&engine, &views, path, query));
            response.unwrap_or_else(|error| PageResponse::unavailable(&[line(&chain(&error))]))
        }
        _ => PageResponse::not_found(),
    }
}

/// The response to a request that a fault in this program has interrupted.
fn after_panic(sources: &Sources, panic: &CaughtPanic) -> PageResponse {
    let meters = Arc::clone(sources.current.borrow().meters());
    report_panic(&meters, ContainedTask::Request, "status page", panic);
    PageResponse::unavailable(&[panic.to_string()])
}

fn render(
    engine: &Engine,
    views: &Views,
    path: &str,
    query: &str,
) -> Result<PageResponse, CheckpointError> {
    let overview = |detail| StatusOverview::of(engine, detail);
    Ok(match path {
        "/readyz" => readiness(&overview(StatusDetail::Summary)?),
        "/metrics" => {
            PageResponse::metrics(metrics::render(&overview(StatusDetail::Summary)?, views))
        }
        _ => PageResponse::page(page::render(&overview(StatusDetail::Groups)?, views, query)),
    })
}

/// `ready`, or why the process is not ready; followed by all conditions.
fn readiness(overview: &StatusOverview) -> PageResponse {
    let listed: Vec<String> = grouped(&overview.conditions)
        .iter()
        .map(|group| {
            let severity = group.condition.severity.as_str();
            let Explanation { message, hint } = group.explanation();
            let hint = hint.map_or_else(String::new, |hint| format!("\n  hint: {}", line(&hint)));
            format!("{severity}: {}{hint}", line(&message))
        })
        .collect();

    let reasons = not_ready_reasons(&overview.facts, &overview.conditions);
    if reasons.is_empty() {
        let lines = [vec!["ready".to_owned()], listed].concat();
        return PageResponse::text(&(lines.join("\n") + "\n"));
    }
    let reasons = reasons.into_iter().map(|reason| line(&reason.message));
    PageResponse::unavailable(&reasons.chain(listed).collect::<Vec<_>>())
}

/// A message as one line of plain text.
fn line(message: &str) -> String {
    ForeignText::new(message).escaped().into_owned()
}
