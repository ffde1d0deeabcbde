//! A simulated tenant for `demo`, tests and benchmarks: a token endpoint and both collections over
//! loopback HTTP.
//!
//! The simulation reproduces the properties of the API that clients often get wrong: `$top` is a
//! page size, nextLink is opaque, counts and switches are text, only the newest day has texts, some
//! controls have no profile and about half of the profiles have no score, and scores change over
//! time. All data is derived from hashes, so it is the same on every host. Start reading at
//! [`start`].

mod day;
mod profiles;
mod server;
mod simulated_load;

pub use server::{Simulation, start};

use crate::{
    model::{Catalog, Day, ProfileSlot},
    wire,
};

/// Whether a copy of a day has its texts and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Richness {
    /// With texts and counts, as the API returns the newest day.
    Rich,
    /// Without texts and counts, as the API returns every older day.
    Poor,
}

/// The `secureScore` of a day as JSON text.
pub fn snapshot_json(tenant: &str, day: Day, richness: Richness) -> String {
    day::snapshot(tenant, &controls(), day, richness).to_string()
}

/// The catalog: each `secureScoreControlProfile` as JSON text.
pub fn profiles_json(tenant: &str) -> Vec<String> {
    profiles::profiles(tenant, &controls()).iter().map(ToString::to_string).collect()
}

/// A control of the simulated tenant.
#[derive(Clone, Copy, Debug)]
struct Control {
    id: &'static str,
    service: &'static str,
    tier: &'static str,
    /// Whether the control has a score in the snapshots and is not only listed in the catalog.
    scored: bool,
    /// Whether the control is present only in every other period of 60 days, so that controls are
    /// added and removed within any 90 days.
    intermittent: bool,
}

/// IDs, services and tiers of real controls.
const CONTROLS: &str = include_str!("controls.txt");
/// The number of controls with a score.
const SCORED: usize = 232;
/// The number of controls with a score that are not always present.
const INTERMITTENT: usize = 4;

fn controls() -> Vec<Control> {
    let lines = CONTROLS.lines().filter(|line| !line.starts_with('#'));
    let mut controls: Vec<Control> = lines
        .filter_map(|line| {
            let mut fields = line.split('|');
            let (id, service, tier) = (fields.next()?, fields.next()?, fields.next()?);
            Some(Control { id, service, tier, scored: false, intermittent: false })
        })
        .collect();

    // Controls of Entra ID are sorted first, so that they have a score as in every tenant; the
    // order of the others is pseudorandom.
    controls.sort_by_key(|c| (c.service != "AzureAD", hash(&[c.id])));
    for (index, control) in controls.iter_mut().enumerate() {
        control.scored = index < SCORED;
        control.intermittent = (SCORED - INTERMITTENT..SCORED).contains(&index);
    }
    controls
}

impl Control {
    fn is_present(&self, day: Day) -> bool {
        let period = (i64::from(day.number())
            + i64::try_from(hash(&[self.id, "span"]) % 60).unwrap_or(0))
            / 60;
        !self.intermittent || (period + i64::from(hash(&[self.id]) & 1 == 0)) % 2 == 0
    }

    /// The highest possible score.
    fn max_score(&self) -> f64 {
        match self.id {
            "AdminMFAV2" => 10.0,
            "MFARegistrationV2" => 9.0,
            "BlockLegacyAuthentication" | "PWAgePolicyNew" => 8.0,
            "SigninRiskPolicy" | "UserRiskPolicy" => 7.0,
            "IntegratedApps" => 4.0,
            "SelfServicePasswordReset" | "OneAdmin" | "RoleOverlap" => 1.0,
            id => [1.0, 2.0, 3.0, 5.0, 5.0, 8.0, 9.0, 10.0][(hash(&[id, "max"]) % 8) as usize],
        }
    }

    fn category(&self) -> &'static str {
        match self.service {
            "AzureAD" | "Azure ATP" | "Admincenter" => "Identity",
            "MDATP" => "Device",
            "MIP" | "SPO" => "Data",
            _ => "Apps",
        }
    }
}

/// The catalog of the simulated tenant, parsed.
pub fn catalog(tenant: &str) -> Catalog {
    let slot = |(key, json): (u64, String)| {
        let parts = wire::split_profile(&json).ok()?;
        let profile = wire::profile(&parts.shared).ok()?.into();
        Some(ProfileSlot { key, profile, decisions: wire::state_updates(&parts.decisions) })
    };
    Catalog::new((0..).zip(profiles_json(tenant)).filter_map(slot).collect())
}

/// A hash (FNV-1a with a final mix) in place of a random number. The same words have the same hash
/// on every host and in every version.
fn hash(words: &[&str]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in words.join("\u{1f}").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    // The low bits of FNV are not well distributed.
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const TENANT: &str = "3f5c1d2e-0000-4000-8000-00000000c0de";

    fn scores(day: Day) -> BTreeMap<String, f64> {
        let json = snapshot_json(TENANT, day, Richness::Poor);
        let snapshot = wire::snapshot(&json).unwrap();
        snapshot.controls.iter().map(|c| (c.name.to_string(), c.score.unwrap().get())).collect()
    }

    #[test]
    fn scores_change_within_any_ninety_days() {
        for today in ["2026-11-22", "2027-03-01", "2030-12-31"] {
            let today = Day::parse(today).unwrap();
            let (mut up, mut down, mut added, mut removed) = (0, 0, 0, 0);

            for back in 0..89 {
                let (now, before) = (scores(today.plus(-back)), scores(today.plus(-back - 1)));
                assert!((225..=240).contains(&now.len()));
                added += now.keys().filter(|name| !before.contains_key(*name)).count();
                removed += before.keys().filter(|name| !now.contains_key(*name)).count();

                let both = now.iter().filter_map(|(name, score)| Some((score, before.get(name)?)));
                for (now, before) in both {
                    up += u32::from(now > before);
                    down += u32::from(now < before);
                }
            }

            assert!(
                up > 5 && down > 5 && added > 0 && removed > 0,
                "{up} {down} {added} {removed}"
            );
        }
    }

    #[test]
    fn catalog_and_scores_differ() {
        let listed: BTreeSet<String> = profiles_json(TENANT)
            .iter()
            .map(|json| wire::split_profile(json).unwrap().id)
            .collect();
        assert!((430..=460).contains(&listed.len()), "{}", listed.len());

        let scored = scores(Day::parse("2026-11-22").unwrap());
        assert!(scored.keys().any(|name| !listed.contains(name)), "scored without a profile");
    }

    #[test]
    fn only_the_newest_day_has_texts() {
        let day = Day::parse("2026-11-22").unwrap();
        let [rich, poor] =
            [Richness::Rich, Richness::Poor].map(|richness| snapshot_json(TENANT, day, richness));
        assert!(
            wire::snapshot(&rich).unwrap().is_rich() && !wire::snapshot(&poor).unwrap().is_rich()
        );
        assert!(rich.len() > 120_000, "{}", rich.len());
        assert!(rich.contains("\"count\":\"") && rich.contains("\"on\":\""));
    }
}
