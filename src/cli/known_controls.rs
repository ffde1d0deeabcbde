//! The controls that the checkpoint knows: those of the newest day and the newest catalog of every
//! tenant. `check` compares the patterns of the configuration with them, because a pattern that
//! matches nothing is probably misspelled. This module must never send a request to Microsoft: it
//! uses only what polls have stored. Start reading at [`KnownControls::read`].

use std::collections::{BTreeSet, HashSet};

use crate::{
    checkpoint::{CatalogVersion, Checkpoint, CheckpointError, ProfileId},
    config::{ControlAttribute, ControlPattern},
    error::Explanation,
    model::{Seq, Tenant},
    settings::Fault,
    text::nearest,
    wire,
};

/// The attributes of all known controls.
#[derive(Debug, Default)]
pub(super) struct KnownControls {
    ids: BTreeSet<String>,
    services: BTreeSet<String>,
    categories: BTreeSet<String>,
    /// The catalog versions and profiles that were read; tenants share most of them.
    versions: HashSet<CatalogVersion>,
    profiles: HashSet<ProfileId>,
}

impl KnownControls {
    /// Reads the controls of these tenants. Fails if the checkpoint cannot be read.
    pub(super) fn read(
        checkpoint: &Checkpoint,
        tenants: &[Tenant],
    ) -> Result<Self, CheckpointError> {
        let mut known = Self::default();
        for tenant in tenants {
            let Some(newest) = checkpoint.newest_day(tenant.id)? else { continue };
            for entry in checkpoint.past_entries(tenant.id, newest, Seq::ZERO)? {
                let names = entry.facts.controls.iter().map(|control| control.name.to_string());
                known.ids.extend(names);
                if let Some(version) = entry.catalog {
                    known.add_catalog(checkpoint, version)?;
                }
            }
        }
        Ok(known)
    }

    /// One warning per pattern that matches no known control. Without known values of an attribute,
    /// for example before the first poll, its patterns are not compared.
    pub(super) fn unmatched(&self, patterns: &[ControlPattern]) -> Vec<Fault> {
        let warnings = patterns.iter().filter_map(|pattern| {
            let known = self.values(pattern.attribute);
            if known.is_empty() || known.iter().any(|value| pattern.glob.matches(value)) {
                return None;
            }

            let what = pattern.attribute.as_str();
            let message =
                format!("`{}` in `{}` matches no known {what}", pattern.text, pattern.key);
            let hint = match nearest(&pattern.text, known.iter().map(String::as_str)) {
                Some(similar) => format!("use `{similar}`"),
                None => "run `fetch` to list the controls of a tenant".to_owned(),
            };
            Some(pattern.origin.fault(Explanation::new(message).with_hint(hint)))
        });
        warnings.collect()
    }

    fn values(&self, attribute: ControlAttribute) -> &BTreeSet<String> {
        match attribute {
            ControlAttribute::Id => &self.ids,
            ControlAttribute::Service => &self.services,
            ControlAttribute::Category => &self.categories,
        }
    }

    fn add_catalog(
        &mut self,
        checkpoint: &Checkpoint,
        version: CatalogVersion,
    ) -> Result<(), CheckpointError> {
        if !self.versions.insert(version) {
            return Ok(());
        }
        for member in checkpoint.catalog(version)? {
            if !self.profiles.insert(member.profile) {
                continue;
            }
            let text = checkpoint.profile(member.profile)?;
            if let Ok(profile) = wire::profile(&text) {
                self.ids.insert(profile.id);
                self.services.extend(profile.service);
                self.categories.extend(profile.category);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        derive::Glob,
        settings::{Location, Origin},
    };

    /// Regression: a misspelled control ID in a selection passed `check` without a message.
    #[test]
    fn unmatched_patterns_get_the_most_similar_name() {
        let known = KnownControls {
            ids: ["AdminMFAV2", "OneAdmin"].map(str::to_owned).into(),
            services: ["AzureAD"].map(str::to_owned).into(),
            ..KnownControls::default()
        };

        for (attribute, text, hint) in [
            (ControlAttribute::Id, "Admin*", None),
            (ControlAttribute::Id, "adminmfav2", None),
            (ControlAttribute::Id, "AdminMFA2", Some("use `AdminMFAV2`")),
            (
                ControlAttribute::Id,
                "Exchange*",
                Some("run `fetch` to list the controls of a tenant"),
            ),
            (ControlAttribute::Service, "Azure", Some("use `AzureAD`")),
            // No category is known, so nothing can be compared.
            (ControlAttribute::Category, "Identity", None),
        ] {
            let pattern = ControlPattern {
                key: "control_ids",
                attribute,
                text: text.to_owned(),
                glob: Glob::new(text),
                origin: Origin::File {
                    file: "c.toml".to_owned(),
                    location: Location { line: 1, column: 1 },
                },
            };
            let found = known.unmatched(&[pattern]);
            let hints: Vec<_> = found.iter().filter_map(|fault| fault.hint.as_deref()).collect();
            assert_eq!(hints, Vec::from_iter(hint), "{text}");
        }
    }
}
