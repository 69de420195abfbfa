-- The ledger.
--
-- Append-only: delivery, notification (its two counters of duplicates aside), change, and the left half of call.
-- Derived, and recomputed by `db rebuild`: operation, and the right half of call.
--
-- Rows that can be named from outside have a position of the ledger as their id (microseconds since 1970, strictly
-- increasing), so that newest first is the order of the primary key and every index ends in it for free.
-- Times are milliseconds since 1970, UTC.

-- 'CBLG': how we recognise our own files before we touch them.
PRAGMA application_id = 1128418375;

CREATE TABLE ledger (
    id         INTEGER PRIMARY KEY CONSTRAINT ledger_is_one CHECK (id = 1),
    created_at INTEGER NOT NULL,
    -- A known text under the master key: a wrong key is noticed at start, not at the first body.
    key_check  BLOB NOT NULL
) STRICT;

CREATE TABLE call (
    id            INTEGER PRIMARY KEY,
    source        TEXT NOT NULL,
    -- In the one spelling of domain::ids::PlatformId.
    call_id       TEXT NOT NULL,
    -- Of the first fact. A call belongs to the audience and tenant it began with; what arrives for it under
    -- another is quarantined.
    receiver      TEXT NOT NULL,
    audience      TEXT NOT NULL,
    tenant_id     TEXT,
    first_seen_at INTEGER NOT NULL,
    -- What seals the call's bodies and personal facts, itself sealed by the master key. NULL once the call was erased.
    data_key      BLOB,
    -- Derived from here on: domain::call::CallStory, and two of its members for look-ups.
    state         TEXT,
    chain_id      TEXT,
    story         TEXT NOT NULL,
    CONSTRAINT call_once UNIQUE (call_id, source)
) STRICT;

CREATE INDEX call_by_state ON call (state);
CREATE INDEX call_by_chain ON call (chain_id) WHERE chain_id IS NOT NULL;

CREATE TABLE delivery (
    id          INTEGER PRIMARY KEY,
    source      TEXT NOT NULL,
    receiver    TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    -- Who was believed, where that is not who the sealing call belongs to: says why something is in quarantine.
    audience    TEXT,
    tenant_id   TEXT,
    -- JSON of domain::delivery::Correlation; NULL if no header came.
    correlation TEXT,
    -- The call whose data key seals the body. NULL if the body speaks of none or of several: then data_key is its own.
    -- No foreign key: the call is saved behind its deliveries, and a deferred key would look through this whole table
    -- for each new call. `db verify` checks it.
    sealed_for  INTEGER,
    data_key    BLOB,
    -- Byte for byte as received, sealed.
    body        BLOB
) STRICT;

CREATE TABLE notification (
    id                INTEGER PRIMARY KEY,
    -- No foreign key: it would need an index of its own on this, the busiest table. A delivery's notifications
    -- have the ids right behind its own. `db verify` checks both references.
    delivery_id       INTEGER NOT NULL,
    -- 0: about no call that we believe it about. Not NULL, because NULLs are never duplicates of each other.
    call_id           INTEGER NOT NULL,
    -- What within the call: facts of one subject tell one story. Quarantined ones have subjects of their own.
    subject           TEXT NOT NULL,
    identity          BLOB NOT NULL,
    received_at       INTEGER NOT NULL,
    kind              TEXT NOT NULL,
    disposition       TEXT NOT NULL,
    -- JSON of domain::notification::Facts: all that is ever needed to derive again.
    facts             TEXT NOT NULL,
    -- JSON, sealed with the call's data key.
    personal          BLOB,
    duplicates        INTEGER NOT NULL DEFAULT 0,
    last_duplicate_at INTEGER,
    -- Decides what is a duplicate, and leads to the facts of a story in one step.
    CONSTRAINT notification_once UNIQUE (call_id, subject, identity)
) STRICT;

CREATE INDEX notification_by_kind ON notification (kind);
CREATE INDEX notification_by_disposition ON notification (disposition) WHERE disposition <> 'applied';

CREATE TABLE operation (
    -- The position of the fact that was received first.
    id             INTEGER PRIMARY KEY,
    call_id        INTEGER NOT NULL REFERENCES call (id),
    subject        TEXT NOT NULL,
    operation_id   TEXT,
    kind           TEXT NOT NULL,
    context        TEXT,
    state          TEXT NOT NULL,
    -- JSON of domain::result::ResultInfo; NULL while it is open. The subcode once more, for look-ups.
    result         TEXT,
    subcode        INTEGER,
    accepted_at    INTEGER,
    started_at     INTEGER,
    finished_at    INTEGER,
    first_seen_at  INTEGER NOT NULL,
    updated_at     INTEGER NOT NULL,
    -- JSON array of domain::operation::Flag.
    flags          TEXT NOT NULL,
    notifications  INTEGER NOT NULL,
    -- 64 bits of a hash of the id and of the context in their one spelling: an index entry of 16 bytes where the text
    -- would take 45, in the two indexes whose keys are random.
    operation_hash INTEGER,
    context_hash   INTEGER
) STRICT;

CREATE INDEX operation_by_call ON operation (call_id);
CREATE INDEX operation_by_operation_id ON operation (operation_hash) WHERE operation_hash IS NOT NULL;
CREATE INDEX operation_by_context ON operation (context_hash) WHERE context_hash IS NOT NULL;
CREATE INDEX operation_by_state ON operation (state);
CREATE INDEX operation_by_kind ON operation (kind);
CREATE INDEX operation_by_subcode ON operation (subcode) WHERE subcode IS NOT NULL;

-- What the outside follows: one row for each notification, operation or call that a commit added or changed.
CREATE TABLE change (
    seq             INTEGER PRIMARY KEY,
    at              INTEGER NOT NULL,
    type            TEXT NOT NULL,
    call_id         INTEGER,
    notification_id INTEGER,
    operation_id    INTEGER,
    state           TEXT
) STRICT;

-- Who was not let in. Bounded; repeats are counted; the newest may be lost in a crash.
CREATE TABLE rejection (
    id         INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    last_at    INTEGER NOT NULL,
    count      INTEGER NOT NULL,
    receiver   TEXT NOT NULL,
    reason     TEXT NOT NULL,
    peer       TEXT,
    key_id     TEXT,
    issuer     TEXT,
    user_agent TEXT
) STRICT;
