-- oldest: 1
-- Many runs: in which order they start, what holds a task back, what a business key stands for, and what was skipped.

ALTER TABLE runs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN dedupe_key TEXT;
CREATE INDEX runs_by_end ON runs (ended_at) WHERE ended_at IS NOT NULL;

ALTER TABLE tasks ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
-- So many starts in any window of so many microseconds; NULL is no limit.
ALTER TABLE tasks ADD COLUMN start_limit INTEGER;
ALTER TABLE tasks ADD COLUMN start_window BIGINT;

-- Starts that a limit still counts.
CREATE TABLE starts (
    task_id TEXT NOT NULL,
    at BIGINT NOT NULL,
    run_id TEXT NOT NULL,
    PRIMARY KEY (task_id, at, run_id)
);

CREATE TABLE pauses (
    task_id TEXT PRIMARY KEY,
    reason TEXT NOT NULL,
    actor TEXT NOT NULL,
    at BIGINT NOT NULL
);

-- The run that a business key stands for; without `until` for as long as that run is queued or running.
CREATE TABLE dedupe (
    task_id TEXT NOT NULL,
    dedupe_key TEXT NOT NULL,
    run_id TEXT NOT NULL,
    until BIGINT,
    PRIMARY KEY (task_id, dedupe_key)
);

-- Slots that were too many for a row each, all with one verdict.
CREATE TABLE skipped_slots (
    task_id TEXT NOT NULL,
    first_slot BIGINT NOT NULL,
    last_slot BIGINT NOT NULL,
    slots INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (task_id, first_slot)
);
