//! The snapshots of the simulated tenant. They have the form of Microsoft's responses, including
//! its irregularities: missing texts in older days, and numbers as text.

use serde_json::{Map, Value, json};

use super::{Control, Richness, hash};
use crate::model::Day;

/// The degree to which a control is implemented on a day.
struct Level {
    /// The number of objects that meet the control.
    count: u64,
    /// The number of objects in scope.
    total: u64,
    score: f64,
    percentage: f64,
}

/// The `secureScore` of a day.
pub(super) fn snapshot(tenant: &str, controls: &[Control], day: Day, richness: Richness) -> Value {
    let present: Vec<&Control> =
        controls.iter().filter(|c| c.scored && c.is_present(day)).collect();
    let mut scores: Vec<Value> = Vec::with_capacity(present.len());
    let (mut current, mut max) = (0.0, 0.0);

    for control in present {
        let level = level(tenant, control, day);
        current += level.score;
        max += control.max_score();
        scores.push(score(control, &level, day, richness));
    }

    json!({
        "activeUserCount": 180 + hash(&[tenant, &day.to_string(), "users"]) % 20,
        "averageComparativeScores": averages(day),
        "azureTenantId": tenant,
        "controlScores": scores,
        "createdDateTime": format!("{day}T00:00:00Z"),
        "currentScore": round(current),
        "enabledServices": ["HasAADP1", "HasAADP2", "HasEXOP2", "HasMDEP2", "HasSPOP1", "HasEOP"],
        "id": format!("{tenant}_{day}"),
        "licensedUserCount": 250,
        "maxScore": round(max),
        "vendorInformation": { "provider": "SecureScore", "providerVersion": null, "subProvider": null, "vendor": "Microsoft" }
    })
}

fn score(control: &Control, level: &Level, day: Day, richness: Richness) -> Value {
    let Level { count, total, .. } = *level;
    let is_rich = richness == Richness::Rich;
    let mut score = Map::new();

    score.insert("controlCategory".into(), control.category().into());
    score.insert("controlName".into(), control.id.into());
    let description = is_rich.then(|| description(control));
    score.insert("description".into(), description.into());

    // In a poor copy, the numbers in the sentence are 0.
    let (unmet, objects) = if is_rich { (total - count, total) } else { (0, 0) };
    let status =
        format!("You have {unmet} of {objects} objects that don’t meet this recommendation.");
    score.insert("implementationStatus".into(), status.into());
    score.insert("score".into(), json!(level.score));
    score.insert("scoreInPercentage".into(), json!(level.percentage));

    if is_rich {
        score.insert("lastSynced".into(), format!("{}T13:04:06Z", day.plus(-2)).into());
        if control.service == "MDATP" {
            score.insert("IsApplicable".into(), "true".into());
        }
        if total == 1 {
            score.insert("on".into(), (if count == 1 { "true" } else { "false" }).into());
        } else {
            score.insert("count".into(), count.to_string().into());
            score.insert("total".into(), total.to_string().into());
        }
    }

    Value::Object(score)
}

/// The level is mostly constant; in any period of 45 days, about one control in six changes.
fn level(tenant: &str, control: &Control, day: Day) -> Level {
    let offset = i32::try_from(hash(&[tenant, control.id, "offset"]) % 45).unwrap_or(0);
    let period = ((day.number() + offset) / 45).to_string();
    let has_changed = hash(&[tenant, control.id, &period, "moved"]).is_multiple_of(6);
    let seed = if has_changed {
        hash(&[tenant, control.id, &period])
    } else {
        hash(&[tenant, control.id])
    };

    let total = if hash(&[control.id, "switch"]).is_multiple_of(4) {
        1
    } else {
        20 + hash(&[tenant, control.id, "total"]) % 200
    };
    let count = match seed % 5 {
        0 | 1 => total,
        2 => 0,
        _ => seed / 7 % (total + 1),
    };

    #[expect(clippy::cast_precision_loss, reason = "a few hundred at most")]
    let share = count as f64 / total as f64;
    Level {
        count,
        total,
        score: round(control.max_score() * share),
        percentage: round(share * 100.0),
    }
}

fn averages(day: Day) -> Value {
    let drift = f64::from(day.number() % 7) / 100.0;
    json!([
        { "basis": "AllTenants", "averageScore": round(46.2 + drift), "appsScore": 45.81, "appsScoreMax": 120.83,
          "dataScore": 0.37, "dataScoreMax": 5.15, "deviceScore": 20.67, "deviceScoreMax": 35.04, "identityScore": 41.21,
          "identityScoreMax": 61.88, "infrastructureScore": 0.0, "infrastructureScoreMax": 0.0 },
        { "basis": "TotalSeats", "averageScore": round(48.1 + drift), "SeatSizeRangeLowerValue": "101", "SeatSizeRangeUpperValue": "500",
          "appsScore": 53.64, "appsScoreMax": 146.11, "dataScore": 0.36, "dataScoreMax": 6.26, "deviceScore": 16.59,
          "deviceScoreMax": 28.5, "identityScore": 40.39, "identityScoreMax": 61.22, "infrastructureScore": 0.0, "infrastructureScoreMax": 0.0 }
    ])
}

fn description(control: &Control) -> String {
    let reason = [
        "Attackers check for this weakness first, because a single request finds it and it exposes every resource that the account can access.",
        "If the setting keeps its default, an intruder who controls one machine can move to other machines without being detected for weeks.",
        "The measure has a low impact on users, and closes a path by which data has been stolen from organizations of this size in recent years.",
    ];

    format!(
        "This control checks {} in {}. {} It is met when every object in its scope has the recommended setting &amp; keeps it.",
        control.id,
        control.service,
        reason[(hash(&[control.id, "why"]) % 3) as usize]
    )
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
