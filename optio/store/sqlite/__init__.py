"""SQLite: the embedded driver, its files, and how they are examined and recovered."""
