-- Version 4: indexes that let retention find bodies without a scan of the whole log.

CREATE INDEX entry_text ON entry (day) WHERE kind = 1 AND body IS NOT NULL;
CREATE INDEX entry_body ON entry (body) WHERE body IS NOT NULL;
CREATE INDEX entry_catalogue ON entry (catalogue) WHERE catalogue IS NOT NULL;
