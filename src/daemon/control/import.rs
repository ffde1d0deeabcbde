//! An import over the control socket: the command sends the saved snapshots in parts.
//!
//! The daemon stores every part before it asks for the next one, and imports them only when it has
//! stored all of them: if the process then ends, the next one continues, and nothing is lost. No
//! more than one part is in memory at a time. If the command ends early, the stored parts are
//! imported nevertheless. Start reading at [`respond_to_import`] for the daemon's side, and at
//! [`send_import`] for the command's side. See decision 0094.

use std::{io::ErrorKind, path::Path};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader as AsyncReader, Take};

use super::{Event, MAX_REQUEST_BYTES, REQUEST_LIMIT, Request, converse, send};
use crate::{
    checkpoint::QueuedImport,
    daemon::{Engine, RequestFailure, TenantState},
    error::Explanation,
};

/// A part of an import, as the command sends it: one line.
#[derive(Clone, Debug, Serialize)]
pub struct ImportPart<'a> {
    /// The name of the tenant.
    pub tenant: &'a str,
    /// Saved snapshots of the tenant, one JSON document each.
    pub items: Vec<&'a str>,
}

/// The progress of an import. Parts are counted from 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportEvent {
    /// The daemon is ready for the next part.
    NextPart,
    /// The part is stored: it is imported even if the process ends.
    Queued { part: usize },
    /// The part was imported: the number of new days, and of rejected items.
    Imported { part: usize, days: usize, rejected: usize },
    /// The part was not stored, or it is stored and was not imported.
    Failed { part: usize, failure: RequestFailure },
}

/// A part of an import, as the daemon receives it.
#[derive(Deserialize)]
struct ReceivedPart {
    tenant: String,
    items: Vec<String>,
}

/// Sends the parts of an import, one after the other, and returns the last event of the response.
/// Calls `on_event` with each event before it. Fails as [`super::send_request`] does.
pub fn send_import(
    socket: &Path,
    parts: &[ImportPart<'_>],
    mut on_event: impl FnMut(&Event),
) -> std::io::Result<Event> {
    let mut unsent = parts.iter();
    converse(socket, &Request::Import { parts: parts.len() }, |event| {
        on_event(event);
        let Event::Import(ImportEvent::NextPart) = event else { return Ok(None) };
        let Some(part) = unsent.next() else { return Ok(None) };
        let mut line = serde_json::to_string(part)?;
        line.push('\n');
        Ok(Some(line))
    })
}

/// Receives and stores this number of parts, imports them, and sends the results. Fails if the
/// command has disconnected before the end.
pub(super) async fn respond_to_import(
    engine: &Engine,
    parts: usize,
    reader: &mut AsyncReader<Take<impl AsyncRead + Unpin>>,
    writer: &mut (impl AsyncWriteExt + Unpin),
) -> std::io::Result<()> {
    let mut queued = Vec::new();
    let received = receive(engine, parts, &mut queued, reader, writer).await;

    let mut failed = parts.saturating_sub(queued.len());
    let mut sent = Ok(());
    for (part, import) in queued {
        let event = match engine.collector().complete_import_after_poll(import).await {
            Ok(report) => {
                let report = report.unwrap_or_default();
                ImportEvent::Imported { part, days: report.days, rejected: report.rejected }
            }
            Err(error) => {
                failed = failed.saturating_add(1);
                ImportEvent::Failed { part, failure: error.into() }
            }
        };
        // The command may have ended: what is stored is imported nevertheless.
        if sent.is_ok() {
            sent = send(writer, &Event::Import(event)).await;
        }
    }

    received.and(sent)?;
    send(writer, &Event::Done { failed }).await
}

/// Receives this number of parts, and stores each of them in the checkpoint. Adds the stored ones,
/// with their numbers, to `queued`. Fails if the command has disconnected.
async fn receive(
    engine: &Engine,
    parts: usize,
    queued: &mut Vec<(usize, QueuedImport)>,
    reader: &mut AsyncReader<Take<impl AsyncRead + Unpin>>,
    writer: &mut (impl AsyncWriteExt + Unpin),
) -> std::io::Result<()> {
    for part in 0..parts {
        send(writer, &Event::Import(ImportEvent::NextPart)).await?;
        let mut line = String::new();
        reader.get_mut().set_limit(MAX_REQUEST_BYTES);
        tokio::time::timeout(REQUEST_LIMIT, reader.read_line(&mut line)).await??;
        if line.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }

        let event = match queue(engine, &line) {
            Ok(import) => {
                queued.push((part, import));
                ImportEvent::Queued { part }
            }
            Err(failure) => ImportEvent::Failed { part, failure },
        };
        send(writer, &Event::Import(event)).await?;
    }
    Ok(())
}

/// Stores a part in the checkpoint.
fn queue(engine: &Engine, line: &str) -> Result<QueuedImport, RequestFailure> {
    let ReceivedPart { tenant, items } = serde_json::from_str(line).map_err(|_| {
        RequestFailure::invalid(
            Explanation::new("cannot parse a part of the import")
                .with_hint("run the command from the same version as the daemon"),
        )
    })?;
    let resolved = engine.tenants().named(&tenant).and_then(TenantState::resolved);
    let resolved = resolved.ok_or_else(|| RequestFailure::unknown_tenant(&tenant))?;
    let items: Vec<&str> = items.iter().map(String::as_str).collect();
    Ok(engine.collector().queue_import(&resolved, &items)?)
}
