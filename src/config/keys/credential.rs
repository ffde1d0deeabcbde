//! The keys of credentials: `[credentials.NAME]`, and `credential` in a tenant. Each kind of
//! credential has its own list of keys. A key that holds a secret must have a type of secret, so
//! that its value is a reference and never appears in a message. Start reading at
//! [`CredentialKind`].

use crate::settings::{
    DAY, Date, ExampleSection, FILE, FLAG, FilePath, Flag, Key, KeyDefinition, KeyWithDefault,
    Many, OneOf, SECRET, Secret, Shape, TEXT, Text, Variant, check_key, checked_secret, choices,
    defaulted, keys, one_of, optional, required,
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
        required("client_id", TEXT, "The application (client) ID of the app registration.")
            .example("11111111-2222-4333-8444-555555555555");
}

keys! {
    /// The keys of `client_secret`.
    pub(in crate::config) const CLIENT_SECRET_KEYS;
    ..APP_KEYS;
    CLIENT_SECRET: Key<Secret> =
        required("client_secret", SECRET, "The value of the client secret.")
            .example("{ credential = \"graph-secret\" }");
    EXPIRES: Key<Date> = optional(
        "expires",
        DAY,
        "no warning",
        "The last day on which the client secret is valid, for a warning 30 days before.",
    )
    .example("2027-01-31");
}

keys! {
    /// The keys of `certificate`.
    pub(in crate::config) const CERTIFICATE_KEYS;
    ..APP_KEYS;
    CERTIFICATE: Key<FilePath> = required(
        "certificate",
        FILE,
        "The path of a PEM file with the certificate and its private key, or of a PFX file.",
    )
    .example("/etc/secure-score-forwarder/app.pem");
    PRIVATE_KEY: Key<FilePath> = optional(
        "private_key",
        FILE,
        "the file of the certificate",
        "The path of a PEM file with the private key, if it is not in the file of the certificate.",
    )
    .example("/etc/secure-score-forwarder/app.key");
    PASSWORD: Key<Secret> =
        optional("password", SECRET, "no password", "The password of the PFX file.")
            .example("{ credential = \"pfx-password\" }");
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
    )
    .example("11111111-2222-4333-8444-555555555555");
    TOKEN_FILE: Key<FilePath> = optional(
        "token_file",
        FILE,
        "`$AZURE_FEDERATED_TOKEN_FILE`",
        "The path of the file that contains the federated token.",
    )
    .example("/var/run/secrets/azure/tokens/azure-identity-token");
}

keys! {
    /// The keys of `managed_identity`.
    pub(in crate::config) const MANAGED_IDENTITY_KEYS;
    IDENTITY_CLIENT_ID: Key<Text> = optional(
        "client_id",
        TEXT,
        "the system-assigned identity",
        "The client ID of a user-assigned identity.",
    )
    .example("22222222-2222-4333-8444-555555555555");
    OBJECT_ID: Key<Text> = optional(
        "object_id",
        TEXT,
        "the system-assigned identity",
        "The object ID of a user-assigned identity, instead of `client_id`.",
    )
    .example("33333333-2222-4333-8444-555555555555");
    RESOURCE_ID: Key<Text> = optional(
        "resource_id",
        TEXT,
        "the system-assigned identity",
        "The Azure resource ID of a user-assigned identity, instead of `client_id`.",
    )
    .example("/subscriptions/…/userAssignedIdentities/forwarder");
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
    )
    .example("contoso.example");
    TOKEN_KEY: Key<Secret> = optional(
        "token_key",
        checked_secret(check_key),
        "`login` refuses to store the token, unless it is given `--plaintext`",
        "The key that encrypts the stored refresh token: at least 32 random characters.",
    );
}

/// The keys of a kind of credential, and its sections in the example file.
type KindOfCredential = (CredentialKind, &'static [KeyDefinition], &'static [ExampleSection]);

fn kinds() -> Vec<Variant> {
    const KINDS: [KindOfCredential; 6] = [
        (CredentialKind::ClientSecret, CLIENT_SECRET_KEYS, CLIENT_SECRET_EXAMPLES),
        (CredentialKind::Certificate, CERTIFICATE_KEYS, CERTIFICATE_EXAMPLES),
        (CredentialKind::ManagedIdentity, MANAGED_IDENTITY_KEYS, MANAGED_IDENTITY_EXAMPLES),
        (CredentialKind::WorkloadIdentity, WORKLOAD_IDENTITY_KEYS, WORKLOAD_IDENTITY_EXAMPLES),
        (CredentialKind::User, USER_KEYS, USER_EXAMPLES),
        (CredentialKind::Environment, &[], ENVIRONMENT_EXAMPLES),
    ];
    let variant = |(kind, keys, examples): KindOfCredential| Variant {
        name: kind.choice().name,
        keys: Some(keys),
        examples,
    };
    KINDS.into_iter().map(variant).collect()
}

const CLIENT_SECRET_EXAMPLES: &[ExampleSection] = &[ExampleSection {
    name: "app",
    about: "An app registration with a client secret.",
    ..ExampleSection::SET
}];

const CERTIFICATE_EXAMPLES: &[ExampleSection] = &[ExampleSection {
    name: "app-certificate",
    about: "An app registration with a certificate.",
    ..ExampleSection::NOT_SET
}];

const MANAGED_IDENTITY_EXAMPLES: &[ExampleSection] = &[
    ExampleSection {
        name: "identity",
        about: "The managed identity of a host in Azure or with Azure Arc, such as for the sinks that sign in to Entra.",
        omits: &[OBJECT_ID.define(), RESOURCE_ID.define()],
        ..ExampleSection::NOT_SET
    },
    ExampleSection {
        name: "identity-by-object-id",
        sets: &[OBJECT_ID.define()],
        ..ExampleSection::NOT_SET
    },
    ExampleSection {
        name: "identity-by-resource-id",
        sets: &[RESOURCE_ID.define()],
        ..ExampleSection::NOT_SET
    },
];

const WORKLOAD_IDENTITY_EXAMPLES: &[ExampleSection] = &[ExampleSection {
    name: "workload",
    about: "An identity that Entra federates with another issuer of tokens, such as a cluster of Kubernetes, where both keys can be omitted.",
    sets: WORKLOAD_IDENTITY_KEYS,
    ..ExampleSection::NOT_SET
}];

const USER_EXAMPLES: &[ExampleSection] = &[ExampleSection {
    name: "operator",
    about: "A user, who signs in with `secure-score-forwarder login`.",
    ..ExampleSection::NOT_SET
}];

const ENVIRONMENT_EXAMPLES: &[ExampleSection] = &[ExampleSection {
    name: "environment",
    about: "A secret, a certificate or a federated token that the environment variables of the Azure SDK name: AZURE_CLIENT_ID with AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH or AZURE_FEDERATED_TOKEN_FILE.",
    ..ExampleSection::NOT_SET
}];
