-- Requests whose call nobody has named, and what can lead them to it.

-- 1: without a call; 2: with one that was concluded, until the answer names another.
ALTER TABLE request ADD COLUMN stray INTEGER NOT NULL DEFAULT 0;
UPDATE request SET stray = 1 WHERE call_id IN (SELECT id FROM call WHERE call_id LIKE 'request/%');

-- The hash of each tag, operation and conversation of which word is waited for.
CREATE TABLE stray (
    hash       INTEGER NOT NULL,
    request_id INTEGER NOT NULL REFERENCES request (id),
    PRIMARY KEY (hash, request_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX stray_by_request ON stray (request_id);

-- The tag under which a call was connected.
ALTER TABLE call ADD COLUMN connected_hash INTEGER;
CREATE INDEX call_by_connection ON call (connected_hash) WHERE connected_hash IS NOT NULL;
