//! Compressed storage of bodies.
//!
//! The days of a tenant are very similar, so most bodies are compressed with an earlier body, the
//! *key frame*, as their zstd dictionary. There are no chains: a body depends only on its key
//! frame, so a damaged body makes at most the 31 bodies that depend on it unreadable. See
//! decision 0013.

use super::{
    CheckpointError,
    backend::{SqlValue, Statements, ToValue, values},
    key_frames::{BodyPlacement, may_depend, placement},
    row_ids::{BodyId, TenantRow},
    sql::{plain_codec, snapshot},
};

/// How a body is compressed, as stored in the column `body.codec`. Conditions in SQL contain the
/// number itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// zstd without a dictionary; only such a body can be a key frame.
    Plain,
    /// zstd with the body of the key frame as dictionary.
    WithKeyFrame,
}

const COMPRESSION_LEVEL: i32 = 9;
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
    /// The number in the database.
    pub(super) const fn number(self) -> i64 {
        match self {
            Self::Plain => 1,
            Self::WithKeyFrame => 2,
        }
    }

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

impl ToValue for Codec {
    fn to_value(&self) -> SqlValue<'_> {
        SqlValue::Int(self.number())
    }
}

impl KeyFrame {
    /// The newest key frame of a tenant. `None` if the tenant has none. Fails with
    /// [`CheckpointError::Damaged`] if its body cannot be decompressed.
    pub(super) fn newest(
        store: &dyn Statements,
        tenant: TenantRow,
    ) -> Result<Option<Self>, CheckpointError> {
        let sql = concat!(
            "SELECT b.id, b.bytes FROM entry e JOIN body b ON b.id = e.body WHERE e.tenant = ?1 AND e.kind = ",
            snapshot!(),
            " AND b.codec = ",
            plain_codec!(),
            " ORDER BY e.seq DESC LIMIT 1"
        );
        let newest = store.query_optional(sql, values![tenant], |row| {
            Ok((row.get::<BodyId>("id")?, row.get::<Vec<u8>>("bytes")?))
        })?;
        let Some((id, bytes)) = newest else { return Ok(None) };

        let sql = "SELECT count(*) AS dependents FROM body WHERE key_frame = ?1";
        let dependents = store.query_one(sql, values![id], |row| row.get("dependents"))?;
        let body = decompress(Codec::Plain, &bytes, None)?;
        Ok(Some(Self { id, body, stored_bytes: bytes.len(), dependents }))
    }
}

/// Stores a body and returns its ID. It is compressed with `key_frame` if that makes it much
/// smaller; otherwise it is stored alone and replaces `key_frame`. Fails if the body cannot be
/// compressed or the row cannot be inserted.
pub(super) fn store(
    store: &dyn Statements,
    body: &str,
    key_frame: &mut Option<KeyFrame>,
) -> Result<BodyId, CheckpointError> {
    if let Some(frame) = key_frame.as_mut().filter(|frame| may_depend(frame.dependents)) {
        let bytes = compress(body.as_bytes(), COMPRESSION_LEVEL, &frame.body)?;
        if placement(bytes.len(), frame.stored_bytes) == BodyPlacement::WithKeyFrame {
            frame.dependents += 1;
            return insert(store, Codec::WithKeyFrame, Some(frame.id), &bytes);
        }
    }

    let bytes = compress(body.as_bytes(), COMPRESSION_LEVEL, &[])?;
    let id = insert(store, Codec::Plain, None, &bytes)?;
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
        store: &dyn Statements,
        id: BodyId,
    ) -> Result<String, CheckpointError> {
        let sql = "SELECT codec, key_frame, bytes FROM body WHERE id = ?1";
        let (codec, key_frame, bytes) = store.query_one(sql, values![id], |row| {
            let (codec, key_frame) = (row.get("codec")?, row.get::<Option<BodyId>>("key_frame")?);
            Ok((Codec::from_number(codec)?, key_frame, row.get::<Vec<u8>>("bytes")?))
        })?;

        let body = match key_frame {
            None => decompress(codec, &bytes, None)?,
            Some(id) => decompress(codec, &bytes, Some(self.key_frame(store, id)?))?,
        };
        String::from_utf8(body)
            .map_err(|_| CheckpointError::Damaged(format!("body `{id}` is not UTF-8")))
    }

    fn key_frame(&mut self, store: &dyn Statements, id: BodyId) -> Result<&[u8], CheckpointError> {
        if self.key_frame.as_ref().is_none_or(|(cached, _)| *cached != id) {
            let sql = "SELECT codec, bytes FROM body WHERE id = ?1";
            let (codec, bytes) = store.query_one(sql, values![id], |row| {
                Ok((Codec::from_number(row.get("codec")?)?, row.get::<Vec<u8>>("bytes")?))
            })?;
            self.key_frame = Some((id, decompress(codec, &bytes, None)?));
        }
        Ok(self.key_frame.as_ref().map(|(_, body)| body.as_slice()).unwrap_or_default())
    }
}

fn insert(
    store: &dyn Statements,
    codec: Codec,
    key_frame: Option<BodyId>,
    bytes: &[u8],
) -> Result<BodyId, CheckpointError> {
    let sql = "INSERT INTO body (codec, key_frame, bytes) VALUES (?1, ?2, ?3) RETURNING id";
    store.query_one(sql, values![codec, key_frame, bytes], |row| row.get("id"))
}

/// SQL: whether no entry refers to a body and no other body depends on it.
macro_rules! is_unreferenced {
    () => {
        "NOT EXISTS (SELECT 1 FROM entry e WHERE e.body = body.id)
         AND NOT EXISTS (SELECT 1 FROM body b WHERE b.key_frame = body.id)"
    };
}

/// Deletes each of these bodies unless an entry refers to it or another body depends on it; then
/// their key frames, by the same rule. Fails if the database cannot be written.
pub(super) fn delete_if_unreferenced(
    store: &dyn Statements,
    mut bodies: Vec<BodyId>,
) -> Result<(), CheckpointError> {
    let sql =
        concat!("DELETE FROM body WHERE id = ?1 AND ", is_unreferenced!(), " RETURNING key_frame");
    while let Some(body) = bodies.pop() {
        let key_frame: Option<Option<BodyId>> =
            store.query_optional(sql, values![body], |row| row.get("key_frame"))?;
        bodies.extend(key_frame.flatten());
    }
    Ok(())
}

/// Deletes all bodies that no entry refers to and no other body depends on.
pub(super) fn delete_unreferenced_bodies(store: &dyn Statements) -> Result<(), CheckpointError> {
    // The first pass deletes bodies that depend on a key frame, and the second one the key frames
    // that then have no dependents.
    for _ in 0..2 {
        store.execute(concat!("DELETE FROM body WHERE ", is_unreferenced!()), values![])?;
    }
    Ok(())
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
