//! Comma-separated values according to RFC 4180, with a header line.
//!
//! Every record is one row, and all kinds of record share one set of columns. A line break in a
//! text becomes a space, so that a row is always one line. Text must be written through
//! [`ForeignText`], because a spreadsheet would evaluate some texts as formulas.

use super::{
    Options, SHORT_TEXT, Texts,
    change::{change_sentence, quality_sentence},
    severity::cef_severity,
    text::{cut, plain},
};
use crate::{
    foreign_text::ForeignText,
    model::{
        Body, Change, ChangeKind, ChangeRecord, ControlOutcome, ControlRecord, ControlState,
        Number, QualityRecord, Record, SummaryRecord,
    },
};

/// A formatter for CSV, one row per record. It does not write the header line; see [`COLUMNS`].
#[derive(Debug)]
pub struct Csv {
    options: Options,
}

/// The names of the columns. New columns are appended; none is removed or moved.
pub const COLUMNS: [&str; 51] = [
    "kind",
    "event_id",
    "time",
    "observed_time",
    "tenant_id",
    "tenant_name",
    "date",
    "revision",
    "late",
    "backfilled",
    "partial",
    "replayed",
    "severity",
    "control_id",
    "title",
    "category",
    "service",
    "score",
    "max_score",
    "percentage",
    "outcome",
    "implementation_status",
    "count",
    "total",
    "state",
    "state_updated_by",
    "state_updated",
    "state_comment",
    "deprecated",
    "tier",
    "rank",
    "user_impact",
    "implementation_cost",
    "action_type",
    "threats",
    "action_url",
    "controls_total",
    "records_sent",
    "what",
    "cause",
    "base_day",
    "before",
    "after",
    "delta",
    "historical",
    "flapping",
    "baseline",
    "phase",
    "first_day",
    "message",
    "hint",
];

impl Csv {
    /// A formatter, which has no cache.
    pub fn new(options: Options) -> Self {
        Self { options }
    }

    /// Appends the record as one row, without a trailing newline.
    pub fn write(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        let snapshot = record.snapshot;
        let mut row = Row { out, cells: 0 };
        row.plain(record.kind().as_str());
        row.plain(&record.event_id.to_string());
        row.plain(&record.time_text());
        row.plain(record.observed_time);
        row.plain(&record.tenant.id.to_string());
        row.text(Some(&record.tenant.name));
        row.plain(&snapshot.day.to_string());
        row.plain(&snapshot.revision.to_string());
        for flag in [snapshot.late, snapshot.backfilled, snapshot.partial, record.replayed] {
            row.flag(Some(flag));
        }
        row.plain(&cef_severity(record).to_string());

        match &record.body {
            Body::Control(control) => self.control(control, &mut row),
            Body::Summary(summary) => write_summary(summary, &mut row),
            Body::Change(change) => write_change(change, &mut row),
            Body::Quality(quality) => write_quality(quality, &mut row),
        }
        row.skip_to_end();
    }

    fn control(&self, control: &ControlRecord<'_>, row: &mut Row<'_>) {
        let profile = control.profile.map(|slot| &slot.profile);
        let decision = control.decision;

        row.text(Some(control.id));
        row.text(Some(control.title()));
        row.text(control.category);
        row.text(profile.and_then(|p| p.service.as_deref()));
        row.number(control.score);
        row.number(control.max_score.map(|(max, _)| max));
        row.number(control.percentage);
        row.text(control.outcome().map(ControlOutcome::as_str));

        let status = control.implementation_status.map(plain);
        let max = if self.options.texts == Texts::Full { usize::MAX } else { SHORT_TEXT };
        row.text(status.as_deref().map(|text| cut(text, max)).as_deref());
        row.number(control.count);
        row.number(control.total);

        row.text(decision.and_then(|d| d.state.as_deref()));
        row.text(decision.and_then(|d| d.updated_by.as_deref()));
        row.text(decision.and_then(|d| d.updated.as_deref()));
        row.text(decision.and_then(|d| d.comment.as_deref()));

        row.flag(profile.and_then(|p| p.deprecated));
        row.text(profile.and_then(|p| p.tier.as_deref()));
        row.number(profile.and_then(|p| p.rank));
        row.text(profile.and_then(|p| p.user_impact.as_deref()));
        row.text(profile.and_then(|p| p.implementation_cost.as_deref()));
        row.text(profile.and_then(|p| p.action_type.as_deref()));
        row.text(profile.map(|p| p.threats.join(";")).as_deref());
        row.text(profile.and_then(|p| p.action_url.as_deref()));
    }
}

fn write_summary(summary: &SummaryRecord<'_>, row: &mut Row<'_>) {
    row.skip_to("score");
    row.number(summary.current);
    row.number(summary.max);
    row.number(summary.percentage);
    row.skip_to("controls_total");
    row.plain(&summary.controls_total.to_string());
    row.plain(&summary.records_sent.to_string());
}

fn write_change(record: &ChangeRecord<'_>, row: &mut Row<'_>) {
    let change = &record.change;
    row.text(Some(change.control));
    row.text(Some(record.title()));
    row.text(record.category);
    row.text(record.profile.and_then(|p| p.service.as_deref()));
    row.number(change.after.score);
    row.number(change.after.max_score);
    row.number(change.after.percentage);

    row.skip_to("count");
    row.number(change.after.count);
    row.number(change.after.total);
    let decision = change.after.decision;
    row.text(decision.and_then(|d| d.state.as_deref()));
    row.text(decision.and_then(|d| d.updated_by.as_deref()));
    row.text(decision.and_then(|d| d.updated.as_deref()));
    row.text(decision.and_then(|d| d.comment.as_deref()));
    row.flag(change.after.deprecated);

    row.skip_to("what");
    row.plain(change.what.as_str());
    row.plain(change.cause.as_str());
    row.plain(&change.base_day.map(|day| day.to_string()).unwrap_or_default());
    row.text(value(change, &change.before).as_deref());
    row.text(value(change, &change.after).as_deref());
    row.number(change.delta);
    row.flag(Some(change.historical));
    row.flag(Some(change.flapping));
    row.text(change.baseline.map(|from| from.name));

    row.skip_to("message");
    row.text(Some(&change_sentence(record)));
}

/// The value for `before` or `after`, which depends on the kind of change.
fn value(change: &Change<'_>, side: &ControlState<'_>) -> Option<String> {
    let number = |number: Option<Number>| number.map(|n| n.to_string());
    match change.what {
        ChangeKind::MaxScoreChanged => number(side.max_score),
        ChangeKind::Deprecated => side.deprecated.map(|d| d.to_string()),
        ChangeKind::DecisionChanged | ChangeKind::AcceptanceExpired => {
            side.decision.and_then(|d| d.state.clone())
        }
        ChangeKind::ImplementationChanged => side
            .on
            .map(|on| if on { "on" } else { "off" }.to_owned())
            .or_else(|| number(side.count))
            .or_else(|| number(side.percentage)),
        _ => number(side.score),
    }
}

fn write_quality(record: &QualityRecord<'_>, row: &mut Row<'_>) {
    row.skip_to("what");
    row.plain(record.what.as_str());
    row.skip_to("phase");
    row.plain(record.phase.as_str());
    row.plain(&record.first_day.to_string());
    row.text(Some(&quality_sentence(record)));
    row.text(record.hint);
}

/// A row that is written cell by cell.
struct Row<'a> {
    out: &'a mut Vec<u8>,
    /// The number of cells written so far.
    cells: usize,
}

impl Row<'_> {
    /// Writes a value of this program that needs no quotes.
    fn plain(&mut self, cell: &str) {
        if self.cells > 0 {
            self.out.push(b',');
        }
        self.cells += 1;
        self.out.extend_from_slice(cell.as_bytes());
    }

    /// Leaves the cells before a column empty.
    fn skip_to(&mut self, column: &str) {
        let index = COLUMNS.iter().position(|name| *name == column).unwrap_or(COLUMNS.len());
        while self.cells < index {
            self.plain("");
        }
    }

    /// Leaves the remaining cells empty.
    fn skip_to_end(&mut self) {
        while self.cells < COLUMNS.len() {
            self.plain("");
        }
    }

    fn flag(&mut self, flag: Option<bool>) {
        self.plain(match flag {
            Some(true) => "true",
            Some(false) => "false",
            None => "",
        });
    }

    fn number(&mut self, number: Option<Number>) {
        self.plain(&number.map(|n| n.to_string()).unwrap_or_default());
    }

    fn text(&mut self, text: Option<&str>) {
        self.plain("");
        ForeignText::new(text.unwrap_or_default()).write_csv_cell(self.out);
    }
}
