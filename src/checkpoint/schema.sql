-- Version 1. `tenant` '-' stands for this host.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE tenant (
    id INTEGER PRIMARY KEY,
    guid TEXT NOT NULL UNIQUE,
    next_seq INTEGER NOT NULL DEFAULT 1,
    -- The newest version of the catalogue.
    catalogue INTEGER,
    -- The earliest day that a completed poll has asked for.
    asked_back_to INTEGER,
    last_attempt INTEGER,
    last_success INTEGER,
    last_error TEXT,
    failures INTEGER NOT NULL DEFAULT 0,
    -- The server's own word: no request before this, in milliseconds since 1970-01-01.
    not_before INTEGER
) STRICT;

-- A configured domain, resolved once.
CREATE TABLE domain (domain TEXT PRIMARY KEY, guid TEXT NOT NULL) STRICT;

-- The log. Kind 1 is a snapshot, kind 2 an observation.
CREATE TABLE entry (
    tenant INTEGER NOT NULL REFERENCES tenant,
    seq INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    day INTEGER NOT NULL,
    -- Milliseconds since 1970-01-01.
    observed INTEGER NOT NULL,
    -- Snapshots only, from here to `body`.
    revision INTEGER,
    snapshot_id TEXT,
    facts BLOB,
    digest BLOB,
    -- 1 late, 2 backfilled, 4 partial, 8 imported.
    flags INTEGER,
    catalogue INTEGER REFERENCES catalogue,
    base_day INTEGER,
    base_revision INTEGER,
    -- Null once retention has removed the body. Facts are never removed.
    body INTEGER REFERENCES body,
    -- Observations only.
    what TEXT,
    subject TEXT,
    phase TEXT,
    details TEXT,
    PRIMARY KEY (tenant, seq)
) STRICT;

CREATE UNIQUE INDEX entry_day ON entry (tenant, day, revision) WHERE kind = 1;

-- Bodies as sent. Codec 1: zstd. Codec 2: zstd with the key frame's body as dictionary.
CREATE TABLE body (
    id INTEGER PRIMARY KEY,
    codec INTEGER NOT NULL,
    key_frame INTEGER REFERENCES body,
    bytes BLOB NOT NULL
) STRICT;

CREATE INDEX body_key_frame ON body (key_frame) WHERE key_frame IS NOT NULL;

-- Names of controls, so that facts are a few octets each.
CREATE TABLE control (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;

-- Profiles by content, for all tenants.
CREATE TABLE profile (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, bytes BLOB NOT NULL) STRICT;

-- A version of a catalogue: a list of (profile, decisions).
CREATE TABLE catalogue (
    id INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenant,
    digest BLOB NOT NULL,
    observed INTEGER NOT NULL,
    members BLOB NOT NULL
) STRICT;

-- Days between two days taken that Microsoft does not list.
CREATE TABLE owed (
    tenant INTEGER NOT NULL REFERENCES tenant,
    day INTEGER NOT NULL,
    asks INTEGER NOT NULL,
    last_asked INTEGER NOT NULL,
    -- Given up: absent at the source.
    absent INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, day)
) STRICT, WITHOUT ROWID;

-- Days taken and not released: something is missing in them. Times in milliseconds since 1970-01-01.
CREATE TABLE held (
    tenant INTEGER NOT NULL REFERENCES tenant,
    day INTEGER NOT NULL,
    -- When the day was held first, and when this copy was read.
    since INTEGER NOT NULL,
    observed INTEGER NOT NULL,
    -- As sent, compressed with zstd.
    body BLOB NOT NULL,
    PRIMARY KEY (tenant, day)
) STRICT, WITHOUT ROWID;

-- Observations that have begun and not ended.
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
    -- What the sink keeps with its cursors.
    mark BLOB,
    sent INTEGER NOT NULL DEFAULT 0,
    rejected INTEGER NOT NULL DEFAULT 0,
    last_proof INTEGER,
    last_error TEXT
) STRICT;

-- The next record that a sink has not confirmed. Days before `floor` are not sent.
CREATE TABLE cursor (
    sink INTEGER NOT NULL REFERENCES sink,
    tenant INTEGER NOT NULL REFERENCES tenant,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    place INTEGER NOT NULL,
    floor INTEGER NOT NULL,
    PRIMARY KEY (sink, tenant, epoch)
) STRICT, WITHOUT ROWID;

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
