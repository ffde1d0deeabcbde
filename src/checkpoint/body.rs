//! Compressed storage of bodies.
//!
//! The days of a tenant are very similar, so most bodies are compressed with an earlier body, the
//! *key frame*, as their zstd dictionary. There are no chains: a body depends only on its key
//! frame, so a damaged body makes at most the 31 bodies that depend on it unreadable. See
//! decision 0013.

use rusqlite::{Connection, OptionalExtension, ToSql, params, types::ToSqlOutput};

use super::{
    CheckpointError,
    row_ids::{BodyId, TenantRow, last_inserted},
};

/// How a body is compressed, as stored in the column `body.codec`. Conditions in SQL contain the
/// number itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    /// zstd without a dictionary; only such a body can be a key frame.
    Plain,
    /// zstd with the body of the key frame as dictionary.
    WithKeyFrame,
}

const COMPRESSION_LEVEL: i32 = 9;
/// How many bodies may depend on one key frame.
const MAX_DEPENDENTS: u32 = 31;
/// The largest decompressed body in bytes; the source does not accept a larger one.
pub(super) const MAX_BODY_BYTES: usize = 64 << 20;

/// The key frame that the next body of a tenant may be compressed with.
pub(super) struct KeyFrame {
    id: BodyId,
    body: Vec<u8>,
    /// Its compressed size in bytes.
    stored_bytes: usize,
    /// How many bodies depend on it.
    dependents: u32,
}

impl Codec {
    /// The codec with this number in the database. Fails with [`CheckpointError::Damaged`] if there
    /// is none.
    fn from_number(number: i64) -> Result<Self, CheckpointError> {
        match number {
            1 => Ok(Self::Plain),
            2 => Ok(Self::WithKeyFrame),
            _ => Err(unreadable()),
        }
    }
}

impl ToSql for Codec {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let number: i64 = match self {
            Self::Plain => 1,
            Self::WithKeyFrame => 2,
        };
        Ok(number.into())
    }
}

impl KeyFrame {
    /// The newest key frame of a tenant. `None` if the tenant has none. Fails with
    /// [`CheckpointError::Damaged`] if its body cannot be decompressed.
    pub(super) fn newest(
        connection: &Connection,
        tenant: TenantRow,
    ) -> Result<Option<Self>, CheckpointError> {
        let row: Option<(BodyId, Vec<u8>)> = connection
            .prepare_cached(
                "SELECT b.id, b.bytes FROM entry e JOIN body b ON b.id = e.body
                 WHERE e.tenant = ?1 AND e.kind = 1 AND b.codec = 1 ORDER BY e.seq DESC LIMIT 1",
            )?
            .query_row([tenant], |row| Ok((row.get("id")?, row.get("bytes")?)))
            .optional()?;
        let Some((id, bytes)) = row else { return Ok(None) };

        let dependents = connection.query_row(
            "SELECT count(*) AS dependents FROM body WHERE key_frame = ?1",
            [id],
            |row| row.get("dependents"),
        )?;
        let body = decompress(Codec::Plain, &bytes, None)?;
        Ok(Some(Self { id, body, stored_bytes: bytes.len(), dependents }))
    }
}

/// Stores a body and returns its ID. It is compressed with `key_frame` if that makes it much
/// smaller; otherwise it is stored alone and replaces `key_frame`. Fails if the body cannot be
/// compressed or the row cannot be inserted.
pub(super) fn store(
    connection: &Connection,
    body: &str,
    key_frame: &mut Option<KeyFrame>,
) -> Result<BodyId, CheckpointError> {
    if let Some(frame) = key_frame.as_mut().filter(|frame| frame.dependents < MAX_DEPENDENTS) {
        let bytes = compress(body.as_bytes(), COMPRESSION_LEVEL, &frame.body)?;
        // A body that differs much from its key frame is a better key frame for later bodies.
        if bytes.len() * 3 < frame.stored_bytes {
            frame.dependents += 1;
            return insert(connection, Codec::WithKeyFrame, Some(frame.id), &bytes);
        }
    }

    let bytes = compress(body.as_bytes(), COMPRESSION_LEVEL, &[])?;
    let id = insert(connection, Codec::Plain, None, &bytes)?;
    *key_frame = Some(KeyFrame {
        id,
        body: body.as_bytes().to_vec(),
        stored_bytes: bytes.len(),
        dependents: 0,
    });
    Ok(id)
}

/// Reads bodies, and caches the last key frame.
#[derive(Default)]
pub(super) struct BodyReader {
    /// The ID of the key frame and its body.
    key_frame: Option<(BodyId, Vec<u8>)>,
}

impl BodyReader {
    /// The body with this ID, as Microsoft sent it. Fails with [`CheckpointError::Damaged`] if its
    /// checksum is wrong.
    pub(super) fn read(
        &mut self,
        connection: &Connection,
        id: BodyId,
    ) -> Result<String, CheckpointError> {
        let (codec, key_frame, bytes): (i64, Option<BodyId>, Vec<u8>) = connection
            .prepare_cached("SELECT codec, key_frame, bytes FROM body WHERE id = ?1")?
            .query_row([id], |row| {
                Ok((row.get("codec")?, row.get("key_frame")?, row.get("bytes")?))
            })?;
        let codec = Codec::from_number(codec)?;

        let body = match key_frame {
            None => decompress(codec, &bytes, None)?,
            Some(id) => decompress(codec, &bytes, Some(self.key_frame(connection, id)?))?,
        };
        String::from_utf8(body)
            .map_err(|_| CheckpointError::Damaged(format!("body `{id}` is not UTF-8")))
    }

    fn key_frame(&mut self, connection: &Connection, id: BodyId) -> Result<&[u8], CheckpointError> {
        if self.key_frame.as_ref().is_none_or(|(cached, _)| *cached != id) {
            let (codec, bytes): (i64, Vec<u8>) = connection
                .prepare_cached("SELECT codec, bytes FROM body WHERE id = ?1")?
                .query_row([id], |row| Ok((row.get("codec")?, row.get("bytes")?)))?;
            let body = decompress(Codec::from_number(codec)?, &bytes, None)?;
            self.key_frame = Some((id, body));
        }
        Ok(self.key_frame.as_ref().map(|(_, body)| body.as_slice()).unwrap_or_default())
    }
}

fn insert(
    connection: &Connection,
    codec: Codec,
    key_frame: Option<BodyId>,
    bytes: &[u8],
) -> Result<BodyId, CheckpointError> {
    connection
        .prepare_cached("INSERT INTO body (codec, key_frame, bytes) VALUES (?1, ?2, ?3)")?
        .execute(params![codec, key_frame, bytes])?;
    Ok(last_inserted(connection))
}

/// Compresses with zstd (RFC 8878), with a content checksum that is verified at decompression. An
/// empty dictionary means none. Fails if zstd rejects the level or cannot allocate memory.
pub(super) fn compress(bytes: &[u8], level: i32, dictionary: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::with_dictionary(level, dictionary)?;
    compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true))?;
    compressor.compress(bytes)
}

fn decompress(
    codec: Codec,
    bytes: &[u8],
    dictionary: Option<&[u8]>,
) -> Result<Vec<u8>, CheckpointError> {
    if !matches!((codec, dictionary), (Codec::Plain, None) | (Codec::WithKeyFrame, Some(_))) {
        return Err(unreadable());
    }

    // The size limit prevents a damaged header from reserving all memory.
    let size = zstd::zstd_safe::get_frame_content_size(bytes).ok().flatten();
    let size = size.and_then(|size| usize::try_from(size).ok());
    let size = size.filter(|size| *size <= MAX_BODY_BYTES).ok_or_else(unreadable)?;

    let mut decompressor =
        zstd::bulk::Decompressor::with_dictionary(dictionary.unwrap_or_default())?;
    decompressor.decompress(bytes, size).map_err(|_| unreadable())
}

fn unreadable() -> CheckpointError {
    CheckpointError::Damaged("a stored body cannot be read".to_owned())
}
