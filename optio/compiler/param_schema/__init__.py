"""The JSON Schema that an author writes for parameters: what it declares, and what is wrong with it."""
