-- oldest: 1
-- Tasks whose runs found no room where their agents were to run (`place`): since when and why, when that was found last (`at`),
-- after how many tries in a row, when the next is due (`until`), and how many runs began since. `ends_help` is 0 where room does
-- not come by the end of a run.
CREATE TABLE shortages (
    place TEXT NOT NULL,
    task_id TEXT NOT NULL,
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    ends_help INTEGER NOT NULL,
    since BIGINT NOT NULL,
    at BIGINT NOT NULL,
    until BIGINT NOT NULL,
    tries INTEGER NOT NULL,
    begun INTEGER NOT NULL,
    PRIMARY KEY (place, task_id)
);
