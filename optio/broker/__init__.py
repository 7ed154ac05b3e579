"""The broker: hints between threads and processes that something changed. The database decides; a hint only saves waiting, and
a lost one is repaired by the next sweep of the database."""
