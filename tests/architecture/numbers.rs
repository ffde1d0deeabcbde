//! Arithmetic with foreign numbers: the modules that read numbers from servers, receivers, callers
//! and the checkpoint deny every operation that can overflow or panic. See decision 0062.

use crate::files::{expect_none, files};

/// The attribute, which also applies to the modules inside.
const ATTRIBUTE: &str = "#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]";

const MODULES: &[&str] = &[
    "src/checkpoint/fields.rs",
    "src/daemon/control.rs",
    "src/daemon/poll.rs",
    "src/model/day.rs",
    "src/net.rs",
    "src/sink/chat/mod.rs",
    "src/sink/elasticsearch/mod.rs",
    "src/sink/email/mod.rs",
    "src/sink/http/mod.rs",
    "src/sink/kafka/progress.rs",
    "src/sink/object_store/mod.rs",
    "src/sink/otlp/mod.rs",
    "src/sink/progress.rs",
    "src/sink/reply.rs",
    "src/sink/reply_json.rs",
    "src/sink/sentinel/mod.rs",
    "src/sink/splunk_hec/mod.rs",
    "src/sink/syslog/relp/mod.rs",
    "src/sink/web.rs",
    "src/source/mod.rs",
    "src/wire/mod.rs",
];

#[test]
fn modules_with_foreign_numbers_deny_overflows() {
    let mut violations = Vec::new();
    for path in MODULES {
        let found = files(path);
        let is_denied = |text: &str| text.lines().any(|line| line == ATTRIBUTE);
        if !found.iter().any(|file| is_denied(&file.text)) {
            violations.push(format!("{path}:1: the attribute is missing"));
        }
    }
    expect_none(&violations, &format!("add `{ATTRIBUTE}`"));
}
