-- oldest: 1
-- Tasks whose files are gone in numbers that nobody may have meant: they are served on until `released_at` is set.
CREATE TABLE held_removals (
    task_id TEXT PRIMARY KEY,
    held_at BIGINT NOT NULL,
    released_at BIGINT,
    released_by TEXT
);

-- Webhooks: the delivery that brought a signed body first. The same body under another delivery id is a replay of it for as long
-- as the window of its task lasts.
CREATE TABLE replay_guards (
    task_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    delivery_id TEXT NOT NULL,
    run_id TEXT,
    at BIGINT NOT NULL,
    until BIGINT NOT NULL,
    PRIMARY KEY (task_id, digest)
) WITHOUT ROWID;
CREATE INDEX replay_guards_over ON replay_guards (until);

-- How often a delivery came again: under its own id (`repeats`), and as the same signed body under another (`replays`).
CREATE TABLE delivery_repeats (
    delivery_id TEXT PRIMARY KEY,
    repeats INTEGER NOT NULL,
    replays INTEGER NOT NULL,
    at BIGINT NOT NULL
);
-- Webhook requests that were refused and have no row in `deliveries`, in each minute.
CREATE TABLE refused_requests (
    minute BIGINT NOT NULL,
    path TEXT NOT NULL,
    verdict TEXT NOT NULL,
    task_id TEXT NOT NULL,
    requests BIGINT NOT NULL,
    PRIMARY KEY (minute, path, verdict)
) WITHOUT ROWID;

-- A page of deliveries costs a page, whatever it is filtered by. Each way ends with the order of pages. `deliveries_by_task` had
-- to go for the sake of what a webhook costs: its successor leads to the deliveries of a task by way of its few verdicts.
CREATE INDEX deliveries_by_verdict ON deliveries (verdict, seq);
CREATE INDEX deliveries_by_path_verdict ON deliveries (path, verdict, seq);
CREATE INDEX deliveries_by_task_verdict ON deliveries (task_id, verdict, seq);
DROP INDEX deliveries_by_task;
