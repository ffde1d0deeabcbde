-- Converts a database of version 8 back to version 1, for the test of the migration.

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
