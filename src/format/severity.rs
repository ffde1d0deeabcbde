//! The severity of a record, which is the same in every format. It depends only on the record, and
//! never on the format or the sink. The scale of CEF is the common one, from which the other scales
//! are mapped.

use crate::model::{Body, ControlOutcome, ControlRecord, DecisionState, Number, Record};

/// The severity from 0 to 10, as defined by CEF.
///
/// | record | severity |
/// |---|---|
/// | summary | 1 |
/// | control: not applicable, deprecated, risk accepted, resolved through a third party | 1 |
/// | control: full score, or an unknown score or maximum | 2 |
/// | control: partial score | 3 + round(3 x (1 - score / maximum)) |
/// | control: score 0 | 6; with a maximum of at least 5 points 7, of at least 10 points 8 |
/// | change, quality: informational, low, medium, high, critical | 1, 3, 5, 8, 10 |
pub fn cef_severity(record: &Record<'_>) -> u8 {
    match &record.body {
        Body::Summary(_) => 1,
        Body::Control(control) => control_severity(control),
        Body::Change(change) => change.severity.cef(),
        Body::Quality(quality) => quality.severity.cef(),
    }
}

/// The severity of RFC 5424, section 6.2.1, for a CEF severity. The result is from 2 (critical) to
/// 6 (informational): a score is never an alert or an emergency.
pub fn syslog_severity(cef: u8) -> u8 {
    match cef {
        0..=2 => 6,
        3 => 5,
        4..=6 => 4,
        7..=8 => 3,
        _ => 2,
    }
}

fn control_severity(control: &ControlRecord<'_>) -> u8 {
    if control.deprecated() || control.known_state() == Some(DecisionState::ThirdParty) {
        return 1;
    }

    match control.outcome() {
        Some(ControlOutcome::NotApplicable | ControlOutcome::Accepted) => 1,
        Some(ControlOutcome::Pass) | None => 2,
        Some(ControlOutcome::Partial) => 3 + missing_thirds(control),
        Some(ControlOutcome::Fail) => match control.max_score.map_or(0.0, |(max, _)| max.get()) {
            max if max >= 10.0 => 8,
            max if max >= 5.0 => 7,
            _ => 6,
        },
    }
}

/// `round(3 x (1 - score / max))`, from 0 to 3.
fn missing_thirds(control: &ControlRecord<'_>) -> u8 {
    let score = control.score.map_or(0.0, Number::get);
    let max = control.max_score.map_or(1.0, |(max, _)| max.get());
    let thirds = (3.0 * (1.0 - score / max)).round().clamp(0.0, 3.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=3")]
    {
        thirds as u8
    }
}
