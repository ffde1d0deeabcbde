//! Catalogs as entries want them: profiles are parsed once for all tenants that have them.

use std::{collections::HashMap, sync::Arc};

use crate::{
    checkpoint::{Checkpoint, CheckpointError, EntryContext},
    derive::{Base, Comparison},
    model::{Baseline, Catalog, Profile, ProfileSlot},
    wire,
};

/// Several times the profiles there are.
const MAX_PROFILES: usize = 4_096;

#[derive(Default)]
pub(in crate::daemon) struct Catalogs {
    /// The one used last, by its version: neighbouring entries share it, and one at hand stays
    /// small with many tenants.
    last: Option<(i64, Arc<Catalog>)>,
    /// Parsed, by their number in the checkpoint.
    profiles: HashMap<i64, Arc<Profile>>,
}

/// What an entry is measured against, as far as the checkpoint knows.
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
    /// A version of a catalog; that of an entry taken without one is empty.
    pub(in crate::daemon) fn get(
        &mut self,
        checkpoint: &Checkpoint,
        version: Option<i64>,
    ) -> Result<Arc<Catalog>, CheckpointError> {
        let Some(version) = version else { return Ok(Arc::default()) };
        if let Some((known, catalog)) = &self.last
            && *known == version
        {
            return Ok(catalog.clone());
        }
        let members = checkpoint.catalog(version)?;
        let mut slots = Vec::with_capacity(members.len());
        for member in members {
            if let Some(profile) = self.profile(checkpoint, member.profile)? {
                let decisions = wire::state_updates(&member.decisions);
                slots.push(ProfileSlot { key: member.profile.cast_unsigned(), profile, decisions });
            }
        }
        let catalog = Arc::new(Catalog::new(slots));
        self.last = Some((version, catalog.clone()));
        Ok(catalog)
    }

    /// The catalog of an entry, and that of its base if it had one: the same one where it is the
    /// same version, so that who compares them can tell.
    pub(in crate::daemon) fn pair(
        &mut self,
        checkpoint: &Checkpoint,
        own: Option<i64>,
        context: &EntryContext,
    ) -> Result<(Arc<Catalog>, Option<Arc<Catalog>>), CheckpointError> {
        let version = context.base.as_ref().and_then(|base| base.catalog);
        let differs = version.is_some() && version != own;
        let then = if differs { Some(self.get(checkpoint, version)?) } else { None };
        let own = self.get(checkpoint, own)?;
        let then = then.or_else(|| version.map(|_| own.clone()));
        Ok((own, then))
    }

    /// A profile; `None` if nobody can read it.
    fn profile(
        &mut self,
        checkpoint: &Checkpoint,
        id: i64,
    ) -> Result<Option<Arc<Profile>>, CheckpointError> {
        if let Some(known) = self.profiles.get(&id) {
            return Ok(Some(known.clone()));
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
