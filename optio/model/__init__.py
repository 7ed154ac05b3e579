"""Values everyone shares, and pure functions on them. No I/O, no clock, no randomness."""
