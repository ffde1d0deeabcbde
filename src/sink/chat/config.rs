//! The configuration of a sink with `type = "chat"`. Reading a section opens no connection and
//! reads no secret; faults are added to the section.

use std::time::Duration;

use super::json_template::JsonTemplate;
use crate::{
    error::Explanation,
    settings::{
        ExampleSection, Key, OneOf, Secret, Section, TEXT, Text, Timespan, checked_secret, choices,
        duration, keys, one_of, optional, required,
    },
    sink::{
        common_keys::CHANGES,
        notification::{DIGEST_KEYS, Mode},
        shared_keys::{TLS_KEYS, TlsFiles},
        web::{HttpReceiverOptions, ReceiverUrl, check_secret_url},
    },
};

keys! {
    /// The keys of this sink, besides those of all sinks.
    pub(in crate::sink) const KEYS;
    ..DIGEST_KEYS;
    ..TLS_KEYS;
    SERVICE: Key<OneOf<ServiceName>> = required(
        "service",
        one_of(ServiceName::NAMES),
        "The service that receives the messages: `teams` is a workflow of Microsoft Teams, `slack` an incoming webhook of Slack, and `template` any endpoint for JSON.",
    );
    URL: Key<Secret> = required(
        "url",
        checked_secret(check_secret_url),
        "The URL of the webhook, as a reference to a secret, because every person who knows it can post messages.",
    )
    .example("{ credential = \"teams-webhook\" }");
    TEMPLATE: Key<Text> = optional(
        "template",
        TEXT,
        "no template",
        "With `service = \"template\"`, the JSON body of a request. In its strings, placeholders such as {title}, {text}, {severity}, {tenant.name} and {label.NAME} are replaced.",
    )
    .example(r#"{"summary": "{title}", "text": "{text}", "customer": "{label.customer}"}"#);
    INTERVAL: Key<Timespan> = optional(
        "interval",
        duration(Duration::ZERO, MAX_INTERVAL),
        "`1s` for Slack, `250ms` for Teams, and `0s` for a template",
        "The minimum time between two messages.",
    )
    .example("250ms");
}

/// The sections in the example file.
pub(in crate::sink) const EXAMPLES: &[ExampleSection] = &[
    ExampleSection {
        name: "teams",
        about: "Messages in a channel of Microsoft Teams. Notification sinks (`chat` and `email`) send changes and problems: without `records`, only `change` and `quality`, and without `start_from`, beginning with the day on which they were added.",
        omits: &[TEMPLATE.define()],
        ..ExampleSection::NOT_SET
    },
    ExampleSection {
        name: "slack",
        about: "Messages in a channel of Slack.",
        sets: &[
            SERVICE.define().example("slack"),
            URL.define().example("{ credential = \"slack-webhook\" }"),
        ],
        ..ExampleSection::NOT_SET
    },
    ExampleSection {
        name: "tickets",
        about: "Any other endpoint for JSON, such as a ticket system. It receives one request for each record: here, for changes of two kinds.",
        sets: &[
            SERVICE.define().example("template"),
            URL.define().example("{ credential = \"tickets-url\" }"),
            TEMPLATE.define(),
            CHANGES.define().example("[\"regressed\", \"baseline_drift\"]"),
        ],
        ..ExampleSection::NOT_SET
    },
];

choices! {
    /// The name of a [`Service`].
    pub(super) enum ServiceName {
        /// A workflow of Microsoft Teams.
        Teams = "teams",
        /// An incoming webhook of Slack.
        Slack = "slack",
        /// Any endpoint for JSON.
        Template = "template",
    }
}

/// The maximum of `interval`; a digest covers longer times.
const MAX_INTERVAL: Duration = Duration::from_hours(24);
/// The maximum number of parts of a message, so that a message remains readable.
pub(super) const MAX_PARTS: usize = 20;

/// A validated section.
#[derive(Clone, Debug)]
pub(super) struct ChatPlan {
    pub service: Service,
    /// The URL of the webhook, which is a secret.
    pub url: ReceiverUrl,
    /// Whether single messages or digests are sent.
    pub mode: Mode,
    /// The minimum time between two requests.
    pub interval: Duration,
    /// How the service is reached. Requests are not compressed, because chats do not support it.
    pub web: HttpReceiverOptions,
}

/// The service that receives the messages.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Service {
    Teams,
    Slack,
    Template(JsonTemplate),
}

/// Reads a section. Returns `None` if it is not valid.
pub(super) fn read(section: &Section<'_>) -> Option<ChatPlan> {
    let mode = Mode::read(section);
    let url = section.get(&URL).map(ReceiverUrl::Secret);
    let service = read_service(section, mode);
    let web = HttpReceiverOptions::uncompressed(TlsFiles::read(section));

    let service = service?;
    Some(ChatPlan {
        interval: section.get(&INTERVAL).unwrap_or(service.interval()),
        service,
        url: url?,
        mode,
        web,
    })
}

fn read_service(section: &Section<'_>, mode: Mode) -> Option<Service> {
    let service = section.get(&SERVICE)?;
    let template = section.get(&TEMPLATE);
    if template.is_some() && service != ServiceName::Template {
        section.fault(&TEMPLATE, "`template` requires `service = \"template\"`");
    }

    match service {
        ServiceName::Teams => Some(Service::Teams),
        ServiceName::Slack => Some(Service::Slack),
        ServiceName::Template => {
            let Some(text) = template else {
                section.fault(&SERVICE, "`service = \"template\"` requires `template`");
                return None;
            };
            match JsonTemplate::parse(text, mode) {
                Ok(template) => Some(Service::Template(template)),
                Err(Explanation { message, hint }) => {
                    section.fault_with(&TEMPLATE, format!("`template`: {message}"), hint);
                    None
                }
            }
        }
    }
}

impl Service {
    /// The name in messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Teams => "Teams",
            Self::Slack => "Slack",
            Self::Template(_) => "the endpoint",
        }
    }

    /// The default of `interval`, by the published rates: one message per second for Slack, four
    /// requests per second for Teams.
    fn interval(&self) -> Duration {
        match self {
            Self::Teams => Duration::from_millis(250),
            Self::Slack => Duration::from_secs(1),
            Self::Template(_) => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{settings::with_section, sink::Plan};

    /// The faults of a section, without its required `url`.
    fn faults(keys: &str) -> Vec<String> {
        let text = format!("url = {{ env = \"HOOK\" }}\n{keys}");
        let (plan, faults) = with_section(&text, KEYS, read);
        assert_eq!(plan.is_some(), faults.is_empty(), "{keys}");
        faults
    }

    #[test]
    fn each_service_has_its_keys() {
        let template = r#"template = '{"text": "{title}"}'"#;
        for valid in [
            "service = \"teams\"".to_owned(),
            "service = \"slack\"\ninterval = \"2s\"\ndigest = \"0 8 * * 1\"".to_owned(),
            format!("service = \"template\"\n{template}"),
            format!("service = \"template\"\n{template}\ndigest = \"0 8 * * *\""),
        ] {
            assert_eq!(faults(&valid), Vec::<String>::new(), "{valid}");
        }
    }

    #[test]
    fn the_url_is_never_part_of_the_configuration() {
        let text = "service = \"slack\"\nurl = \"https://hooks.slack.com/services/canary\"";
        let ((), faults) = with_section(text, KEYS, |_| ());
        assert_eq!(faults, ["`url` must refer to a secret, not contain it"]);
    }

    #[test]
    fn acknowledgements_and_limits_depend_on_the_service() {
        let plan = |service, mode| ChatPlan {
            service,
            url: ReceiverUrl::Secret(crate::settings::SecretRef::Env("HOOK".to_owned())),
            mode,
            interval: Duration::ZERO,
            web: HttpReceiverOptions::uncompressed(TlsFiles::default()),
        };
        let template = JsonTemplate::parse("{}", Mode::Messages).unwrap();

        assert_eq!(plan(Service::Teams, Mode::Messages).limits().records, 1_000);
        assert_eq!(plan(Service::Template(template), Mode::Messages).limits().records, 50);
        assert_eq!(plan(Service::Slack, Mode::Digest).limits().records, 10_000);
        assert_eq!(Service::Slack.interval(), Duration::from_secs(1));
        assert_eq!(Service::Teams.interval(), Duration::from_millis(250));
    }
}
