-- oldest: 1
-- What the run had cost when it was last retried by hand: its budget begins anew there.
ALTER TABLE runs ADD COLUMN cost_before TEXT;
