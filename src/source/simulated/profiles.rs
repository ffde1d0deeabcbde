//! The catalog of the simulated tenant. Its profiles have the fields of Microsoft's responses.

use serde_json::{Value, json};

use super::{Control, hash};

/// One in this many controls has no profile; real tenants have such controls too.
const WITHOUT_PROFILE: u64 = 97;

/// The catalog: one `secureScoreControlProfile` per control that has a profile.
pub(super) fn profiles(tenant: &str, controls: &[Control]) -> Vec<Value> {
    controls
        .iter()
        .filter(|c| !hash(&[c.id, "profile"]).is_multiple_of(WITHOUT_PROFILE))
        .map(|c| profile(tenant, c))
        .collect()
}

fn profile(tenant: &str, control: &Control) -> Value {
    let pick = |what: &str, from: &[&'static str]| {
        let index = usize::try_from(hash(&[control.id, what]) >> 32).unwrap_or(0);
        from[index % from.len()]
    };

    json!({
        "actionType": pick("action", &["Config", "Config", "Review", "Behavior"]),
        "actionUrl": format!("https://security.microsoft.com/securescore?viewid=actions&actionid={}", control.id),
        "azureTenantId": tenant,
        "complianceInformation": [],
        "controlCategory": control.category(),
        "controlStateUpdates": [decision(tenant, control)],
        "deprecated": hash(&[control.id, "deprecated"]).is_multiple_of(60),
        "id": control.id,
        "implementationCost": pick("cost", &["Unknown", "low", "Moderate", "High"]),
        "lastModifiedDateTime": null,
        "maxScore": control.max_score(),
        "rank": 10,
        "remediation": remediation(control),
        "remediationImpact": "<p>Users who rely on the old setting will have to <em>sign in again</em>.</p>",
        "service": control.service,
        "threats": [pick("threat", &["Account breach", "Data Exfiltration", "Elevation of Privilege", "Password Cracking"]), "Malicious Insider"],
        "tier": control.tier,
        "title": title(control),
        "userImpact": pick("impact", &["Unknown", "Low", "Moderate", "High"]),
        "vendorInformation": { "provider": "SecureScore", "providerVersion": null, "subProvider": null, "vendor": "Microsoft" }
    })
}

fn decision(tenant: &str, control: &Control) -> Value {
    match hash(&[tenant, control.id, "decision"]) % 40 {
        0 => {
            json!({ "assignedTo": "it-operations@contoso.example", "comment": "Accepted until the old ERP is gone", "state": "Ignored",
                     "updatedBy": "ciso@contoso.example", "updatedDateTime": "2026-03-02T09:30:00Z" })
        }
        1 => {
            json!({ "assignedTo": null, "comment": "Covered by the endpoint product of another vendor", "state": "ThirdParty",
                     "updatedBy": "secops@contoso.example", "updatedDateTime": "2026-05-18T14:05:00Z" })
        }
        _ => {
            json!({ "assignedTo": null, "comment": null, "state": "Default", "updatedBy": null, "updatedDateTime": null })
        }
    }
}

/// The title of a control: the real one if it is known here, otherwise the words of the ID.
fn title(control: &Control) -> String {
    let known = match control.id {
        "AdminMFAV2" => "Require MFA for administrative roles",
        "MFARegistrationV2" => "Ensure all users can complete MFA",
        "BlockLegacyAuthentication" => "Block legacy authentication",
        "OneAdmin" => "Have more than one administrator",
        _ => "",
    };
    if !known.is_empty() {
        return known.to_owned();
    }

    let mut words = String::new();
    for c in control.id.chars() {
        let is_boundary =
            c.is_uppercase() && !words.ends_with(|last: char| last.is_uppercase() || last == ' ');
        if is_boundary && !words.is_empty() {
            words.push(' ');
        }
        words.push(if matches!(c, '_' | '.') { ' ' } else { c });
    }
    format!("Review {words}")
}

fn remediation(control: &Control) -> String {
    let steps = 3 + hash(&[control.id, "steps"]) % 5;
    let item = |step: u64| {
        format!(
            "<li>Open <em>{}</em> in the admin center &gt; <em>Settings</em>&nbsp;and check point {step} of the policy.</li>",
            control.service
        )
    };
    format!(
        "<p>To implement this recommendation:</p> <ol> {} </ol>",
        (1..=steps).map(item).collect::<Vec<_>>().join(" ")
    )
}
