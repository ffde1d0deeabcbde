//! Bodies as sent, small.
//!
//! A tenant's days are much alike, so most bodies are compressed with an earlier one, the key
//! frame, as their dictionary. There are no chains: a body needs its key frame and nothing else,
//! and one that is damaged takes at most a month with it.

use rusqlite::{Connection, OptionalExtension, params};

use super::CheckpointError;

const PLAIN: i64 = 1;
const WITH_KEY_FRAME: i64 = 2;
const LEVEL: i32 = 9;
/// Bodies that lean on one key frame, at most.
const MAX_USES: u32 = 31;
/// As large as the source lets a body be.
pub(super) const MAX_BODY: usize = 64 << 20;

/// The key frame that a tenant's next body may lean on.
pub(super) struct KeyFrame {
    id: i64,
    body: Vec<u8>,
    stored: usize,
    uses: u32,
}

impl KeyFrame {
    /// The tenant's newest.
    pub(super) fn newest(
        connection: &Connection,
        tenant: i64,
    ) -> Result<Option<Self>, CheckpointError> {
        let row: Option<(i64, Vec<u8>)> = connection
            .prepare_cached(
                "SELECT b.id, b.bytes FROM entry e JOIN body b ON b.id = e.body
                 WHERE e.tenant = ?1 AND e.kind = 1 AND b.codec = 1 ORDER BY e.seq DESC LIMIT 1",
            )?
            .query_row([tenant], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((id, bytes)) = row else { return Ok(None) };
        let uses = connection.query_row(
            "SELECT count(*) FROM body WHERE key_frame = ?1",
            [id],
            |row| row.get(0),
        )?;
        let body = decompress(PLAIN, &bytes, None)?;
        Ok(Some(Self { id, body, stored: bytes.len(), uses }))
    }
}

/// Stores a body; `key` is the key frame to lean on, and becomes this one if it serves better alone.
pub(super) fn store(
    connection: &Connection,
    body: &str,
    key: &mut Option<KeyFrame>,
) -> Result<i64, CheckpointError> {
    if let Some(frame) = key.as_mut().filter(|frame| frame.uses < MAX_USES) {
        let bytes = compress(body, Some(&frame.body))?;
        // A body unlike its key frame is a better key frame for those to come.
        if bytes.len() * 3 < frame.stored {
            frame.uses += 1;
            return insert(connection, WITH_KEY_FRAME, Some(frame.id), &bytes);
        }
    }
    let bytes = compress(body, None)?;
    let id = insert(connection, PLAIN, None, &bytes)?;
    *key = Some(KeyFrame { id, body: body.as_bytes().to_vec(), stored: bytes.len(), uses: 0 });
    Ok(id)
}

/// Reads bodies, keeping the last key frame at hand.
#[derive(Default)]
pub(super) struct Bodies {
    key: Option<(i64, Vec<u8>)>,
}

impl Bodies {
    pub(super) fn read(
        &mut self,
        connection: &Connection,
        id: i64,
    ) -> Result<String, CheckpointError> {
        let (codec, key_frame, bytes): (i64, Option<i64>, Vec<u8>) = connection
            .prepare_cached("SELECT codec, key_frame, bytes FROM body WHERE id = ?1")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let body = match key_frame {
            None => decompress(codec, &bytes, None)?,
            Some(key) => decompress(codec, &bytes, Some(self.key(connection, key)?))?,
        };
        String::from_utf8(body)
            .map_err(|_| CheckpointError::Damaged(format!("body {id} is not text")))
    }

    fn key(&mut self, connection: &Connection, id: i64) -> Result<&[u8], CheckpointError> {
        if self.key.as_ref().is_none_or(|(held, _)| *held != id) {
            let (codec, bytes): (i64, Vec<u8>) = connection
                .prepare_cached("SELECT codec, bytes FROM body WHERE id = ?1")?
                .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
            self.key = Some((id, decompress(codec, &bytes, None)?));
        }
        Ok(self.key.as_ref().map(|(_, body)| body.as_slice()).unwrap_or_default())
    }
}

fn insert(
    connection: &Connection,
    codec: i64,
    key: Option<i64>,
    bytes: &[u8],
) -> Result<i64, CheckpointError> {
    connection
        .prepare_cached("INSERT INTO body (codec, key_frame, bytes) VALUES (?1, ?2, ?3)")?
        .execute(params![codec, key, bytes])?;
    Ok(connection.last_insert_rowid())
}

fn compress(body: &str, dictionary: Option<&[u8]>) -> Result<Vec<u8>, CheckpointError> {
    Ok(sealed(body.as_bytes(), LEVEL, dictionary.unwrap_or_default())?)
}

/// Compressed with zstd; the frame proves on reading that it is what was written.
pub(super) fn sealed(bytes: &[u8], level: i32, dictionary: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::with_dictionary(level, dictionary)?;
    compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
    compressor.compress(bytes)
}

fn decompress(
    codec: i64,
    bytes: &[u8],
    dictionary: Option<&[u8]>,
) -> Result<Vec<u8>, CheckpointError> {
    let damaged = || CheckpointError::Damaged("a stored body cannot be read".to_owned());
    if !matches!((codec, dictionary), (PLAIN, None) | (WITH_KEY_FRAME, Some(_))) {
        return Err(damaged());
    }
    let mut decompressor =
        zstd::bulk::Decompressor::with_dictionary(dictionary.unwrap_or_default())?;
    let size = zstd::zstd_safe::get_frame_content_size(bytes).ok().flatten().ok_or_else(damaged)?;
    let size = usize::try_from(size).ok().filter(|size| *size <= MAX_BODY).ok_or_else(damaged)?;
    decompressor.decompress(bytes, size).map_err(|_| damaged())
}
