"""Turn a document into a task: decode it, explain what does not fit the model, and read the files that it refers to."""
