//! Baselines: a target per control that a tenant must not fall below. The checkpoint and a file of
//! targets have the same format; see [`Baseline::parse_targets`].

use super::{Day, Seq, Target};

/// The targets of a tenant, which apply to the entries of its log from `since` on.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// The name that the operator chose; drift records contain it.
    pub name: String,
    /// The day that the targets were taken from; `None` if they were read from a file.
    pub day: Option<Day>,
    /// The first entry that is compared with the targets.
    pub since: Seq,
    /// Control and target, sorted by control, without duplicates.
    pub targets: Vec<(String, Target)>,
}

impl Baseline {
    /// The target of a control. `None` if the baseline has no target for it.
    pub fn target(&self, control: &str) -> Option<Target> {
        let at = self.targets.binary_search_by(|(name, _)| name.as_str().cmp(control)).ok()?;
        self.targets.get(at).map(|(_, target)| *target)
    }

    /// The targets as text, one per line: `AdminMFAV2 100%`.
    pub fn to_text(&self) -> String {
        let lines = self.targets.iter().map(|(control, target)| format!("{control} {target}\n"));
        lines.collect::<Vec<_>>().concat()
    }

    /// Parses lines of a control and its target, separated by a space, a tab or a comma. Empty
    /// lines, comments (`#`) and the heading `control,target` are ignored.
    ///
    /// Fails with the number of the first line that cannot be parsed, or of the last line that
    /// contains a duplicate control.
    pub fn parse_targets(text: &str) -> Result<Vec<(String, Target)>, usize> {
        let mut targets = Vec::new();

        for (line, number) in text.trim_start_matches('\u{feff}').lines().zip(1_usize..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') || line == "control,target" {
                continue;
            }

            let (control, target) = line.rsplit_once([',', ' ', '\t']).ok_or(number)?;
            let target = Target::parse(target).ok_or(number)?;
            let name = control.trim().trim_end_matches(',').trim_matches('"');
            if name.is_empty() {
                return Err(number);
            }
            targets.push((name.to_owned(), target));
        }
        targets.sort_by(|a, b| a.0.cmp(&b.0));

        if let Some(pair) = targets.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let duplicate = &pair[0].0;
            let lines =
                text.lines().zip(1_usize..).filter(|(line, _)| line.contains(duplicate.as_str()));
            return Err(lines.map(|(_, number)| number).last().unwrap_or(1));
        }

        Ok(targets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_round_trip_as_text() {
        let read = Baseline::parse_targets("# ours\ncontrol,target\n\nB, 8\r\n\"A\",100%\nC 7.5");
        let targets = read.unwrap();
        let baseline = Baseline { name: "b".into(), day: None, since: Seq::FIRST, targets };
        assert_eq!(baseline.to_text(), "A 100%\nB 8\nC 7.5\n");
        assert_eq!(Baseline::parse_targets(&baseline.to_text()).as_ref(), Ok(&baseline.targets));
        assert_eq!(baseline.target("B").map(|t| t.to_string()).as_deref(), Some("8"));
        assert_eq!(baseline.target("D"), None);
    }

    #[test]
    fn errors_contain_the_line_number() {
        for (text, line) in
            [("A", 1), ("A 1\nB x", 2), ("A 101%", 1), ("A -1", 1), ("A 1\nB 1\nA 2", 3)]
        {
            assert_eq!(Baseline::parse_targets(text), Err(line), "{text}");
        }
    }
}
