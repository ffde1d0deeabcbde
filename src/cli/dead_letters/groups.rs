//! The table of `dead-letters list`, with one row for each message of a receiver. The checkpoint
//! groups the dead letters; nothing here performs I/O. Start reading at [`table`].

use super::super::{
    format_time,
    table::{Column, Content, TextTable, Tone},
};
use crate::{
    checkpoint::DeadLetterReason,
    model::TenantId,
    text::{count, with_separators},
};

/// A table with one row per message. `name_of` returns the name of a tenant, and `id_digits` is the
/// number of digits of an event ID that are shown.
pub(super) fn table(
    reasons: &[DeadLetterReason<'_>],
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

    for reason in reasons {
        let tenants = match reason.tenants {
            1 => name_of(reason.newest_tenant),
            several => count(several, "tenant"),
        };
        let days = match reason.days {
            None => "none".to_owned(),
            Some((first, last)) if first == last => first.to_string(),
            Some((first, last)) => format!("{first} to {last}"),
        };
        let cells = [
            reason.newest_id.to_string().chars().take(id_digits).collect(),
            reason.sink.to_string(),
            with_separators(reason.letters),
            tenants,
            days,
            format_time(reason.newest_at),
            with_separators(reason.queued),
        ];
        table.row(cells.map(|text| (text, Tone::Plain)).to_vec());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cli::table::Terminal,
        model::{Day, EventId, SinkName, UnixMillis},
    };

    /// Regression: the same message was printed below each of hundreds of rows.
    #[test]
    fn equal_messages_are_one_row() {
        let day = |number| Day::from_number(number).unwrap();
        let sink = SinkName::new("splunk");
        let reason = |tenants, days| DeadLetterReason {
            sink: &sink,
            reason: "no index",
            letters: 3,
            queued: 1,
            tenants,
            newest_tenant: TenantId::parse("00000001-0000-4000-8000-00000000c0de").unwrap(),
            days,
            newest_id: EventId::parse(&"5d0c".repeat(10)).unwrap(),
            newest_at: UnixMillis::new(0),
        };
        let reasons =
            [reason(2, Some((day(0), day(2)))), reason(1, Some((day(2), day(2)))), reason(1, None)];

        let table = table(&reasons, |tenant| tenant.to_string()[..8].to_owned(), 4);
        let text = table.render(Terminal { width: None, is_colored: false });
        let time = "1970-01-01T00:00:00Z";
        let rows = text.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
        let expected = [
            format!("5d0c splunk 3 2 tenants 1970-01-01 to 1970-01-03 {time} 1"),
            format!("5d0c splunk 3 00000001 1970-01-03 {time} 1"),
            format!("5d0c splunk 3 00000001 none {time} 1"),
        ];
        assert_eq!(rows.map(|row| row.join(" ")).collect::<Vec<_>>(), expected, "{text}");
    }
}
