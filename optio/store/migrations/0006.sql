-- oldest: 1
-- Keeping no longer than wanted: who does it now and how far it came, and ways to what is old or unused.
CREATE TABLE chores (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    until BIGINT NOT NULL,
    ended_at BIGINT,
    progress BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX runs_by_digest ON runs (digest);
CREATE INDEX once_by_time ON once (at);
