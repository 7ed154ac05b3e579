-- oldest: 1
-- SQLite and PostgreSQL differ in the type of an automatic key, of bytes, and in `WITHOUT ROWID`: the PostgreSQL driver
-- translates these three.
-- Everything that must survive a restart. Times are microseconds since 1970, UTC; JSON is text; money is decimal text.

CREATE TABLE generations (
    id INTEGER PRIMARY KEY,
    digest TEXT NOT NULL,
    commit_id TEXT,
    activated_at BIGINT NOT NULL,
    tasks TEXT NOT NULL
);

CREATE TABLE definitions (
    digest TEXT PRIMARY KEY,
    task_id TEXT NOT NULL,
    document TEXT NOT NULL,
    first_seen_at BIGINT NOT NULL
);

-- The definitions that are served now.
CREATE TABLE tasks (
    task_id TEXT PRIMARY KEY,
    digest TEXT NOT NULL REFERENCES definitions (digest),
    max_concurrent INTEGER NOT NULL
);

CREATE TABLE runs (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    task_id TEXT NOT NULL,
    task_name TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES definitions (digest),
    generation INTEGER,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL DEFAULT '',
    run_trigger TEXT NOT NULL,
    slot BIGINT,
    delivery_id TEXT,
    params TEXT NOT NULL,
    prompt TEXT NOT NULL,
    max_concurrent INTEGER NOT NULL,
    max_retries INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    retries INTEGER NOT NULL DEFAULT 0,
    infrastructure_retries INTEGER NOT NULL DEFAULT 0,
    fence INTEGER NOT NULL DEFAULT 0,
    owner TEXT,
    lease_until BIGINT,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    queued_at BIGINT NOT NULL,
    not_before BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    result_text TEXT,
    result_json TEXT,
    turns INTEGER,
    tool_calls INTEGER NOT NULL DEFAULT 0,
    usage TEXT,
    cost TEXT,
    cost_source TEXT,
    traceparent TEXT,
    last_event INTEGER NOT NULL DEFAULT 0,
    last_line INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX runs_by_task ON runs (task_id, seq);
-- Each index below holds few rows, or is written once in a run's life: most runs in this table have ended.
CREATE INDEX runs_by_task_state ON runs (task_id, state, seq) WHERE ended_at IS NOT NULL;
CREATE INDEX runs_by_trigger ON runs (run_trigger, seq);
CREATE INDEX runs_queued ON runs (task_id, seq) WHERE state = 'queued';
CREATE INDEX runs_delayed ON runs (not_before) WHERE state = 'queued' AND not_before > queued_at;
CREATE INDEX runs_running ON runs (task_id, lease_until) WHERE state = 'running';
CREATE INDEX runs_by_state ON runs (state, seq) WHERE ended_at IS NOT NULL;

CREATE TABLE attempts (
    run_id TEXT NOT NULL REFERENCES runs (id),
    number INTEGER NOT NULL,
    worker TEXT NOT NULL,
    started_at BIGINT NOT NULL,
    agent_started_at BIGINT,
    ended_at BIGINT,
    ok INTEGER,
    reason TEXT,
    message TEXT,
    exit_code INTEGER,
    exit_signal INTEGER,
    result_text TEXT,
    offsets TEXT NOT NULL DEFAULT '{}',
    turns INTEGER,
    tool_calls INTEGER NOT NULL DEFAULT 0,
    usage TEXT,
    cost TEXT,
    cost_source TEXT,
    PRIMARY KEY (run_id, number)
);

CREATE TABLE events (
    run_id TEXT NOT NULL REFERENCES runs (id),
    seq INTEGER NOT NULL,
    from_state TEXT,
    to_state TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    actor TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;

CREATE TABLE log_lines (
    run_id TEXT NOT NULL REFERENCES runs (id),
    seq INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    kind TEXT NOT NULL,
    at BIGINT NOT NULL,
    data BLOB NOT NULL,
    PRIMARY KEY (run_id, seq)
);

CREATE TABLE deliveries (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    path TEXT NOT NULL,
    task_id TEXT NOT NULL,
    delivery_key TEXT,
    received_at BIGINT NOT NULL,
    headers TEXT NOT NULL,
    body BLOB,
    body_sha256 TEXT NOT NULL,
    verdict TEXT NOT NULL,
    status INTEGER NOT NULL,
    detail TEXT,
    run_id TEXT
);
-- One delivery, one answer: only verdicts that a repeat must get again are in the index.
CREATE UNIQUE INDEX deliveries_once ON deliveries (task_id, delivery_key)
    WHERE delivery_key IS NOT NULL AND verdict IN ('accepted', 'filtered');
CREATE INDEX deliveries_by_task ON deliveries (task_id, seq);

CREATE TABLE once (
    scope TEXT NOT NULL,
    once_key TEXT NOT NULL,
    body_sha256 TEXT NOT NULL,
    result TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (scope, once_key)
);

CREATE TABLE schedules (
    task_id TEXT PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    next_fire BIGINT
);

CREATE TABLE slots (
    task_id TEXT NOT NULL,
    slot BIGINT NOT NULL,
    verdict TEXT NOT NULL,
    run_id TEXT,
    at BIGINT NOT NULL,
    PRIMARY KEY (task_id, slot)
);

CREATE TABLE tokens (
    id TEXT PRIMARY KEY,
    secret_sha256 TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    label TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    revoked_at BIGINT,
    last_used_at BIGINT
);
