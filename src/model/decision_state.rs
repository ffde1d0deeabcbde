//! The documented states of a decision. Microsoft's documentation spells them as here, and its API
//! also accepts and returns other cases, such as `thirdParty`. Code must not compare the text of a
//! state itself; start reading at [`DecisionState::parse`].

/// The documented values of `state` in an entry of `controlStateUpdates`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecisionState {
    /// No decision, or one that was withdrawn.
    Default,
    /// The risk is accepted.
    Ignored,
    /// Points are claimed for another product.
    ThirdParty,
    /// The control was reviewed.
    Reviewed,
}

impl DecisionState {
    /// All documented states.
    pub const ALL: [Self; 4] = [Self::Default, Self::Ignored, Self::ThirdParty, Self::Reviewed];

    /// The state with this name in any case; `None` for a state that is not documented.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        Self::ALL.into_iter().find(|state| state.as_str().eq_ignore_ascii_case(text))
    }

    /// The documented name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Default => "Default",
            Self::Ignored => "Ignored",
            Self::ThirdParty => "ThirdParty",
            Self::Reviewed => "Reviewed",
        }
    }

    /// The documented spelling of a state, or the text itself if it is not documented. Event IDs
    /// are computed from it, so that they do not depend on the case.
    pub fn spelled(text: &str) -> &str {
        Self::parse(text).map_or(text, |state| state.as_str())
    }

    /// Whether the state accepts a risk or claims points for another product.
    pub const fn accepts_risk(self) -> bool {
        matches!(self, Self::Ignored | Self::ThirdParty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_equal_in_any_case() {
        for (text, state) in [
            ("Ignored", Some(DecisionState::Ignored)),
            ("ignored", Some(DecisionState::Ignored)),
            ("thirdParty", Some(DecisionState::ThirdParty)),
            ("THIRDPARTY ", Some(DecisionState::ThirdParty)),
            ("reviewed", Some(DecisionState::Reviewed)),
            ("default", Some(DecisionState::Default)),
            ("Planned", None),
            ("", None),
        ] {
            assert_eq!(DecisionState::parse(text), state, "{text}");
        }
        assert_eq!(DecisionState::spelled("thirdparty"), "ThirdParty");
        assert_eq!(DecisionState::spelled("Planned"), "Planned");
    }

    #[test]
    fn only_two_states_accept_a_risk() {
        let accepting = DecisionState::ALL.into_iter().filter(|state| state.accepts_risk());
        let names: Vec<_> = accepting.map(DecisionState::as_str).collect();
        assert_eq!(names, ["Ignored", "ThirdParty"]);
    }
}
