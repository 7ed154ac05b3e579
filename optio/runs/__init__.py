"""Use cases of runs, written against the seams only: no driver is named here."""
