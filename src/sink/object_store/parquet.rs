//! OCSF as Parquet, compressed with Zstandard.
//!
//! The columns are the members that `format::Ocsf` writes. They are the same in every file, because
//! a table is defined over many files. `unmapped` is a map of strings, because its members depend
//! on the record.

use std::sync::Arc;

use arrow_json::ReaderBuilder;
use arrow_schema::{DataType, Field, Fields, Schema};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use serde_json::Value;

/// Writes records as rows of a table with this schema.
#[derive(Debug)]
pub(super) struct Rows {
    schema: Arc<Schema>,
}

impl Rows {
    /// Builds the schema, which is the same for all files.
    pub(super) fn new() -> Self {
        Self { schema: Arc::new(Schema::new(columns())) }
    }

    /// A Parquet file with these records. Each must be a JSON object in the OCSF format. Fails with
    /// the reason if a record is not valid JSON or does not match the schema.
    pub(super) fn write<'a>(
        &self,
        records: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<u8>, String> {
        let rows: Vec<Value> = records
            .map(|record| {
                serde_json::from_slice(record).map(with_text_map).map_err(|e| e.to_string())
            })
            .collect::<Result<_, _>>()?;
        self.write_rows(&rows).map_err(|error| error.to_string())
    }

    fn write_rows(&self, rows: &[Value]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let mut decoder = ReaderBuilder::new(Arc::clone(&self.schema))
            .with_batch_size(rows.len().max(1))
            .build_decoder()?;
        decoder.serialize(rows)?;

        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let mut writer =
            ArrowWriter::try_new(Vec::new(), Arc::clone(&self.schema), Some(properties))?;
        if let Some(batch) = decoder.flush()? {
            writer.write(&batch)?;
        }
        Ok(writer.into_inner()?)
    }
}

/// Converts the values of `unmapped` to strings.
fn with_text_map(mut record: Value) -> Value {
    if let Some(Value::Object(unmapped)) = record.get_mut("unmapped") {
        for value in unmapped.values_mut().filter(|value| !value.is_string()) {
            *value = Value::String(value.to_string());
        }
    }
    record
}

fn columns() -> Fields {
    fields(&[
        ("activity_id", DataType::Int32),
        ("activity_name", text()),
        ("category_uid", DataType::Int32),
        ("category_name", text()),
        ("class_uid", DataType::Int32),
        ("class_name", text()),
        ("type_uid", DataType::Int64),
        ("type_name", text()),
        ("time", DataType::Int64),
        ("severity_id", DataType::Int32),
        ("severity", text()),
        ("status_id", DataType::Int32),
        ("status", text()),
        ("message", text()),
        ("metadata", metadata()),
        ("compliance", compliance()),
        ("finding_info", finding()),
        ("remediation", object(&[("desc", text()), ("references", list(text()))])),
        ("resources", list(resource())),
        ("cloud", object(&[("provider", text()), ("account", account())])),
        ("unmapped", text_map()),
    ])
}

fn metadata() -> DataType {
    object(&[
        ("version", text()),
        ("uid", text()),
        ("event_code", text()),
        ("original_time", text()),
        ("tenant_uid", text()),
        ("profiles", list(text())),
        ("product", object(&[("name", text()), ("vendor_name", text())])),
    ])
}

fn compliance() -> DataType {
    object(&[
        ("standards", list(text())),
        ("control", text()),
        ("status_id", DataType::Int32),
        ("status", text()),
        ("status_code", text()),
        ("status_detail", text()),
    ])
}

fn finding() -> DataType {
    object(&[
        ("uid", text()),
        ("title", text()),
        ("desc", text()),
        ("types", list(text())),
        ("created_time", DataType::Int64),
        ("src_url", text()),
    ])
}

fn resource() -> DataType {
    object(&[("uid", text()), ("name", text()), ("type", text()), ("labels", list(text()))])
}

fn account() -> DataType {
    object(&[("uid", text()), ("name", text()), ("type", text()), ("type_id", DataType::Int32)])
}

fn text() -> DataType {
    DataType::Utf8
}

fn object(members: &[(&str, DataType)]) -> DataType {
    DataType::Struct(fields(members))
}

fn fields(members: &[(&str, DataType)]) -> Fields {
    members.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect()
}

fn list(item: DataType) -> DataType {
    DataType::new_list(item, true)
}

fn text_map() -> DataType {
    let entry = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, true),
    ]);
    DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entry), false)), false)
}
