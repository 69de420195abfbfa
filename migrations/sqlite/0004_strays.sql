-- Requests whose call nobody has named, or only something near it: 1 without a call, 2 with one that was concluded. What names it
-- later moves them.
ALTER TABLE request ADD COLUMN stray INTEGER NOT NULL DEFAULT 0;
UPDATE request SET stray = 1 WHERE call_id IN (SELECT id FROM call WHERE call_id LIKE 'request/%');
CREATE INDEX request_stray ON request (id) WHERE stray > 0;
