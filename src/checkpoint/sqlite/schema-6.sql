-- Version 6: what the conditions that `status` shows are derived from, and sinks that were removed from the configuration.

-- The class of `last_error`, such as `credential`; NULL if the last poll succeeded.
ALTER TABLE tenant ADD COLUMN error_class TEXT;
-- The first of the failed polls since the last success; NULL if the last poll succeeded.
ALTER TABLE tenant ADD COLUMN failing_since INTEGER;

-- `retrying` or `parked`; NULL if the last attempt to deliver succeeded.
ALTER TABLE sink ADD COLUMN failure TEXT;
-- The first of the failed attempts since the last acknowledgement.
ALTER TABLE sink ADD COLUMN failing_since INTEGER;
-- When the sink was removed from the configuration; NULL while it is configured.
ALTER TABLE sink ADD COLUMN removed INTEGER;
-- The value of `type` in its section; NULL until a release that stores it registers the sink.
ALTER TABLE sink ADD COLUMN type TEXT;

-- Tenants that are configured by a domain that could not be resolved to an ID yet, and why.
CREATE TABLE unresolved_domain (
    domain TEXT PRIMARY KEY,
    last_attempt INTEGER NOT NULL,
    failing_since INTEGER NOT NULL,
    last_error TEXT NOT NULL,
    last_hint TEXT,
    error_class TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The texts of the observation that began the condition, and when it was noticed.
ALTER TABLE open_observation ADD COLUMN details TEXT NOT NULL DEFAULT '';
ALTER TABLE open_observation ADD COLUMN hint TEXT;
ALTER TABLE open_observation ADD COLUMN since INTEGER NOT NULL DEFAULT 0;
UPDATE open_observation SET (details, hint, since) = (
    SELECT e.details, e.hint, e.observed FROM entry e
    WHERE e.tenant = open_observation.tenant AND e.kind = 2 AND e.what = open_observation.what
        AND e.subject = open_observation.subject AND e.phase = 'begin'
    ORDER BY e.seq DESC LIMIT 1
) WHERE EXISTS (
    SELECT 1 FROM entry e
    WHERE e.tenant = open_observation.tenant AND e.kind = 2 AND e.what = open_observation.what
        AND e.subject = open_observation.subject AND e.phase = 'begin'
);
