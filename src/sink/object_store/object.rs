//! What an object is called, and what is in it.

use super::{
    config::{Layout, ObjectPlan, Packing},
    parquet::Rows,
};
use crate::{
    model::{Day, Record},
    sink::{Batch, Item, batch::digest, web::compress},
};

/// Zstandard's own default: what is written once and read seldom wants no more.
const LEVEL: i32 = 3;

/// Records of one entry, side by side in a batch.
pub(super) struct Object<'a> {
    /// The records that it holds, by index: up to, and without, this one.
    pub end: usize,
    items: &'a [Item],
}

/// What stands before a record in the batch: the folder of its object, and what tells its entry
/// from the next.
pub(super) fn write_private(plan: &ObjectPlan, record: &Record<'_>, out: &mut Vec<u8>) {
    let (tenant, at) = (record.tenant.id, record.snapshot);
    let folder = match &plan.layout {
        Layout::Days => format!("tenant={tenant}/day={}", at.day),
        Layout::SecurityLake { source, region, account } => {
            // The day of `time`, as OCSF has it: when it was read.
            let read = jiff::Timestamp::from_millisecond(record.observed_ms).unwrap_or_default();
            let day = Day::of(read).to_string().replace('-', "");
            format!("ext/{source}/region={region}/accountId={account}/eventDay={day}")
        }
    };
    out.extend_from_slice(folder.as_bytes());
    out.extend_from_slice(format!("\0{tenant}/{}", at.seq).as_bytes());
}

/// The objects of a batch, in its order.
pub(super) fn objects(batch: &Batch) -> Vec<Object<'_>> {
    let mut end = 0;
    let same = |a: &Item, b: &Item| batch.key(a) == batch.key(b);
    let groups = batch.items().chunk_by(same);
    groups
        .map(|items| {
            end += items.len();
            Object { end, items }
        })
        .collect()
}

impl Object<'_> {
    /// The folder, and a digest of the events' ids: the same for the same records, for ever.
    pub(super) fn name(&self, plan: &ObjectPlan, batch: &Batch) -> String {
        let private = self.items.first().map_or(&b""[..], |first| batch.key(first));
        let folder = private.split(|b| *b == 0).next().unwrap_or_default();
        let digest = digest(self.items);
        let kind = plan.format.extension();
        let end = match plan.packing {
            Packing::Zstd => format!("{kind}.zst"),
            Packing::Gzip => format!("{kind}.gz"),
            Packing::None => kind.to_owned(),
            Packing::Parquet => "parquet".to_owned(),
        };
        let slash = if plan.prefix.is_empty() { "" } else { "/" };
        format!("{}{slash}{}/{digest}.{end}", plan.prefix, String::from_utf8_lossy(folder))
    }

    pub(super) fn body(
        &self,
        plan: &ObjectPlan,
        batch: &Batch,
        rows: &Rows,
    ) -> Result<Vec<u8>, String> {
        let records = self.items.iter().map(|item| batch.payload(item));
        if plan.packing == Packing::Parquet {
            return rows.write(records);
        }
        let heading = plan.format.heading();
        let mut lines = Vec::new();
        for line in heading.iter().map(String::as_bytes).chain(records) {
            lines.extend_from_slice(line);
            lines.push(b'\n');
        }
        let packed = match plan.packing {
            Packing::Zstd => zstd::bulk::compress(&lines, LEVEL),
            Packing::Gzip => Ok(compress(&lines)),
            Packing::None | Packing::Parquet => Ok(lines),
        };
        packed.map_err(|error| error.to_string())
    }
}
