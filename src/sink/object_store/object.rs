//! The name and the content of an object. Both depend only on the records and the configuration, so
//! a repeated attempt writes the same object. Start reading at [`objects`].

use super::{
    config::{Compression, Encoding, Layout, ObjectPlan},
    parquet::Rows,
};
use crate::{
    model::Record,
    sink::{Batch, Item, TargetName, batch::hash_of_ids, web::compress},
};

/// The default level of Zstandard. A higher level takes more time and saves little storage.
const ZSTD_LEVEL: i32 = 3;

/// The records of one entry, which are adjacent in a batch.
pub(super) struct Object<'a> {
    /// The index in the batch of the first record after this object.
    pub end: usize,
    items: &'a [Item],
}

/// The folder of the object with a record, below the prefix.
pub(super) fn folder(plan: &ObjectPlan, record: &Record<'_>) -> String {
    match &plan.layout {
        Layout::Days => {
            format!("tenant={}/day={}", record.tenant.id, record.snapshot.day)
        }
        Layout::SecurityLake { source, region, account } => {
            // OCSF's `time` is the time of the poll, and Security Lake partitions by it.
            let day = record.observed_at.day().to_string().replace('-', "");
            format!("ext/{source}/region={region}/accountId={account}/eventDay={day}")
        }
    }
}

/// The objects of a batch, in the order of its records.
pub(super) fn objects(batch: &Batch) -> Vec<Object<'_>> {
    let mut end: usize = 0;
    let is_same_entry =
        |a: &Item, b: &Item| (a.tenant, a.seq, &a.target) == (b.tenant, b.seq, &b.target);
    let groups = batch.items().chunk_by(is_same_entry);
    groups
        .map(|items| {
            end = end.saturating_add(items.len());
            Object { end, items }
        })
        .collect()
}

impl Object<'_> {
    /// The prefix, the folder, and a hash of the event IDs. The same records always have the same
    /// name.
    pub(super) fn name(&self, plan: &ObjectPlan) -> String {
        let folder = self.items.first().and_then(|first| first.target.as_ref());
        let folder = folder.map(TargetName::as_str).unwrap_or_default();
        let hash = hash_of_ids(self.items);

        let format = plan.format.extension();
        let extension = match plan.encoding {
            Encoding::Lines(Compression::Zstd) => format!("{format}.zst"),
            Encoding::Lines(Compression::Gzip) => format!("{format}.gz"),
            Encoding::Lines(Compression::None) => format.to_owned(),
            Encoding::Parquet => "parquet".to_owned(),
        };

        let slash = if plan.prefix.is_empty() { "" } else { "/" };
        format!("{}{slash}{folder}/{hash}.{extension}", plan.prefix)
    }

    /// The encoded records. Fails with the reason if they cannot be encoded.
    pub(super) fn body(
        &self,
        plan: &ObjectPlan,
        batch: &Batch,
        rows: &Rows,
    ) -> Result<Vec<u8>, String> {
        let records = self.items.iter().map(|item| batch.payload(item));
        let compression = match plan.encoding {
            Encoding::Lines(compression) => compression,
            Encoding::Parquet => return rows.write(records),
        };

        let header_line = plan.format.header_line();
        let mut lines = Vec::new();
        for line in header_line.iter().map(String::as_bytes).chain(records) {
            lines.extend_from_slice(line);
            lines.push(b'\n');
        }

        let encoded = match compression {
            Compression::Zstd => zstd::bulk::compress(&lines, ZSTD_LEVEL),
            Compression::Gzip => Ok(compress(&lines)),
            Compression::None => Ok(lines),
        };
        encoded.map_err(|error| error.to_string())
    }
}
