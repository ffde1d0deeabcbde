//! A cache of parsed catalogs. Each profile is parsed once for all tenants and versions that
//! contain it.

use std::{collections::HashMap, sync::Arc};

use crate::{
    checkpoint::{CatalogVersion, Checkpoint, CheckpointError, EntryContext, ProfileId},
    derive::{Base, Comparison},
    model::{Baseline, Catalog, Profile, ProfileSlot},
    wire,
};

/// The number of profiles at which the cache is cleared; several times as many as Microsoft
/// publishes.
const MAX_PROFILES: usize = 4_096;

/// The cache. It relies on the checkpoint, in which an ID of a catalog version or a profile always
/// refers to the same content.
#[derive(Default)]
pub(in crate::daemon) struct Catalogs {
    /// The version that was used last. Consecutive entries share one; a larger cache would grow
    /// with the number of tenants.
    last: Option<(CatalogVersion, Arc<Catalog>)>,
    profiles: HashMap<ProfileId, Arc<Profile>>,
}

/// What the changes of an entry are measured against, from the entry's context in the checkpoint.
pub(in crate::daemon) fn compared_to<'a>(
    context: &'a EntryContext,
    base_catalog: Option<&'a Catalog>,
    baseline: Option<&'a Baseline>,
) -> Comparison<'a> {
    let base = context.base.as_ref().map(|base| Base {
        seq: base.seq,
        facts: &base.facts,
        catalog: base_catalog,
        backfilled: base.backfilled,
        earlier: &base.earlier,
    });
    let EntryContext { first_contact, revises_past_day: has_later_days, .. } = *context;
    Comparison { base, first_contact, has_later_days, baseline }
}

impl Catalogs {
    /// A version of a catalog. An entry without a version has an empty catalog. Profiles that
    /// cannot be decoded are omitted. Fails if the checkpoint cannot read the version.
    pub(in crate::daemon) fn get(
        &mut self,
        checkpoint: &Checkpoint,
        version: Option<CatalogVersion>,
    ) -> Result<Arc<Catalog>, CheckpointError> {
        let Some(version) = version else { return Ok(Arc::default()) };
        if let Some((cached, catalog)) = &self.last
            && *cached == version
        {
            return Ok(catalog.clone());
        }

        let members = checkpoint.catalog(version)?;
        let mut slots = Vec::with_capacity(members.len());
        for member in members {
            if let Some(profile) = self.profile(checkpoint, member.profile)? {
                let decisions = wire::state_updates(&member.decisions);
                slots.push(ProfileSlot { key: member.profile.slot_key(), profile, decisions });
            }
        }

        let catalog = Arc::new(Catalog::new(slots));
        self.last = Some((version, catalog.clone()));
        Ok(catalog)
    }

    /// The catalog of an entry, and the catalog of its base if it has one. Both are the same `Arc`
    /// if the version is the same, so that a comparison can be skipped. Fails if the checkpoint
    /// cannot read one of the versions.
    pub(in crate::daemon) fn pair(
        &mut self,
        checkpoint: &Checkpoint,
        version: Option<CatalogVersion>,
        context: &EntryContext,
    ) -> Result<(Arc<Catalog>, Option<Arc<Catalog>>), CheckpointError> {
        let base_version = context.base.as_ref().and_then(|base| base.catalog);
        let differs = base_version.is_some() && base_version != version;

        // The catalog of the entry is read last, because the next entry probably has the same one.
        let base = if differs { Some(self.get(checkpoint, base_version)?) } else { None };
        let catalog = self.get(checkpoint, version)?;
        let base = base.or_else(|| base_version.map(|_| catalog.clone()));
        Ok((catalog, base))
    }

    /// A profile; `None` if it cannot be decoded.
    fn profile(
        &mut self,
        checkpoint: &Checkpoint,
        id: ProfileId,
    ) -> Result<Option<Arc<Profile>>, CheckpointError> {
        if let Some(cached) = self.profiles.get(&id) {
            return Ok(Some(cached.clone()));
        }

        let shared = checkpoint.profile(id)?;
        let Ok(profile) = wire::profile(&shared).map(Arc::new) else { return Ok(None) };
        if self.profiles.len() >= MAX_PROFILES {
            self.profiles.clear();
        }
        self.profiles.insert(id, profile.clone());
        Ok(Some(profile))
    }
}
