-- oldest: 1
-- What an agent did, as JSON, and the number of its model call, for lines of a log that say it to people. A table of its own:
-- running processes of older versions have prepared statements that select whole lines.
CREATE TABLE agent_events (
    run_id TEXT NOT NULL,
    seq INTEGER NOT NULL,
    turn INTEGER,
    event BLOB,
    PRIMARY KEY (run_id, seq)
);
