//! The catalog: all profiles of a tenant, with the tenant's decisions. Profiles are shared between
//! tenants and versions, so they are reference-counted and never changed. Start reading at
//! [`Catalog::find`].

use std::{collections::HashMap, sync::Arc};

use super::Number;

/// Microsoft's description of a control (`secureScoreControlProfile`). It is the same for every
/// tenant that has the control.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// The ID of the control, such as `AdminMFAV2`.
    pub id: String,
    /// Microsoft's English title.
    pub title: Option<String>,
    /// The category, such as `Identity` or `Apps`.
    pub category: Option<String>,
    /// The product that the control belongs to, such as `AzureAD` or `MS Teams`.
    pub service: Option<String>,
    /// `Core`, `Defense in Depth` or `Advanced`.
    pub tier: Option<String>,
    /// The maximum number of points.
    pub max_score: Option<Number>,
    /// Microsoft's rank of the control among all controls.
    pub rank: Option<Number>,
    /// Microsoft's estimate of the impact on users: `Low`, `Moderate`, `High` or `Unknown`.
    pub user_impact: Option<String>,
    /// Microsoft's estimate of the cost: `Low` or `low`, `Moderate`, `High` or `Unknown`.
    pub implementation_cost: Option<String>,
    /// The threats that the control mitigates, such as `Account breach`.
    pub threats: Vec<String>,
    /// How the score is obtained, such as `Config`, `Review` or `ProviderGenerated`.
    pub action_type: Option<String>,
    /// Where the control is configured. It is not always an HTTP URL.
    pub action_url: Option<String>,
    /// Whether Microsoft has deprecated the control.
    pub deprecated: Option<bool>,
    /// How to obtain the maximum score, as HTML.
    pub remediation: Option<String>,
    /// How the remediation affects users, as HTML.
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
    /// The person to whom the control is assigned.
    pub assigned_to: Option<String>,
    /// The text that the person entered; it is untrusted.
    pub comment: Option<String>,
    /// The person who made the decision.
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
    /// All decisions, in the order that Microsoft sent; see [`Self::decision`].
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
    /// in case. `None` if there is none.
    pub fn find(&self, control: &str) -> Option<&ProfileSlot> {
        let exact = self.by_id.get(control);
        let slot = exact.or_else(|| self.by_folded_id.get(&control.to_ascii_lowercase()))?;
        self.slots.get(*slot)
    }

    /// All profiles, in the order that they were passed to [`Self::new`].
    pub fn slots(&self) -> &[ProfileSlot] {
        &self.slots
    }

    /// The number of profiles.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether the catalog has no profile, for example because it has never been read.
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
