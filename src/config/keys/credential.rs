//! The keys of credentials: `[credentials.NAME]`, and `credential` in a tenant. Each kind of
//! credential has its own list of keys. A key that holds a secret must have a type of secret, so
//! that its value is a reference and never appears in a message. Start reading at
//! [`CredentialKind`].

use crate::settings::{
    DAY, Date, FILE, FLAG, FilePath, Flag, Key, KeyDefinition, KeyWithDefault, Many, OneOf, SECRET,
    Secret, Shape, TEXT, Text, Variant, choices, defaulted, keys, one_of, optional, required,
};

/// The credentials that tenants share, by name.
pub(super) const NAMED: Shape =
    Shape::Tagged { tag: "kind", many: Many::Named, keys: KEYS, variants: kinds };

/// The credential of one tenant.
pub(super) const SINGLE: Shape =
    Shape::Tagged { tag: "kind", many: Many::One, keys: KEYS, variants: kinds };

keys! {
    /// The keys of every kind of credential.
    pub(in crate::config) const KEYS;
    KIND: Key<OneOf<CredentialKind>> = required("kind", one_of(CredentialKind::NAMES), "The kind of credential.");
}

choices! {
    /// The kinds of credential.
    pub(in crate::config) enum CredentialKind {
        ClientSecret = "client_secret",
        Certificate = "certificate",
        ManagedIdentity = "managed_identity",
        WorkloadIdentity = "workload_identity",
        User = "user",
        Environment = "environment",
    }
}

keys! {
    /// The key of kinds that belong to an app registration.
    pub(in crate::config) const APP_KEYS;
    CLIENT_ID: Key<Text> =
        required("client_id", TEXT, "The application (client) ID of the app registration.");
}

keys! {
    /// The keys of `client_secret`.
    pub(in crate::config) const CLIENT_SECRET_KEYS;
    ..APP_KEYS;
    CLIENT_SECRET: Key<Secret> =
        required("client_secret", SECRET, "The value of the client secret.");
    EXPIRES: Key<Date> = optional(
        "expires",
        DAY,
        "no warning",
        "The last day on which the client secret is valid, for a warning 30 days before.",
    );
}

keys! {
    /// The keys of `certificate`.
    pub(in crate::config) const CERTIFICATE_KEYS;
    ..APP_KEYS;
    CERTIFICATE: Key<FilePath> = required(
        "certificate",
        FILE,
        "The path of a PEM file with the certificate and its private key, or of a PFX file.",
    );
    PRIVATE_KEY: Key<FilePath> = optional(
        "private_key",
        FILE,
        "the file of the certificate",
        "The path of a PEM file with the private key, if it is not in the file of the certificate.",
    );
    PASSWORD: Key<Secret> =
        optional("password", SECRET, "no password", "The password of the PFX file.");
    SEND_CHAIN: KeyWithDefault<Flag> = defaulted(
        "send_chain",
        FLAG.or(false),
        "Sends the certificate chain, for app registrations that trust certificates by subject name and issuer.",
    );
}

keys! {
    /// The keys of `workload_identity`.
    pub(in crate::config) const WORKLOAD_IDENTITY_KEYS;
    WORKLOAD_CLIENT_ID: Key<Text> = optional(
        "client_id",
        TEXT,
        "`$AZURE_CLIENT_ID`",
        "The application (client) ID.",
    );
    TOKEN_FILE: Key<FilePath> = optional(
        "token_file",
        FILE,
        "`$AZURE_FEDERATED_TOKEN_FILE`",
        "The path of the file that contains the federated token.",
    );
}

keys! {
    /// The keys of `managed_identity`.
    pub(in crate::config) const MANAGED_IDENTITY_KEYS;
    IDENTITY_CLIENT_ID: Key<Text> = optional(
        "client_id",
        TEXT,
        "the system-assigned identity",
        "The client ID of a user-assigned identity.",
    );
    OBJECT_ID: Key<Text> = optional(
        "object_id",
        TEXT,
        "the system-assigned identity",
        "The object ID of a user-assigned identity, instead of `client_id`.",
    );
    RESOURCE_ID: Key<Text> = optional(
        "resource_id",
        TEXT,
        "the system-assigned identity",
        "The Azure resource ID of a user-assigned identity, instead of `client_id`.",
    );
}

keys! {
    /// The keys of `user`.
    pub(in crate::config) const USER_KEYS;
    ..APP_KEYS;
    HOME_TENANT: Key<Text> = optional(
        "home_tenant",
        TEXT,
        "the `id` of the tenant whose section contains the credential, or `organizations` for a shared credential",
        "The tenant in which the user signs in, by GUID or domain.",
    );
    TOKEN_KEY: Key<Secret> = optional(
        "token_key",
        SECRET,
        "`login` refuses to store the token, unless it is given `--plaintext`",
        "The key that encrypts the stored refresh token: a long random string.",
    );
}

fn kinds() -> Vec<Variant> {
    let kinds: [(CredentialKind, &'static [KeyDefinition]); 6] = [
        (CredentialKind::ClientSecret, CLIENT_SECRET_KEYS),
        (CredentialKind::Certificate, CERTIFICATE_KEYS),
        (CredentialKind::ManagedIdentity, MANAGED_IDENTITY_KEYS),
        (CredentialKind::WorkloadIdentity, WORKLOAD_IDENTITY_KEYS),
        (CredentialKind::User, USER_KEYS),
        (CredentialKind::Environment, &[]),
    ];
    kinds
        .into_iter()
        .map(|(kind, keys)| Variant { name: kind.choice().name, keys: Some(keys) })
        .collect()
}
