-- Who is in a call, as keyed hashes (under the call's own data key) of every name that a notification bears for them: found when somebody
-- asks to be forgotten, also when the bodies are gone, and telling nobody else anything.
CREATE TABLE person (
    call_id INTEGER NOT NULL,
    token   BLOB NOT NULL,
    PRIMARY KEY (call_id, token)
) STRICT, WITHOUT ROWID;
