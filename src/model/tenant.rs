//! Tenants: their ID, and their name and labels in records. Code identifies a tenant only by its
//! [`TenantId`]; the name is only displayed, and can change with a reload.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The GUID of a Microsoft Entra tenant. It is the only key under which data of a tenant is stored.
/// In JSON, it is a string in the hyphenated form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(Uuid);

/// The error for a text that is not a tenant GUID.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a tenant GUID")]
pub struct TenantIdError(String);

impl TenantId {
    /// The tenant of test records. It is not the ID of a real tenant.
    pub const TEST: Self = Self(Uuid::nil());

    /// Parses the hyphenated form, in upper or lower case.
    ///
    /// # Errors
    ///
    /// Fails for any other text, which the error contains.
    pub fn parse(text: &str) -> Result<Self, TenantIdError> {
        // `Uuid` also parses braces, URNs and 32 digits, which Microsoft does not use.
        let parsed = if text.len() == 36 { Uuid::try_parse(text).ok() } else { None };
        parsed.map(Self).ok_or_else(|| TenantIdError(text.to_owned()))
    }

    /// The GUID in data of Microsoft, in any of its usual forms: with or without hyphens, in braces
    /// or parentheses, as a URN (RFC 9562, section 4), and with spaces around it. `None` if the
    /// text is not a GUID.
    pub fn parse_any_form(text: &str) -> Option<Self> {
        const URN: &str = "urn:uuid:";
        let text = text.trim();
        let text = match text.split_at_checked(URN.len()) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case(URN) => rest,
            _ => text,
        };

        let within = |open: char, close: char| text.strip_prefix(open)?.strip_suffix(close);
        let guid = within('{', '}').or_else(|| within('(', ')')).unwrap_or(text);
        let parsed = if matches!(guid.len(), 32 | 36) { Uuid::try_parse(guid).ok() } else { None };
        parsed.map(Self)
    }

    /// The 16 bytes of the GUID. The schedule uses them to spread the polls of tenants over time.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl TryFrom<String> for TenantId {
    type Error = TenantIdError;

    fn try_from(text: String) -> Result<Self, TenantIdError> {
        Self::parse(&text)
    }
}

impl From<TenantId> for String {
    fn from(id: TenantId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A tenant as it appears in records. The operator configures the name and the labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// The ID, which never changes.
    pub id: TenantId,
    /// The name in the configuration, which is unique.
    pub name: String,
    /// The labels from the configuration, by name.
    pub labels: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_only_hyphenated_guids() {
        let id = TenantId::parse("3F5C1D2E-0000-4000-8000-00000000C0DE").unwrap();
        assert_eq!(id.to_string(), "3f5c1d2e-0000-4000-8000-00000000c0de");
        for text in
            ["NA", "", "{3f5c1d2e-0000-4000-8000-00000000c0de}", "3f5c1d2e00004000800000000000c0de"]
        {
            assert!(TenantId::parse(text).is_err(), "{text}");
        }
    }

    /// Regression: a snapshot whose `azureTenantId` had no hyphens, or was a URN, was one of
    /// another tenant.
    #[test]
    fn a_guid_in_data_may_have_any_form() {
        const GUID: &str = "3f5c1d2e-0000-4000-8000-00000000c0de";
        let id = TenantId::parse(GUID).ok();
        let digits = GUID.replace('-', "");
        for form in [
            GUID.to_owned(),
            GUID.to_uppercase(),
            digits.clone(),
            format!(" {{{GUID}}} "),
            format!("{{{digits}}}"),
            format!("({GUID})"),
            format!("urn:uuid:{GUID}"),
            format!("URN:UUID:{}", GUID.to_uppercase()),
        ] {
            assert_eq!(TenantId::parse_any_form(&form), id, "{form}");
        }

        for other in ["NA", "", "{}", "{", "urn:uuid:", &digits[1..], "\u{e4}"] {
            assert_eq!(TenantId::parse_any_form(other), None, "{other}");
        }
        for broken in [format!("{{{GUID}"), format!("{GUID}0"), format!("{{{{{GUID}}}}}")] {
            assert_eq!(TenantId::parse_any_form(&broken), None, "{broken}");
        }
    }
}
