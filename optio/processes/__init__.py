"""What runs for long: worker, scheduler, retention, and the port that says whether a process is well."""
