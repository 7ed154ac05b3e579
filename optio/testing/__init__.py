"""Tests of task files: run them without a server, compare what comes with what they expect, measure coverage, capture new
ones."""
