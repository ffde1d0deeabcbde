//! The configuration of a sink with `type = "object_store"`. Reading a section opens no connection
//! and reads no secret; faults are added to the section.

use std::path::PathBuf;

use super::service::{open, probe};
use crate::{
    format::FormatName,
    settings::{Key, SecretRef, Section, Shape, optional, required},
    sink::{
        BoxFuture, Context, Failure, LINE_FORMAT, Limits, Plan, Sink, read_format,
        web::{CA_FILE, read_url},
    },
};

/// The keys of this sink, besides those of all sinks.
pub(in crate::sink) const KEYS: &[Key] = &[
    required(
        "url",
        Shape::Text,
        "The bucket or container, and a prefix: s3://BUCKET/PREFIX, az://CONTAINER/PREFIX or gs://BUCKET/PREFIX.",
    ),
    LINE_FORMAT,
    optional(
        "compression",
        Shape::OneOf(&["zstd", "gzip", "none"]),
        "The compression of objects; default: zstd.",
    ),
    optional(
        "region",
        Shape::Text,
        "s3: the region of the bucket; default: $AWS_REGION, or else us-east-1.",
    ),
    optional(
        "access_key_id",
        Shape::Text,
        "s3: the ID of the access key; default: the key in the environment, or the role of the host.",
    ),
    optional("secret_access_key", Shape::Secret, "s3: the secret access key."),
    optional("account", Shape::Text, "az: the storage account."),
    optional(
        "account_key",
        Shape::Secret,
        "az: the key of the account; instead of `credential` and `entra_tenant`.",
    ),
    optional(
        "service_account",
        Shape::Secret,
        "gs: the JSON key of a service account; default: the account in the environment, or that of the host.",
    ),
    optional("endpoint", Shape::Text, "The URL of the API; default: that of the cloud provider."),
    optional(
        "security_lake",
        Shape::Table(SECURITY_LAKE),
        "s3: writes OCSF as Parquet, in the layout of a custom source of Amazon Security Lake.",
    ),
    CA_FILE,
];

const SECURITY_LAKE: &[Key] = &[
    required("source", Shape::Text, "The name of the custom source."),
    required(
        "account_id",
        Shape::Text,
        "The ID of the AWS account that the records belong to: 12 digits.",
    ),
];

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

/// The encoding of an object: lines with or without compression, or Parquet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// One record per line, compressed with Zstandard.
    Zstd,
    /// One record per line, compressed with gzip.
    Gzip,
    /// One record per line, uncompressed.
    None,
    /// One row per record; required by Amazon Security Lake.
    Parquet,
}

/// The resource that tokens for Azure Blob Storage are requested for.
const AZURE_STORAGE: &str = "https://storage.azure.com";
/// The region of a bucket if neither the configuration nor the environment names one.
pub(super) const DEFAULT_REGION: &str = "us-east-1";

/// Reads a section. Returns `None` if it is not valid.
pub(in crate::sink) fn read(section: &Section<'_>) -> Option<Box<dyn Plan>> {
    let text = section.text("url")?;
    let url = url::Url::parse(text).ok().filter(|url| url.has_host() && url.query().is_none());
    let Some(url) = url else {
        section.fault("url", "`url` must be s3://…, az://… or gs://…, with a bucket or container");
        return None;
    };

    check_keys(section, url.scheme());
    let bucket = url.host_str().unwrap_or_default().to_owned();
    let store = match url.scheme() {
        "s3" => read_s3(section, bucket),
        "az" => read_azure(section, bucket)?,
        "gs" => Store::Google { bucket, service_account: section.secret("service_account") },
        _ => {
            section.fault("url", "`url` must begin with s3://, az:// or gs://");
            return None;
        }
    };

    let endpoint = section.text("endpoint").map(|text| read_url(section, "endpoint", text));
    let layout = read_layout(section, &store);
    let lake = matches!(layout, Layout::SecurityLake { .. });
    for key in ["format", "compression"].into_iter().filter(|key| lake && section.has(key)) {
        let message =
            format!("`{key}` cannot be set with `security_lake`, which requires OCSF as Parquet");
        section.fault(key, message);
    }
    let encoding = match section.text("compression") {
        _ if lake => Encoding::Parquet,
        Some("none") => Encoding::None,
        Some("gzip") => Encoding::Gzip,
        _ => Encoding::Zstd,
    };

    Some(Box::new(ObjectPlan {
        store,
        prefix: url.path().trim_matches('/').to_owned(),
        format: if lake { FormatName::Ocsf } else { read_format(section, FormatName::Json) },
        layout,
        encoding,
        endpoint: match endpoint {
            None => None,
            Some(read) => Some(read?),
        },
        ca_file: section.path("ca_file"),
    }))
}

/// Adds a fault for each key that does not apply to the scheme of `url`.
fn check_keys(section: &Section<'_>, scheme: &str) {
    const SCHEME_OF_KEY: [(&str, &str); 8] = [
        ("region", "s3"),
        ("access_key_id", "s3"),
        ("secret_access_key", "s3"),
        ("security_lake", "s3"),
        ("account", "az"),
        ("account_key", "az"),
        ("credential", "az"),
        ("service_account", "gs"),
    ];

    for (key, expected) in SCHEME_OF_KEY {
        if expected != scheme && section.has(key) {
            section.fault(key, format!("`{key}` applies only to `{expected}://` URLs"));
        }
    }
}

fn read_s3(section: &Section<'_>, bucket: String) -> Store {
    let key = match (section.text("access_key_id"), section.secret("secret_access_key")) {
        (Some(id), Some(secret)) => Some((id.to_owned(), secret)),
        (None, None) => None,
        _ => {
            section.fault(
                "access_key_id",
                "`access_key_id` and `secret_access_key` must be set together",
            );
            None
        }
    };
    Store::S3 { bucket, region: section.text("region").map(str::to_owned), key }
}

fn read_azure(section: &Section<'_>, container: String) -> Option<Store> {
    let key = section.secret("account_key");
    if key.is_some() == section.has("credential") {
        section.fault(
            "account_key",
            "an az:// URL requires either `account_key`, or `credential` and `entra_tenant`",
        );
    }
    let Some(account) = section.text("account") else {
        section.fault("account", "an az:// URL requires `account`");
        return None;
    };
    Some(Store::Azure { account: account.to_owned(), container, key })
}

fn read_layout(section: &Section<'_>, store: &Store) -> Layout {
    let Some(lake) = section.section("security_lake") else { return Layout::Days };
    let (source, account) =
        (lake.text("source").unwrap_or_default(), lake.text("account_id").unwrap_or_default());

    if !source.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        lake.fault("source", "`source` must consist of letters, digits, `-`, `_` and `.`");
    }
    if account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
        lake.fault("account_id", "`account_id` must be the 12 digits of an AWS account");
    }

    let region = if let Store::S3 { region: Some(region), .. } = store {
        region.clone()
    } else {
        lake.fault(
            "source",
            "`security_lake` requires `region`, which is part of the name of each object",
        );
        DEFAULT_REGION.to_owned()
    };

    Layout::SecurityLake { source: source.to_owned(), region, account: account.to_owned() }
}

impl Plan for ObjectPlan {
    fn format(&self) -> FormatName {
        self.format
    }

    fn acknowledgement(&self) -> &'static str {
        "the store has the object"
    }

    fn limits(&self) -> Limits {
        Limits { records: 10_000, bytes: 16 << 20, in_flight: 1 }
    }

    fn whole_entries(&self) -> bool {
        true
    }

    fn exclusive_resource(&self) -> Option<String> {
        let bucket = match &self.store {
            Store::S3 { bucket, .. } => format!("`s3://{bucket}`"),
            Store::Azure { account, container, .. } => {
                format!("`az://{container}` of account `{account}`")
            }
            Store::Google { bucket, .. } => format!("`gs://{bucket}`"),
        };
        let endpoint = self.endpoint.as_ref().map(|url| format!(" at `{url}`")).unwrap_or_default();
        Some(format!("`{}` in {bucket}{endpoint}", self.prefix))
    }

    fn token_resource(&self) -> Option<&str> {
        matches!(self.store, Store::Azure { key: None, .. }).then_some(AZURE_STORAGE)
    }

    fn probe<'a>(&'a self, context: &'a Context) -> BoxFuture<'a, Result<String, Failure>> {
        Box::pin(probe(self, context))
    }

    fn open<'a>(
        &'a self,
        context: &'a Context,
        _: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<Box<dyn Sink>, Failure>> {
        Box::pin(std::future::ready(open(self, context)))
    }
}
