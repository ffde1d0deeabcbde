//! The authentication with a cluster, in the section `sasl`. Reading the section reads no secret,
//! and adds faults to the section. Start reading at [`Sasl::read`].

use rdkafka::ClientConfig;
use secrecy::ExposeSecret;

use crate::{
    settings::{
        Key, OneOf, SECRET, Secret, SecretRef, Section, TEXT, Text, choices, keys, one_of,
        optional, required,
    },
    sink::{
        Failure,
        address::{is_without_user, reject_user},
    },
};

keys! {
    /// The keys of `sasl`.
    pub(super) const SASL_KEYS;
    MECHANISM: Key<OneOf<Mechanism>> = required(
        "mechanism",
        one_of(Mechanism::NAMES),
        "The mechanism; `oauthbearer`, for Azure Event Hubs, also requires `credential` and `entra_tenant`.",
    )
    .example("scram-sha-512");
    USERNAME: Key<Text> = optional(
        "username",
        TEXT,
        "no user name",
        "The user name, which every mechanism except `oauthbearer` requires.",
    )
    .example("forwarder");
    PASSWORD: Key<Secret> = optional(
        "password",
        SECRET,
        "no password",
        "The password, which every mechanism except `oauthbearer` requires.",
    )
    .example("{ credential = \"kafka-password\" }");
    RESOURCE: Key<Text> = optional(
        "resource",
        TEXT,
        "`https://` and the host name of the first broker",
        "oauthbearer: the resource for which Entra tokens are requested.",
    )
    .example("https://contoso.servicebus.windows.net");
}

/// How the sink authenticates.
#[derive(Clone, Debug)]
pub(super) enum Sasl {
    Password {
        mechanism: Mechanism,
        username: String,
        password: SecretRef,
    },
    /// The resource that tokens are requested for, a URL.
    Entra(String),
}

choices! {
    /// How the sink authenticates with the cluster.
    pub(super) enum Mechanism {
        Plain = "plain",
        ScramSha256 = "scram-sha-256",
        ScramSha512 = "scram-sha-512",
        /// With Entra tokens.
        OauthBearer = "oauthbearer",
    }
}

impl Sasl {
    /// Reads the section. `first_broker` is the host name of the first broker. Returns `None` if it
    /// is not valid.
    pub(super) fn read(section: &Section<'_>, first_broker: &str) -> Option<Self> {
        let mechanism = section.get(&MECHANISM)?;
        if mechanism == Mechanism::OauthBearer {
            return read_resource(section, first_broker).map(Self::Entra);
        }

        if section.has(&RESOURCE) {
            section.fault(&RESOURCE, "`resource` requires `mechanism = \"oauthbearer\"`");
        }
        let (Some(username), Some(password)) = (section.get(&USERNAME), section.get(&PASSWORD))
        else {
            let name = mechanism.choice().name;
            let message = format!("`mechanism = \"{name}\"` requires `username` and `password`");
            section.fault(&MECHANISM, message);
            return None;
        };
        Some(Self::Password { mechanism, username: username.to_owned(), password })
    }

    /// Adds the settings of a client. This call reads the password. Fails with `Misconfigured` if
    /// the password cannot be read.
    pub(super) fn apply(&self, config: &mut ClientConfig) -> Result<(), Failure> {
        match self {
            Self::Password { mechanism, username, password } => {
                let password =
                    password.read().map_err(|error| Failure::misconfigured_by(&error))?;
                config
                    .set("sasl.mechanisms", mechanism.property())
                    .set("sasl.username", username)
                    .set("sasl.password", password.expose_secret());
            }
            Self::Entra(_) => {
                config.set("sasl.mechanisms", Mechanism::OauthBearer.property());
            }
        }
        Ok(())
    }
}

/// The resource for which tokens are requested. Returns `None` if it is not valid.
fn read_resource(section: &Section<'_>, first_broker: &str) -> Option<String> {
    let keys = [USERNAME.define(), PASSWORD.define()];
    for key in keys.into_iter().filter(|key| section.has(key)) {
        let message = format!("`{}` cannot be set with `mechanism = \"oauthbearer\"`", key.name);
        section.fault(&key, message);
    }

    let default = format!("https://{first_broker}");
    let resource = section.get(&RESOURCE).unwrap_or(&default);
    let Ok(url) = url::Url::parse(resource) else {
        section.fault(&RESOURCE, "`resource` must be a URL");
        return None;
    };
    if !is_without_user(&url) {
        reject_user(section, &RESOURCE);
        return None;
    }
    Some(resource.to_owned())
}

impl Mechanism {
    /// The name of the mechanism for librdkafka.
    fn property(self) -> String {
        self.choice().name.to_ascii_uppercase()
    }
}
