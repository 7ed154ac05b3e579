-- oldest: 1
-- When schedulers took up the schedules of a generation: each generation once, in order, as of the time of its activation.
ALTER TABLE generations ADD COLUMN scheduled_at BIGINT;
UPDATE generations SET scheduled_at = activated_at WHERE id < (SELECT MAX(id) FROM generations);
CREATE INDEX generations_unscheduled ON generations (id) WHERE scheduled_at IS NULL;
-- Deliveries of a span of time are listed, replayed and audited.
CREATE INDEX deliveries_by_time ON deliveries (received_at);
