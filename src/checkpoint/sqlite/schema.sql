-- Version 1. Later versions rename some of these tables and columns; see `schema-5.sql`.
-- A day is the number of days since 1970-01-01 (UTC); all other times are milliseconds since
-- 1970-01-01. The tenant with the GUID '-' represents this host.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE tenant (
    id INTEGER PRIMARY KEY,
    guid TEXT NOT NULL UNIQUE,
    next_seq INTEGER NOT NULL DEFAULT 1,
    -- The newest catalog version.
    catalogue INTEGER,
    -- The earliest day that a completed poll has requested.
    asked_back_to INTEGER,
    last_attempt INTEGER,
    last_success INTEGER,
    last_error TEXT,
    failures INTEGER NOT NULL DEFAULT 0,
    -- From the server's `Retry-After`: no request before this time.
    not_before INTEGER
) STRICT;

-- Tenants that are configured by domain. A domain is resolved to its GUID once.
CREATE TABLE domain (domain TEXT PRIMARY KEY, guid TEXT NOT NULL) STRICT;

-- The log of each tenant. `seq` is dense from 1. Kind 1 is a snapshot, kind 2 an observation.
CREATE TABLE entry (
    tenant INTEGER NOT NULL REFERENCES tenant,
    seq INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    day INTEGER NOT NULL,
    -- When the poll read the snapshot or noticed the observation.
    observed INTEGER NOT NULL,
    -- The columns from here to `body` are set for snapshots only.
    revision INTEGER,
    snapshot_id TEXT,
    facts BLOB,
    digest BLOB,
    -- Bits: 1 late, 2 backfilled, 4 partial, 8 imported.
    flags INTEGER,
    catalogue INTEGER REFERENCES catalogue,
    base_day INTEGER,
    base_revision INTEGER,
    -- NULL after retention has pruned the body. Facts are never pruned.
    body INTEGER REFERENCES body,
    -- The columns from here on are set for observations only.
    what TEXT,
    subject TEXT,
    phase TEXT,
    details TEXT,
    PRIMARY KEY (tenant, seq)
) STRICT;

CREATE UNIQUE INDEX entry_day ON entry (tenant, day, revision) WHERE kind = 1;

-- Bodies as Microsoft sent them. Codec 1 is zstd; codec 2 is zstd with the body of the key frame as
-- dictionary.
CREATE TABLE body (
    id INTEGER PRIMARY KEY,
    codec INTEGER NOT NULL,
    key_frame INTEGER REFERENCES body,
    bytes BLOB NOT NULL
) STRICT;

CREATE INDEX body_key_frame ON body (key_frame) WHERE key_frame IS NOT NULL;

-- The names of controls. Packed facts refer to a control by its ID, which takes one or two bytes.
CREATE TABLE control (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;

-- Profiles, stored once by content (SHA-256) for all tenants; `bytes` is compressed with zstd.
CREATE TABLE profile (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, bytes BLOB NOT NULL) STRICT;

-- Catalog versions: `members` is a packed list of (profile ID, decisions).
CREATE TABLE catalogue (
    id INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenant,
    digest BLOB NOT NULL,
    observed INTEGER NOT NULL,
    members BLOB NOT NULL
) STRICT;

-- Missing days: days that Microsoft was expected to list and did not.
CREATE TABLE owed (
    tenant INTEGER NOT NULL REFERENCES tenant,
    day INTEGER NOT NULL,
    asks INTEGER NOT NULL,
    last_asked INTEGER NOT NULL,
    -- 1: Microsoft no longer keeps the day, so it is not requested again.
    absent INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, day)
) STRICT, WITHOUT ROWID;

-- Held days: accepted but not released, because the response or its catalog was partial.
CREATE TABLE held (
    tenant INTEGER NOT NULL REFERENCES tenant,
    day INTEGER NOT NULL,
    -- When the day was held first, and when the stored copy was read.
    since INTEGER NOT NULL,
    observed INTEGER NOT NULL,
    -- As Microsoft sent it, compressed with zstd.
    body BLOB NOT NULL,
    PRIMARY KEY (tenant, day)
) STRICT, WITHOUT ROWID;

-- Observations that have begun and have not ended.
CREATE TABLE open_observation (
    tenant INTEGER NOT NULL REFERENCES tenant,
    what TEXT NOT NULL,
    subject TEXT NOT NULL,
    first_day INTEGER NOT NULL,
    PRIMARY KEY (tenant, what, subject)
) STRICT, WITHOUT ROWID;

CREATE TABLE sink (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- A few bytes that the sink stores together with its cursors.
    mark BLOB,
    sent INTEGER NOT NULL DEFAULT 0,
    rejected INTEGER NOT NULL DEFAULT 0,
    last_proof INTEGER,
    last_error TEXT
) STRICT;

-- The next record that the receiver of a sink has not acknowledged. Days before `floor` are not
-- sent.
CREATE TABLE cursor (
    sink INTEGER NOT NULL REFERENCES sink,
    tenant INTEGER NOT NULL REFERENCES tenant,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    place INTEGER NOT NULL,
    floor INTEGER NOT NULL,
    PRIMARY KEY (sink, tenant, epoch)
) STRICT, WITHOUT ROWID;

-- Records that a receiver rejected permanently.
CREATE TABLE dead_letter (
    id INTEGER PRIMARY KEY,
    sink INTEGER NOT NULL REFERENCES sink,
    tenant INTEGER NOT NULL REFERENCES tenant,
    seq INTEGER NOT NULL,
    place INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    rejected INTEGER NOT NULL
) STRICT;
