-- oldest: 1
-- The pod of an attempt, and its node as soon as it has one. Attempts that are processes have no row.
CREATE TABLE attempt_pods (
    run_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    namespace TEXT NOT NULL,
    pod TEXT NOT NULL,
    node TEXT,
    PRIMARY KEY (run_id, number)
);
