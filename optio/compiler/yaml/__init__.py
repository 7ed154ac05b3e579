"""Parse YAML 1.2 with a place in the text for every value, and explain syntax errors."""
