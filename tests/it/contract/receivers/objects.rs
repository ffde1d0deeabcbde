//! Receivers for the `object_store` sink: S3 and Azure Blob Storage.

use super::{FaultyProxy, Receiver, SinkCase, Workspace, case};
use crate::support::{
    CANARY,
    false_replies::FOREIGN_REPLIES,
    hostile::{Attack, HTTP_FLOODS},
    objects::{ACCOUNT, ACCOUNT_KEY, Bucket},
    servers,
    store_replies::STORE_REPLIES,
};

pub fn s3() -> SinkCase {
    SinkCase { ordered: false, ..case("`object_store`", "object_store", in_s3) }
}

pub fn azure_blob() -> SinkCase {
    SinkCase { ordered: false, ..case("`object_store`", "object_store", in_azure) }
}

struct Objects {
    bucket: Bucket,
    section: fn(&mut Workspace, &str, u16) -> String,
    proxy: FaultyProxy,
}

impl Receiver for Objects {
    fn section(&self, workspace: &mut Workspace) -> String {
        (self.section)(workspace, &self.bucket.name, self.proxy.port)
    }
    fn arrived(&self) -> Vec<String> {
        let records = self.bucket.records();
        records.iter().map(|r| r["event_id"].as_str().unwrap().to_owned()).collect()
    }
    fn proxy(&self) -> Option<&FaultyProxy> {
        Some(&self.proxy)
    }
    fn floods(&self) -> &'static [Attack] {
        HTTP_FLOODS
    }
    fn false_replies(&self) -> Vec<Attack> {
        [FOREIGN_REPLIES, STORE_REPLIES].concat()
    }
}

fn s3_section(workspace: &mut Workspace, bucket: &str, port: u16) -> String {
    let key = workspace.secret("s3-secret", &format!("{CANARY}-s3"));
    format!(
        "url = \"s3://{bucket}/scores\"\nendpoint = \"http://127.0.0.1:{port}\"\naccess_key_id = \"tests\"\nsecret_access_key = {key}"
    )
}

fn azure_section(workspace: &mut Workspace, container: &str, port: u16) -> String {
    let key = workspace.secret("azure-secret", ACCOUNT_KEY);
    format!(
        "url = \"az://{container}\"\nendpoint = \"http://127.0.0.1:{port}/{ACCOUNT}\"\naccount = \"{ACCOUNT}\"\naccount_key = {key}"
    )
}

fn in_s3() -> Box<dyn Receiver> {
    Box::new(Objects {
        bucket: Bucket::s3(),
        section: s3_section,
        proxy: FaultyProxy::to(servers::s3().port),
    })
}

fn in_azure() -> Box<dyn Receiver> {
    let proxy = FaultyProxy::to(servers::azure().port);
    Box::new(Objects { bucket: Bucket::azure(), section: azure_section, proxy })
}
