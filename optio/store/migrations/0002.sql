-- oldest: 1
-- The machine or cluster whose workers can find a run's agent again.
ALTER TABLE runs ADD COLUMN place TEXT NOT NULL DEFAULT '';
