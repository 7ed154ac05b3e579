"""PostgreSQL: the driver for several machines, its connections, and the checks of `optio doctor`."""
