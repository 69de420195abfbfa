-- How an operation is found by its id or its context. Both are random: an index on the columns themselves would write two pages for
-- each operation, ever more slowly the more there are. Instead the change log says what a new operation is found by, and its lines
-- are sorted, some thousands at a time, into segments of about 16,384 operations. A search looks through the lines that have not been
-- sorted yet, and then into every segment.
--
-- An entry is a hint, never the truth: whoever follows it compares the operation's own columns.

DROP INDEX operation_by_operation_id;
DROP INDEX operation_by_context;

-- A notification's line has its own position, so this said nothing.
ALTER TABLE change DROP COLUMN notification_id;

-- 64 bits each, where a line is the first to tell them of its operation.
ALTER TABLE change ADD COLUMN operation_hash INTEGER;
ALTER TABLE change ADD COLUMN context_hash INTEGER;

CREATE TABLE lookup (
    segment   INTEGER NOT NULL,
    -- Of the operation's id or of its context.
    hash      INTEGER NOT NULL,
    operation INTEGER NOT NULL,
    PRIMARY KEY (segment, hash, operation)
) STRICT, WITHOUT ROWID;

CREATE TABLE lookup_segment (
    id        INTEGER PRIMARY KEY,
    -- The last line of the change log that was sorted into it, or into one before it.
    sorted_to INTEGER NOT NULL,
    entries   INTEGER NOT NULL,
    -- The operations that it speaks of lie between these two.
    oldest    INTEGER,
    newest    INTEGER
) STRICT;

-- What was there before is the first segment.
INSERT INTO lookup_segment (id, sorted_to, entries, oldest, newest)
SELECT 1, (SELECT coalesce(max(seq), 0) FROM change), 2 * count(*), min(id), max(id) FROM operation;

INSERT INTO lookup (segment, hash, operation)
SELECT 1, operation_hash, id FROM operation WHERE operation_hash IS NOT NULL
UNION
SELECT 1, context_hash, id FROM operation WHERE context_hash IS NOT NULL
ORDER BY 2, 3;
