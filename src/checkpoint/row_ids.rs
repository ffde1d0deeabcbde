//! The IDs of rows, with one type for each table, so that an ID cannot refer to a row of another
//! table. An ID is read from a column or assigned when a row is inserted, and is never calculated.
//! Sequence numbers ([`Seq`](crate::model::Seq)) and counts are not IDs.

use std::fmt;

use serde::Serialize;

use super::{
    CheckpointError,
    backend::{FromValue, SqlValue, Statements, ToValue, ValueFault, values},
};
use crate::model::TenantId;

/// Defines the types, which differ only in their names.
macro_rules! row_ids {
    ($($(#[$documentation:meta])* $visibility:vis struct $name:ident;)*) => {$(
        $(#[$documentation])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        $visibility struct $name(i64);

        impl FromValue for $name {
            fn from_value(value: SqlValue<'_>) -> Result<Self, ValueFault> {
                i64::from_value(value).map(Self)
            }
        }

        impl ToValue for $name {
            fn to_value(&self) -> SqlValue<'_> {
                SqlValue::Int(self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, formatter)
            }
        }
    )*};
}

row_ids! {
    /// A stored catalog version, which always has the same members.
    pub struct CatalogVersion;

    /// A stored profile, which always has the same content.
    pub struct ProfileId;

    /// A replay job.
    pub struct ReplayId;

    /// A stored dead letter.
    pub struct DeadLetterId;

    /// A queued command.
    pub struct CommandId;

    /// The row of a tenant, or of this host, in the table `tenant`.
    pub(super) struct TenantRow;

    /// The row of a sink in the table `sink`.
    pub(super) struct SinkRow;

    /// A stored body, which may be the key frame of other bodies.
    pub(super) struct BodyId;
}

impl ProfileId {
    /// The key by which a [`ProfileSlot`](crate::model::ProfileSlot) identifies the content of the
    /// profile.
    pub fn slot_key(self) -> u64 {
        self.0.cast_unsigned()
    }

    /// The form in which packed catalogs contain the ID: 8 bytes, little endian.
    pub(super) fn to_le_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }

    /// Decodes the result of [`Self::to_le_bytes`].
    pub(super) fn from_le_bytes(bytes: [u8; 8]) -> Self {
        Self(i64::from_le_bytes(bytes))
    }
}

/// The row of a tenant, which is inserted if it does not exist.
pub(super) fn tenant_row(
    store: &dyn Statements,
    tenant: TenantId,
) -> Result<TenantRow, CheckpointError> {
    let guid = tenant.to_string();
    let sql = "SELECT id FROM tenant WHERE guid = ?1";
    if let Some(row) = store.query_optional(sql, values![guid], |row| row.get("id"))? {
        return Ok(row);
    }

    let sql = "INSERT INTO tenant (guid) VALUES (?1) RETURNING id";
    store.query_one(sql, values![guid], |row| row.get("id"))
}

/// Parses a GUID that was read from the database.
pub(super) fn tenant_id(guid: &str) -> Result<TenantId, CheckpointError> {
    TenantId::parse(guid)
        .map_err(|_| CheckpointError::Damaged(format!("`{guid}` is not a tenant GUID")))
}
