"""The store: the database that holds all state. `base` is its interface, `sql/` implements each operation once for all
databases, and a driver (`sqlite/`, `postgres/`) supplies transactions."""
