-- What one token wrote can be found, and what is no longer needed goes.

-- The key under which what could be guessed is hashed, itself sealed by the master key. Made by the first start that knows of it.
ALTER TABLE ledger ADD COLUMN hash_key BLOB;

-- 64 bits of a keyed hash of the token that brought it; NULL if a secret was believed instead, or if it is older than this column.
ALTER TABLE delivery ADD COLUMN token_hash INTEGER;

-- The same where the line is a notification's: sorted into `lookup`, where the notification stands in place of the operation.
ALTER TABLE change ADD COLUMN token_hash INTEGER;

-- When somebody had what the ledger knew of the call removed. What stays is that there was one, and whose.
ALTER TABLE call ADD COLUMN erased_at INTEGER;

-- How far retention has come, by source and by what it takes.
CREATE TABLE retention (
    source  TEXT NOT NULL,
    what    TEXT NOT NULL,
    done_to INTEGER NOT NULL,
    PRIMARY KEY (source, what)
) STRICT, WITHOUT ROWID;
