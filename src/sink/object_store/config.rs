//! The configuration of a sink with `type = "object_store"`. Reading a section opens no connection
//! and reads no secret; faults are added to the section.

use std::path::PathBuf;

use serde::Deserialize;

use super::environment::{AddressSource, check_addresses};
use crate::{
    error::Explanation,
    foreign_text::PeerSecrets,
    format::FormatName,
    net::is_safe_url,
    settings::{
        ExampleSection, Key, KeyDefinition, KeyWithDefault, OneOf, SECRET, Secret, SecretRef,
        Section, SubSection, TEXT, Text, checked_secret, choices, defaulted, keys, one_of,
        optional, required, section,
    },
    sink::{
        address::{is_without_user, reject_user},
        common_keys::{CREDENTIAL, ENTRA_TENANT},
        shared_keys::{AUTHORITY_KEYS, CA_FILE, LINE_FORMAT, LINE_FORMAT_KEYS},
        web::read_url,
    },
};

keys! {
    /// The keys of this sink, besides those of all sinks.
    pub(in crate::sink) const KEYS;
    ..LINE_FORMAT_KEYS;
    ..AUTHORITY_KEYS;
    URL: Key<Text> = required(
        "url",
        TEXT,
        "The bucket or container, and a prefix: s3://BUCKET/PREFIX, az://CONTAINER/PREFIX or gs://BUCKET/PREFIX.",
    )
    .example("s3://example-scores/secure-score");
    COMPRESSION: KeyWithDefault<OneOf<Compression>> = defaulted(
        "compression",
        one_of(Compression::NAMES).or(Compression::Zstd.choice()),
        "The compression of objects.",
    );
    REGION: Key<Text> = optional(
        "region",
        TEXT,
        "`$AWS_REGION`, or else `us-east-1`",
        "s3: the region of the bucket.",
    )
    .example("eu-west-1");
    ACCESS_KEY_ID: Key<Text> = optional(
        "access_key_id",
        TEXT,
        "the key in the environment, or the role of the host",
        "s3: the ID of the access key; requires `secret_access_key`.",
    )
    .example("AKIAEXAMPLE");
    SECRET_ACCESS_KEY: Key<Secret> = optional(
        "secret_access_key",
        SECRET,
        "the key in the environment, or the role of the host",
        "s3: the secret access key; requires `access_key_id`.",
    )
    .example("{ credential = \"s3-key\" }");
    ACCOUNT: Key<Text> = optional(
        "account",
        TEXT,
        "no account",
        "az: the storage account, which az:// URLs require.",
    )
    .example("contosoarchive");
    ACCOUNT_KEY: Key<Secret> = optional(
        "account_key",
        SECRET,
        "the sink signs in to Entra",
        "az: the key of the account; instead of `credential` and `entra_tenant`.",
    )
    .example("{ credential = \"blob-key\" }");
    SERVICE_ACCOUNT: Key<Secret> = optional(
        "service_account",
        checked_secret(check_service_account),
        "the service account of the environment or of the host",
        "gs: the JSON key of a service account.",
    )
    .example("{ credential = \"google-key\" }");
    ENDPOINT: Key<Text> = optional(
        "endpoint",
        TEXT,
        "the endpoint of the cloud provider",
        "The URL of the API.",
    )
    .example("https://objects.example.com");
    SECURITY_LAKE: Key<SubSection> = optional(
        "security_lake",
        section(SECURITY_LAKE_KEYS),
        "one folder for each tenant and day",
        "s3: writes OCSF as Parquet, in the layout of a custom source of Amazon Security Lake.",
    );
}

keys! {
    /// The keys of `security_lake`.
    const SECURITY_LAKE_KEYS;
    SOURCE: Key<Text> =
        required("source", TEXT, "The name of the custom source.").example("secure-score");
    ACCOUNT_ID: Key<Text> = required(
        "account_id",
        TEXT,
        "The ID of the AWS account that the records belong to: 12 digits.",
    )
    .example("123456789012");
}

/// The sections in the example file.
pub(in crate::sink) const EXAMPLES: &[ExampleSection] = &[
    ExampleSection {
        name: "archive",
        about: "Amazon S3, or a store with the same API, in builds with the feature `object_store`.",
        sets: &[REGION.define()],
        omits: &[
            ACCOUNT.define(),
            ACCOUNT_KEY.define(),
            SERVICE_ACCOUNT.define(),
            SECURITY_LAKE.define(),
        ],
        ..ExampleSection::NOT_SET
    },
    ExampleSection {
        name: "security-lake",
        about: "Amazon Security Lake.",
        sets: &[
            URL.define().example("s3://aws-security-data-lake-eu-west-1-example"),
            REGION.define(),
            SECURITY_LAKE.define(),
        ],
        ..ExampleSection::NOT_SET
    },
    ExampleSection {
        name: "blobs",
        about: "Azure Blob Storage, with tokens of Entra. The credential requires the role Storage Blob Data Contributor.",
        sets: &[
            URL.define().example("az://scores"),
            ACCOUNT.define(),
            CREDENTIAL.define(),
            ENTRA_TENANT.define(),
        ],
        ..ExampleSection::NOT_SET
    },
    ExampleSection {
        name: "blobs-with-key",
        about: "Azure Blob Storage, with the key of the storage account.",
        sets: &[URL.define().example("az://scores/by-key"), ACCOUNT.define(), ACCOUNT_KEY.define()],
        ..ExampleSection::NOT_SET
    },
    ExampleSection {
        name: "google",
        about: "Google Cloud Storage.",
        sets: &[URL.define().example("gs://example-scores/secure-score")],
        lists: &[SERVICE_ACCOUNT.define()],
        ..ExampleSection::NOT_SET
    },
];

choices! {
    /// The compression of objects that consist of lines.
    pub(super) enum Compression {
        /// Zstandard.
        Zstd = "zstd",
        Gzip = "gzip",
        None = "none",
    }
}

/// A validated section.
#[derive(Clone, Debug)]
pub(super) struct ObjectPlan {
    /// The store and the bucket or container in it.
    pub store: Store,
    /// The beginning of all object names, without a slash at its beginning or end; may be empty.
    pub prefix: String,
    pub format: FormatName,
    pub layout: Layout,
    pub encoding: Encoding,
    /// The URL of the API; `None` means that of the cloud provider.
    pub endpoint: Option<url::Url>,
    /// The PEM file of the certificate authorities; `None` means those of the system.
    pub ca_file: Option<PathBuf>,
    /// The secrets that were sent to the store.
    pub sent: PeerSecrets,
}

/// The store, with the access keys from the configuration. Without a key, the client uses the
/// credential in the environment or of the host or, for Azure, an Entra token.
#[derive(Clone, Debug)]
pub(super) enum Store {
    /// Amazon S3, or a store with the same API.
    S3 {
        bucket: String,
        /// `None` means the region in the environment, or else [`DEFAULT_REGION`].
        region: Option<String>,
        /// The ID of the access key and its secret.
        key: Option<(String, SecretRef)>,
    },
    /// Azure Blob Storage.
    Azure {
        /// The name of the storage account.
        account: String,
        container: String,
        /// The key of the storage account; `None` means that requests have an Entra token.
        key: Option<SecretRef>,
    },
    /// Google Cloud Storage.
    Google {
        bucket: String,
        /// The JSON key of a service account.
        service_account: Option<SecretRef>,
    },
}

/// The folders below the prefix.
#[derive(Clone, Debug)]
pub(super) enum Layout {
    /// `tenant=GUID/day=2026-11-22/`.
    Days,
    /// `ext/SOURCE/region=R/accountId=A/eventDay=20261122/`, which Amazon Security Lake expects of
    /// a custom source. Source: docs.aws.amazon.com/security-lake, "Adding custom sources".
    SecurityLake { source: String, region: String, account: String },
}

/// The encoding of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// One record per line.
    Lines(Compression),
    /// One row per record; required by Amazon Security Lake.
    Parquet,
}

/// The part of the JSON key of a service account that the library takes an address from.
#[derive(Deserialize)]
struct ServiceAccountKey {
    gcs_base_url: Option<String>,
}

/// The region of a bucket if neither the configuration nor the environment names one.
pub(super) const DEFAULT_REGION: &str = "us-east-1";

impl Store {
    /// The library whose environment variables apply: that of the store, if the configuration has
    /// no key for it.
    const fn address_source(&self) -> Option<AddressSource> {
        match self {
            Self::S3 { key: None, .. } => Some(AddressSource::Aws),
            Self::Google { service_account: None, .. } => Some(AddressSource::Google),
            _ => None,
        }
    }
}

/// Reads a section. Returns `None` if it is not valid.
pub(super) fn read(section: &Section<'_>) -> Option<ObjectPlan> {
    let text = section.get(&URL)?;
    let url = url::Url::parse(text)
        .ok()
        .filter(|url| url.has_host() && url.query().is_none() && url.fragment().is_none());
    let Some(url) = url else {
        section.fault(&URL, "`url` must be s3://…, az://… or gs://…, with a bucket or container");
        return None;
    };

    if !is_without_user(&url) {
        reject_user(section, &URL);
        return None;
    }

    if url.path().trim_matches('/').contains("//") {
        let message = "the prefix in `url` has a folder without a name (`//`)".to_owned();
        section.fault_with(&URL, message, Some("remove the additional slashes".to_owned()));
    }

    check_keys(section, url.scheme());
    let bucket = url.host_str().unwrap_or_default().to_owned();
    let store = match url.scheme() {
        "s3" => read_s3(section, bucket),
        "az" => read_azure(section, bucket)?,
        "gs" => Store::Google { bucket, service_account: section.get(&SERVICE_ACCOUNT) },
        _ => {
            section.fault(&URL, "`url` must begin with s3://, az:// or gs://");
            return None;
        }
    };

    if let Some(source) = store.address_source() {
        check_addresses(section, &URL, source);
    }
    let endpoint = section.get(&ENDPOINT).map(|text| read_url(section, &ENDPOINT, text));
    let layout = read_layout(section, &store);
    let (format, encoding) = match layout {
        Layout::Days => (section.get(&LINE_FORMAT), Encoding::Lines(section.get(&COMPRESSION))),
        Layout::SecurityLake { .. } => {
            check_lake_keys(section);
            (FormatName::Ocsf, Encoding::Parquet)
        }
    };

    Some(ObjectPlan {
        store,
        prefix: url.path().trim_matches('/').to_owned(),
        format,
        layout,
        encoding,
        endpoint: match endpoint {
            None => None,
            Some(read) => Some(read?),
        },
        ca_file: section.get(&CA_FILE),
        sent: PeerSecrets::default(),
    })
}

/// Adds a fault for each key that `security_lake` excludes.
fn check_lake_keys(section: &Section<'_>) {
    let keys = [LINE_FORMAT.define(), COMPRESSION.define()];
    for key in keys.into_iter().filter(|key| section.has(key)) {
        let message = format!(
            "`{}` cannot be set with `security_lake`, which requires OCSF as Parquet",
            key.name
        );
        section.fault(&key, message);
    }
}

/// Adds a fault for each key that does not apply to the scheme of `url`.
fn check_keys(section: &Section<'_>, scheme: &str) {
    const SCHEME_OF_KEY: [(KeyDefinition, &str); 8] = [
        (REGION.define(), "s3"),
        (ACCESS_KEY_ID.define(), "s3"),
        (SECRET_ACCESS_KEY.define(), "s3"),
        (SECURITY_LAKE.define(), "s3"),
        (ACCOUNT.define(), "az"),
        (ACCOUNT_KEY.define(), "az"),
        (CREDENTIAL.define(), "az"),
        (SERVICE_ACCOUNT.define(), "gs"),
    ];

    for (key, expected) in SCHEME_OF_KEY {
        if expected != scheme && section.sets(&key) {
            section.fault(&key, format!("`{}` applies only to `{expected}://` URLs", key.name));
        }
    }
}

/// Checks the address in the JSON key of a service account, to which tokens would be sent. Other
/// faults of the key are reported when the sink is opened.
fn check_service_account(text: &str) -> Result<(), Explanation> {
    let key: Option<ServiceAccountKey> = serde_json::from_str(text).ok();
    let base = key.and_then(|key| key.gcs_base_url);
    let is_safe = |base: &str| url::Url::parse(base).is_ok_and(|url| is_safe_url(&url));
    if base.is_some_and(|base| !is_safe(&base)) {
        let problem =
            "contains a `gcs_base_url` that is neither https nor http to a loopback address";
        return Err(Explanation::new(problem).with_hint("set `endpoint` instead"));
    }
    Ok(())
}

fn read_s3(section: &Section<'_>, bucket: String) -> Store {
    let key = match (section.get(&ACCESS_KEY_ID), section.get(&SECRET_ACCESS_KEY)) {
        (Some(id), Some(secret)) => Some((id.to_owned(), secret)),
        (None, None) => None,
        _ => {
            section.fault(
                &ACCESS_KEY_ID,
                "`access_key_id` and `secret_access_key` must be set together",
            );
            None
        }
    };
    Store::S3 { bucket, region: section.get(&REGION).map(str::to_owned), key }
}

fn read_azure(section: &Section<'_>, container: String) -> Option<Store> {
    let key = section.get(&ACCOUNT_KEY);
    if key.is_some() == section.has(&CREDENTIAL) {
        section.fault(
            &ACCOUNT_KEY,
            "an az:// URL requires either `account_key`, or `credential` and `entra_tenant`",
        );
    }
    let Some(account) = section.get(&ACCOUNT) else {
        section.fault(&ACCOUNT, "an az:// URL requires `account`");
        return None;
    };
    Some(Store::Azure { account: account.to_owned(), container, key })
}

fn read_layout(section: &Section<'_>, store: &Store) -> Layout {
    let Some(lake) = section.get(&SECURITY_LAKE) else { return Layout::Days };
    let source = lake.get(&SOURCE).unwrap_or_default();
    let account = lake.get(&ACCOUNT_ID).unwrap_or_default();

    if !source.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        lake.fault(&SOURCE, "`source` must consist of letters, digits, `-`, `_` and `.`");
    }
    if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
        lake.fault(&ACCOUNT_ID, "`account_id` must be the 12 digits of an AWS account");
    }

    let region = if let Store::S3 { region: Some(region), .. } = store {
        region.clone()
    } else {
        lake.fault(
            &SOURCE,
            "`security_lake` requires `region`, which is part of the name of each object",
        );
        DEFAULT_REGION.to_owned()
    };

    Layout::SecurityLake { source: source.to_owned(), region, account: account.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_accounts_name_only_safe_addresses() {
        for (key, is_valid) in [
            ("{\"client_email\": \"a@b.example\"}", true),
            ("{\"gcs_base_url\": \"https://storage.example.com\"}", true),
            ("{\"gcs_base_url\": \"http://127.0.0.1:4443\"}", true),
            ("{\"gcs_base_url\": \"http://canary.example.com\"}", false),
            ("{\"gcs_base_url\": \"canary\"}", false),
            ("not JSON", true),
        ] {
            assert_eq!(check_service_account(key).is_ok(), is_valid, "{key}");
        }
        let problem = check_service_account("{\"gcs_base_url\": \"canary\"}").unwrap_err();
        assert!(!problem.message.contains("canary"), "{}", problem.message);
    }
}
