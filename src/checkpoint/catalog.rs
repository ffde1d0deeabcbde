//! Catalog versions: a list of (profile, decisions); profiles once by content for all tenants.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256, digest};
use rusqlite::{Connection, OptionalExtension, params};

use super::{CatalogMember, Checkpoint, CheckpointError, body::sealed};

/// Of a catalog as packed, decisions and all; a larger one is refused before it is written.
const MAX_MEMBERS: usize = super::body::MAX_BODY;

/// Stands for the digest of what is gone, and whose number is not given again.
pub(super) const GONE: &[u8] = &[0];

/// The version that these members make: the tenant's newest if nothing changed, else a new one.
/// An empty catalog was not read, and leaves the newest in place.
pub(super) fn store(
    connection: &Connection,
    tenant: i64,
    members: &[CatalogMember<'_>],
    observed_ms: i64,
) -> Result<Option<i64>, CheckpointError> {
    let newest: Option<(i64, Vec<u8>)> = connection
        .prepare_cached("SELECT c.id, c.digest FROM tenant t JOIN catalog c ON c.id = t.catalog WHERE t.id = ?1")?
        .query_row([tenant], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if members.is_empty() {
        return Ok(newest.map(|(id, _)| id));
    }
    let mut ordered: Vec<(Vec<u8>, &CatalogMember<'_>)> = members
        .iter()
        .map(|member| (digest(&SHA256, member.shared.as_bytes()).as_ref().to_vec(), member))
        .collect();
    ordered.sort_by(|(a, _), (b, _)| a.cmp(b));
    let version = version_digest(
        ordered.iter().map(|(digest, member)| (digest.as_slice(), member.decisions)),
    );
    if let Some((id, digest)) = newest
        && digest == version
    {
        return Ok(Some(id));
    }
    let mut packed = Vec::new();
    for (digest, member) in &ordered {
        let profile = store_profile(connection, digest, member.shared)?;
        write_field(&profile.to_le_bytes(), &mut packed);
        write_field(member.decisions.as_bytes(), &mut packed);
    }
    if packed.len() > MAX_MEMBERS {
        return Err(CheckpointError::TooLarge("catalog"));
    }
    let packed = sealed(&packed, 3, &[])?;
    connection.execute(
        "INSERT INTO catalog (tenant, digest, observed, members) VALUES (?1, ?2, ?3, ?4)",
        params![tenant, version, observed_ms, packed],
    )?;
    let id = connection.last_insert_rowid();
    connection.execute("UPDATE tenant SET catalog = ?2 WHERE id = ?1", params![tenant, id])?;
    Ok(Some(id))
}

/// One profile of a stored catalog: which it is, and the decisions as sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCatalogMember {
    pub profile: i64,
    pub decisions: String,
}

impl Checkpoint {
    /// The members of a catalog version.
    pub fn catalog(&self, version: i64) -> Result<Vec<StoredCatalogMember>, CheckpointError> {
        let packed: Vec<u8> = self
            .connection()
            .prepare_cached("SELECT members FROM catalog WHERE id = ?1")?
            .query_row([version], |row| row.get(0))?;
        unpack(&packed)
            .map_err(|_| CheckpointError::Damaged(format!("catalog {version} cannot be read")))
    }

    /// The shared part of a profile, as sent. A number stands for one content for ever.
    pub fn profile(&self, id: i64) -> Result<String, CheckpointError> {
        let damaged = || CheckpointError::Damaged(format!("profile {id} cannot be read"));
        let bytes: Vec<u8> = self
            .connection()
            .prepare_cached("SELECT bytes FROM profile WHERE id = ?1")?
            .query_row([id], |row| row.get(0))?;
        let shared = zstd::bulk::decompress(&bytes, MAX_MEMBERS).map_err(|_| damaged())?;
        String::from_utf8(shared).map_err(|_| damaged())
    }
}

/// The members of a stored version.
pub(super) fn unpack(packed: &[u8]) -> Result<Vec<StoredCatalogMember>, CheckpointError> {
    let damaged = || CheckpointError::Damaged("a catalog cannot be read".to_owned());
    let packed = zstd::bulk::decompress(packed, MAX_MEMBERS).map_err(|_| damaged())?;
    let mut members = Vec::new();
    let mut rest = packed.as_slice();
    while !rest.is_empty() {
        let profile =
            read_field(&mut rest).and_then(|id| Some(i64::from_le_bytes(id.try_into().ok()?)));
        let decisions = read_field(&mut rest).ok_or_else(damaged)?.to_vec();
        members.push(StoredCatalogMember {
            profile: profile.ok_or_else(damaged)?,
            decisions: String::from_utf8(decisions).map_err(|_| damaged())?,
        });
    }
    Ok(members)
}

fn version_digest<'a>(members: impl Iterator<Item = (&'a [u8], &'a str)>) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    for (digest, decisions) in members {
        context.update(digest);
        context.update(&(decisions.len() as u64).to_be_bytes());
        context.update(decisions.as_bytes());
    }
    context.finish().as_ref().to_vec()
}

/// Of profiles, by number.
pub(super) type Digests = BTreeMap<i64, Vec<u8>>;

/// Whether a stored profile is what was written, or the place of one that is gone.
fn is_sound_profile(stored: &[u8], bytes: &[u8]) -> bool {
    let Ok(shared) = zstd::bulk::decompress(bytes, MAX_MEMBERS) else { return false };
    digest(&SHA256, &shared).as_ref() == stored || (shared.is_empty() && stored == GONE)
}

/// Whether a stored version is what was written, of profiles that are sound: their digests by number.
fn is_sound(stored: &[u8], packed: &[u8], profiles: &Digests) -> bool {
    let Ok(members) = unpack(packed) else { return false };
    let named: Option<Vec<(&[u8], &str)>> = members
        .iter()
        .map(|m| Some((profiles.get(&m.profile)?.as_slice(), m.decisions.as_str())))
        .collect();
    let sound = named.is_some_and(|named| version_digest(named.into_iter()) == stored);
    sound || (members.is_empty() && stored == GONE)
}

/// The digests of the profiles that are what was written, by number; and those that are not.
pub(super) fn profiles(connection: &Connection) -> Result<(Digests, Vec<i64>), CheckpointError> {
    let (mut sound, mut unsound) = (BTreeMap::new(), Vec::new());
    let mut statement = connection.prepare("SELECT id, digest, bytes FROM profile ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (id, digest, bytes): (i64, Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?, row.get(2)?);
        if is_sound_profile(&digest, &bytes) {
            sound.insert(id, digest);
        } else {
            unsound.push(id);
        }
    }
    Ok((sound, unsound))
}

/// The versions that are not what was written, of these profiles: number, and the tenant's GUID.
pub(super) fn unsound(
    connection: &Connection,
    profiles: &Digests,
) -> Result<Vec<(i64, String)>, CheckpointError> {
    let mut unsound = Vec::new();
    let mut statement = connection.prepare(
        "SELECT c.id, t.guid, c.digest, c.members FROM catalog c JOIN tenant t ON t.id = c.tenant ORDER BY c.id",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (digest, packed): (Vec<u8>, Vec<u8>) = (row.get(2)?, row.get(3)?);
        if !is_sound(&digest, &packed, profiles) {
            unsound.push((row.get(0)?, row.get(1)?));
        }
    }
    Ok(unsound)
}

fn store_profile(
    connection: &Connection,
    digest: &[u8],
    shared: &str,
) -> Result<i64, CheckpointError> {
    let known = connection
        .prepare_cached("SELECT id FROM profile WHERE digest = ?1")?
        .query_row([digest], |row| row.get(0))
        .optional()?;
    if let Some(id) = known {
        return Ok(id);
    }
    let bytes = sealed(shared.as_bytes(), 9, &[])?;
    connection
        .prepare_cached("INSERT INTO profile (digest, bytes) VALUES (?1, ?2)")?
        .execute(params![digest, bytes])?;
    Ok(connection.last_insert_rowid())
}

fn write_field(field: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(field);
}

fn read_field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let (field, tail) = tail.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = tail;
    Some(field)
}
