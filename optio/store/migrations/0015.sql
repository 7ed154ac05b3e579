-- oldest: 1
-- Runs of a span of time are listed. A list walks along the index of its other filters, and ends where this one says.
CREATE INDEX runs_by_creation ON runs (created_at, seq);
