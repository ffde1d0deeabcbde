//! Buckets and containers of the test servers, and the objects in them.

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::TryStreamExt;
use object_store::{
    ObjectStore, ObjectStoreExt, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder,
};

use super::{
    runtime,
    servers::{azure, s3, unique},
};

/// The published account of Azurite.
pub const ACCOUNT: &str = "devstoreaccount1";
pub const ACCOUNT_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

pub struct Bucket {
    pub name: String,
    store: Box<dyn ObjectStore>,
}

impl Bucket {
    pub fn s3() -> Self {
        let name = unique("scores");
        let endpoint = format!("http://127.0.0.1:{}", s3().port);
        runtime().block_on(async {
            let created = reqwest::Client::new().put(format!("{endpoint}/{name}")).send().await;
            assert!(created.unwrap().status().is_success());
        });

        let builder = AmazonS3Builder::new().with_endpoint(endpoint).with_allow_http(true);
        let builder = builder.with_access_key_id("tests").with_secret_access_key("tests");
        Self { store: Box::new(builder.with_bucket_name(&name).build().unwrap()), name }
    }

    pub fn azure() -> Self {
        let name = unique("scores");
        let endpoint = format!("http://127.0.0.1:{}/{ACCOUNT}", azure().port);
        runtime().block_on(create_container(&endpoint, &name));

        let builder = MicrosoftAzureBuilder::new().with_endpoint(endpoint).with_allow_http(true);
        let builder = builder.with_account(ACCOUNT).with_access_key(ACCOUNT_KEY);
        Self { store: Box::new(builder.with_container_name(&name).build().unwrap()), name }
    }

    /// The name and content of every object, ordered by name.
    pub fn objects(&self) -> Vec<(String, Vec<u8>)> {
        runtime().block_on(async {
            let listed: Vec<_> = self.store.list(None).try_collect().await.unwrap();
            let mut objects = Vec::new();
            for meta in listed {
                let body = self.store.get(&meta.location).await.unwrap().bytes().await.unwrap();
                objects.push((meta.location.to_string(), body.to_vec()));
            }
            objects.sort();
            objects
        })
    }

    /// The records of all objects, which must contain JSON lines with Zstandard compression.
    pub fn records(&self) -> Vec<serde_json::Value> {
        let decompressed = self.objects().into_iter().map(|(name, body)| {
            assert!(name.ends_with(".jsonl.zst"), "{name}");
            String::from_utf8(zstd::decode_all(&*body).unwrap()).unwrap()
        });
        let text: String = decompressed.collect();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Creates a container with a request of its REST API, because `object_store` has no method for it.
async fn create_container(endpoint: &str, name: &str) {
    let date = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let version = "2021-08-06";
    let text = format!(
        "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    );
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(ACCOUNT_KEY).unwrap());
    let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));

    let created = reqwest::Client::new()
        .put(format!("{endpoint}/{name}?restype=container"))
        .header("x-ms-date", date)
        .header("x-ms-version", version)
        .header("Authorization", format!("SharedKey {ACCOUNT}:{signature}"))
        .header("Content-Length", "0")
        .send()
        .await
        .unwrap();
    assert!(created.status().is_success(), "{}", created.text().await.unwrap());
}
