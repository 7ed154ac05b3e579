-- oldest: 1
-- Attempts that continue the agent's session of an earlier attempt of their run. A table of its own: running processes of older
-- versions have prepared statements that select whole rows of attempts.
CREATE TABLE continued_attempts (
    run_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    continues INTEGER NOT NULL,
    PRIMARY KEY (run_id, number)
);
