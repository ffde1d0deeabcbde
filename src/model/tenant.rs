//! Whose score it is.

use std::{collections::BTreeMap, fmt};

use uuid::Uuid;

/// The GUID of a Microsoft Entra tenant: the only key by which anything of it is kept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(Uuid);

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a tenant GUID")]
pub struct TenantIdError(String);

impl TenantId {
    /// No tenant of Microsoft's: what test records speak of.
    pub const TEST: Self = Self(Uuid::nil());

    pub fn parse(text: &str) -> Result<Self, TenantIdError> {
        // Only the hyphenated form: braces and URNs are somebody else's notation.
        let parsed = if text.len() == 36 { Uuid::try_parse(text).ok() } else { None };
        parsed.map(Self).ok_or_else(|| TenantIdError(text.to_owned()))
    }

    /// Sixteen bytes that look random and never change, to spread tenants over time.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
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

/// A tenant as every record names it. The name and the labels are the operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    pub id: TenantId,
    pub name: String,
    pub labels: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hyphenated_form_is_a_guid() {
        let id = TenantId::parse("3F5C1D2E-0000-4000-8000-00000000C0DE").unwrap();
        assert_eq!(id.to_string(), "3f5c1d2e-0000-4000-8000-00000000c0de");
        for text in
            ["NA", "", "{3f5c1d2e-0000-4000-8000-00000000c0de}", "3f5c1d2e00004000800000000000c0de"]
        {
            assert!(TenantId::parse(text).is_err(), "{text}");
        }
    }
}
