"""From a document to a task: decode it, name what does not fit, and read the files that it refers to."""
