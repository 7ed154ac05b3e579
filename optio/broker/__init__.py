"""The broker: hints between threads and processes that something changed. Rows decide; a lost hint is repaired by a sweep."""
