//! Groups of dead letters for `dead-letters list`: one fault, such as a wrong mapping of an index,
//! rejects many records with the same message. Nothing here performs I/O. Start reading at
//! [`grouped`].

use std::collections::{HashMap, HashSet};

use super::super::{
    format_time,
    table::{Column, Content, TextTable, Tone},
};
use crate::{
    checkpoint::QueuedDeadLetter,
    model::{Day, EventId, TenantId, UnixMillis},
    text::{count, with_separators},
};

/// What the list shows of a dead letter.
#[derive(Clone, Copy)]
pub(super) struct ListedLetter<'a> {
    pub event_id: EventId,
    pub sink: &'a str,
    pub tenant: TenantId,
    pub day: Option<Day>,
    /// The message of the receiver.
    pub reason: &'a str,
    pub rejected_at: UnixMillis,
    /// Whether it is queued for a retry.
    pub retry: bool,
}

/// The dead letters of one sink with the same message; at least one.
pub(super) struct LetterGroup<'a> {
    pub newest: ListedLetter<'a>,
    records: usize,
    /// How many of them are queued for a retry.
    queued: usize,
    tenants: HashSet<TenantId>,
    /// The first and the last day; `None` if none of them has a day.
    days: Option<(Day, Day)>,
}

/// Groups dead letters, which are ordered from the newest to the oldest. The groups are ordered by
/// their newest members.
pub(super) fn grouped<'a>(
    letters: impl IntoIterator<Item = ListedLetter<'a>>,
) -> Vec<LetterGroup<'a>> {
    let mut groups: Vec<LetterGroup<'a>> = Vec::new();
    let mut known: HashMap<(&str, &str), usize> = HashMap::new();
    for letter in letters {
        let index = *known.entry((letter.sink, letter.reason)).or_insert_with(|| {
            groups.push(LetterGroup::new(letter));
            groups.len() - 1
        });
        groups[index].add(letter);
    }
    groups
}

/// A table with one row per group. `name_of` returns the name of a tenant, and `id_digits` is the
/// number of digits of an event ID that are shown.
pub(super) fn table(
    groups: &[LetterGroup<'_>],
    name_of: impl Fn(TenantId) -> String,
    id_digits: usize,
) -> TextTable {
    let mut table = TextTable::new(vec![
        Column::new("newest event ID", Content::Text, 0),
        Column::new("sink", Content::Text, 0),
        Column::new("records", Content::Number, 0),
        Column::new("tenants", Content::Text, 1),
        Column::new("days", Content::Text, 2),
        Column::new("last rejected at", Content::Text, 3),
        Column::new("queued for retry", Content::Number, 4),
    ]);

    for LetterGroup { newest, records, queued, tenants, days } in groups {
        let tenants = match tenants.len() {
            1 => name_of(newest.tenant),
            several => count(several, "tenant"),
        };
        let days = match days {
            None => "none".to_owned(),
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first} to {last}"),
        };
        let cells = [
            newest.event_id.to_string().chars().take(id_digits).collect(),
            newest.sink.to_owned(),
            with_separators(*records),
            tenants,
            days,
            format_time(newest.rejected_at),
            with_separators(*queued),
        ];
        table.row(cells.map(|text| (text, Tone::Plain)).to_vec());
    }
    table
}

impl<'a> From<&'a QueuedDeadLetter> for ListedLetter<'a> {
    fn from(letter: &'a QueuedDeadLetter) -> Self {
        Self {
            event_id: letter.event_id,
            sink: &letter.sink,
            tenant: letter.tenant,
            day: letter.day,
            reason: &letter.reason,
            rejected_at: letter.rejected_at,
            retry: letter.retry,
        }
    }
}

impl<'a> LetterGroup<'a> {
    fn new(newest: ListedLetter<'a>) -> Self {
        Self { newest, records: 0, queued: 0, tenants: HashSet::new(), days: None }
    }

    fn add(&mut self, letter: ListedLetter<'_>) {
        self.records += 1;
        self.queued += usize::from(letter.retry);
        self.tenants.insert(letter.tenant);
        if let Some(day) = letter.day {
            let (first, last) = self.days.unwrap_or((day, day));
            self.days = Some((first.min(day), last.max(day)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::table::Terminal;

    fn letter(
        sink: &'static str,
        tenant: u32,
        day: i32,
        reason: &'static str,
    ) -> ListedLetter<'static> {
        let id = format!("{tenant:08x}-0000-4000-8000-00000000c0de");
        ListedLetter {
            event_id: EventId::parse(&"5d0c".repeat(10)).unwrap(),
            sink,
            tenant: TenantId::parse(&id).unwrap(),
            day: Day::from_number(day),
            reason,
            rejected_at: UnixMillis::new(0),
            retry: day == 0,
        }
    }

    /// Regression: the same message was printed below each of hundreds of rows.
    #[test]
    fn equal_messages_are_one_row() {
        let groups = grouped([
            letter("splunk", 1, 2, "no index"),
            letter("elastic", 1, 2, "no index"),
            letter("splunk", 1, 0, "no index"),
            letter("splunk", 2, 1, "no index"),
            letter("splunk", 2, 1, "too large"),
        ]);
        let reasons: Vec<&str> = groups.iter().map(|group| group.newest.reason).collect();
        assert_eq!(reasons, ["no index", "no index", "too large"]);

        let table = table(&groups, |tenant| tenant.to_string()[..8].to_owned(), 4);
        let text = table.render(Terminal { width: None, is_colored: false });
        let time = "1970-01-01T00:00:00Z";
        let rows = text.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
        let expected = [
            format!("5d0c splunk 3 2 tenants 1970-01-01 to 1970-01-03 {time} 1"),
            format!("5d0c elastic 1 00000001 1970-01-03 {time} 0"),
            format!("5d0c splunk 1 00000002 1970-01-02 {time} 0"),
        ];
        assert_eq!(rows.map(|row| row.join(" ")).collect::<Vec<_>>(), expected, "{text}");
    }
}
