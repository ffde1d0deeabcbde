//! Tests of the rules for secrets: to whom they may be sent, and which ones are strong enough.

use super::*;

/// [`GOOD`] with another section before `[state]`.
fn with_head(section: &str) -> String {
    faults(|text| format!("{section}\n{text}"))
}

/// Regression: the password of the proxy was sent in plain text.
#[test]
fn a_proxy_with_a_password_must_use_tls() {
    let login = "proxy_user = \"forwarder\"\nproxy_password = { credential = \"proxy\" }";
    for (proxy, login, is_valid) in [
        ("http://proxy.example.com:3128", "", true),
        ("https://proxy.example.com:3129", login, true),
        ("http://127.0.0.1:3128", login, true),
        ("http://localhost:3128", login, true),
        ("http://proxy.example.com:3128", login, false),
        ("http://10.0.0.1:3128", login, false),
    ] {
        let found = with_head(&format!("[source]\nproxy = \"{proxy}\"\n{login}"));
        assert_eq!(found.is_empty(), is_valid, "{proxy}: {found}");
        if !is_valid {
            let message =
                "c.toml:2:9: `source.proxy` must use https, or http to a loopback address";
            assert!(found.starts_with(message) && found.contains("\n  hint: "), "{found}");
        }
    }
}

/// Regression: a shared credential could have the name of the one in the section of a tenant, and
/// both had the same refresh token.
#[test]
fn shared_credentials_have_other_names_than_tenants() {
    let section = |name: &str| format!("[credentials.\"{name}\"]\nkind = \"managed_identity\"");
    assert_eq!(with_head(&section("tenants")), "");
    let found = with_head(&section("tenant contoso"));
    let message = "begins like that of a credential in the section of a tenant";
    assert!(found.contains(message), "{found}");
}

/// A configuration whose secrets are in files of a directory. `check_secrets` returns the faults.
fn secret_faults(section: &str, text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    fs_err::write(&path, text).unwrap();
    let reference = format!("{{ file = \"{}\" }}", path.display());

    let graph = GOOD.replacen("{ credential = \"graph-secret\" }", &reference, 1);
    let text = format!("{graph}{}\n", section.replace("SECRET", &reference));
    let configuration = Configuration::parse("c.toml", &text).unwrap();
    configuration.check_secrets().err().map(|error| rendered(&error)).unwrap_or_default()
}

/// Regression: keys of a single character were accepted.
#[test]
fn weak_keys_are_faults() {
    let user = "[credentials.me]\nkind = \"user\"\nclient_id = \"11111111-2222-4333-8444-555555555555\"\ntoken_key = SECRET";
    let hook = "[[sinks]]\nname = \"hook\"\ntype = \"http\"\nurl = \"https://h/a\"\nsigning_secret = SECRET";
    for (section, text, expected) in [
        (user, "canary", Some("has fewer than 32 characters")),
        (user, "canary canary canary canary canary", Some("fewer than 8 different characters")),
        (user, "correct horse battery staple again", None),
        (hook, "whsec_Y2FuYXJ5", Some("does not contain 24 to 64 bytes in base64")),
        (hook, "whsec_Y2FuYXJ5LTEyMzQ1Njc4OTAtYWJjZGVmZ2g=", None),
    ] {
        let found = secret_faults(section, text);
        assert_eq!(found.is_empty(), expected.is_none(), "{text}: {found}");
        let Some(expected) = expected else { continue };
        assert!(found.starts_with("c.toml:2") && found.contains(expected), "{found}");
        assert!(found.contains("openssl rand -base64 32"), "{found}");
        assert!(!found.contains("canary") && !found.contains("Y2FuYXJ5"), "{found}");
    }
}

/// Regression: the URL in a secret was checked only when the sink was opened.
#[test]
fn secret_urls_are_checked_with_the_configuration() {
    for sink in
        ["type = \"http\"\nurl = SECRET", "type = \"chat\"\nservice = \"slack\"\nurl = SECRET"]
    {
        let section = format!("[[sinks]]\nname = \"hook\"\n{sink}");

        for (text, expected) in [
            ("https://hooks.example.com/canary", None),
            ("http://127.0.0.1:1/canary", None),
            ("http://hooks.example.com/canary", Some("must use https, or http to a loopback")),
            ("canary", Some("is not a URL")),
        ] {
            let found = secret_faults(&section, text);
            assert_eq!(found.is_empty(), expected.is_none(), "{text}: {found}");
            assert!(expected.is_none_or(|expected| found.contains(expected)), "{found}");
            assert!(!found.contains("canary"), "{found}");
        }
    }
}

#[test]
fn urls_with_secrets_are_warnings() {
    let warnings = |sink: &str| {
        let text = format!("{GOOD}[[sinks]]\nname = \"hook\"\n{sink}\n");
        let warnings = Configuration::parse("c.toml", &text).unwrap().inspection.warnings;
        warnings.into_iter().map(|fault| (fault.message, fault.hint.unwrap())).collect::<Vec<_>>()
    };

    for (sink, expected) in [
        (
            "type = \"http\"\nurl = \"https://hooks.slack.com/services/canary\"",
            Some(("the URL of a webhook", "url = { credential = \"NAME\" }")),
        ),
        (
            "type = \"http\"\nurl = \"https://h/a?sig=canary\"",
            Some(("a parameter that looks like a secret", "refer to it")),
        ),
        (
            "type = \"otlp\"\nurl = \"https://h/v1/logs?api-key=canary\"",
            Some(("a parameter that looks like a secret", "use the keys of the sink")),
        ),
        ("type = \"http\"\nurl = \"https://h/a?customer=contoso\"", None),
        ("type = \"http\"\nurl = { credential = \"hook\" }", None),
    ] {
        let found = warnings(sink);
        assert_eq!(found.len(), usize::from(expected.is_some()), "{sink}: {found:?}");
        let Some((message, hint)) = expected else { continue };
        assert!(found[0].0.contains(message) && found[0].1.contains(hint), "{found:?}");
        assert!(!format!("{found:?}").contains("canary"), "{found:?}");
    }
}
