-- oldest: 1
-- Attempts that began in a place of their own, made for them (`cold`) or ready before (`warm`), and how long they waited for it.
-- Those that began as processes have no row. It is no column of `attempts`, which code from before selects whole.
CREATE TABLE begun (
    run_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    task_id TEXT NOT NULL,
    how TEXT NOT NULL,
    at BIGINT NOT NULL,
    waited BIGINT NOT NULL,
    PRIMARY KEY (run_id, number)
);
CREATE INDEX begun_by_time ON begun (at);
-- What whoever keeps places ready has said last, for each place where agents run.
CREATE TABLE pool_reports (
    place TEXT PRIMARY KEY,
    at BIGINT NOT NULL,
    pools TEXT NOT NULL
);
