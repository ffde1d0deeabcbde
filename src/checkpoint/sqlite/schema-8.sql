-- Version 8: when a domain that could not be resolved is tried again.

-- Milliseconds since 1970-01-01; NULL until a release that stores it has tried again.
ALTER TABLE unresolved_domain ADD COLUMN not_before INTEGER;
