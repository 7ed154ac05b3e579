-- oldest: 1
-- The parts of processes (server, worker, scheduler), by their last heartbeat. Processes of older versions write and read the
-- tables `servers` and `workers` alone, so newer ones write those, too, until no older version may run beside them.
CREATE TABLE processes (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    process TEXT NOT NULL,
    version TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    at BIGINT NOT NULL,
    namespace TEXT,
    capacity INTEGER,
    generation_id INTEGER,
    in_sync INTEGER,
    PRIMARY KEY (kind, name)
);
