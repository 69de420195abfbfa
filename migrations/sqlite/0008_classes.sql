-- Lists are asked for by source, kind, state and subcode, in any combination. An index for each would be most of what a delivery writes;
-- one index over all of them together serves as well: the combinations that occur are few, and each is a list in order by itself.

DROP INDEX operation_by_source;
DROP INDEX operation_by_kind;
DROP INDEX operation_by_state;
DROP INDEX operation_by_subcode;
DROP INDEX notification_by_source;
DROP INDEX notification_by_kind;
DROP INDEX call_by_source;
DROP INDEX call_by_state;

ALTER TABLE operation ADD COLUMN class TEXT
    GENERATED ALWAYS AS (source || ' ' || state || ' ' || coalesce(subcode, '') || ' ' || kind) VIRTUAL;
ALTER TABLE notification ADD COLUMN class TEXT GENERATED ALWAYS AS (source || ' ' || kind) VIRTUAL;
ALTER TABLE call ADD COLUMN class TEXT GENERATED ALWAYS AS (source || ' ' || coalesce(state, '')) VIRTUAL;

CREATE INDEX operation_by_class ON operation (class);
CREATE INDEX notification_by_class ON notification (class);
CREATE INDEX call_by_class ON call (class);
