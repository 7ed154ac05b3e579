-- oldest: 1
-- Runs with a reason are listed. Only those that have ended: the reason of the others changes often, and they are few.
CREATE INDEX runs_by_reason ON runs (reason, seq) WHERE ended_at IS NOT NULL;
