//! Catalog versions: lists of (profile, decisions). Profiles with the same content are stored once
//! for all tenants. A version is never changed, and its ID is never assigned again, because the
//! daemon caches catalogs and profiles by ID. Start reading at [`store`].

use std::{collections::BTreeMap, ops::ControlFlow};

use aws_lc_rs::digest::{Context, SHA256, digest};

use super::{
    CatalogMember, Checkpoint, CheckpointError,
    backend::{Statements, values},
    body::{MAX_BODY_BYTES, compress},
    row_ids::{CatalogVersion, ProfileId, TenantRow},
};
use crate::model::UnixMillis;

/// The size of the largest packed catalog in bytes, including its decisions. A larger one is
/// rejected before it is written, because it could not be read again.
const MAX_CATALOG_BYTES: usize = MAX_BODY_BYTES;

/// The hash of an empty row that only reserves the ID of an erased profile or catalog.
pub(super) const RESERVED_HASH: &[u8] = &[0];

/// One profile of a stored catalog version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCatalogMember {
    /// The ID of the profile, for [`Checkpoint::profile`].
    pub profile: ProfileId,
    /// The JSON of the decisions as Microsoft sent it.
    pub decisions: String,
}

impl Checkpoint {
    /// The members of a catalog version.
    ///
    /// # Errors
    ///
    /// Fails with [`CheckpointError::Damaged`] if the stored list cannot be decoded, or if the
    /// version does not exist.
    pub fn catalog(
        &self,
        version: CatalogVersion,
    ) -> Result<Vec<StoredCatalogMember>, CheckpointError> {
        let sql = "SELECT members FROM catalog WHERE id = ?1";
        let packed = self.reading(|store| {
            store.query_one(sql, values![version], |row| row.get::<Vec<u8>>("members"))
        })?;
        unpack(&packed)
            .map_err(|_| CheckpointError::Damaged(format!("catalog `{version}` cannot be read")))
    }

    /// The JSON of a profile without decisions, as Microsoft sent it. An ID always refers to the
    /// same content, so callers may cache it.
    ///
    /// # Errors
    ///
    /// Fails with [`CheckpointError::Damaged`] if the stored text cannot be decoded, or if the
    /// profile does not exist.
    pub fn profile(&self, id: ProfileId) -> Result<String, CheckpointError> {
        let damaged = || CheckpointError::Damaged(format!("profile `{id}` cannot be read"));
        let sql = "SELECT bytes FROM profile WHERE id = ?1";
        let bytes = self.reading(|store| {
            store.query_one(sql, values![id], |row| row.get::<Vec<u8>>("bytes"))
        })?;
        let shared = zstd::bulk::decompress(&bytes, MAX_CATALOG_BYTES).map_err(|_| damaged())?;
        String::from_utf8(shared).map_err(|_| damaged())
    }
}

/// Stores a catalog and returns the ID of its version: the tenant's newest one if nothing changed,
/// otherwise a new one. An empty list means that the catalog was not read completely; the newest
/// version is then kept. `None` only if the list is empty and the tenant has no version yet. Fails
/// with [`CheckpointError::TooLarge`] if the packed list exceeds 64 MiB.
pub(super) fn store(
    store: &dyn Statements,
    tenant: TenantRow,
    members: &[CatalogMember<'_>],
    observed_at: UnixMillis,
) -> Result<Option<CatalogVersion>, CheckpointError> {
    let sql =
        "SELECT c.id, c.digest FROM tenant t JOIN catalog c ON c.id = t.catalog WHERE t.id = ?1";
    let newest = store.query_optional(sql, values![tenant], |row| {
        Ok((row.get::<CatalogVersion>("id")?, row.get::<Vec<u8>>("digest")?))
    })?;
    if members.is_empty() {
        return Ok(newest.map(|(id, _)| id));
    }

    // The order in which Microsoft lists the profiles must not create a new version.
    let mut ordered: Vec<(Vec<u8>, &CatalogMember<'_>)> = members
        .iter()
        .map(|member| (digest(&SHA256, member.shared.as_bytes()).as_ref().to_vec(), member))
        .collect();
    ordered.sort_by(|(a, _), (b, _)| a.cmp(b));
    let version =
        version_hash(ordered.iter().map(|(hash, member)| (hash.as_slice(), member.decisions)));
    if let Some((id, hash)) = newest
        && hash == version
    {
        return Ok(Some(id));
    }

    let mut packed = Vec::new();
    for (hash, member) in &ordered {
        let profile = store_profile(store, hash, member.shared)?;
        write_field(&profile.to_le_bytes(), &mut packed);
        write_field(member.decisions.as_bytes(), &mut packed);
    }
    if packed.len() > MAX_CATALOG_BYTES {
        return Err(CheckpointError::TooLarge("catalog"));
    }

    let packed = compress(&packed, 3, &[])?;
    let sql = "INSERT INTO catalog (tenant, digest, observed, members) VALUES (?1, ?2, ?3, ?4)
               RETURNING id";
    let id: CatalogVersion =
        store.query_one(sql, values![tenant, version, observed_at, packed], |row| row.get("id"))?;
    store.execute("UPDATE tenant SET catalog = ?2 WHERE id = ?1", values![tenant, id])?;
    Ok(Some(id))
}

/// The members of a compressed catalog version. Fails with [`CheckpointError::Damaged`] if they
/// cannot be decoded.
pub(super) fn unpack(packed: &[u8]) -> Result<Vec<StoredCatalogMember>, CheckpointError> {
    let damaged = || CheckpointError::Damaged("a catalog cannot be read".to_owned());
    let packed = zstd::bulk::decompress(packed, MAX_CATALOG_BYTES).map_err(|_| damaged())?;

    let mut members = Vec::new();
    let mut rest = packed.as_slice();
    while !rest.is_empty() {
        let profile: Option<[u8; 8]> = read_field(&mut rest).and_then(|id| id.try_into().ok());
        let decisions = read_field(&mut rest).ok_or_else(damaged)?.to_vec();
        members.push(StoredCatalogMember {
            profile: profile.map(ProfileId::from_le_bytes).ok_or_else(damaged)?,
            decisions: String::from_utf8(decisions).map_err(|_| damaged())?,
        });
    }
    Ok(members)
}

fn version_hash<'a>(members: impl Iterator<Item = (&'a [u8], &'a str)>) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    for (hash, decisions) in members {
        context.update(hash);
        context.update(&(decisions.len() as u64).to_be_bytes());
        context.update(decisions.as_bytes());
    }
    context.finish().as_ref().to_vec()
}

/// The SHA-256 hashes of profiles, by ID.
pub(super) type ProfileHashes = BTreeMap<ProfileId, Vec<u8>>;

/// The hashes of the intact profiles, and the IDs of the damaged ones. Fails only if the database
/// cannot be read.
pub(super) fn check_profiles(
    store: &dyn Statements,
) -> Result<(ProfileHashes, Vec<ProfileId>), CheckpointError> {
    let (mut intact, mut damaged) = (BTreeMap::new(), Vec::new());
    let sql = "SELECT id, digest, bytes FROM profile ORDER BY id";
    store.query(sql, values![], &mut |row| {
        let id: ProfileId = row.get("id")?;
        let (hash, bytes): (Vec<u8>, Vec<u8>) = (row.get("digest")?, row.get("bytes")?);
        if is_intact_profile(&hash, &bytes) {
            intact.insert(id, hash);
        } else {
            damaged.push(id);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((intact, damaged))
}

/// The catalog versions that are damaged or contain a profile that is not among the intact ones:
/// their IDs and the GUIDs of their tenants. Fails only if the database cannot be read.
pub(super) fn damaged_catalogs(
    store: &dyn Statements,
    intact_profiles: &ProfileHashes,
) -> Result<Vec<(CatalogVersion, String)>, CheckpointError> {
    let sql =
        "SELECT c.id, t.guid, c.digest, c.members FROM catalog c JOIN tenant t ON t.id = c.tenant
         ORDER BY c.id";
    let mut damaged = Vec::new();
    store.query(sql, values![], &mut |row| {
        let (hash, packed): (Vec<u8>, Vec<u8>) = (row.get("digest")?, row.get("members")?);
        if !is_intact_catalog(&hash, &packed, intact_profiles) {
            damaged.push((row.get("id")?, row.get("guid")?));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(damaged)
}

/// Whether a profile matches its hash, or is the reserved row of an erased one.
fn is_intact_profile(stored_hash: &[u8], bytes: &[u8]) -> bool {
    let Ok(shared) = zstd::bulk::decompress(bytes, MAX_CATALOG_BYTES) else { return false };
    digest(&SHA256, &shared).as_ref() == stored_hash
        || (shared.is_empty() && stored_hash == RESERVED_HASH)
}

/// Whether a catalog version matches its hash, or is the reserved row of an erased one.
fn is_intact_catalog(stored_hash: &[u8], packed: &[u8], intact_profiles: &ProfileHashes) -> bool {
    let Ok(members) = unpack(packed) else { return false };
    let with_hashes: Option<Vec<(&[u8], &str)>> = members
        .iter()
        .map(|m| Some((intact_profiles.get(&m.profile)?.as_slice(), m.decisions.as_str())))
        .collect();
    let is_intact =
        with_hashes.is_some_and(|members| version_hash(members.into_iter()) == stored_hash);
    is_intact || (members.is_empty() && stored_hash == RESERVED_HASH)
}

/// The ID of a profile, which is inserted if it does not exist.
fn store_profile(
    store: &dyn Statements,
    hash: &[u8],
    shared: &str,
) -> Result<ProfileId, CheckpointError> {
    let stored = "SELECT id FROM profile WHERE digest = ?1";
    if let Some(id) = store.query_optional(stored, values![hash], |row| row.get("id"))? {
        return Ok(id);
    }

    let bytes = compress(shared.as_bytes(), 9, &[])?;
    let sql = "INSERT INTO profile (digest, bytes) VALUES (?1, ?2)
               ON CONFLICT (digest) DO NOTHING RETURNING id";
    match store.query_optional(sql, values![hash, bytes], |row| row.get("id"))? {
        Some(id) => Ok(id),
        // Another host has inserted it.
        None => store.query_one(stored, values![hash], |row| row.get("id")),
    }
}

/// Appends a field with its length: 4 bytes, little endian.
fn write_field(field: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(field.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(field);
}

/// Splits a field off `rest`; `None` if it is incomplete.
fn read_field<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, tail) = rest.split_first_chunk::<4>()?;
    let (field, tail) = tail.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = tail;
    Some(field)
}
