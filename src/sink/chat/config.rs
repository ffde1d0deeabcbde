//! The configuration of a sink with `type = "chat"`. Reading a section opens no connection and
//! reads no secret; faults are added to the section.

use std::time::Duration;

use super::{
    json_template::JsonTemplate,
    service::{open, probe},
};
use crate::{
    format::FormatName,
    settings::{Key, Section, Shape, optional, required},
    sink::{
        BoxFuture, Context, Failure, History, Limits, Plan, Sink,
        notification::{DIGEST, Mode, RECORDS},
        web::{CA_FILE, CLIENT_CERTIFICATE, CLIENT_KEY, HttpReceiverOptions, ReceiverUrl},
    },
};

/// The keys of this sink, besides those of all sinks.
pub(in crate::sink) const KEYS: &[Key] = &[
    required(
        "service",
        Shape::OneOf(&["teams", "slack", "template"]),
        "The service that receives the messages: `teams` is a workflow of Microsoft Teams, `slack` an incoming webhook of Slack, and `template` any endpoint for JSON.",
    ),
    required(
        "url",
        Shape::Secret,
        "The URL of the webhook, as a reference to a secret, because anyone who knows it can post messages.",
    ),
    optional(
        "template",
        Shape::Text,
        "With `service = \"template\"`, the JSON body of a request. In its strings, placeholders such as {title}, {text}, {severity}, {tenant.name} and {label.NAME} are replaced.",
    ),
    optional(
        "interval",
        Shape::Duration,
        "The minimum time between two messages; default: 1s for Slack, 250ms for Teams, and 0s for a template.",
    ),
    DIGEST,
    CA_FILE,
    CLIENT_CERTIFICATE,
    CLIENT_KEY,
];

/// The maximum number of records in a message, so that a message remains readable.
const RECORDS_PER_MESSAGE: usize = 20;
/// The maximum number of records in a batch for a template, each of which is one request.
const REQUESTS_PER_BATCH: usize = 50;

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
pub(in crate::sink) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    let mode = Mode::read(section);
    let url = ReceiverUrl::read(section, "url");
    let service = read_service(section, mode);
    let web = HttpReceiverOptions { gzip: false, ..HttpReceiverOptions::read(section) };

    let service = service?;
    Some(Box::new(ChatPlan {
        interval: section.duration("interval").unwrap_or(service.interval()),
        service,
        url: url?,
        mode,
        web,
    }))
}

fn read_service(section: &Section<'_>, mode: Mode) -> Option<Service> {
    let service = section.text("service")?;
    let template = section.text("template");
    if template.is_some() && service != "template" {
        section.fault("template", "`template` requires `service = \"template\"`");
    }

    match service {
        "teams" => Some(Service::Teams),
        "slack" => Some(Service::Slack),
        "template" => {
            let Some(text) = template else {
                section.fault("service", "`service = \"template\"` requires `template`");
                return None;
            };
            let parsed = JsonTemplate::parse(text, mode);
            if let Err(reason) = &parsed {
                section.fault("template", format!("`template`: {reason}"));
            }
            parsed.ok().map(Service::Template)
        }
        _ => None,
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

impl Plan for ChatPlan {
    /// Messages have no format. This one is used only to estimate sizes.
    fn format(&self) -> FormatName {
        FormatName::Json
    }

    fn acknowledgement(&self) -> &'static str {
        match self.service {
            Service::Teams => "the workflow accepted the message",
            Service::Slack => "Slack returned a success status",
            Service::Template(_) => "the endpoint returned a success status",
        }
    }

    fn limits(&self) -> Limits {
        let records = match self.service {
            Service::Teams | Service::Slack => RECORDS_PER_MESSAGE,
            Service::Template(_) => REQUESTS_PER_BATCH,
        };
        self.mode.limits(Limits { records, bytes: 256 << 10, in_flight: 1 })
    }

    fn default_records(&self) -> &'static [&'static str] {
        RECORDS
    }

    fn history(&self) -> History {
        History::Skipped
    }

    fn required_labels(&self) -> Vec<String> {
        match &self.service {
            Service::Template(template) => template.labels(),
            Service::Teams | Service::Slack => Vec::new(),
        }
    }

    fn probe<'a>(&'a self, _: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(probe(self))
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(std::future::ready(open(self, context)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Document, Faults, check};

    /// The faults of a section, without its required `url`.
    fn faults(keys: &str) -> Vec<String> {
        let text = format!("url = {{ env = \"HOOK\" }}\n{keys}");
        let faults = Faults::new("c.toml", &text);
        let document = Document::parse(&text, &faults).unwrap();
        let section = document.section(&faults);
        check(&section, KEYS, &faults);
        let read = read(&section);
        assert_eq!(read.is_some(), faults.is_empty(), "{keys}");
        faults.sorted().into_iter().map(|fault| fault.message).collect()
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
        let faults = Faults::new("c.toml", text);
        let document = Document::parse(text, &faults).unwrap();
        check(&document.section(&faults), KEYS, &faults);
        let messages: Vec<String> =
            faults.sorted().into_iter().map(|fault| fault.message).collect();
        assert_eq!(messages, ["`url` must refer to a secret, not contain it"]);
    }

    #[test]
    fn acknowledgements_and_limits_depend_on_the_service() {
        let plan = |service, mode| ChatPlan {
            service,
            url: ReceiverUrl::Secret(crate::settings::SecretRef::Env("HOOK".to_owned())),
            mode,
            interval: Duration::ZERO,
            web: HttpReceiverOptions { ca_file: None, client: None, gzip: false },
        };
        let template = JsonTemplate::parse("{}", Mode::Messages).unwrap();

        assert_eq!(plan(Service::Teams, Mode::Messages).limits().records, 20);
        assert_eq!(plan(Service::Template(template), Mode::Messages).limits().records, 50);
        assert_eq!(plan(Service::Slack, Mode::Digest).limits().records, 10_000);
        assert_eq!(Service::Slack.interval(), Duration::from_secs(1));
        assert_eq!(Service::Teams.interval(), Duration::from_millis(250));
    }
}
