-- Version 2: replays, retries of dead letters, and sinks that receive only some of the tenants.

-- The number of records that were truncated before they were sent.
ALTER TABLE sink ADD COLUMN truncated INTEGER NOT NULL DEFAULT 0;

-- 0: the configuration no longer sends this tenant to the sink. The position is kept in case it
-- does so again.
ALTER TABLE cursor ADD COLUMN active INTEGER NOT NULL DEFAULT 1;

-- 1: the dead letter is queued for a retry.
ALTER TABLE dead_letter ADD COLUMN again INTEGER NOT NULL DEFAULT 0;

CREATE INDEX dead_letter_sink ON dead_letter (sink, tenant, seq, place);

-- Replay jobs: each sends days of the log again, independently of the live cursor.
CREATE TABLE replay (
    id INTEGER PRIMARY KEY,
    sink INTEGER NOT NULL REFERENCES sink,
    first_day INTEGER NOT NULL,
    last_day INTEGER NOT NULL,
    -- When the replay was requested, in milliseconds since 1970-01-01.
    asked INTEGER NOT NULL
) STRICT;

-- The position of a replay in each tenant's log, and the last entry that it sends.
CREATE TABLE replay_cursor (
    replay INTEGER NOT NULL REFERENCES replay ON DELETE CASCADE,
    tenant INTEGER NOT NULL REFERENCES tenant,
    seq INTEGER NOT NULL,
    place INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (replay, tenant)
) STRICT, WITHOUT ROWID;
