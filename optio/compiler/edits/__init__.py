"""Write YAML and change files: what an edit does not name stays as it is, byte for byte."""
