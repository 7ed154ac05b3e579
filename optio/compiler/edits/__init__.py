"""Edit YAML files: compute and apply changes that leave every other byte of a file as it is."""
