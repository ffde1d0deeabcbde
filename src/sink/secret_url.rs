//! Recognizes URLs in the configuration that contain a secret: those of known webhooks, and those
//! with a parameter that looks like a key.
//!
//! Every person who knows such a URL can use it, and more persons can read the configuration than
//! the secrets. Only a warning may depend on this module, because a receiver can give any form to
//! its URLs. Start reading at [`warn_of_secret`].

use url::Url;

use crate::settings::{Named, Section, Shape};

/// What of a URL is probably secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UrlSecret {
    /// The path, which identifies a webhook.
    Webhook,
    /// A parameter of the query.
    Parameter,
}

/// Domains of services whose webhooks require nothing but their URL, and the beginning of the path
/// of such a URL.
const WEBHOOKS: &[(&str, &str)] = &[
    ("hooks.slack.com", "/"),
    ("hooks.slack-gov.com", "/"),
    ("webhook.office.com", "/"),
    ("outlook.office.com", "/webhook/"),
    ("logic.azure.com", "/"),
    ("logic.azure.us", "/"),
    ("api.powerplatform.com", "/"),
    ("discord.com", "/api/webhooks/"),
    ("discordapp.com", "/api/webhooks/"),
    ("chat.googleapis.com", "/v1/spaces/"),
    ("api.telegram.org", "/bot"),
    ("hooks.zapier.com", "/"),
    ("webhook.site", "/"),
];

/// Ends of the names of secret parameters, such as `api_key`.
const SECRET_ENDS: [&str; 7] = ["key", "token", "secret", "password", "passwd", "pwd", "signature"];
/// Names of secret parameters, such as `sig` of Azure.
const SECRET_NAMES: [&str; 5] = ["sig", "auth", "authorization", "code", "credential"];

/// The minimum number of characters of a value that looks like a key, regardless of its name.
const MIN_KEY_CHARS: usize = 24;

/// Reports a warning at the key if its URL contains what is probably a secret. The warning does not
/// contain any part of the URL.
pub(super) fn warn_of_secret(section: &Section<'_>, key: &impl Named, url: &Url) {
    let Some(secret) = secret_in(url) else { return };

    let definition = key.definition();
    let name = definition.name;
    let message = match secret {
        UrlSecret::Webhook => {
            format!("`{name}` is the URL of a webhook, with which every person can post messages")
        }
        UrlSecret::Parameter => format!("`{name}` has a parameter that looks like a secret"),
    };
    let hint = if matches!(definition.shape, Shape::TextOrSecret(_)) {
        format!("store the URL as a secret, and refer to it: {name} = {{ credential = \"NAME\" }}")
    } else {
        "remove the secret from the URL, and use the keys of the sink for it".to_owned()
    };
    section.warn_with(key, message, Some(hint));
}

fn secret_in(url: &Url) -> Option<UrlSecret> {
    let host = url.host_str().unwrap_or_default();
    let is_webhook = |(domain, path): &(&str, &str)| {
        let before = host.strip_suffix(*domain);
        let is_in_domain = before.is_some_and(|before| before.is_empty() || before.ends_with('.'));
        is_in_domain && url.path().len() > path.len() && url.path().starts_with(*path)
    };
    if WEBHOOKS.iter().any(is_webhook) {
        return Some(UrlSecret::Webhook);
    }

    let mut parameters = url.query_pairs();
    let has_secret = parameters.any(|(name, value)| {
        !value.is_empty() && (is_secret_name(&name.to_lowercase()) || is_key(&value))
    });
    has_secret.then_some(UrlSecret::Parameter)
}

fn is_secret_name(name: &str) -> bool {
    SECRET_NAMES.contains(&name) || SECRET_ENDS.iter().any(|end| name.ends_with(end))
}

/// Whether a value has the length and the characters of a generated key. An ID that is a GUID is
/// not secret.
fn is_key(value: &str) -> bool {
    let is_key_char = |c: char| c.is_ascii_alphanumeric() || "-_=+/.~".contains(c);
    value.len() >= MIN_KEY_CHARS
        && value.chars().all(is_key_char)
        && value.contains(|c: char| c.is_ascii_digit())
        && value.contains(|c: char| c.is_ascii_alphabetic())
        && uuid::Uuid::try_parse(value).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_with_secrets_are_recognized() {
        use UrlSecret::{Parameter, Webhook};

        for (url, expected) in [
            ("https://hooks.slack.com/services/T0/B0/canary", Some(Webhook)),
            ("https://contoso.webhook.office.com/webhookb2/canary", Some(Webhook)),
            ("https://prod-1.westeurope.logic.azure.com/workflows/1?x=1", Some(Webhook)),
            ("https://discord.com/api/webhooks/1/canary", Some(Webhook)),
            ("https://api.telegram.org/bot1:canary/sendMessage", Some(Webhook)),
            ("https://otel.example.com/v1/logs?api-key=canary", Some(Parameter)),
            ("https://otel.example.com/?X-Access-Token=canary", Some(Parameter)),
            ("https://f.azurewebsites.net/api/score?code=canary", Some(Parameter)),
            ("https://h.example.com/?a=b&sig=canary", Some(Parameter)),
            ("https://h.example.com/?id=3q2rV7wABIjRWeJCrze8BIzRFV", Some(Parameter)),
            ("https://h.example.com/secure-score", None),
            ("https://h.example.com/?tenant=contoso&format=json", None),
            ("https://h.example.com/?token=", None),
            ("https://h.example.com/?id=3f5c1d2e-0000-4000-8000-00000000c0de", None),
            ("https://hooks.slack.com", None),
            ("https://discord.com/channels/1", None),
            ("https://nothooks.slack.com.example.com/services", None),
            ("https://xhooks.slack.com/services", None),
        ] {
            assert_eq!(secret_in(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
