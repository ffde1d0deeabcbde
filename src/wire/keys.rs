//! The keys that the decoders know. If an object has too many fields, these are kept and unknown
//! ones are removed, so a key that a decoder gains must be added here.

/// The keys of a snapshot, without unknown ones.
pub(super) const SNAPSHOT_KEYS: &[&str] = &[
    "id",
    "azureTenantId",
    "tenantId",
    "createdDateTime",
    "createdDate",
    "currentScore",
    "secureScore",
    "maxScore",
    "maxSecureScore",
    "averageSecureScore",
    "activeUserCount",
    "licensedUserCount",
    "enabledServices",
    "averageComparativeScores",
    "controlScores",
    "vendorInformation",
];
/// The keys of a control of a snapshot.
pub(super) const CONTROL_KEYS: &[&str] = &[
    "controlName",
    "referenceId",
    "controlCategory",
    "description",
    "score",
    "maxScore",
    "controlDetails",
    "scoreInPercentage",
    "implementationStatus",
    "lastSynced",
    "count",
    "total",
    "on",
];
/// The keys of an average.
pub(super) const AVERAGE_KEYS: &[&str] = &["basis", "scope", "averageScore"];
/// The keys of a control profile whose values are texts.
pub(super) const PROFILE_TEXT_KEYS: &[&str] = &[
    "title",
    "controlCategory",
    "service",
    "tier",
    "userImpact",
    "implementationCost",
    "actionType",
    "actionUrl",
    "remediation",
    "remediationImpact",
];
/// The keys of a control profile whose values have other types.
const OTHER_PROFILE_KEYS: &[&str] = &[
    "id",
    "azureTenantId",
    "maxScore",
    "rank",
    "deprecated",
    "threats",
    "complianceInformation",
    "vendorInformation",
    "controlStateUpdates",
];

/// The keys of a control profile.
pub(super) fn profile_keys() -> Vec<&'static str> {
    [PROFILE_TEXT_KEYS, OTHER_PROFILE_KEYS].concat()
}
