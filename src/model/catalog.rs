//! All of a tenant's profiles, with the tenant's own decisions.

use std::{collections::HashMap, sync::Arc};

use super::Number;

/// The description of a control. The same for every tenant that has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    pub id: String,
    pub title: Option<String>,
    pub category: Option<String>,
    /// The owning product, e.g. `AzureAD`, `MS Teams`.
    pub service: Option<String>,
    pub tier: Option<String>,
    /// Points attainable.
    pub max_score: Option<Number>,
    pub rank: Option<Number>,
    pub user_impact: Option<String>,
    pub implementation_cost: Option<String>,
    pub threats: Vec<String>,
    pub action_type: Option<String>,
    /// May not be an http URL.
    pub action_url: Option<String>,
    pub deprecated: Option<bool>,
    /// HTML.
    pub remediation: Option<String>,
    pub remediation_impact: Option<String>,
    /// Fields that no documentation names: key, value as JSON text.
    pub additional: Vec<(String, String)>,
}

/// One decision of the tenant on a control.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateUpdate {
    /// `Default`, `Ignored` (risk accepted), `ThirdParty` (points without evidence), `Reviewed`.
    pub state: Option<String>,
    pub assigned_to: Option<String>,
    pub comment: Option<String>,
    pub updated_by: Option<String>,
    pub updated: Option<String>,
}

/// A profile and the decisions taken on it. `key` stands for the profile's content, whichever
/// catalog it is in: a formatter keeps by it what it has already rendered.
#[derive(Clone, Debug)]
pub struct ProfileSlot {
    pub key: u64,
    pub profile: Arc<Profile>,
    pub decisions: Vec<StateUpdate>,
}

impl ProfileSlot {
    /// The decision in force: the one with the greatest time, for the order of the list is not
    /// promised. The times are RFC 3339 in UTC, so text order is time order.
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
    pub fn new(slots: Vec<ProfileSlot>) -> Self {
        let mut catalog = Self { slots, ..Self::default() };
        for (slot, ProfileSlot { profile, .. }) in catalog.slots.iter().enumerate() {
            catalog.by_folded_id.entry(profile.id.to_ascii_lowercase()).or_insert(slot);
            catalog.by_id.entry(profile.id.clone()).or_insert(slot);
        }
        catalog
    }

    /// The profile of a control: by its exact id, else whatever its case.
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
    fn the_newest_decision_is_in_force_whatever_the_order() {
        let decisions = vec![
            update("Ignored", Some("2026-03-02T10:00:00Z")),
            update("Default", None),
            update("ThirdParty", Some("2026-01-02T10:00:00Z")),
        ];
        let slot = ProfileSlot { key: 0, profile: Arc::default(), decisions };
        assert_eq!(slot.decision().unwrap().state.as_deref(), Some("Ignored"));
    }

    #[test]
    fn finds_exactly_before_it_folds_case() {
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
