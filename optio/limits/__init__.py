"""Rate windows: limits on requests per minute. Limits on concurrent runs are elsewhere; the store counts them from leases."""
