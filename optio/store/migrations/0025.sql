-- oldest: 1
-- The key of each attempt that may call a model through the gateway: never the key itself, only its digest. A key counts while
-- its attempt is the running one of its run. Money is in billionths of a dollar.
CREATE TABLE attempt_keys (
    run_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    digest TEXT NOT NULL,
    upstream TEXT NOT NULL,
    credential TEXT NOT NULL,
    budget BIGINT,
    spent BIGINT NOT NULL,
    is_priced INTEGER NOT NULL,
    PRIMARY KEY (run_id, number)
) WITHOUT ROWID;
CREATE UNIQUE INDEX attempt_keys_by_digest ON attempt_keys (digest);
-- Model calls that came through the gateway. `state` is open, ended or refused: an open call counts with what it has reserved, an
-- ended one with its cost, NULL where that is unknown, and a refused one with nothing. An open call is lost
-- when its gateway has not renewed it for so long that `until` has passed. `bytes` is the size of its request.
CREATE TABLE model_calls (
    run_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    id TEXT NOT NULL,
    at BIGINT NOT NULL,
    state TEXT NOT NULL,
    until BIGINT NOT NULL,
    model TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    reserved BIGINT NOT NULL,
    cost BIGINT,
    is_estimate INTEGER NOT NULL,
    usage TEXT,
    input_tokens BIGINT,
    reason TEXT,
    message TEXT,
    PRIMARY KEY (run_id, number, id)
) WITHOUT ROWID;
