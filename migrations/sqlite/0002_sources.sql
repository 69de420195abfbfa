-- Several sources: what tells them apart in lists, events that their senders have named, calls that end with all that is
-- open in them, and what names a conversation or a recording instead of a call.

ALTER TABLE call ADD COLUMN correlation_hash INTEGER;
ALTER TABLE call ADD COLUMN server_call_hash INTEGER;
-- When what is still open in the call counts as failed: set once, with the first notification after which the platform says no
-- more. Settled once that has been written into its operations.
ALTER TABLE call ADD COLUMN lapses_at INTEGER;
ALTER TABLE call ADD COLUMN settled INTEGER NOT NULL DEFAULT 0;

CREATE INDEX call_by_source ON call (source);
CREATE INDEX call_by_correlation ON call (correlation_hash) WHERE correlation_hash IS NOT NULL;
CREATE INDEX call_by_server_call ON call (server_call_hash) WHERE server_call_hash IS NOT NULL;
CREATE INDEX call_to_settle ON call (lapses_at) WHERE lapses_at IS NOT NULL AND settled = 0;

ALTER TABLE operation ADD COLUMN source TEXT NOT NULL DEFAULT 'graph';

CREATE INDEX operation_by_source ON operation (source);

ALTER TABLE notification ADD COLUMN source TEXT NOT NULL DEFAULT 'graph';
-- Whether its sender has named it, so that its identity alone decides what is a duplicate.
ALTER TABLE notification ADD COLUMN named INTEGER NOT NULL DEFAULT 0;

CREATE INDEX notification_by_source ON notification (source);
CREATE UNIQUE INDEX notification_event_once ON notification (identity) WHERE named = 1;
CREATE INDEX notification_by_recording ON notification (facts ->> 'recording_id')
    WHERE call_id = 0 AND facts ->> 'recording_id' IS NOT NULL;
CREATE INDEX notification_by_server_call ON notification (facts ->> 'server_call_id')
    WHERE call_id = 0 AND facts ->> 'server_call_id' IS NOT NULL;
