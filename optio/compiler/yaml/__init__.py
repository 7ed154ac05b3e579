"""Read YAML 1.2 with a place in the text for every value, and say what is wrong with it."""
