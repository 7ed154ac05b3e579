"""Testing: the `tests:` of task files, run offline by the code that serves."""
