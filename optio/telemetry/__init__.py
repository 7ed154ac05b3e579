"""Observability: metrics, traces, the service's own log, and the liveness of its loops."""
