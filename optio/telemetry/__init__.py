"""What can be seen of Optio from outside: metrics, traces, logs, and whether its loops turn."""
