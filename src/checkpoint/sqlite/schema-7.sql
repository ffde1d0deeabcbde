-- Version 7: when a credential expires is a column instead of a part of the details of the observation.

-- Milliseconds since 1970-01-01; NULL unless the observation is about a credential.
ALTER TABLE open_observation ADD COLUMN expires INTEGER;
UPDATE open_observation
SET expires = unixepoch(
        replace(replace(replace(details, 'the credential is valid until ', ''), 'the certificate is valid until ', ''), '`', '')
    ) * 1000
WHERE what = 'credential_expiring';
