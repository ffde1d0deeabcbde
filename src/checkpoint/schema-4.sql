-- Version 4: what lets go of texts looks them up, instead of through the whole log.

CREATE INDEX entry_text ON entry (day) WHERE kind = 1 AND body IS NOT NULL;
CREATE INDEX entry_body ON entry (body) WHERE body IS NOT NULL;
CREATE INDEX entry_catalogue ON entry (catalogue) WHERE catalogue IS NOT NULL;
