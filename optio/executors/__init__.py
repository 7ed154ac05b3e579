"""Executors: where an agent runs. `base` is the seam; `supervisor` is the small program that every attempt runs under."""
