-- oldest: 1
-- What the agent of an attempt told of itself, and the machine of its process. A table of its own: running processes of older
-- versions have prepared statements that select whole rows of attempts.
CREATE TABLE attempt_agents (
    run_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    version TEXT,
    session TEXT,
    model TEXT,
    machine TEXT,
    PRIMARY KEY (run_id, number)
);
-- The digest of the image in the pod. Statements of older versions name the columns of this table that they read and write.
ALTER TABLE attempt_pods ADD COLUMN image TEXT;
