-- oldest: 1
-- When schedulers took up the schedules of a generation moves to a table of its own: code from before 0005 selects `generations`
-- whole, and PostgreSQL ends the statements that a running process has prepared when such a table gets another column.
CREATE TABLE taken_up (
    generation_id BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL
);
INSERT INTO taken_up (generation_id, at) SELECT id, scheduled_at FROM generations WHERE scheduled_at IS NOT NULL;
DROP INDEX generations_unscheduled;
ALTER TABLE generations DROP COLUMN scheduled_at;
