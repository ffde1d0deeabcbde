-- Converts a database of version 9 back to version 1, for the test of the migration.

-- Version 9.
DROP TABLE queued_command;
CREATE TABLE cursor_8 (
    sink INTEGER NOT NULL REFERENCES sink,
    tenant INTEGER NOT NULL REFERENCES tenant,
    epoch INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    record_index INTEGER NOT NULL,
    floor INTEGER NOT NULL,
    active INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (sink, tenant, epoch)
) STRICT, WITHOUT ROWID;
INSERT INTO cursor_8 (sink, tenant, epoch, seq, record_index, floor, active)
SELECT sink, tenant, epoch, seq, record_index, floor, active FROM cursor;
DROP TABLE cursor;
ALTER TABLE cursor_8 RENAME TO cursor;
ALTER TABLE sink ADD COLUMN mark BLOB;
ALTER TABLE sink ADD COLUMN sent INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sink ADD COLUMN rejected INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sink ADD COLUMN last_acknowledgement INTEGER;
ALTER TABLE sink ADD COLUMN last_error TEXT;
ALTER TABLE sink ADD COLUMN truncated INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sink ADD COLUMN last_hint TEXT;
ALTER TABLE sink ADD COLUMN failure TEXT;
ALTER TABLE sink ADD COLUMN failing_since INTEGER;
UPDATE sink SET (sent, rejected, truncated, last_acknowledgement) = (
    SELECT c.sent, c.rejected, c.truncated, c.last_acknowledgement FROM sink_shard c WHERE c.sink = sink.id
);
UPDATE sink SET (mark, last_error, last_hint, failure, failing_since) = (
    SELECT h.mark, h.last_error, h.last_hint, h.failure, h.failing_since FROM sink_host h WHERE h.sink = sink.id
);
DROP TABLE sink_host;
DROP TABLE sink_shard;
DROP TABLE shard;
ALTER TABLE tenant DROP COLUMN poll_commits;
ALTER TABLE tenant DROP COLUMN shard;

-- Version 8.
ALTER TABLE unresolved_domain DROP COLUMN not_before;

-- Version 7.
ALTER TABLE open_observation DROP COLUMN expires;

-- Version 6.
ALTER TABLE open_observation DROP COLUMN since;
ALTER TABLE open_observation DROP COLUMN hint;
ALTER TABLE open_observation DROP COLUMN details;
DROP TABLE unresolved_domain;
ALTER TABLE sink DROP COLUMN type;
ALTER TABLE sink DROP COLUMN removed;
ALTER TABLE sink DROP COLUMN failing_since;
ALTER TABLE sink DROP COLUMN failure;
ALTER TABLE tenant DROP COLUMN failing_since;
ALTER TABLE tenant DROP COLUMN error_class;

-- Version 5.
ALTER TABLE tenant DROP COLUMN last_hint;
ALTER TABLE sink DROP COLUMN last_hint;
ALTER TABLE entry DROP COLUMN hint;
ALTER TABLE sink RENAME COLUMN last_acknowledgement TO last_proof;
ALTER TABLE cursor RENAME COLUMN record_index TO place;
ALTER TABLE dead_letter RENAME COLUMN record_index TO place;
ALTER TABLE tenant RENAME COLUMN polled_back_to TO asked_back_to;
ALTER TABLE missing RENAME COLUMN last_requested TO last_asked;
ALTER TABLE missing RENAME COLUMN requests TO asks;
ALTER TABLE missing RENAME TO owed;
DROP INDEX entry_catalog;
ALTER TABLE entry RENAME COLUMN catalog TO catalogue;
ALTER TABLE tenant RENAME COLUMN catalog TO catalogue;
ALTER TABLE catalog RENAME TO catalogue;

-- Version 4.
DROP INDEX entry_body_day;
DROP INDEX entry_body;

-- Version 3.
DROP TABLE baseline;
ALTER TABLE sink DROP COLUMN quality;

-- Version 2.
DROP TABLE replay_cursor;
DROP TABLE replay;
DROP INDEX dead_letter_sink;
ALTER TABLE dead_letter DROP COLUMN retry;
ALTER TABLE cursor DROP COLUMN active;
ALTER TABLE sink DROP COLUMN truncated;

PRAGMA user_version = 1;
