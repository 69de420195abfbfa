-- Forwarding: what the bots behind the ledger have been told, and what they have not.

-- The place of the item in the body of its delivery, counted from 0.
ALTER TABLE notification ADD COLUMN item INTEGER NOT NULL DEFAULT 0;

-- Where notifications go. Kept when a target leaves the configuration, so that one which comes back goes on where it stopped.
CREATE TABLE forward_target (
    name        TEXT PRIMARY KEY,
    -- What lies at or before this position has been delivered, or has a row in forward.
    settled_to  INTEGER NOT NULL,
    -- When it answered that it wants no more (410).
    disabled_at INTEGER
) STRICT, WITHOUT ROWID;

-- What could not be delivered at once: it failed, or waits behind something of its call that did. What goes well leaves no row.
CREATE TABLE forward (
    id           INTEGER PRIMARY KEY,
    target       TEXT NOT NULL,
    -- The notification, or the first new one of the delivery.
    unit         INTEGER NOT NULL,
    delivery_id  INTEGER NOT NULL,
    -- Whether it is all that the delivery brought from there on, whatever the target's mode is by now.
    whole        INTEGER NOT NULL,
    source       TEXT NOT NULL,
    kind         TEXT NOT NULL,
    -- The calls that it is about: the first, and as a JSON array the others of a delivery about several.
    call_id      INTEGER,
    other_calls  TEXT,
    -- waiting, dead, or settled: then it goes as soon as the target's position has passed it.
    state        TEXT NOT NULL,
    attempts     INTEGER NOT NULL,
    attempted_at INTEGER,
    -- From when its time counts, where it was given up and is tried again.
    since        INTEGER,
    next_at      INTEGER,
    status       INTEGER,
    error        TEXT,
    CONSTRAINT forward_once UNIQUE (target, unit)
) STRICT;

CREATE INDEX forward_by_state ON forward (state);
CREATE INDEX forward_by_call ON forward (call_id) WHERE call_id IS NOT NULL;
CREATE INDEX forward_by_other_calls ON forward (id) WHERE other_calls IS NOT NULL;

-- The headers of deliveries that are to be forwarded as they came, token included: sealed like their bodies, until they have been
-- forwarded or the token has expired, no longer.
CREATE TABLE delivery_head (
    delivery_id INTEGER PRIMARY KEY,
    expires_at  INTEGER NOT NULL,
    -- JSON array of the targets that have not got it yet.
    targets     TEXT NOT NULL,
    head        BLOB NOT NULL
) STRICT;

CREATE INDEX delivery_head_by_expiry ON delivery_head (expires_at);
