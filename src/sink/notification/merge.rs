//! Records of one message that differ only in their tenant and their time, such as the problems of
//! all tenants with an expiring secret. A message shows them as one part. Records of the same
//! tenant are never merged. Start reading at [`merged`].

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use super::{
    Part,
    notice::{MAX_NAME, Notice, NoticeKind, severity_name},
};
use crate::{
    foreign_text::ForeignText,
    sink::Batch,
    text::{count, listed, signed},
};

/// The maximum number of tenants that a part names.
const MAX_TENANTS: usize = 5;

/// Records that differ only in their tenant and their time.
pub(super) struct MergedNotice<'n> {
    pub first: &'n Notice,
    /// The other records, in their order.
    others: Vec<&'n Notice>,
}

/// Assigns records with the same content to groups, in which each tenant occurs once.
struct Groups<Content, Tenant> {
    /// The group of the next record with a content, and the tenants in it.
    open: HashMap<Content, (usize, HashSet<Tenant>)>,
    count: usize,
}

/// Merges records. The results are in the order of their first records.
pub(super) fn merged<'n>(notices: impl IntoIterator<Item = &'n Notice>) -> Vec<MergedNotice<'n>> {
    let mut groups = Groups::new();
    let mut merged: Vec<MergedNotice<'n>> = Vec::new();
    for notice in notices {
        match merged.get_mut(groups.add(content(notice), notice.tenant.as_str())) {
            Some(group) => group.others.push(notice),
            None => merged.push(MergedNotice { first: notice, others: Vec::new() }),
        }
    }
    merged
}

/// The key of a record in a batch, from which [`parts`] determines what will be merged: the hashes
/// of its content and of its tenant.
pub(super) fn key(notice: &Notice) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&hash(content(notice)).to_be_bytes());
    key[8..].copy_from_slice(&hash(&notice.tenant).to_be_bytes());
    key
}

/// The number of parts of a message with the records of a batch.
pub(super) fn parts(batch: &Batch) -> usize {
    let mut groups = Groups::new();
    for item in batch.items() {
        let key = batch.key(item);
        let (content, tenant) = key.split_at(key.len() / 2);
        groups.add(content, tenant);
    }
    groups.count
}

/// Everything that a part shows, except the tenant and the time.
fn content(notice: &Notice) -> impl Hash + Eq {
    let Notice { kind, what, severity, subject, sentence, hint, replayed, .. } = notice;
    let points = notice.points.map(f64::to_bits);
    (kind, what, severity, subject, sentence, hint, replayed, points)
}

fn hash(value: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl<Content: Hash + Eq, Tenant: Hash + Eq + Copy> Groups<Content, Tenant> {
    fn new() -> Self {
        Self { open: HashMap::new(), count: 0 }
    }

    /// The index of the group of the next record.
    fn add(&mut self, content: Content, tenant: Tenant) -> usize {
        let next = self.count;
        let open = self.open.entry(content);
        let (group, tenants) = open.or_insert_with(|| (next, HashSet::new()));
        if !tenants.insert(tenant) {
            *group = next;
            *tenants = HashSet::from([tenant]);
        }

        if *group == next {
            self.count += 1;
        }
        *group
    }
}

impl<'n> MergedNotice<'n> {
    /// The number of records.
    pub(super) fn count(&self) -> usize {
        1 + self.others.len()
    }

    /// The name of the first tenant, and the number of the others.
    pub(super) fn tenants(&self) -> String {
        let tenant = &self.first.tenant;
        match self.others.len() {
            0 => tenant.clone(),
            others => format!("{tenant} and {}", count(others, "other tenant")),
        }
    }

    /// The part of a message about these records. `fields` are added to its facts.
    pub(super) fn part(&self, fields: &[(String, String)]) -> Part {
        let notice = self.first;
        let severity = notice.severity();
        let replayed = if notice.replayed { " · replayed" } else { "" };
        let (tenants, what) = (self.tenants(), notice.what_in_words());
        let heading = format!("{} · {tenants} · {what}{replayed}", severity_name(severity));

        let mut facts = Vec::new();
        let mut fact = |name: &str, value: String| facts.push((name.to_owned(), value));
        if let Some(points) = notice.points {
            let each = if self.others.is_empty() { "" } else { " each" };
            fact("Points", format!("{}{each}", signed(points)));
        }
        // The sentence about a problem names its subject.
        if matches!(notice.kind, NoticeKind::Change | NoticeKind::Score)
            && !notice.subject.is_empty()
        {
            fact("Control", notice.subject.clone());
        }
        if !self.others.is_empty() {
            let names: Vec<&str> = self.all().map(|notice| notice.tenant.as_str()).collect();
            fact("Tenants", listed(&names, MAX_TENANTS));
        }

        fact("Time", self.time());
        if let Some(hint) = &notice.hint {
            fact(Part::HINT, hint.clone());
        }
        let inert = |text: &str| ForeignText::new(text).chat(MAX_NAME);
        facts.extend(fields.iter().map(|(name, value)| (inert(name), inert(value))));

        Part {
            event_id: Some(notice.event_id.clone()),
            severity,
            heading,
            text: notice.sentence.clone(),
            facts,
        }
    }

    fn all(&self) -> impl Iterator<Item = &'n Notice> {
        std::iter::once(self.first).chain(self.others.iter().copied())
    }

    /// The time of the record, or the first and the last time.
    fn time(&self) -> String {
        let times = || self.all().map(|notice| notice.time.as_str());
        match (times().min(), times().max()) {
            (Some(first), Some(last)) if first != last => format!("{first} to {last}"),
            _ => self.first.time.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Mode,
            tests::{change, problem},
        },
        *,
    };
    use crate::model::EventId;

    /// The same problem in this many tenants, one minute after another.
    fn problems(tenants: usize) -> Vec<Notice> {
        let at = |n: usize| Notice {
            time: format!("2026-11-23 06:{:02} UTC", n % 60),
            ..problem(&format!("tenant-{n}"), "2026-11-21")
        };
        (0..tenants).map(at).collect()
    }

    /// Regression: a shared secret that expires was one part for each tenant, and 50 messages for a
    /// thousand tenants.
    #[test]
    fn equal_records_of_many_tenants_are_one_part() {
        let message = Mode::Messages.message(&problems(30), &[]);
        assert_eq!(message.title, "Secure Score: 30 problems in 30 tenants");
        assert_eq!(message.parts.len(), 1);

        let part = &message.parts[0];
        assert_eq!(part.heading, "Low · tenant-0 and 29 other tenants · gap");
        assert_eq!(part.text, "day 2026-11-21 is missing");
        let fact = |name: &str| part.facts.iter().find(|(title, _)| title == name).unwrap();
        let names = "tenant-0, tenant-1, tenant-2, tenant-3, tenant-4 and 25 more";
        assert_eq!(fact("Tenants").1, names);
        assert_eq!(fact("Time").1, "2026-11-23 06:00 UTC to 2026-11-23 06:29 UTC");
        assert_eq!(Mode::Messages.message(&problems(1_000), &[]).parts.len(), 1);
    }

    #[test]
    fn records_that_differ_in_more_are_separate() {
        let regressed = |tenant: &str| change(tenant, "regressed", -10.0, 8);
        for (notices, parts) in [
            (vec![regressed("a"), regressed("b")], 1),
            (vec![regressed("a"), regressed("a")], 2),
            (vec![regressed("a"), regressed("b"), regressed("a"), regressed("b")], 2),
            (vec![regressed("a"), Notice { points: Some(-5.0), ..regressed("b") }], 2),
            (vec![regressed("a"), Notice { severity: 5, ..regressed("b") }], 2),
            (vec![regressed("a"), Notice { sentence: "x".to_owned(), ..regressed("b") }], 2),
            (vec![regressed("a"), Notice { replayed: true, ..regressed("b") }], 2),
            (vec![problem("a", "x"), problem("b", "y")], 2),
        ] {
            assert_eq!(merged(&notices).len(), parts, "{notices:?}");
        }

        let two = [regressed("a"), regressed("b")];
        let part = merged(&two)[0].part(&[]);
        assert_eq!(part.heading, "High · a and 1 other tenant · regressed");
        assert_eq!(part.facts[0], ("Points".to_owned(), "−10 each".to_owned()));
    }

    /// The deliverer counts the parts without decoding the records.
    #[test]
    fn a_batch_and_its_message_agree_on_parts() {
        let mut notices = problems(40);
        notices.push(problem("tenant-3", "2026-11-21"));
        notices.push(change("tenant-3", "regressed", -1.0, 8));
        notices.push(change("tenant-4", "regressed", -1.0, 8));

        let mut batch = Batch::default();
        for notice in &notices {
            batch.push_encoded_with_key(EventId::from_bytes([1; 20]), &key(notice), b"{}");
        }
        assert_eq!(parts(&batch), merged(&notices).len());
        assert_eq!(parts(&batch), 3);
    }
}
