-- The change log can be followed, and is not kept for ever.

-- What retention has removed of it lies at or before this position.
ALTER TABLE ledger ADD COLUMN log_begins_after INTEGER NOT NULL DEFAULT 0;
