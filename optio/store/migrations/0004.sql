-- oldest: 1
-- Ways to what 0003 keeps: limited tasks, webhooks that were duplicates of another run, business keys whose time is over.
CREATE INDEX tasks_limited ON tasks (task_id) WHERE start_limit IS NOT NULL;
CREATE INDEX deliveries_duplicate ON deliveries (task_id, delivery_key) WHERE verdict = 'duplicate';
CREATE INDEX dedupe_over ON dedupe (until) WHERE until IS NOT NULL;
