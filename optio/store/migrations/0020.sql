-- oldest: 1
-- Totals of each task and day (days since 1970, UTC), so that lists and charts need not read runs. Runs that have ended count by
-- their outcome, attempts that have ended with their tokens and their cost in millionths of a dollar, by its source. Tables of
-- their own, written when runs end: what processes of older versions end beside this one is not counted.
CREATE TABLE daily_totals (
    task_id TEXT NOT NULL,
    day INTEGER NOT NULL,
    completed BIGINT NOT NULL DEFAULT 0,
    failed BIGINT NOT NULL DEFAULT 0,
    cancelled BIGINT NOT NULL DEFAULT 0,
    attempts BIGINT NOT NULL DEFAULT 0,
    unpriced BIGINT NOT NULL DEFAULT 0,
    cost_cli BIGINT NOT NULL DEFAULT 0,
    cost_prices BIGINT NOT NULL DEFAULT 0,
    cost_estimate BIGINT NOT NULL DEFAULT 0,
    fresh BIGINT NOT NULL DEFAULT 0,
    cached BIGINT NOT NULL DEFAULT 0,
    cache_write BIGINT NOT NULL DEFAULT 0,
    output BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (task_id, day)
) WITHOUT ROWID;
-- How long completed runs took, by the buckets of `model.run_totals`.
CREATE TABLE daily_durations (
    task_id TEXT NOT NULL,
    day INTEGER NOT NULL,
    bucket INTEGER NOT NULL,
    runs BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (task_id, day, bucket)
) WITHOUT ROWID;
-- Runs of the last 92 days that have ended already. The usage of all of their attempts counts on the day of the run's end.
INSERT INTO daily_totals (
    task_id, day, completed, failed, cancelled, fresh, cached, cache_write, output, attempts, unpriced, cost_cli, cost_prices,
    cost_estimate
)
SELECT task_id, ended_at / 86400000000,
    SUM(CASE WHEN state = 'completed' THEN 1 ELSE 0 END), SUM(CASE WHEN state = 'failed' THEN 1 ELSE 0 END),
    SUM(CASE WHEN state = 'cancelled' THEN 1 ELSE 0 END),
-- sqlite:     SUM(COALESCE(json_extract(usage, '$.fresh'), 0)),
-- postgres:     SUM(COALESCE(CAST(CAST(usage AS json) ->> 'fresh' AS bigint), 0)),
-- sqlite:     SUM(COALESCE(json_extract(usage, '$.cached'), 0)),
-- postgres:     SUM(COALESCE(CAST(CAST(usage AS json) ->> 'cached' AS bigint), 0)),
-- sqlite:     SUM(COALESCE(json_extract(usage, '$.cacheWrite'), 0)),
-- postgres:     SUM(COALESCE(CAST(CAST(usage AS json) ->> 'cacheWrite' AS bigint), 0)),
-- sqlite:     SUM(COALESCE(json_extract(usage, '$.output'), 0)),
-- postgres:     SUM(COALESCE(CAST(CAST(usage AS json) ->> 'output' AS bigint), 0)),
    SUM(attempt), SUM(CASE WHEN attempt > 0 AND cost IS NULL THEN 1 ELSE 0 END),
    SUM(CASE WHEN cost_source = 'cli' THEN micros ELSE 0 END), SUM(CASE WHEN cost_source = 'prices' THEN micros ELSE 0 END),
    SUM(CASE WHEN cost_source = 'estimate' THEN micros ELSE 0 END)
FROM (
    SELECT task_id, ended_at, state, attempt, usage, cost, cost_source, CAST(ROUND(1000000 *
        CASE WHEN CAST(cost AS numeric) > 1000000 THEN 1000000 ELSE CAST(cost AS numeric) END) AS bigint) AS micros
    FROM runs WHERE ended_at >= (SELECT MAX(ended_at) FROM runs WHERE ended_at IS NOT NULL) - 92 * 86400000000
) ended GROUP BY 1, 2;
INSERT INTO daily_durations (task_id, day, bucket, runs)
SELECT task_id, day, CASE WHEN took < 1000000 THEN 1
    ELSE 4 * doublings - 2 + took * 4 / (CAST(1000000 AS bigint) << doublings) END, COUNT(*)
FROM (
    SELECT task_id, day, took, CASE
        WHEN took < 2000000 THEN 0 WHEN took < 4000000 THEN 1 WHEN took < 8000000 THEN 2
        WHEN took < 16000000 THEN 3 WHEN took < 32000000 THEN 4 WHEN took < 64000000 THEN 5
        WHEN took < 128000000 THEN 6 WHEN took < 256000000 THEN 7 WHEN took < 512000000 THEN 8
        WHEN took < 1024000000 THEN 9 WHEN took < 2048000000 THEN 10 WHEN took < 4096000000 THEN 11
        WHEN took < 8192000000 THEN 12 WHEN took < 16384000000 THEN 13 WHEN took < 32768000000 THEN 14
        WHEN took < 65536000000 THEN 15 WHEN took < 131072000000 THEN 16 WHEN took < 262144000000 THEN 17
        WHEN took < 524288000000 THEN 18 WHEN took < 1048576000000 THEN 19
        ELSE 20 END AS doublings
    FROM (
        SELECT task_id, ended_at / 86400000000 AS day, ended_at - started_at AS took FROM runs
        WHERE ended_at >= (SELECT MAX(ended_at) FROM runs WHERE ended_at IS NOT NULL) - 92 * 86400000000
            AND state = 'completed' AND started_at IS NOT NULL
    ) completed
) each_run GROUP BY 1, 2, 3;
