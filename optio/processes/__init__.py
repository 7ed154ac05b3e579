"""The long-running parts of a process: worker, scheduler, retention, and the port for metrics and health. `cli` starts them;
each runs on threads of its own."""
