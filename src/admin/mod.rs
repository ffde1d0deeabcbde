//! What an operator looks at: metrics, health and the status page, over HTTP on a socket of its own.
//!
//! It only reads: the checkpoint through a connection of its own, so that no delivery waits for a
//! reader; the rest from the engine at work. GET and HEAD, names that are allowed, small requests,
//! short answers: see [`server`].

mod health;
mod metrics;
mod overview;
mod page;
mod server;
mod views;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{RwLock, Semaphore, watch},
};

use self::{server::PageResponse, views::Views};
use crate::{checkpoint::CheckpointError, daemon::Engine, error::chain};

/// Opened before the daemon runs, so that a port that is taken is found out at the start.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    hosts: Arc<[String]>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for the status page")]
pub struct ListenError {
    address: SocketAddr,
    source: std::io::Error,
}

/// What the answers are made from.
#[derive(Debug)]
struct Watching {
    current: watch::Receiver<Arc<Engine>>,
    views: RwLock<Arc<Views>>,
    /// One reads the checkpoint at a time: the threads that may wait for the disk are few, and the
    /// deliverers' first.
    turn: Semaphore,
}

/// After the log has grown, more may come: what is shown of tenants follows after so long.
const SETTLES: Duration = Duration::from_secs(5);

impl Admin {
    /// `hosts` are the names under which it may be asked, beside those of loopback.
    pub async fn listen(address: SocketAddr, hosts: &[String]) -> Result<Self, ListenError> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| ListenError { address, source })?;
        Ok(Self { listener, hosts: hosts.into() })
    }

    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Answers for ever.
    pub async fn serve(self, current: watch::Receiver<Arc<Engine>>) {
        let watching =
            Arc::new(Watching { current, views: RwLock::default(), turn: Semaphore::new(1) });
        tokio::spawn(follow(Arc::clone(&watching)));
        server::serve(self.listener, self.hosts, move |path, query| {
            let watching = Arc::clone(&watching);
            async move { answer(&watching, &path, &query).await }
        })
        .await;
    }
}

/// Keeps what is shown of each tenant in step with its log.
async fn follow(watching: Arc<Watching>) {
    let mut current = watching.current.clone();
    loop {
        let engine = current.borrow_and_update().clone();
        let mut log_grown = engine.log_grown();
        log_grown.mark_unchanged();
        let mut views = Views::clone(&*watching.views.read().await);
        // Closed never.
        let turn = watching.turn.acquire().await;
        match tokio::task::block_in_place(|| views.follow(&engine)) {
            Ok(()) => *watching.views.write().await = Arc::new(views),
            Err(error) => {
                tracing::warn!(error = chain(&error), "the status page could not be renewed");
            }
        }
        drop(turn);
        tokio::select! {
            grown = log_grown.changed() => if grown.is_err() { return },
            changed = current.changed() => if changed.is_err() { return },
        }
        tokio::time::sleep(SETTLES).await;
    }
}

async fn answer(watching: &Watching, path: &str, query: &str) -> PageResponse {
    let engine = watching.current.borrow().clone();
    match path {
        "/healthz" => {
            let stalled = engine.meters.stalled();
            if stalled.is_empty() {
                PageResponse::text("alive\n".to_owned())
            } else {
                PageResponse::unwell(&stalled)
            }
        }
        "/readyz" | "/metrics" | "/" => {
            let _turn = watching.turn.acquire().await;
            let views = watching.views.read().await.clone();
            let made = tokio::task::block_in_place(|| make(&engine, &views, path, query));
            made.unwrap_or_else(|error| PageResponse::unwell(&[chain(&error)]))
        }
        _ => PageResponse::absent(),
    }
}

fn make(
    engine: &Engine,
    views: &Views,
    path: &str,
    query: &str,
) -> Result<PageResponse, CheckpointError> {
    let overview = overview::Overview::of(engine)?;
    Ok(match path {
        "/readyz" => match overview.hindrances() {
            none if none.is_empty() => PageResponse::text("ready\n".to_owned()),
            hindrances => PageResponse::unwell(&hindrances),
        },
        "/metrics" => PageResponse::metrics(metrics::write(&overview, views)),
        _ => PageResponse::page(page::write(&overview, views, query)),
    })
}
