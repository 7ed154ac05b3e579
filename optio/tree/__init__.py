"""The directory of task files, which is the source of truth: scanned, reloaded when it changes, served as a registry, and
written by the API."""
