-- oldest: 1
-- Tasks whose files are gone in numbers that nobody may have meant: they are served on until `released_at` is set.
CREATE TABLE held_removals (
    task_id TEXT PRIMARY KEY,
    held_at BIGINT NOT NULL,
    released_at BIGINT,
    released_by TEXT
);
