"""Plan: what a change of the tasks will do, told from two registries. Pure."""
