//! Catalogues as entries want them: profiles are parsed once for all tenants that have them.

use std::{collections::HashMap, sync::Arc};

use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    model::{Catalogue, Profile, ProfileSlot},
    wire,
};

/// Several times the profiles there are.
const MAX_PROFILES: usize = 4_096;

#[derive(Default)]
pub(in crate::daemon) struct Catalogues {
    /// The one used last, by its version: neighbouring entries share it, and one at hand stays
    /// small with many tenants.
    last: Option<(i64, Arc<Catalogue>)>,
    /// Parsed, by their number in the checkpoint.
    profiles: HashMap<i64, Arc<Profile>>,
}

impl Catalogues {
    /// A version of a catalogue; that of an entry taken without one is empty.
    pub(in crate::daemon) fn get(
        &mut self,
        checkpoint: &Checkpoint,
        version: Option<i64>,
    ) -> Result<Arc<Catalogue>, CheckpointError> {
        let Some(version) = version else { return Ok(Arc::default()) };
        if let Some((known, catalogue)) = &self.last
            && *known == version
        {
            return Ok(catalogue.clone());
        }
        let members = checkpoint.catalogue(version)?;
        let mut slots = Vec::with_capacity(members.len());
        for member in members {
            if let Some(profile) = self.profile(checkpoint, member.profile)? {
                let decisions = wire::state_updates(&member.decisions);
                slots.push(ProfileSlot { key: member.profile.cast_unsigned(), profile, decisions });
            }
        }
        let catalogue = Arc::new(Catalogue::new(slots));
        self.last = Some((version, catalogue.clone()));
        Ok(catalogue)
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
