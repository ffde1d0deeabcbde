-- Version 5: names of the glossary (`docs/contributing/glossary.md`), and hints next to errors.

DROP INDEX entry_catalogue;
ALTER TABLE catalogue RENAME TO catalog;
ALTER TABLE tenant RENAME COLUMN catalogue TO catalog;
ALTER TABLE entry RENAME COLUMN catalogue TO catalog;
DROP INDEX entry_text;
CREATE INDEX entry_body_day ON entry (day) WHERE kind = 1 AND body IS NOT NULL;
CREATE INDEX entry_catalog ON entry (catalog) WHERE catalog IS NOT NULL;
UPDATE entry SET what = 'catalog_stale' WHERE what = 'catalogue_stale';
UPDATE open_observation SET what = 'catalog_stale' WHERE what = 'catalogue_stale';

ALTER TABLE owed RENAME TO missing;
ALTER TABLE missing RENAME COLUMN asks TO requests;
ALTER TABLE missing RENAME COLUMN last_asked TO last_requested;
ALTER TABLE tenant RENAME COLUMN asked_back_to TO polled_back_to;

ALTER TABLE cursor RENAME COLUMN place TO record_index;
ALTER TABLE replay_cursor RENAME COLUMN place TO record_index;
ALTER TABLE dead_letter RENAME COLUMN place TO record_index;
ALTER TABLE replay RENAME COLUMN asked TO requested;
ALTER TABLE dead_letter RENAME COLUMN again TO retry;
ALTER TABLE sink RENAME COLUMN last_proof TO last_acknowledgement;

-- What an operator can do about `last_error`, or about an observation.
ALTER TABLE tenant ADD COLUMN last_hint TEXT;
ALTER TABLE sink ADD COLUMN last_hint TEXT;
ALTER TABLE entry ADD COLUMN hint TEXT;
