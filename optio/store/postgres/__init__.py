"""PostgreSQL: the driver for many machines, its connections, and how a database is examined."""
