//! The properties of librdkafka that the operator cannot set: those that another key sets, that
//! contain a secret, or on which a guarantee of the sink depends. All other properties are
//! permitted. Each refused one is listed by name; a wildcard covers groups in which librdkafka may
//! add names. Start reading at [`refusal_of`].

/// A group of properties that the operator cannot set.
pub(super) struct RefusedProperties {
    /// The names. A `*` at the beginning or at the end represents any text.
    names: &'static [&'static str],
    /// Why the properties are refused, as a clause.
    pub reason: &'static str,
    /// What to do instead, as an imperative.
    pub hint: &'static str,
}

const REMOVE: &str = "remove this property";

/// The names are those of `CONFIGURATION.md` of librdkafka 2.12, and hidden ones of its source.
const REFUSED: &[RefusedProperties] = &[
    RefusedProperties {
        names: &["bootstrap.servers", "metadata.broker.list"],
        reason: "the sink sets it from `brokers`",
        hint: "set `brokers` instead",
    },
    RefusedProperties {
        names: &["transactional.id"],
        reason: "the sink sets it from `transactional_id`",
        hint: "set `transactional_id` instead",
    },
    RefusedProperties {
        names: &["transaction.timeout.ms"],
        reason: "the sink sets it from `transaction_timeout`",
        hint: "set `transaction_timeout` instead",
    },
    RefusedProperties {
        names: &["compression.codec", "compression.type"],
        reason: "the sink sets it from `compression`",
        hint: "set `compression` instead",
    },
    RefusedProperties {
        names: &["security.protocol"],
        reason: "the sink sets it from `tls` and `sasl`",
        hint: "set `tls` or `sasl` instead",
    },
    RefusedProperties {
        names: &["ssl.ca.location", "ssl.ca.pem", "ssl_ca"],
        reason: "`tls` decides which certificate authorities are trusted",
        hint: "set `ca_file` in `tls` instead",
    },
    RefusedProperties {
        names: &[
            "ssl.certificate.location",
            "ssl.certificate.pem",
            "ssl_certificate",
            "ssl.key.location",
            "ssl.key.pem",
            "ssl.key.password",
            "ssl_key",
            "ssl.keystore.location",
            "ssl.keystore.password",
        ],
        reason: "`tls` decides which client certificate is presented, and secrets must be in files",
        hint: "set `client_certificate` and `client_key` in `tls` instead",
    },
    RefusedProperties {
        names: &["enable.ssl.certificate.verification", "ssl.endpoint.identification.algorithm"],
        reason: "the certificates and the names of the brokers are always verified",
        hint: REMOVE,
    },
    RefusedProperties {
        names: &["sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password"],
        reason: "the sink sets it from `sasl`, in which passwords are references to secrets",
        hint: "set `sasl` instead",
    },
    RefusedProperties {
        names: &[
            "sasl.oauthbearer.config",
            "sasl.oauthbearer.method",
            "sasl.oauthbearer.metadata.authentication.type",
            "sasl.oauthbearer.token.endpoint.url",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.client.credentials.client.secret",
            "sasl.oauthbearer.assertion.private.key.file",
            "sasl.oauthbearer.assertion.private.key.passphrase",
            "sasl.oauthbearer.assertion.private.key.pem",
            "enable.sasl.oauthbearer.unsecure.jwt",
            "enable_sasl_queue",
        ],
        reason: "the sink itself requests the tokens, with `credential`",
        hint: "set `sasl` and `credential` instead",
    },
    RefusedProperties {
        names: &["acks", "request.required.acks", "delivery.report.only.error"],
        reason: "a record counts as delivered only if all in-sync replicas confirm it",
        hint: REMOVE,
    },
    RefusedProperties {
        names: &[
            "enable.idempotence",
            "enable.gapless.guarantee",
            "max.in.flight",
            "max.in.flight.requests.per.connection",
            "message.send.max.retries",
            "retries",
            "queuing.strategy",
            "msg_order_cmp",
        ],
        reason: "the sink requires an idempotent producer, which sends each record once and in order",
        hint: REMOVE,
    },
    RefusedProperties {
        names: &["message.timeout.ms", "delivery.timeout.ms"],
        reason: "the sink itself limits the time of a batch and sends it again",
        hint: REMOVE,
    },
    RefusedProperties {
        names: &[
            "queue.buffering.max.messages",
            "queue.buffering.max.kbytes",
            "queue.buffering.backpressure.threshold",
        ],
        reason: "the sink itself limits the memory of the queue to a few batches",
        hint: REMOVE,
    },
    RefusedProperties {
        names: &["partitioner"],
        reason: "all records of a control must be in one partition, and Java clients must choose the same one for the key",
        hint: REMOVE,
    },
    RefusedProperties {
        names: &[
            "isolation.level",
            "group.*",
            "partition.assignment.strategy",
            "auto.offset.reset",
            "auto.commit.*",
            "enable.auto.*",
            "enable.partition.eof",
            "offset.store.*",
            "queued.max.messages.kbytes",
        ],
        reason: "the sink itself decides how it reads its progress topic",
        hint: REMOVE,
    },
    RefusedProperties {
        names: &[
            "*_cb",
            "opaque",
            "default_topic_conf",
            "interceptors",
            "enabled_events",
            "internal.termination.signal",
            "log.queue",
            "ssl_engine_callback_data",
        ],
        reason: "the sink itself handles the events of the client",
        hint: REMOVE,
    },
    RefusedProperties {
        names: &["log_level"],
        reason: "messages of the client are part of the log of this program",
        hint: "run the command with `--log debug`, and set the property `debug`, instead",
    },
    RefusedProperties {
        names: &["plugin.library.paths", "ssl.engine.location", "sasl.kerberos.kinit.cmd"],
        reason: "it loads or starts other programs",
        hint: REMOVE,
    },
    RefusedProperties {
        names: &["test.*", "ut_*"],
        reason: "it is only for tests of librdkafka, and records could be lost",
        hint: REMOVE,
    },
];

/// Why a property is refused, by its usual name; `None` if the operator may set it.
pub(super) fn refusal_of(name: &str) -> Option<&'static RefusedProperties> {
    REFUSED.iter().find(|refusal| refusal.names.iter().any(|pattern| matches(pattern, name)))
}

fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (None, None) => name == pattern,
    }
}
