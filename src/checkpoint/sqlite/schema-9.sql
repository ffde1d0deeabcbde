-- Version 9: shards and their claims, counters per shard, marks and failures per host, and queued commands.

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

ALTER TABLE tenant ADD COLUMN shard INTEGER NOT NULL DEFAULT 0;
-- The number of committed polls, imports and releases of held days.
ALTER TABLE tenant ADD COLUMN poll_commits INTEGER NOT NULL DEFAULT 0;

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
INSERT INTO sink_shard (sink, shard, sent, rejected, truncated, last_acknowledgement)
SELECT id, 0, sent, rejected, truncated, last_acknowledgement FROM sink;

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
INSERT INTO sink_host (sink, host, mark, last_error, last_hint, failure, failing_since)
SELECT id, '-', mark, last_error, last_hint, failure, failing_since FROM sink;

ALTER TABLE sink DROP COLUMN mark;
ALTER TABLE sink DROP COLUMN sent;
ALTER TABLE sink DROP COLUMN rejected;
ALTER TABLE sink DROP COLUMN truncated;
ALTER TABLE sink DROP COLUMN last_acknowledgement;
ALTER TABLE sink DROP COLUMN last_error;
ALTER TABLE sink DROP COLUMN last_hint;
ALTER TABLE sink DROP COLUMN failure;
ALTER TABLE sink DROP COLUMN failing_since;

-- The epoch is not a part of the key anymore: it is that of the claim that moved the cursor last.
CREATE TABLE cursor_9 (
    sink INTEGER NOT NULL REFERENCES sink,
    tenant INTEGER NOT NULL REFERENCES tenant,
    epoch INTEGER NOT NULL DEFAULT 0,
    seq INTEGER NOT NULL,
    record_index INTEGER NOT NULL,
    -- Days before this one are not sent.
    floor INTEGER NOT NULL,
    -- 0: the configuration no longer sends this tenant to the sink. The position is kept in case it does so again.
    active INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (sink, tenant)
) STRICT, WITHOUT ROWID;
-- Only damage can cause another epoch than 0, or a cursor whose sink or tenant does not exist. A cursor with another epoch
-- is kept if the one with the epoch 0 is missing, so that the next start finds it.
INSERT INTO cursor_9 (sink, tenant, epoch, seq, record_index, floor, active)
SELECT c.sink, c.tenant, c.epoch, c.seq, c.record_index, c.floor, c.active FROM cursor c
WHERE c.sink IN (SELECT id FROM sink) AND c.tenant IN (SELECT id FROM tenant)
    AND (c.epoch = 0 OR NOT EXISTS (
        SELECT 1 FROM cursor o WHERE o.sink = c.sink AND o.tenant = c.tenant AND (o.epoch = 0 OR o.epoch < c.epoch)
    ));
DROP TABLE cursor;
ALTER TABLE cursor_9 RENAME TO cursor;

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

-- The test of the storage is a write of the shard now.
DELETE FROM meta WHERE key = 'write_checks';
