-- Version 3: sinks receive observations as `quality` records; baselines.

-- 1: the sink receives observations.
ALTER TABLE sink ADD COLUMN quality INTEGER NOT NULL DEFAULT 0;

-- The baselines of a tenant. A baseline applies to the entries from `seq` = `since` on, until the
-- next one.
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
