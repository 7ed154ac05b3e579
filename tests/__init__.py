"""Tests. Names are sentences; each directory mirrors a package, `stories/` follows the promises of the documentation."""
