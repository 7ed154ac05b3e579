-- oldest: 1
-- Totals of each task and day that are not yet in `daily_totals` and `daily_durations`. Each connection adds to the rows of its
-- own stripe, so that workers which end runs of one task do not wait for each other's commits. The sums of outcomes and attempts
-- have bucket 0, and durations one of the buckets of `model.run_totals`. Processes of older versions write the other two tables.
CREATE TABLE daily_stripes (
    task_id TEXT NOT NULL,
    day INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    stripe INTEGER NOT NULL,
    runs BIGINT NOT NULL,
    completed BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    cancelled BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    unpriced BIGINT NOT NULL,
    cost_cli BIGINT NOT NULL,
    cost_prices BIGINT NOT NULL,
    cost_estimate BIGINT NOT NULL,
    fresh BIGINT NOT NULL,
    cached BIGINT NOT NULL,
    cache_write BIGINT NOT NULL,
    output BIGINT NOT NULL,
    PRIMARY KEY (task_id, day, bucket, stripe)
) WITHOUT ROWID;
