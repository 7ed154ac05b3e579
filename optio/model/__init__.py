"""The domain's values (tasks, runs, triggers, policies) and pure functions on them, shared by every other package. No I/O, no
clock, no randomness."""
