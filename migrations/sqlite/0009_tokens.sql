-- Tokens of the private API that were made by command, beside those of the configuration.

CREATE TABLE private_token (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL,
    -- Of 256 random bits: nobody finds those from it. The token itself is nowhere.
    sha256     BLOB NOT NULL UNIQUE,
    -- JSON array of scopes.
    scopes     TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    -- Kept when it is revoked: a listener that has asked for tokens does not stop asking.
    revoked_at INTEGER
) STRICT;

CREATE UNIQUE INDEX private_token_once ON private_token (name) WHERE revoked_at IS NULL;
