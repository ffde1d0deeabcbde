-- Version 2: replays, dead letters that are sent again, sinks that have only some of the tenants.

ALTER TABLE sink ADD COLUMN truncated INTEGER NOT NULL DEFAULT 0;

-- 0: the sink does not get this tenant any more; the place is kept in case it does again.
ALTER TABLE cursor ADD COLUMN active INTEGER NOT NULL DEFAULT 1;

-- 1: to be sent again.
ALTER TABLE dead_letter ADD COLUMN again INTEGER NOT NULL DEFAULT 0;

CREATE INDEX dead_letter_sink ON dead_letter (sink, tenant, seq, place);

-- A job: days from the log once more, beside the live cursor.
CREATE TABLE replay (
    id INTEGER PRIMARY KEY,
    sink INTEGER NOT NULL REFERENCES sink,
    first_day INTEGER NOT NULL,
    last_day INTEGER NOT NULL,
    -- Milliseconds since 1970-01-01.
    asked INTEGER NOT NULL
) STRICT;

-- Its place in each tenant's log, and the last entry that it sends.
CREATE TABLE replay_cursor (
    replay INTEGER NOT NULL REFERENCES replay ON DELETE CASCADE,
    tenant INTEGER NOT NULL REFERENCES tenant,
    seq INTEGER NOT NULL,
    place INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (replay, tenant)
) STRICT, WITHOUT ROWID;
