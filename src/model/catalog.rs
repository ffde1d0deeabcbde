//! The catalog: all profiles of a tenant, with the tenant's decisions. Profiles are shared between
//! tenants and versions, so they are reference-counted and never changed. Start reading at
//! [`Catalog::find`].

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use jiff::Timestamp;

use super::{DecisionState, Number};

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

impl StateUpdate {
    /// The state; `None` if it is absent or not a documented one.
    pub fn known_state(&self) -> Option<DecisionState> {
        self.state.as_deref().and_then(DecisionState::parse)
    }

    /// Whether two entries for one control are the same decision, in any case of the state and of
    /// the person. The comment and the assignee are not compared.
    pub fn is_same_decision(&self, other: &Self) -> bool {
        let same = |a: &Option<String>, b: &Option<String>| {
            let (a, b) = (a.as_deref().unwrap_or_default(), b.as_deref().unwrap_or_default());
            a.eq_ignore_ascii_case(b)
        };
        same(&self.state, &other.state)
            && same(&self.updated_by, &other.updated_by)
            && self.by_time(other).is_eq()
    }

    /// The order of the times of two decisions; one without a time is the earliest.
    pub fn by_time(&self, other: &Self) -> Ordering {
        let (Some(a), Some(b)) = (&self.updated, &other.updated) else {
            return self.updated.cmp(&other.updated);
        };

        // Times of one form, in UTC, are in the order of their text. Fractions of a second and
        // offsets are not.
        if a.len() == b.len() && a.ends_with('Z') && b.ends_with('Z') {
            return a.cmp(b);
        }
        match (a.parse::<Timestamp>(), b.parse::<Timestamp>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            _ => a.cmp(b),
        }
    }

    /// The order of two decisions in time. Two different decisions are never equal, so that the
    /// newest one does not depend on the order in which Microsoft lists them.
    pub fn in_time(&self, other: &Self) -> Ordering {
        self.by_time(other).then_with(|| self.texts().cmp(&other.texts()))
    }

    fn texts(&self) -> [Option<&str>; 5] {
        let Self { state, assigned_to, comment, updated_by, updated } = self;
        [state, updated_by, comment, assigned_to, updated].map(Option::as_deref)
    }
}

impl ProfileSlot {
    /// The decision in force, which is the newest one. Microsoft does not guarantee the order of
    /// the list.
    pub fn decision(&self) -> Option<&StateUpdate> {
        self.decisions.iter().max_by(|a, b| a.in_time(b))
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
    fn decisions_at_one_time_have_an_order() {
        let time = Some("2026-03-02T10:00:00Z");
        let mut decisions = vec![update("ThirdParty", time), update("Ignored", time)];
        let in_force = |decisions: Vec<StateUpdate>| {
            let slot = ProfileSlot { key: 0, profile: Arc::default(), decisions };
            slot.decision().cloned()
        };
        let first = in_force(decisions.clone());
        decisions.reverse();
        assert_eq!(in_force(decisions), first);
    }

    #[test]
    fn times_of_different_forms_are_compared() {
        for (earlier, later) in [
            ("2026-03-02T10:00:00Z", "2026-03-02T10:00:00.5Z"),
            ("2026-03-02T10:00:00.5Z", "2026-03-02T10:00:01Z"),
            ("2026-03-02T12:00:00+02:00", "2026-03-02T10:00:01Z"),
            ("2026-03-02T12:00:00+02:00", "2026-03-02T11:00:00+00:00"),
        ] {
            let of = |time: &str| update("Ignored", Some(time));
            let (earlier, later) = (of(earlier), of(later));
            assert_eq!(earlier.by_time(&later), Ordering::Less, "{earlier:?}");
            assert_eq!(later.by_time(&earlier), Ordering::Greater, "{earlier:?}");
        }
    }

    #[test]
    fn a_decision_is_the_same_in_any_case() {
        let of = |state: &str, by: &str, time: &str| StateUpdate {
            updated_by: Some(by.to_owned()),
            ..update(state, Some(time))
        };
        let decision = of("Ignored", "anna@contoso.example", "2026-03-02T10:00:00Z");
        let spelled = of("ignored", "Anna@Contoso.example", "2026-03-02T10:00:00.000Z");
        assert!(decision.is_same_decision(&spelled));
        for other in [
            of("Reviewed", "anna@contoso.example", "2026-03-02T10:00:00Z"),
            of("Ignored", "ben@contoso.example", "2026-03-02T10:00:00Z"),
            of("Ignored", "anna@contoso.example", "2026-03-02T10:00:01Z"),
        ] {
            assert!(!decision.is_same_decision(&other), "{other:?}");
        }
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
