-- What bots asked for, and what the platforms answered. Append-only, like deliveries and notifications.

CREATE TABLE request (
    id           INTEGER PRIMARY KEY,
    -- The call that it is about, or a place of its own while it is about none.
    call_id      INTEGER NOT NULL REFERENCES call (id),
    requested_at INTEGER NOT NULL,
    -- What makes a second copy of it recognisable, where its sender gave it a key.
    idempotency  BLOB,
    -- Whether this service owes it an answer: it has sent it, or is about to.
    open         INTEGER NOT NULL,
    -- JSON of domain::request::RequestFacts.
    facts        TEXT NOT NULL
) STRICT;

CREATE INDEX request_by_call ON request (call_id);
CREATE UNIQUE INDEX request_once ON request (idempotency) WHERE idempotency IS NOT NULL;
CREATE INDEX request_open ON request (id) WHERE open;

CREATE TABLE answer (
    request_id  INTEGER PRIMARY KEY REFERENCES request (id),
    answered_at INTEGER NOT NULL,
    -- JSON of domain::request::AnswerFacts.
    facts       TEXT NOT NULL
) STRICT;

-- Whether a request is known: then all of a call's operations are derived together.
ALTER TABLE call ADD COLUMN requested INTEGER NOT NULL DEFAULT 0;

ALTER TABLE operation ADD COLUMN requested_at INTEGER;
ALTER TABLE operation ADD COLUMN deadline INTEGER;
-- JSON of domain::operation::Links; NULL if there are none.
ALTER TABLE operation ADD COLUMN links TEXT;
