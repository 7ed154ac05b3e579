-- oldest: 1
-- How often an attempt has called each of its connections.
CREATE TABLE connection_calls (
    run_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    connection TEXT NOT NULL,
    calls INTEGER NOT NULL,
    PRIMARY KEY (run_id, number, connection)
) WITHOUT ROWID;
