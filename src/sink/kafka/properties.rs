//! The properties of librdkafka that the operator adds with the key `properties`.
//!
//! `producer_config` adds those that the sink sets, and `refused_properties` lists those that the
//! operator cannot set. librdkafka itself checks all other names and values, for which it needs
//! neither a client nor a connection. Start reading at [`Properties::read`].

use std::collections::{BTreeMap, btree_map::Entry};

use rdkafka::{
    ClientConfig, config::RDKafkaLogLevel, error::KafkaError, types::RDKafkaConfRes as ConfigResult,
};

use super::refused_properties::refusal_of;
use crate::{
    error::Explanation,
    settings::{Key, Map, Section},
    sink::chain,
};

/// The properties that the operator has added, by their usual names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Properties(BTreeMap<String, String>);

/// The name of the time for which librdkafka waits for more records, and its maximum. A record must
/// be sent within the time limit of its batch and of a transaction.
pub(super) const LINGER: &str = "linger.ms";
const MAX_LINGER_MS: u64 = 1_000;

/// The limit of a response of a broker, for which librdkafka allocates the memory at once: its
/// name, and its value in bytes. The largest responses describe all topics of a cluster.
const RESPONSE_LIMIT: &str = "receive.message.max.bytes";
const MAX_RESPONSE_BYTES: u64 = 16 << 20;
/// The bytes by which librdkafka requires that limit to be above that of the records it requests.
const FRAMING_BYTES: u64 = 512;

/// Aliases of permitted properties. If both names are set, librdkafka does not define which one
/// applies.
const ALIASES: &[(&str, &str)] =
    &[("queue.buffering.max.ms", LINGER), ("max.partition.fetch.bytes", "fetch.message.max.bytes")];

impl Properties {
    /// Reads the key `properties` of a section. The faults of single properties are added to the
    /// section, at the key.
    pub(super) fn read(section: &Section<'_>, key: &Key<Map>) -> Self {
        let mut properties = BTreeMap::new();

        for (written, value) in section.get(key).unwrap_or_default() {
            if let Err(Explanation { message, hint }) = check(&written, &value) {
                section.fault_with(key, message, hint);
                continue;
            }
            match properties.entry(usual_name(&written).to_owned()) {
                Entry::Vacant(entry) => {
                    entry.insert(value);
                }
                Entry::Occupied(entry) => {
                    let message =
                        format!("`properties` contains `{}` under two names", entry.key());
                    let hint = Some("remove one of them".to_owned());
                    section.fault_with(key, message, hint);
                }
            }
        }
        Self(properties)
    }

    /// The least severe messages of librdkafka that are passed to the log. The property `debug`
    /// requests more of them.
    pub(super) fn log_level(&self) -> RDKafkaLogLevel {
        if self.0.contains_key("debug") { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Warning }
    }

    /// Sets the properties, which replace those that are set already.
    pub(super) fn apply(&self, config: &mut ClientConfig) {
        for (name, value) in &self.0 {
            config.set(name, value);
        }
    }

    /// Limits the size of a response, unless the operator has set the limit. It is not lower than
    /// other properties of the operator require.
    pub(super) fn limit_responses(&self, config: &mut ClientConfig) {
        if self.0.contains_key(RESPONSE_LIMIT) {
            return;
        }
        let size = |name: &str| self.0.get(name)?.trim().parse::<u64>().ok();
        let requested = ["fetch.max.bytes", "message.max.bytes"].into_iter().filter_map(size).max();
        let required = requested.unwrap_or(0).saturating_add(FRAMING_BYTES);
        config.set(RESPONSE_LIMIT, MAX_RESPONSE_BYTES.max(required).to_string());
    }
}

/// Why a property cannot be set to a value.
fn check(written: &str, value: &str) -> Result<(), Explanation> {
    let name = usual_name(written);
    let problem = |reason: &str| {
        Explanation::new(format!("`properties` cannot contain `{written}`: {reason}"))
    };
    if let Some(refusal) = refusal_of(name) {
        return Err(problem(refusal.reason).with_hint(refusal.hint));
    }

    let mut config = ClientConfig::new();
    config.set(written, value);
    match config.create_native_config() {
        Err(KafkaError::ClientConfig(ConfigResult::RD_KAFKA_CONF_UNKNOWN, ..)) => {
            let hint = "use a name from the page CONFIGURATION.md of librdkafka";
            Err(problem("librdkafka has no such property").with_hint(hint))
        }
        Err(KafkaError::ClientConfig(_, description, ..)) => Err(problem(description.trim_end())),
        Err(error) => Err(problem(&chain(&error))),
        Ok(_) if name == LINGER && is_above(value, MAX_LINGER_MS) => {
            Err(problem(&format!("the maximum of `{LINGER}` is {MAX_LINGER_MS} (milliseconds)")))
        }
        Ok(_) => Ok(()),
    }
}

/// The name under which the sink knows a property. librdkafka also accepts properties of topics
/// with the prefix `topic.`, and two names for some properties.
fn usual_name(written: &str) -> &str {
    let is_global = |name: &str| name.starts_with("metadata.") || name == "blacklist";
    let of_topic = written.strip_prefix("topic.").filter(|name| !is_global(name));
    let name = of_topic.unwrap_or(written);
    ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, usual)| *usual)
}

fn is_above(value: &str, maximum: u64) -> bool {
    value.trim().parse::<u64>().is_ok_and(|number| number > maximum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        settings::{KeyDefinition, with_section},
        sink::{
            common_keys::NAME,
            kafka::{
                KEYS,
                config::KafkaPlan,
                producer_config::{DEFAULTS, producer_config},
            },
        },
    };

    /// The plan of a sink with these additional keys, and the messages of the faults.
    fn plan(keys: &str) -> (KafkaPlan, Vec<String>) {
        let text = format!("name = \"lake\"\nbrokers = [\"b:9092\"]\ntopic = \"t\"\n{keys}\n");
        let known: Vec<KeyDefinition> = KEYS.iter().copied().chain([NAME.define()]).collect();
        let (plan, faults) = with_section(&text, &known, KafkaPlan::read);
        (plan.unwrap(), faults)
    }

    /// See [`plan`]; these are the properties.
    fn plan_with(properties: &str) -> (KafkaPlan, Vec<String>) {
        plan(&format!("properties = {{ {properties} }}"))
    }

    /// Regression: all properties that begin with `ssl.` and `sasl.`, and those that change only
    /// the log, were refused.
    #[test]
    fn harmless_properties_of_tls_are_accepted() {
        for (name, value) in [
            ("ssl.cipher.suites", "ECDHE-RSA-AES256-GCM-SHA384"),
            ("ssl.curves.list", "P-256"),
            ("ssl.sigalgs.list", "RSA-PSS+SHA256"),
            ("ssl.crl.location", "/etc/ssl/crl.pem"),
            ("sasl.kerberos.service.name", "kafka"),
            ("statistics.interval.ms", "60000"),
            ("debug", "broker,security"),
        ] {
            assert!(refusal_of(name).is_none(), "{name}");
            // librdkafka may have been built without the feature of a property.
            if let Err(problem) = check(name, value) {
                assert!(problem.message.contains("build"), "{}", problem.message);
            }
        }

        let (plan, faults) = plan_with("\"debug\" = \"broker\"");
        assert!(faults.is_empty(), "{faults:?}");
        let common = plan.client_config(&"lake".into()).unwrap();
        let producer = producer_config(&plan, &common, None);
        assert!(matches!(producer.log_level, RDKafkaLogLevel::Debug));
        assert_eq!(producer.get("debug"), Some("broker,eos"));
        assert!(matches!(Properties::default().log_level(), RDKafkaLogLevel::Warning));
    }

    #[test]
    fn other_properties_are_passed_through() {
        for (properties, name, value) in [
            ("\"linger.ms\" = \"50\"", "linger.ms", "50"),
            ("\"queue.buffering.max.ms\" = \"50\"", "linger.ms", "50"),
            ("\"client.id\" = \"posture\"", "client.id", "posture"),
            ("\"message.max.bytes\" = \"2000000\"", "message.max.bytes", "2000000"),
            ("\"topic.compression.level\" = \"3\"", "compression.level", "3"),
            ("\"topic.blacklist\" = \"^x\"", "topic.blacklist", "^x"),
            ("\"socket.keepalive.enable\" = \"false\"", "socket.keepalive.enable", "false"),
            ("\"client.dns.lookup\" = \"use_all_dns_ips\"", "client.dns.lookup", "use_all_dns_ips"),
            ("\"enable.metrics.push\" = \"false\"", "enable.metrics.push", "false"),
        ] {
            let (plan, faults) = plan_with(properties);
            assert!(faults.is_empty(), "{properties}: {faults:?}");
            let common = plan.client_config(&"lake".into()).unwrap();
            let producer = producer_config(&plan, &common, Some(1_000_000));
            assert_eq!(producer.get(name), Some(value), "{properties}");
        }
    }

    /// Regression: librdkafka accepted responses of 100 MB from every broker.
    #[test]
    fn responses_of_brokers_are_limited() {
        for (properties, limit) in [
            ("\"linger.ms\" = \"50\"", "16777216"),
            ("\"message.max.bytes\" = \"2000000\"", "16777216"),
            ("\"message.max.bytes\" = \"20000000\"", "20000512"),
            ("\"fetch.max.bytes\" = \"52428800\"", "52429312"),
            ("\"receive.message.max.bytes\" = \"4000000\"", "4000000"),
        ] {
            let (plan, faults) = plan_with(properties);
            assert!(faults.is_empty(), "{properties}: {faults:?}");
            let common = plan.client_config(&"lake".into()).unwrap();
            assert_eq!(common.get("receive.message.max.bytes"), Some(limit), "{properties}");
        }
    }

    #[test]
    fn limits_of_a_topic_fit_librdkafka() {
        let (plan, _) = plan("");
        let common = plan.client_config(&"lake".into()).unwrap();
        for (limit, expected) in [(0, "1000"), (1_048_588, "1048588"), (u32::MAX, "1000000000")] {
            let producer = producer_config(&plan, &common, Some(limit));
            assert_eq!(producer.get("message.max.bytes"), Some(expected));
        }
    }

    const REMOVE: &str = "remove this property";
    const LOG_LEVEL: &str =
        "run the command with `--log debug`, and set the property `debug`, instead";
    const CLIENT_CERTIFICATE: &str = "set `client_certificate` and `client_key` in `tls` instead";
    const TOKENS: &str = "set `sasl` and `credential` instead";

    #[test]
    fn properties_behind_the_guarantees_are_refused() {
        for (name, value, message, hint) in [
            ("acks", "1", "all in-sync replicas", REMOVE),
            ("request.required.acks", "1", "all in-sync replicas", REMOVE),
            ("topic.acks", "1", "all in-sync replicas", REMOVE),
            ("enable.idempotence", "false", "idempotent producer", REMOVE),
            ("max.in.flight", "1", "idempotent producer", REMOVE),
            ("delivery.timeout.ms", "1", "limits the time of a batch", REMOVE),
            ("queue.buffering.max.kbytes", "1", "limits the memory", REMOVE),
            ("partitioner", "random", "of a control", REMOVE),
            ("topic.partitioner", "random", "of a control", REMOVE),
            ("group.id", "x", "its progress topic", REMOVE),
            ("enable.auto.offset.store", "true", "its progress topic", REMOVE),
            ("queued.max.messages.kbytes", "1", "its progress topic", REMOVE),
            ("log_cb", "1", "the events of the client", REMOVE),
            ("dr_msg_cb", "1", "the events of the client", REMOVE),
            ("log_level", "7", "part of the log", LOG_LEVEL),
            ("plugin.library.paths", "x", "starts other programs", REMOVE),
            ("sasl.kerberos.kinit.cmd", "x", "starts other programs", REMOVE),
            ("test.mock.num.brokers", "3", "only for tests", REMOVE),
        ] {
            assert_refused(name, value, message, hint);
        }
    }

    #[test]
    fn properties_of_other_keys_are_refused_by_name() {
        for (name, value, message, hint) in [
            ("metadata.broker.list", "x:1", "from `brokers`", "set `brokers` instead"),
            ("transactional.id", "x", "from `transactional_id`", "set `transactional_id` instead"),
            ("compression.codec", "lz4", "from `compression`", "set `compression` instead"),
            ("security.protocol", "ssl", "from `tls` and `sasl`", "set `tls` or `sasl` instead"),
            ("ssl.ca.pem", "x", "are trusted", "set `ca_file` in `tls` instead"),
            ("ssl.key.password", "x", "client certificate", CLIENT_CERTIFICATE),
            ("enable.ssl.certificate.verification", "false", "always verified", REMOVE),
            ("ssl.endpoint.identification.algorithm", "none", "always verified", REMOVE),
            ("sasl.password", "x", "from `sasl`", "set `sasl` instead"),
            ("sasl.oauthbearer.method", "oidc", "requests the tokens", TOKENS),
            ("sasl.oauthbearer.client.secret", "x", "requests the tokens", TOKENS),
        ] {
            assert_refused(name, value, message, hint);
        }
    }

    fn assert_refused(name: &str, value: &str, message: &str, hint: &str) {
        let problem = check(name, value).unwrap_err();
        let start = format!("`properties` cannot contain `{name}`: ");
        assert!(problem.message.starts_with(&start), "{}", problem.message);
        assert!(problem.message.contains(message), "{}", problem.message);
        assert_eq!(problem.hint.as_deref(), Some(hint), "{name}");

        let (plan, faults) = plan_with(&format!("\"{name}\" = \"{value}\""));
        assert_eq!(faults, [problem.message]);
        assert_eq!(plan.properties, Properties::default());
    }

    #[test]
    fn librdkafka_checks_names_and_values() {
        for (properties, message) in [
            ("\"lingerms\" = \"5\"", "librdkafka has no such property"),
            ("\"topic.client.id\" = \"x\"", "librdkafka has no such property"),
            ("\"linger.ms\" = \"5000000\"", "outside allowed range"),
            ("\"linger.ms\" = \"5000\"", "the maximum of `linger.ms` is 1000 (milliseconds)"),
            ("\"queue.buffering.max.ms\" = \"5000\"", "the maximum of `linger.ms`"),
            ("\"client.dns.lookup\" = \"some\"", "Invalid value"),
            ("\"linger.ms\" = \"5\", \"queue.buffering.max.ms\" = \"6\"", "under two names"),
        ] {
            let (_, faults) = plan_with(properties);
            assert_eq!(faults.len(), 1, "{properties}: {faults:?}");
            assert!(faults[0].contains(message), "{properties}: {}", faults[0]);
        }
    }

    /// Everything that the sink sets is refused, except what the operator may replace.
    #[test]
    fn properties_of_the_sink_cannot_be_replaced() {
        let (plan, _) = plan("tls = {}");
        let common = plan.client_config(&"lake".into()).unwrap();
        let config = producer_config(&plan, &common, Some(1_000_000));

        let is_default = |name: &str| {
            ["client.id", "message.max.bytes", "debug", RESPONSE_LIMIT].contains(&name)
                || DEFAULTS.iter().any(|(default, _)| *default == name)
        };
        let map = config.config_map();
        assert!(map.len() > 12, "{map:?}");
        for (name, value) in map {
            let problem = check(name, value).err();
            assert_eq!(problem.is_none(), is_default(name), "{name}: {problem:?}");
        }

        // The consumers of the progress topic set these.
        for name in ["group.id", "enable.auto.commit", "enable.partition.eof", "isolation.level"] {
            assert!(check(name, "x").is_err_and(|problem| problem.message.contains("progress")));
        }
    }
}
