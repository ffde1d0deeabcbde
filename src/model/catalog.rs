//! The catalog: all profiles of a tenant, with the tenant's decisions.

use std::{collections::HashMap, sync::Arc};

use super::Number;

/// Microsoft's description of a control (`secureScoreControlProfile`). It is the same for every
/// tenant that has the control.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    pub id: String,
    pub title: Option<String>,
    pub category: Option<String>,
    /// The product that the control belongs to, such as `AzureAD` or `MS Teams`.
    pub service: Option<String>,
    pub tier: Option<String>,
    /// The maximum number of points.
    pub max_score: Option<Number>,
    pub rank: Option<Number>,
    pub user_impact: Option<String>,
    pub implementation_cost: Option<String>,
    pub threats: Vec<String>,
    pub action_type: Option<String>,
    /// Where the control is configured. It is not always an HTTP URL.
    pub action_url: Option<String>,
    pub deprecated: Option<bool>,
    /// HTML, like `remediation_impact`.
    pub remediation: Option<String>,
    pub remediation_impact: Option<String>,
    /// Undocumented fields: the key, and the value as JSON text.
    pub additional: Vec<(String, String)>,
}

/// One decision of the tenant on a control: an entry of `controlStateUpdates`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateUpdate {
    /// `Default`, `Ignored` (the risk is accepted), `ThirdParty` (points are claimed for another
    /// product), or `Reviewed`.
    pub state: Option<String>,
    pub assigned_to: Option<String>,
    pub comment: Option<String>,
    pub updated_by: Option<String>,
    /// The time of the decision as RFC 3339 in UTC.
    pub updated: Option<String>,
}

/// A profile and the decisions on it, as a catalog contains them.
#[derive(Clone, Debug)]
pub struct ProfileSlot {
    /// Identifies the content of the profile in all catalogs. A formatter caches rendered profiles
    /// by this key.
    pub key: u64,
    pub profile: Arc<Profile>,
    pub decisions: Vec<StateUpdate>,
}

impl ProfileSlot {
    /// The decision in force, which is the newest one. Microsoft does not guarantee the order of
    /// the list. All times are RFC 3339 in UTC, so they sort chronologically as text.
    pub fn decision(&self) -> Option<&StateUpdate> {
        self.decisions.iter().max_by(|a, b| a.updated.cmp(&b.updated))
    }
}

/// One version of a tenant's catalog.
#[derive(Debug, Default)]
pub struct Catalog {
    slots: Vec<ProfileSlot>,
    by_id: HashMap<String, usize>,
    by_folded_id: HashMap<String, usize>,
}

impl Catalog {
    /// Builds a catalog. If an ID occurs twice, [`Self::find`] returns the first profile.
    pub fn new(slots: Vec<ProfileSlot>) -> Self {
        let mut catalog = Self { slots, ..Self::default() };

        for (slot, ProfileSlot { profile, .. }) in catalog.slots.iter().enumerate() {
            catalog.by_folded_id.entry(profile.id.to_ascii_lowercase()).or_insert(slot);
            catalog.by_id.entry(profile.id.clone()).or_insert(slot);
        }

        catalog
    }

    /// The profile of a control: the one with exactly this ID, otherwise one whose ID differs only
    /// in case.
    pub fn find(&self, control: &str) -> Option<&ProfileSlot> {
        let exact = self.by_id.get(control);
        let slot = exact.or_else(|| self.by_folded_id.get(&control.to_ascii_lowercase()))?;
        self.slots.get(*slot)
    }

    pub fn slots(&self) -> &[ProfileSlot] {
        &self.slots
    }

    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn update(state: &str, updated: Option<&str>) -> StateUpdate {
        StateUpdate {
            state: Some(state.into()),
            updated: updated.map(Into::into),
            ..StateUpdate::default()
        }
    }

    #[test]
    fn the_newest_decision_is_in_force() {
        let decisions = vec![
            update("Ignored", Some("2026-03-02T10:00:00Z")),
            update("Default", None),
            update("ThirdParty", Some("2026-01-02T10:00:00Z")),
        ];
        let slot = ProfileSlot { key: 0, profile: Arc::default(), decisions };
        assert_eq!(slot.decision().unwrap().state.as_deref(), Some("Ignored"));
    }

    #[test]
    fn prefers_exact_ids_to_folded_case() {
        let named = |key: u64, id: &str| ProfileSlot {
            key,
            profile: Arc::new(Profile { id: id.into(), ..Profile::default() }),
            decisions: vec![],
        };
        let catalog = Catalog::new(vec![named(0, "adminMFAV2"), named(1, "AdminMFAV2")]);
        assert_eq!(catalog.find("AdminMFAV2").unwrap().key, 1);
        assert_eq!(catalog.find("ADMINMFAV2").unwrap().key, 0);
        assert!(catalog.find("OneAdmin").is_none());
    }
}
