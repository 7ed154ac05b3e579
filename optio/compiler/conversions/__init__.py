"""From what an author wrote, in the words of another tool perhaps, to what the schema means: keys, values and whole entries."""
