"""The rules' texts and examples, one module per family."""
