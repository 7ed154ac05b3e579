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
