"""Rate windows. Concurrency is not here: it is counted from leases in the store."""
