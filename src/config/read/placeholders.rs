//! Rejects placeholders such as `{tenant.name}` in the texts of sinks in which they are not
//! replaced, such as a path: the records of all tenants would be sent to one place with this name.
//!
//! Any other text in braces is permitted. Start reading at [`check`]. See decision 0066.

use crate::{
    config::keys,
    settings::Section,
    sink::{KINDS, TEMPLATE_KEYS, placeholder_in},
};

/// Adds a fault for each text of a sink with a placeholder that is not replaced.
pub(super) fn check(root: &Section<'_>) {
    for section in root.get(&keys::SINKS).unwrap_or_default() {
        let texts = section.texts().into_iter();
        for text in texts.filter(|text| !TEMPLATE_KEYS.contains(&text.key)) {
            if let Some(placeholder) = placeholder_in(text.text) {
                let message = format!(
                    "`{}` contains the placeholder `{placeholder}`, which is not replaced in this key",
                    text.path
                );
                section.fault_at(&text, message, Some(hint()));
            }
        }
    }
}

/// The hint, with the keys of this build that support placeholders.
fn hint() -> String {
    let supported = KINDS.iter().flat_map(|kind| {
        let keys = kind.keys.iter().filter(|key| TEMPLATE_KEYS.contains(&key.name));
        keys.map(|key| format!("`{}` of `{}`", key.name, kind.name))
    });
    let supported: Vec<String> = supported.collect();
    format!(
        "remove the placeholder, or add one sink for each tenant and select it with `tenants`; placeholders are replaced only in: {}",
        supported.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use crate::config::Configuration;

    const HEAD: &str = r#"
[state]
directory = "/x"
[[tenants]]
name = "contoso"
id = "3f5c1d2e-0000-4000-8000-00000000c0de"
labels = { customer = "c-17" }
[tenants.credential]
kind = "managed_identity"
[[sinks]]
name = "out"
"#;

    /// The faults of a configuration with these keys of a sink, each with its hint.
    fn faults(sink: &str) -> Vec<(String, Option<String>)> {
        let parsed = Configuration::parse("c.toml", &format!("{HEAD}{sink}\n"));
        let faults = parsed.err().map(|error| error.0).unwrap_or_default();
        faults.into_iter().map(|fault| (fault.to_string(), fault.hint)).collect()
    }

    /// Regression: a placeholder in a path was a part of the name of the file.
    #[test]
    fn placeholders_that_are_not_replaced_are_faults() {
        let syslog = "type = \"syslog\"\naddress = \"unix:/dev/log\"\napp_name = \"{tenant.name}\"";
        let http = "type = \"http\"\nurl = \"https://h.example/{tenant.id}\"";
        let otlp = "type = \"otlp\"\nurl = \"https://h.example/{label.customer}/v1/logs\"";
        let elastic = "type = \"elasticsearch\"\nurl = \"https://h.example/{kind}\"";
        let hec = "type = \"splunk_hec\"\nurl = \"https://h.example\"\nsourcetype = \"x:{kind}\"\n\
            token = { file = \"/x/{tenant.name}\" }";
        let fields = "type = \"stdout\"\nextra_fields = { env = \"{label.customer}\" }";
        let list = "type = \"stdout\"\ntenants = [\"contoso\", \"{tenant.name}\"]";

        for (sink, keys) in [
            ("type = \"file\"\npath = \"/var/log/{tenant.name}.jsonl\"", &["path"][..]),
            (syslog, &["app_name"]),
            (http, &["url"]),
            (otlp, &["url"]),
            (elastic, &["url"]),
            (hec, &["sourcetype", "token.file"]),
            (fields, &["extra_fields.env"]),
            (list, &["tenants"]),
        ] {
            let found = faults(sink);
            let found: Vec<_> =
                found.iter().filter(|(fault, _)| fault.contains("placeholder")).collect();
            assert_eq!(found.len(), keys.len(), "{sink}: {found:?}");
            for ((fault, hint), key) in found.into_iter().zip(keys) {
                let expected = format!(": `{key}` contains the placeholder `{{");
                assert!(fault.starts_with("c.toml:1") && fault.contains(&expected), "{fault}");
                let hint = hint.as_deref().unwrap();
                assert!(hint.contains("`index` of `elasticsearch`"), "{hint}");
                assert!(hint.contains("`template` of `chat`"), "{hint}");
            }
        }
    }

    #[test]
    fn templates_and_other_braces_are_permitted() {
        for sink in [
            "type = \"file\"\npath = \"/var/log/{tenant}-{x}.jsonl\"",
            "type = \"stdout\"\nextra_fields = { env = \"{production}\" }",
            "type = \"elasticsearch\"\nurl = \"https://h.example\"\nindex = \"s-{label.customer}\"",
            "type = \"chat\"\nservice = \"template\"\nurl = \"https://h.example\"\n\
             template = '{ \"text\": \"{tenant.name}: {text}\" }'",
        ] {
            let found = faults(sink);
            let found: Vec<_> =
                found.iter().filter(|(fault, _)| fault.contains("placeholder")).collect();
            assert!(found.is_empty(), "{sink}: {found:?}");
        }
    }
}
