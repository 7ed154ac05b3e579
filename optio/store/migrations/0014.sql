-- oldest: 1
-- The servers: the generation that each serves, whether its own directory holds the same, and when it said so last.
CREATE TABLE servers (
    server TEXT PRIMARY KEY,
    generation_id BIGINT NOT NULL,
    in_sync INTEGER NOT NULL,
    at BIGINT NOT NULL
);
