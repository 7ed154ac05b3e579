-- oldest: 1
-- How a model call went: `model` is the one that the request names, and `answered` the one that answered. `status` is that of the
-- answer, 0 if none came; times are in microseconds since the call was admitted. NULL for calls of older versions.
ALTER TABLE model_calls ADD COLUMN answered TEXT;
ALTER TABLE model_calls ADD COLUMN protocol TEXT;
ALTER TABLE model_calls ADD COLUMN status INTEGER;
ALTER TABLE model_calls ADD COLUMN first_byte BIGINT;
ALTER TABLE model_calls ADD COLUMN duration BIGINT;
-- The names of the secrets that the attempt's agent has, as JSON: their values are masked in what the gateway keeps.
ALTER TABLE attempt_keys ADD COLUMN secrets TEXT;
-- What the gateway keeps of calls with OPTIO_GATEWAY_RECORD=runs, masked. `omitted` says why there is neither request nor answer.
-- `bytes` is what the call added to the database.
CREATE TABLE recorded_calls (
    run_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    id TEXT NOT NULL,
    path TEXT NOT NULL,
    status INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    is_whole INTEGER NOT NULL,
    omitted TEXT,
    request BLOB,
    answer BLOB,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (run_id, number, id)
) WITHOUT ROWID;
-- Parts that requests of a run share, such as the messages before the last one, by their digests.
CREATE TABLE recorded_parts (
    run_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (run_id, digest)
) WITHOUT ROWID;
