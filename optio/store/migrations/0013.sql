-- oldest: 1
-- The namespaces that the policy gives to tasks. A row stays when its task is gone, for as long as the task has runs.
CREATE TABLE namespaces (
    task_id TEXT PRIMARY KEY,
    namespace TEXT NOT NULL
);
-- The workers, the namespace of which each takes runs ('' is that of tasks without one, NULL is every), and when it said so last.
CREATE TABLE workers (
    worker TEXT PRIMARY KEY,
    namespace TEXT,
    at BIGINT NOT NULL
);
