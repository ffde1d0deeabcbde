-- The schema of this release, with which a new database begins. The other scripts migrate an older database to the same
-- tables and indexes, which a test compares. The order of the columns is that of the migrated tables.

CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

-- The unit of ownership: tenants belong to a shard, and each write of its owner counts. A single host owns the only
-- shard, 0, because it holds the lock of the state directory.
CREATE TABLE shard (
    id INTEGER PRIMARY KEY,
    -- The ID of the host that owns the shard; NULL if the lock of the state directory decides.
    owner TEXT,
    -- Increases with every change of the owner; 0 on a single host.
    epoch INTEGER NOT NULL DEFAULT 0,
    -- The number of committed writes of the owners.
    writes INTEGER NOT NULL DEFAULT 0
) STRICT;
INSERT INTO shard (id) VALUES (0);

-- The tenant with the GUID '-' has the observations that concern no single tenant.
CREATE TABLE tenant (
    id INTEGER PRIMARY KEY,
    guid TEXT NOT NULL UNIQUE,
    next_seq INTEGER NOT NULL DEFAULT 1,
    -- The newest catalog version.
    catalog INTEGER,
    -- The earliest day that a completed poll has requested.
    polled_back_to INTEGER,
    last_attempt INTEGER,
    last_success INTEGER,
    last_error TEXT,
    failures INTEGER NOT NULL DEFAULT 0,
    -- From the server's `Retry-After`: no request before this time.
    not_before INTEGER,
    last_hint TEXT,
    error_class TEXT,
    failing_since INTEGER,
    shard INTEGER NOT NULL DEFAULT 0,
    -- The number of committed polls, imports and releases of held days.
    poll_commits INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE domain (domain TEXT PRIMARY KEY, guid TEXT NOT NULL) STRICT;

CREATE TABLE unresolved_domain (
    domain TEXT PRIMARY KEY,
    last_attempt INTEGER NOT NULL,
    failing_since INTEGER NOT NULL,
    last_error TEXT NOT NULL,
    last_hint TEXT,
    error_class TEXT NOT NULL,
    -- From the server's `Retry-After`: no request before this time.
    not_before INTEGER
) STRICT, WITHOUT ROWID;

-- The log: a snapshot (kind 1) or an observation (kind 2) at each position of a tenant.
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
    catalog INTEGER REFERENCES catalog,
    base_day INTEGER,
    base_revision INTEGER,
    -- NULL after retention has pruned the body. Facts are never pruned.
    body INTEGER REFERENCES body,
    -- The columns from here on are set for observations only.
    what TEXT,
    subject TEXT,
    phase TEXT,
    details TEXT,
    hint TEXT,
    PRIMARY KEY (tenant, seq)
) STRICT;
CREATE UNIQUE INDEX entry_day ON entry (tenant, day, revision) WHERE kind = 1;
CREATE INDEX entry_body ON entry (body) WHERE body IS NOT NULL;
CREATE INDEX entry_body_day ON entry (day) WHERE kind = 1 AND body IS NOT NULL;
CREATE INDEX entry_catalog ON entry (catalog) WHERE catalog IS NOT NULL;

CREATE TABLE body (
    id INTEGER PRIMARY KEY,
    codec INTEGER NOT NULL,
    key_frame INTEGER REFERENCES body,
    bytes BLOB NOT NULL
) STRICT;
CREATE INDEX body_key_frame ON body (key_frame) WHERE key_frame IS NOT NULL;

CREATE TABLE control (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;

CREATE TABLE profile (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, bytes BLOB NOT NULL) STRICT;

CREATE TABLE catalog (
    id INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenant,
    digest BLOB NOT NULL,
    observed INTEGER NOT NULL,
    members BLOB NOT NULL
) STRICT;

CREATE TABLE missing (
    tenant INTEGER NOT NULL REFERENCES tenant,
    day INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    last_requested INTEGER NOT NULL,
    -- 1: Microsoft no longer keeps the day, so it is not requested again.
    absent INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, day)
) STRICT, WITHOUT ROWID;

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

CREATE TABLE open_observation (
    tenant INTEGER NOT NULL REFERENCES tenant,
    what TEXT NOT NULL,
    subject TEXT NOT NULL,
    first_day INTEGER NOT NULL,
    details TEXT NOT NULL DEFAULT '',
    hint TEXT,
    since INTEGER NOT NULL DEFAULT 0,
    expires INTEGER,
    PRIMARY KEY (tenant, what, subject)
) STRICT, WITHOUT ROWID;

CREATE TABLE sink (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- 1: the sink also receives observations, as `quality` records.
    quality INTEGER NOT NULL DEFAULT 0,
    -- When the sink was removed from the configuration.
    removed INTEGER,
    type TEXT
) STRICT;

-- What a sink has delivered of the tenants of a shard.
CREATE TABLE sink_shard (
    sink INTEGER NOT NULL REFERENCES sink,
    shard INTEGER NOT NULL REFERENCES shard,
    sent INTEGER NOT NULL DEFAULT 0,
    rejected INTEGER NOT NULL DEFAULT 0,
    -- How many of the sent records were truncated.
    truncated INTEGER NOT NULL DEFAULT 0,
    last_acknowledgement INTEGER,
    PRIMARY KEY (sink, shard)
) STRICT, WITHOUT ROWID;

-- What a sink stores for the host that runs its deliverer; a single host has the ID '-'.
CREATE TABLE sink_host (
    sink INTEGER NOT NULL REFERENCES sink,
    host TEXT NOT NULL,
    -- A few bytes that the sink stores together with its cursors.
    mark BLOB,
    last_error TEXT,
    last_hint TEXT,
    -- `retrying`, `parked`, `targets_parked` or `tenants_withheld`; NULL if the last attempt to deliver succeeded.
    failure TEXT,
    -- The first of the failed attempts since the last acknowledgement.
    failing_since INTEGER,
    PRIMARY KEY (sink, host)
) STRICT, WITHOUT ROWID;

CREATE TABLE cursor (
    sink INTEGER NOT NULL REFERENCES sink,
    tenant INTEGER NOT NULL REFERENCES tenant,
    -- That of the claim that moved the cursor last.
    epoch INTEGER NOT NULL DEFAULT 0,
    seq INTEGER NOT NULL,
    record_index INTEGER NOT NULL,
    -- Days before this one are not sent.
    floor INTEGER NOT NULL,
    -- 0: the configuration no longer sends this tenant to the sink. The position is kept in case it does so again.
    active INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (sink, tenant)
) STRICT, WITHOUT ROWID;

CREATE TABLE dead_letter (
    id INTEGER PRIMARY KEY,
    sink INTEGER NOT NULL REFERENCES sink,
    tenant INTEGER NOT NULL REFERENCES tenant,
    seq INTEGER NOT NULL,
    record_index INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    rejected INTEGER NOT NULL,
    -- 1: the record is sent again.
    retry INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX dead_letter_sink ON dead_letter (sink, tenant, seq, record_index);

CREATE TABLE replay (
    id INTEGER PRIMARY KEY,
    sink INTEGER NOT NULL REFERENCES sink,
    first_day INTEGER NOT NULL,
    last_day INTEGER NOT NULL,
    -- When the replay was requested, in milliseconds since 1970-01-01.
    requested INTEGER NOT NULL
) STRICT;

CREATE TABLE replay_cursor (
    replay INTEGER NOT NULL REFERENCES replay ON DELETE CASCADE,
    tenant INTEGER NOT NULL REFERENCES tenant,
    seq INTEGER NOT NULL,
    record_index INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (replay, tenant)
) STRICT, WITHOUT ROWID;

CREATE TABLE baseline (
    tenant INTEGER NOT NULL REFERENCES tenant,
    since INTEGER NOT NULL,
    name TEXT NOT NULL,
    -- The day that the targets were read from; NULL for targets from a file.
    day INTEGER,
    -- When the baseline was set, in milliseconds since 1970-01-01.
    made INTEGER NOT NULL,
    -- One line per control: its name, a space, its target.
    targets TEXT NOT NULL,
    PRIMARY KEY (tenant, since)
) STRICT, WITHOUT ROWID;

-- Commands that the owner of a tenant carries out. A row is deleted in the transaction that stores the result, so that a
-- restart continues what it has interrupted.
CREATE TABLE queued_command (
    id INTEGER PRIMARY KEY,
    tenant INTEGER NOT NULL REFERENCES tenant,
    -- `backfill` or `import`.
    command TEXT NOT NULL,
    -- The first day of a backfill; NULL for an import.
    first_day INTEGER,
    -- The snapshots of an import: a JSON array of texts, compressed with zstd; NULL for a backfill.
    snapshots BLOB,
    -- When the command was requested, in milliseconds since 1970-01-01.
    requested INTEGER NOT NULL
) STRICT;
CREATE INDEX queued_command_tenant ON queued_command (tenant, id);
