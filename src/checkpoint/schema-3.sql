-- Version 3: observations are streamed; baselines.

-- 1: the sink is sent observations, too.
ALTER TABLE sink ADD COLUMN quality INTEGER NOT NULL DEFAULT 0;

-- Targets of a tenant, in force for its entries from `since` on.
CREATE TABLE baseline (
    tenant INTEGER NOT NULL REFERENCES tenant,
    since INTEGER NOT NULL,
    name TEXT NOT NULL,
    -- The day that the targets were taken from, if it was one.
    day INTEGER,
    -- Milliseconds since 1970-01-01.
    made INTEGER NOT NULL,
    -- A line each: a control, a blank, its target.
    targets TEXT NOT NULL,
    PRIMARY KEY (tenant, since)
) STRICT, WITHOUT ROWID;
