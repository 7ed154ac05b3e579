"""The directory of task files, which is the truth: scanned, read again when it changes, served, and written by the API."""
